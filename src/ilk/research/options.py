"""The options of a training on a labelled set, declared once for jobs, `ilk compare` and the files of studies.

No torch here: a list of studies is shown without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from ilk.pipeline.options import TRAINING, field_of, option
from ilk.pipeline.request import Request

PIXELS = "pixels"
if TYPE_CHECKING:  # callers hand on any text, which pydantic checks
    Balance = str
    Split = str
    ReadOut = str
    Rule = str
else:
    Balance = Literal["uniform", "estimated", "off"]
    Split = Literal["train+test", "train", "test"]
    ReadOut = Literal["heads", "kmeans"]
    Rule = Literal["last", "min_loss", "oracle_acc"]
STRICT = ConfigDict(strict=True, extra="forbid")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LabelledTraining:
    """The options of a training on a labelled set; those of `Request` have the help and the limits they have there.

    `n_clusters`: without it, as many as there are classes. `images`: a random subset, the same for every seed.
    `imbalance`: makes a long tail, drawn by the seed. `on`: what a baseline clusters.
    `read_out`: "kmeans" clusters a run's embeddings by k-means (10 starts) instead of using its heads.
    """

    preset: str = field_of(Request, "preset")
    settings: Mapping[str, Any] = field_of(Request, "settings")
    views: str | None = field_of(Request, "views")
    backbone: str | None = field_of(Request, "backbone")
    image_size: int | None = field_of(Request, "image_size")
    balance: Balance | None = field_of(Request, "balance")
    epochs: int | None = field_of(Request, "epochs")
    minutes: float | None = field_of(Request, "minutes")
    seed: int = field_of(Request, "seed")
    n_clusters: int | None = option(
        None, "How many clusters.", panel=TRAINING, metavar="K", short="-k", unset="the number of classes", ge=2
    )
    images: int | None = option(
        None, "Use a random part of this many images, the same for every seed.", panel=TRAINING, metavar="N",
        unset="all", ge=2,
    )  # fmt: skip
    imbalance: int | float | None = option(
        None, "Make classes unequal: how many times larger the largest is than the smallest.", panel=TRAINING,
        metavar="RATIO", ge=1, allow_inf_nan=False,
    )  # fmt: skip
    split: Split = option(
        "train+test", "Which images count: train+test, train or test.", panel=TRAINING, metavar="SPLIT"
    )
    on: str = option(
        PIXELS, "What baselines cluster: pixels, or the embeddings of run folders; several with commas.",
        panel=TRAINING, metavar="WHAT", min_length=1,
    )  # fmt: skip
    read_out: ReadOut = option("heads", "How clusters are read: heads, or kmeans of the embeddings.")
    select: Rule = option(
        "last", "Which epoch's model to keep: last, min_loss, or oracle_acc: labels choose, as in some papers.",
        metavar="NAME",
    )  # fmt: skip
