"""Vision models of the transformers library as encoders: safetensors files only, and never code from a repository."""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ilk.networks.pretrained import cache, hub
from ilk.networks.pretrained.encoder import Encoder, EncoderAbout, Progress, Say, fingerprint, weight_sizes
from ilk.networks.pretrained.known import SHORT_NAMES, known_by_id
from ilk.networks.pretrained.prepare import Preparation, read_preparation
from ilk.system.text import in_short

TWO_TOWERS = ("clip", "siglip", "chinese_clip", "altclip", "metaclip_2")  # a network for images and one for text
LICENCES = {"apache-2.0": "Apache-2.0", "mit": "MIT", "bsd-3-clause": "BSD-3-Clause"}


def load_hf(
    name_or_folder: str | os.PathLike[str],
    *,
    offline: bool = False,
    progress: Progress | None = None,
    say: Say | None = None,
) -> Encoder:
    """A pretrained vision model as an encoder, in float32 and evaluation mode.

    `name_or_folder`: a model of the Hugging Face hub (`owner/name` or `owner/name@revision`), one of `SHORT_NAMES`,
    or a folder written by save_pretrained. A model in the hub's cache is used without asking the network; another
    one is downloaded, unless `offline`. `progress(done, total, what)` is called while downloading.
    Raises ValueError or FileNotFoundError with a sentence.
    """
    name = os.fspath(name_or_folder)
    known = SHORT_NAMES.get(name)
    model_id, _, revision = (known.id if known else name).partition("@")
    if known is None and (folder := as_folder(name)) is not None:
        return from_folder(folder, f"hf:{folder.resolve()}", title=folder.name, source=str(folder), say=say)
    folder = cache.cached(model_id, revision or None)
    known = known_by_id(model_id)
    if folder is None:
        if why := hub.offline_because(offline):
            raise ValueError(
                f"'{model_id}' is not in the cache ({cache.cache_folder()}) and {why}. Go online once, or copy the"
                " model here and give its folder: hf:FOLDER"
            )
        licence = known.licence if known else None
        folder = hub.fetch(model_id, revision or None, say=say, progress=progress, licence=licence)
    return from_folder(
        folder, f"hf:{model_id}" + (f"@{revision}" if revision else ""), title=known.title if known else model_id,
        source=f"{cache.endpoint()}/{model_id}", fallback_licence=known.licence if known else None,
        revision=folder.name, say=say,
    )  # fmt: skip


def as_folder(name: str) -> Path | None:
    """The folder `name`, or None for the name of a model. Raises FileNotFoundError for a folder that does not exist."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    before_revision = name.partition("@")[0]
    if folder.is_absolute() or name.startswith((".", "~")) or before_revision.count("/") > 1 or "\\" in before_revision:
        raise FileNotFoundError(
            f"There is no folder '{name}'. Give hf:FOLDER one that holds config.json, preprocessor_config.json and"
            " model.safetensors, or a model's name (owner/name)."
        )
    return None


def from_folder(
    folder: Path, spec: str, *, title: str, source: str, fallback_licence: str | None = None,
    revision: str | None = None, say: Say | None = None,
) -> Encoder:  # fmt: skip
    """The encoder in a folder, with `title`, `source` and the like as its description. Raises ValueError."""
    try:
        tower, preparation, channels = load_tower(folder)
        feature_dim = probe(tower, preparation, channels)
    except ValueError as error:  # the end of a sentence, or a whole one
        text = str(error)
        whole = text[:1].isupper() or text.startswith("'")
        raise ValueError(text if whole else f"'{folder}' {text.rstrip('.')}.") from None
    parameters, size = weight_sizes(tower)
    about = EncoderAbout(
        spec=spec, title=title, source=source, licence=licence_of(folder) or fallback_licence or "unknown",
        parameters=parameters, bytes=size, fingerprint=fingerprint(tower, preparation), revision=revision,
    )  # fmt: skip
    encoder = Encoder(tower, preparation, feature_dim=feature_dim, channels=channels, about=about).eval()
    if say is not None:
        say(f"encoder {about}")
        if re.search(r"\bnc\b", about.licence.lower()):
            say("these weights are not for commercial use")
    return encoder


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises ValueError with the end of a sentence that begins with the folder."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"has no {file.name}") from None
    except (ValueError, OSError):
        raise ValueError(f"has a damaged {file.name}") from None
    if not isinstance(value, dict):
        raise ValueError(f"has a damaged {file.name}")
    return value


def load_tower(folder: Path) -> tuple[Tower, Preparation, int]:
    """(network, preparation of its images, channels it takes). Raises ValueError, often with the end of a sentence."""
    kind = read_json(folder / "config.json").get("model_type")
    if not isinstance(kind, str):
        raise ValueError("has a config.json without model_type, so it is no model of the transformers library")
    cache.weight_files(folder)
    if importlib.util.find_spec("transformers") is None:
        raise hub.missing_package("transformers")
    with quiet_transformers():
        config = configured(folder, kind)
        model = loaded(folder, config, kind)
    vision = getattr(config, "vision_config", config)
    channels, side = getattr(vision, "num_channels", 3), getattr(vision, "image_size", None)
    file = next((name for name in cache.PREPARATIONS if (folder / name).is_file()), cache.PREPARATIONS[0])
    described = read_json(folder / file)
    try:
        preparation = read_preparation(
            described.get("image_processor", described), channels, side if isinstance(side, int) else None
        )
    except ValueError as error:
        raise ValueError(f"has a {file} that {error}") from None
    return Tower(model, kind, interpolate=side not in (None, preparation.steps.crop[0])), preparation, channels


def configured(folder: Path, kind: str) -> Any:
    """The configuration of a model of images. Raises ValueError for other models and for unknown ones."""
    from transformers import MODEL_MAPPING, AutoConfig

    try:
        config = AutoConfig.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
    except Exception as error:  # of many types, for unknown models and impossible values
        raise ValueError(
            f"has a config.json that transformers cannot use ({in_short(error)}). A newer transformers may know it"
        ) from None
    classes = MODEL_MAPPING.get(type(config), None)
    kinds = classes if isinstance(classes, (list, tuple)) else [classes]
    takes_images = any(getattr(model, "main_input_name", None) == "pixel_values" for model in kinds)
    if kind not in TWO_TOWERS and (not takes_images or hasattr(config, "text_config")):
        raise ValueError(f"holds a model of type '{kind}', which is no encoder of images")
    if kind == "vit_mae":
        config.mask_ratio = 0.0  # in training it hides a random part of the image
    return config


def loaded(folder: Path, config: Any, kind: str) -> nn.Module:
    """The model in float32, all weights from the file, without the parts that images do not need. Raises ValueError."""
    from transformers import AutoModel

    try:
        model, info = AutoModel.from_pretrained(
            str(folder), config=config, use_safetensors=True, trust_remote_code=False, local_files_only=True,
            output_loading_info=True,
        )  # fmt: skip
    except Exception as error:  # OSError, SafetensorError, RuntimeError and others
        raise ValueError(f"is damaged or incomplete, its weights cannot be read ({in_short(error)})") from None
    model = model.float().eval()
    if dense_pooler(model):  # often not in the file and then random
        model.pooler = None
    missing = [name for name in sorted(info["missing_keys"]) if not name.startswith("pooler.")]
    missing = [name for name in missing if "mask_token" not in name]  # used in training on hidden patches only
    if missing or info.get("mismatched_keys"):
        first = missing[0] if missing else "some have another shape"
        raise ValueError(f"lacks weights that its config.json asks for ({first})")
    if kind in TWO_TOWERS:
        for name in [name for name, _ in model.named_children() if name.startswith("text_")]:
            setattr(model, name, None)
    if not all(bool(torch.isfinite(tensor).all()) for tensor in model.state_dict().values()):
        raise ValueError("holds weights that are not finite numbers")
    network: nn.Module = model
    return network


def dense_pooler(model: nn.Module) -> bool:
    """Whether the pooler is a linear layer with tanh, made for a classifier rather than for features."""
    return isinstance(getattr(getattr(model, "pooler", None), "dense", None), nn.Linear)


class Tower(nn.Module):
    """A vision model whose output is one row of features per image.

    CLIP and SigLIP: the projected image embedding, which they were trained to compare. Other models: their pooled
    output, which is the mean over positions of a convolutional map or of Swin's tokens, or the class token of
    DINOv2. Older ViTs pool through a layer made for a classifier, which is random in self-supervised checkpoints;
    their class token before that layer is used, as in evaluations of DINO and MAE. Models without a class token:
    the mean of their tokens.
    """

    def __init__(self, model: nn.Module, kind: str, *, interpolate: bool) -> None:
        super().__init__()
        self.model, self.two_towers = model, kind in TWO_TOWERS
        call = model.get_image_features if self.two_towers else type(model).forward
        accepted = inspect.signature(call).parameters  # type: ignore[arg-type]
        self.interpolates = interpolate and "interpolate_pos_encoding" in accepted
        self.shuffles = kind == "vit_mae"
        names = [name.rpartition(".")[2] for name, _ in model.named_parameters()]
        self.has_class_token = any(name in ("cls_token", "class_token", "class_embedding") for name in names)

    def forward(self, x: Tensor) -> Tensor:
        options: dict[str, Any] = {"interpolate_pos_encoding": True} if self.interpolates else {}
        if self.two_towers:
            out = self.model.get_image_features(pixel_values=x, **options)  # type: ignore[operator]
            return out if isinstance(out, Tensor) else out.pooler_output  # a tensor before transformers 5
        if self.shuffles:  # the model sorts its patches by noise; increasing values keep their order
            patch: int = self.model.config.patch_size  # type: ignore[union-attr, assignment]
            patches = (x.shape[2] // patch) * (x.shape[3] // patch)
            options["noise"] = torch.arange(patches, device=x.device).float().expand(len(x), -1)
        out = self.model(pixel_values=x, return_dict=True, **options)
        pooled: Tensor | None = getattr(out, "pooler_output", None)
        if pooled is not None:
            return pooled.flatten(1)
        last: Tensor = out.last_hidden_state
        if last.ndim == 4:
            return last.mean((2, 3))
        return last[:, 0] if self.has_class_token else last.mean(1)


def probe(tower: nn.Module, preparation: Preparation, channels: int) -> int:
    """The number of features, found by encoding two images. Raises ValueError if that fails."""
    side = preparation.image_size
    x = torch.linspace(0, 1, 2 * channels * side * side).view(2, channels, side, side)
    try:
        with torch.inference_mode():
            h = tower(preparation(x))
    except Exception as error:  # models fail in many ways
        raise ValueError(f"holds a model that cannot encode images ({in_short(error)})") from None
    if not isinstance(h, Tensor) or h.ndim != 2 or len(h) != 2 or not bool(torch.isfinite(h).all()):
        raise ValueError("holds a model that does not give one row of finite numbers per image")
    return h.shape[1]


def licence_of(folder: Path) -> str | None:
    """The licence in the head of the model card (README.md), or None."""
    try:
        text = (folder / "README.md").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    head = re.match(r"\ufeff?---\s*\n(.*?)\n---", text, re.DOTALL)
    if head is None:
        return None
    fields = dict(re.findall(r"^(license|license_name):[ \t]*[\"']?([^\"'\n#]+?)[\"']?[ \t]*$", head[1], re.MULTILINE))
    name = fields.get("license", "").strip()
    if name in ("other", "") and fields.get("license_name"):
        name = fields["license_name"].strip()
    return LICENCES.get(name.lower(), name) or None


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """A block without progress bars and warnings of transformers; what matters is checked here."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
