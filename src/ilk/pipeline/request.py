"""What a person asks for, checked before any image is read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any

from torch import nn

from ilk.methods import METHODS, get_method, get_preset, override
from ilk.methods.base import at_least
from ilk.methods.settings import Preset
from ilk.networks.backbones import backbone_names
from ilk.networks.pretrained import SHORT_NAMES
from ilk.pipeline.initial_weights import find_initial
from ilk.system.devices import choose_device, choose_precision
from ilk.views import ViewRecipe, get_views

SELECTIONS = ("last", "min_loss")
MAX_SIZE = {"cpu": 48, "cuda": 96, "mps": 64}  # sides in pixels that a person's patience allows from scratch


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a person asks for; everything but `n_clusters` may be left open.

    `n_clusters`: how many, or a text: a number, "auto", or a range such as "5-60" to choose from.
    `settings` replace fields of the preset by name (`ilk methods` lists them). `backbone` and `views`
    may also be objects: an `nn.Module` with `feature_dim`, a `ViewRecipe` or a pair of them.
    `init`: a run folder or a .safetensors file whose backbone the training starts from, which
    `freeze_backbone` then leaves as it is. `known_labels`: as `find_known` takes them, the one case in
    which labels steer a training.
    `balance`: which sizes of clusters are held for right, "uniform", "estimated" or "off"; None: as the preset says.
    `train`: "heads" (the encoder is frozen, its features are computed once) or "all"; None: heads with a
    pretrained encoder, all without. `feature_views`: how many random views of each image heads learn from,
    `neighbours`: how many of its nearest images. `offline`: nothing is asked of the network.
    `embeddings`: features that were computed elsewhere, as `read_given` takes them.
    `select`: which epoch's model is kept, "last" or "min_loss"; see `Selection`.
    """

    n_clusters: int | str
    method: str = "cc"
    preset: str = "default"
    epochs: int | None = None
    minutes: float | None = None
    image_size: int | None = None
    backbone: str | nn.Module | None = None
    views: str | ViewRecipe | tuple[ViewRecipe, ViewRecipe] | None = None
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    settings: Mapping[str, Any] = field(default_factory=dict)
    init: str | os.PathLike[str] | None = None
    freeze_backbone: bool = False
    known_labels: Any = None
    balance: str | None = None
    train: str | None = None
    feature_views: int = 4
    neighbours: int = 10
    offline: bool = False
    embeddings: Any = None
    select: str = "last"

    def __post_init__(self) -> None:
        if isinstance(self.n_clusters, str) and self.n_clusters.strip().isdecimal():
            object.__setattr__(self, "n_clusters", int(self.n_clusters))
        if self.choice is None and (isinstance(self.n_clusters, bool) or not isinstance(self.n_clusters, int)):
            raise ValueError(wrong_number(self.n_clusters))
        if isinstance(self.n_clusters, int) and self.n_clusters < 2:
            raise ValueError(wrong_number(self.n_clusters))
        if self.choice is not None and self.known_labels is not None:
            raise ValueError("Known labels need a number of clusters, at least one for each kind. Give --clusters K.")
        if self.epochs is not None and self.minutes is not None:
            raise ValueError("Give epochs or minutes, not both.")
        for name in ("epochs", "image_size"):
            if getattr(self, name) is not None:
                at_least(name, getattr(self, name), 1)
        if self.minutes is not None:
            at_least("minutes", self.minutes, 0, strict=True)
        if self.train not in (None, "heads", "all"):
            raise ValueError(f"train must be heads or all; got '{self.train}'.")
        if self.select not in SELECTIONS:
            raise ValueError(
                f"select must be one of {', '.join(SELECTIONS)}; got '{self.select}'."
                + (" Labels choose the epoch in ilk compare alone." if self.select == "oracle_acc" else "")
            )
        for name in ("feature_views", "neighbours"):
            at_least(name, getattr(self, name), 0)
        if not isinstance(self.seed, int) or not 0 <= self.seed < 2**31:
            raise ValueError(f"seed must be a whole number from 0 to 2147483647; got {self.seed!r}.")
        if isinstance(self.views, str) and self.views != "auto":
            get_views(self.views)
        if isinstance(self.backbone, str):
            check_backbone(self.backbone)
        if self.embeddings is not None:
            self.refuse_beside_embeddings()
        if self.freeze_backbone and self.init is None and not isinstance(self.backbone, nn.Module):
            raise ValueError(
                "--freeze-backbone would keep a backbone that has learnt nothing. Give it weights with --init RUN"
                " (in Python, init=... or a backbone module)."
            )

    def refuse_beside_embeddings(self) -> None:
        """Raises ValueError for options that speak of an encoder or a backbone, which embeddings do without."""
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
                "With --embeddings only heads are trained, on features that are there already;"
                f" {' and '.join(needless)} would do nothing. Leave {it} out, or leave --embeddings out."
            )

    @property
    def choice(self) -> tuple[int, int | None] | None:
        """The least and the greatest number of clusters to choose from (None: no limit); None if it is given."""
        if not isinstance(self.n_clusters, str):
            return None
        if self.n_clusters.strip().lower() == "auto":
            return 2, None
        low, dash, high = (part.strip() for part in self.n_clusters.partition("-"))
        if not (dash and low.isdecimal() and high.isdecimal() and 2 <= int(low) < int(high)):
            raise ValueError(wrong_number(self.n_clusters))
        return int(low), int(high)

    @property
    def k(self) -> int:
        """The number of clusters, once it is known."""
        if not isinstance(self.n_clusters, int):
            raise ValueError(f"The number of clusters is not known yet; got {self.n_clusters!r}.")
        return self.n_clusters

    def resolved_preset(self, instead: Mapping[str, Any] | None = None) -> Preset:
        """The preset with what was asked for.

        `instead` replaces what the preset says, not what was asked, as far as the method has such settings.
        """
        preset, asked = get_preset(self.method, self.preset), dict(self.settings)
        if self.balance is not None:
            asked["balance"] = self.balance
        if instead is not None:
            known = {one.name for part in (preset.config, preset.recipe) for one in fields(part)}
            preset = override(preset, {name: value for name, value in instead.items() if name in known})
        found = override(preset, asked)
        if "batch_size" in asked and found.recipe.batch_size is not None:  # that batch does not grow with the clusters
            found = override(found, {"images_per_cluster": 0} | asked)
        return found

    def wanted_size(self) -> int | None:
        """The side of the images in pixels, or None where the images decide."""
        if self.image_size is not None:
            return self.image_size
        initial = None if self.init is None else find_initial(self.init).image_size
        return initial or self.resolved_preset().recipe.image_size

    def refuse_needless(self, *, extra: bool) -> None:
        """Raises ValueError if the method has no use for extra images or known labels that it is given."""
        kind = get_method(self.method)
        if extra and self.embeddings is not None:
            raise ValueError(
                "Extra images (--extra) teach a backbone, and --embeddings trains heads only. Leave one out."
            )
        if extra and not kind.uses_extra:
            raise ValueError(needless(self.method, "extra images (--extra)", "uses_extra"))
        if self.known_labels is not None and not kind.uses_known:
            raise ValueError(needless(self.method, "known labels (--known-labels)", "uses_known"))


def check_backbone(name: str) -> None:
    """Raises ValueError, before any image is read, for a name that means neither a network nor an encoder."""
    known = (*backbone_names(), *SHORT_NAMES)
    if name in ("auto", *known) or ":" in name:  # hf:..., run:..., weights:..., which their readers look at
        return
    near = get_close_matches(name, known, 1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    hint = f" For a model of the Hugging Face hub write hf:{name}." if "/" in name else hint
    raise ValueError(
        f"Unknown backbone '{name}'.{hint} Pretrained: {', '.join(SHORT_NAMES)}, hf:ID, run:FOLDER, weights:FILE. From"
        f" scratch: {', '.join(backbone_names())}."
    )


def wrong_number(given: object) -> str:
    return f"The number of clusters must be a whole number of at least 2, auto, or a range such as 5-60; got {given!r}."


def needless(method: str, what: str, hook: str) -> str:
    able = [name for name, kind in METHODS.items() if getattr(kind, hook)]
    return f"Method {method} has no use for {what}. Methods that have: {', '.join(able)}."


def device_and_precision(request: Request) -> tuple[str, str]:
    device = choose_device(request.device)
    return device, choose_precision(request.precision, device)
