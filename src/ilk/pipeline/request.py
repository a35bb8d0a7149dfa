"""What a person asks for: every option of a training, declared and checked here before any image is read.

No torch here, so that help is instant; the checks that need it load it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict, field_validator, model_validator
from pydantic.dataclasses import dataclass

from ilk.pipeline.options import FIRST, TRAINING, one_sentence, option
from ilk.system.text import did_you_mean
from ilk.system.validation import shown

if TYPE_CHECKING:
    from torch import nn

    from ilk.methods.records import Preset
    from ilk.views import ViewRecipe

    Backbone = str | nn.Module | None
    ChosenViews = str | ViewRecipe | tuple[ViewRecipe, ViewRecipe] | None
    Place = str | os.PathLike[str] | None
    Precision = str  # callers hand on any text, which pydantic checks
    Balance = str
    Part = str
    Rule = str
else:
    Backbone = ChosenViews = Place = Any  # objects that pydantic leaves alone; the validators below look at them
    Precision = Literal["auto", "float32", "bf16"]
    Balance = Literal["uniform", "estimated", "off"]
    Part = Literal["heads", "all"]
    Rule = Literal["last", "min_loss"]

MAX_SIZE = {"cpu": 48, "cuda": 96, "mps": 64}  # pixels a side where nobody chose: what trains in reasonable time
LARGEST_SIDE, LARGEST_SEED = 4096, 2**31 - 1


@one_sentence()
@dataclass(frozen=True, kw_only=True, config=ConfigDict(strict=True, extra="forbid", arbitrary_types_allowed=True))
class Request:
    """The options of a training.

    Python may also give objects: `method` a subclass of `Method` (it becomes the method's name), `backbone` an
    `nn.Module` with an integer `feature_dim`, `views` a `ViewRecipe` or a pair of them, `embeddings` an array as
    `read_embeddings` takes it, `known_labels` whatever `find_known` takes.
    Raises ValueError, one sentence, for a value that is wrong or contradicts another.
    """

    n_clusters: int | str = option(
        "auto", "How many clusters: a number, auto, or a range to choose from, such as 5-60.",
        panel=FIRST, metavar="K", short="-k",
    )  # fmt: skip
    method: str = option(
        "cc", "The clustering method; ilk methods lists them. One of your own: FILE.py:CLASS.", panel=TRAINING,
        metavar="NAME",
    )  # fmt: skip
    preset: str = option(
        "default", "A set of settings of the method, by name; ilk methods lists them.", panel=TRAINING, metavar="NAME"
    )
    epochs: int | None = option(
        None, "How often to go through all images.", panel=TRAINING, metavar="N", unset="as many as the preset says",
        ge=1,
    )  # fmt: skip
    minutes: float | None = option(
        None, "Train for about this many minutes; instead of epochs.", panel=FIRST, metavar="M", gt=0,
        allow_inf_nan=False,
    )  # fmt: skip
    image_size: int | None = option(
        None, "Resize the images to this many pixels a side.", panel=TRAINING, metavar="PIXELS",
        unset="their own size, at most 48 on a CPU", ge=1, le=LARGEST_SIDE,
    )  # fmt: skip
    backbone: Backbone = option(
        None,
        "The network that reads the images. Pretrained: dinov2-small, hf:ID, hf:FOLDER, run:FOLDER, weights:FILE, ..."
        " Trained from scratch: small, resnet18, resnet34-cifar, ...",
        panel=FIRST, metavar="NAME", unset="chosen to suit the images",
    )  # fmt: skip
    views: ChosenViews = option(
        None, "How images are changed at random: photo, drawing, object, ...; ilk methods lists them.", panel=TRAINING,
        metavar="NAME", unset="chosen to suit the images",
    )  # fmt: skip
    seed: int = option(
        0, "Random seed; the same seed gives the same result.", panel=TRAINING, metavar="N", ge=0, le=LARGEST_SEED
    )
    device: str = option("auto", "Where to compute: auto, cpu, cuda, cuda:0 or mps.", panel=TRAINING, metavar="NAME")
    precision: Precision = option("auto", "Number format to compute in: auto, float32 or bf16.", metavar="NAME")
    settings: Mapping[str, Any] = option(
        dict, "Settings of the method to use instead of those of the preset.", kind="list", metavar="NAME=VALUE"
    )
    init: Place = option(
        None, "Start from the weights of a run folder or a .safetensors file.", kind="file", metavar="PATH"
    )
    freeze_backbone: bool = option(False, "Train only the heads, and leave the backbone as it is.")
    known_labels: Any = option(
        None,
        "A few labels (CSV or Parquet with columns id, label) that steer the training. Labels never do so otherwise.",
        panel=TRAINING, kind="file", metavar="FILE",
    )  # fmt: skip
    balance: Balance | None = option(
        None, "Expected sizes of the clusters: uniform (all alike), estimated, or off (any).", panel=TRAINING,
        metavar="NAME", unset="as the preset says",
    )  # fmt: skip
    train: Part | None = option(
        None, "What to train: heads (on the features of a frozen backbone) or all.", panel=TRAINING, metavar="PART",
        unset="heads with a pretrained backbone, else all",
    )  # fmt: skip
    feature_views: int | None = option(
        None, "With a frozen backbone: how many random views of each image to learn from; 0 is fastest.", metavar="N",
        unset="4, or 0 where the encoder sees 128 pixels or more on a CPU", ge=0,
    )  # fmt: skip
    neighbours: int = option(
        10, "With a frozen backbone: how many nearest images of each image to learn from.", metavar="N", ge=0
    )
    offline: bool = option(False, "Never use the network.")
    embeddings: Any = option(
        None, "Cluster these features, computed elsewhere: a .npy file, or a .parquet file with a column of lists.",
        kind="file", metavar="FILE",
    )  # fmt: skip
    select: Rule = option(
        "last", "Which epoch's model to keep: last, or min_loss (the epoch with the least loss).", metavar="NAME"
    )

    @field_validator("select", mode="before")
    @classmethod
    def chosen_without_labels(cls, value: Any) -> Any:
        if value == "oracle_acc":
            raise ValueError("--select 'oracle_acc' lets labels choose the epoch, which ilk compare alone does.")
        return value

    @field_validator("method", mode="before")
    @classmethod
    def by_name(cls, value: Any) -> Any:
        """The name of the method, after one of the user's own was made known by it."""
        if isinstance(value, str) and ":" not in value:
            return value
        from ilk.methods import use_method

        return use_method(value)

    @field_validator("n_clusters", mode="before")
    @classmethod
    def number_or_range(cls, value: Any) -> int | str:
        if isinstance(value, str) and value.strip().isdecimal():
            value = int(value)
        if isinstance(value, str):
            range_of(value)
        elif isinstance(value, bool) or not isinstance(value, int) or value < 2:
            raise ValueError(wrong_number(value))
        result: int | str = value
        return result

    @field_validator("*", mode="before")
    @classmethod
    def without_numpy(cls, value: Any) -> Any:
        """Plain Python numbers for numpy's; of the validators "before", the last one defined runs first."""
        is_numpy = type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0
        return value.item() if is_numpy else value

    @field_validator("device")
    @classmethod
    def known_device(cls, value: str) -> str:
        from ilk.system.devices import choose_device

        choose_device(value)
        return value

    @field_validator("views")
    @classmethod
    def known_views(cls, value: Any) -> Any:
        from ilk.views import ViewRecipe, get_views

        if isinstance(value, str) and value != "auto":
            get_views(value)
        pair = value if isinstance(value, tuple) and len(value) == 2 else (value,)
        if not isinstance(value, (str, type(None))) and not all(isinstance(part, ViewRecipe) for part in pair):
            raise ValueError(f"--views must be a name, a ViewRecipe or a pair of them; got {shown(value)}.")
        return value

    @field_validator("backbone")
    @classmethod
    def known_backbone(cls, value: Any) -> Any:
        if isinstance(value, str):
            check_backbone(value)
        elif value is not None and not is_module(value):
            raise ValueError(f"--backbone must be a name or an nn.Module; got {shown(value)}.")
        return value

    @field_validator("init")
    @classmethod
    def path(cls, value: Any) -> Any:
        if not isinstance(value, (str, os.PathLike, type(None))):
            raise ValueError(f"--init must be the path of a run folder or a .safetensors file; got {shown(value)}.")
        return value

    @model_validator(mode="after")
    def agree(self) -> Request:
        """Raises ValueError where two options contradict each other, or the method does not have what is asked."""
        if self.choice is not None and self.known_labels is not None:
            raise ValueError("Known labels need a number of clusters, at least one for each kind. Give --clusters K.")
        if self.epochs is not None and self.minutes is not None:
            raise ValueError("Give --epochs or --minutes, not both.")
        if self.embeddings is not None:
            self.refuse_beside_embeddings()
        if self.freeze_backbone and self.init is None and not is_module(self.backbone):
            raise ValueError(
                "--freeze-backbone would keep a backbone that has learnt nothing. Give it weights with --init RUN"
                " (in Python, also a backbone module)."
            )
        self.resolved_preset()
        return self

    def refuse_beside_embeddings(self) -> None:
        """Raises ValueError for options about a backbone, which embeddings do without."""
        given = {
            "--backbone": self.backbone is not None,
            "--train all": self.train == "all",
            "--init": self.init is not None,
            "--views": self.views is not None,
        }
        needless = [option for option, there in given.items() if there]
        if needless:
            it = "it" if len(needless) == 1 else "them"
            raise ValueError(
                "With --embeddings only heads are trained, on features that exist already;"
                f" {' and '.join(needless)} would do nothing. Leave {it} out, or leave --embeddings out."
            )

    @property
    def choice(self) -> tuple[int, int | None] | None:
        """The least and the greatest number of clusters to choose from (None: no limit); None if it is given."""
        return range_of(self.n_clusters) if isinstance(self.n_clusters, str) else None

    @property
    def k(self) -> int:
        """The number of clusters, once it is known."""
        if not isinstance(self.n_clusters, int):
            raise ValueError(f"The number of clusters is not known yet; got {self.n_clusters!r}.")
        return self.n_clusters

    def resolved_preset(self, instead: Mapping[str, Any] | None = None) -> Preset:
        """The preset with the settings that were asked for.

        `instead` replaces what the preset says, not what was asked, as far as the method has such settings.
        """
        from ilk.methods import get_preset, override

        preset, asked = get_preset(self.method, self.preset), dict(self.settings)
        if self.balance is not None:
            asked["balance"] = self.balance
        if instead is not None:
            known = {field.name for part in (preset.config, preset.recipe) for field in fields(part)}
            preset = override(preset, {name: value for name, value in instead.items() if name in known})
        resolved = override(preset, asked)
        if "batch_size" in asked and resolved.recipe.batch_size is not None:
            resolved = override(resolved, {"images_per_cluster": 0} | asked)  # that batch does not grow with k
        return resolved

    def wanted_size(self) -> int | None:
        """The side of the images in pixels, or None where the images decide."""
        from ilk.pipeline.initial_weights import find_initial

        if self.image_size is not None:
            return self.image_size
        initial = None if self.init is None else find_initial(self.init).image_size
        return initial or self.resolved_preset().recipe.image_size

    def refuse_missing(self, extra: Any = None) -> None:
        """Raises FileNotFoundError or ValueError, before any image is decoded, for files that are not there.

        `extra`: the source of the extra images, if there are any.
        """
        from ilk.images.find_source import find_source
        from ilk.pipeline.initial_weights import find_initial
        from ilk.pipeline.known_labels import labels_file

        if isinstance(extra, (str, os.PathLike)) and not Path(extra).expanduser().exists():
            find_source(extra)  # which raises, with what comes nearest
        if self.init is not None:
            find_initial(self.init)
        if isinstance(self.known_labels, (str, os.PathLike)):
            labels_file(self.known_labels)
        if isinstance(self.embeddings, (str, os.PathLike)) and not Path(self.embeddings).expanduser().is_file():
            raise FileNotFoundError(f"There is no file of embeddings '{self.embeddings}'.")

    def refuse_needless(self, *, extra: bool) -> None:
        """Raises ValueError if the method has no use for the extra images or known labels that it is given."""
        from ilk.methods import get_method

        kind = get_method(self.method)
        if extra and self.embeddings is not None:
            raise ValueError(
                "Extra images (--extra) teach a backbone, and --embeddings trains heads only. Leave one out."
            )
        if extra and not kind.uses_extra:
            raise ValueError(needless(self.method, "extra images (--extra)", "uses_extra"))
        if self.known_labels is not None and not kind.uses_known:
            raise ValueError(needless(self.method, "known labels (--known-labels)", "uses_known"))


def range_of(text: str) -> tuple[int, int | None]:
    """The least and the greatest number of clusters that "auto" or a range such as "5-60" allows (None: no limit)."""
    if text.strip().lower() == "auto":
        return 2, None
    low, dash, high = (part.strip() for part in text.partition("-"))
    if not (dash and low.isdecimal() and high.isdecimal() and 2 <= int(low) < int(high)):
        raise ValueError(wrong_number(text))
    return int(low), int(high)


def wrong_number(given: object) -> str:
    return (
        "The number of clusters must be a whole number of at least 2, auto, or a range such as 5-60; got"
        f" {shown(given)}."
    )


def is_module(value: object) -> bool:
    """Whether `value` is an `nn.Module`; torch is loaded only where it may be one."""
    if value is None or isinstance(value, str):
        return False
    from torch import nn

    return isinstance(value, nn.Module)


def check_backbone(name: str) -> None:
    """Raises ValueError, before any image is read, for a name that means neither a network nor an encoder."""
    from ilk.networks.backbones import backbone_names
    from ilk.networks.pretrained import SHORT_NAMES
    from ilk.networks.pretrained.installed import installed_encoders

    pretrained = (*(encoder.name for encoder in installed_encoders()), *SHORT_NAMES)
    known = (*backbone_names(), *pretrained)
    if name in ("auto", *known) or ":" in name:  # hf:..., run:..., weights:..., which their readers check
        return
    hint = f" For a model of the Hugging Face hub write hf:{name}." if "/" in name else did_you_mean(name, known)
    raise ValueError(
        f"Unknown backbone '{name}'.{hint} Pretrained: {', '.join(pretrained)}, hf:ID, run:FOLDER, weights:FILE. From"
        f" scratch: {', '.join(backbone_names())}."
    )


def needless(method: str, what: str, hook: str) -> str:
    from ilk.methods import METHODS

    able = [name for name, kind in METHODS.items() if getattr(kind, hook)]
    return f"Method {method} has no use for {what}. Methods that have: {', '.join(able)}."


def device_and_precision(request: Request) -> tuple[str, str]:
    from ilk.system.devices import choose_device, choose_precision

    device = choose_device(request.device)
    return device, choose_precision(request.precision, device)
