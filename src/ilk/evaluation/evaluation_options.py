"""What a person can ask of an evaluation, checked before anything is opened."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ilk.evaluation.intervals import RESAMPLES
from ilk.evaluation.label_free import VIEWED
from ilk.evaluation.retrieval import QUERIES
from ilk.system.text import did_you_mean

PROTOCOLS = ("labels", "knn", "probe", "retrieval", "opinions", "label-free")
NEED_LABELS = ("labels", "knn", "probe")
USE_SPLIT = ("labels", "knn", "probe", "retrieval")  # these look at what is held out


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """What is asked of an evaluation.

    `only`: names of `PROTOCOLS`; empty for all that can be done. `labels`, `test_labels`: as for `score_run`.
    `test`: the folder of a prediction on held-out images. Without one, `split` says what is held out: "random",
    "folders" (ids in train/ and test/), or a CSV or Parquet file with a column `split_column`.
    `features`: "embeddings", or "backbone" for the network's output before its heads.
    `held_out` (None: 0.2), `split_column` (None: "split") and `optimizer` (None: "lars") are refused where they would
    have no effect. `images`, `test_images`: sources, where images are no longer at their recorded paths.
    `against`: other runs of the same images. `queries`, `views_of`: most images of retrieval and of view stability.
    Raises ValueError for unknown names, values out of range and options that exclude each other.
    """

    only: tuple[str, ...] = ()
    labels: str | os.PathLike[str] | None = None
    test: Path | None = None
    test_labels: str | os.PathLike[str] | None = None
    split: str = "random"
    split_column: str | None = None
    held_out: float | None = None
    features: str = "embeddings"
    optimizer: str | None = None
    images: Any = None
    test_images: Any = None
    against: tuple[Path, ...] = ()
    queries: int = QUERIES
    views_of: int = VIEWED
    resamples: int = RESAMPLES
    seed: int = 0
    device: str = "auto"
    cache_dir: Any = None

    def __post_init__(self) -> None:
        for name in self.only:
            refuse_unknown_name("protocol", name, PROTOCOLS)
        refuse_unknown_name("kind of features", self.features, ("embeddings", "backbone"))
        refuse_unknown_name("optimizer of the linear probe", self.probe_optimizer, ("lars", "sgd"))
        for name in ("queries", "views_of", "resamples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name.replace('_', ' ')} must be at least 1; got {getattr(self, name)}.")
        if self.seed < 0:
            raise ValueError(f"The seed must be 0 or more; got {self.seed}.")
        if not 0 < self.share < 1:
            raise ValueError(f"The share that is held out is a number between 0 and 1; got {self.held_out}.")
        self.refuse_contradictions()
        self.refuse_unused()

    def refuse_contradictions(self) -> None:
        """Raises ValueError for options that exclude each other."""
        if self.test is not None and self.split != "random":
            raise ValueError("--test already says which images are held out. Leave --split out.")
        if self.test is None and (self.test_labels is not None or self.test_images is not None):
            raise ValueError("--test-labels and --test-images belong to a prediction. Name it: --test PREDICTION.")
        if self.held_out is not None and (self.test is not None or self.split != "random"):
            option = "--test" if self.test is not None else f"--split {self.split}"
            raise ValueError(f"{option} already says which images are held out. Leave --held-out out.")
        if self.split_column is not None and (self.test is not None or self.split in ("random", "folders")):
            raise ValueError("--split-column is a column of a file. Name the file: --split FILE.")

    def refuse_unused(self) -> None:
        """Raises ValueError for options that none of the chosen protocols uses."""
        if not self.only:
            return
        if self.test_labels is not None and not set(self.only) & set(USE_SPLIT):
            raise ValueError(
                f"--test-labels is for {', '.join(USE_SPLIT)}. Add one of them to --only, or leave it out."
            )
        for given, option, used_by in (
            (bool(self.against), "--against", ("label-free",)),
            (self.optimizer is not None, "--optimizer", ("probe",)),
            (self.held_out is not None, "--held-out", ("knn", "probe")),
            (self.test is not None, "--test", USE_SPLIT),
            (self.split != "random", "--split", USE_SPLIT),
        ):
            if given and not set(self.only) & set(used_by):
                raise ValueError(
                    f"{option} is for {', '.join(used_by)}. Add {'it' if len(used_by) == 1 else 'one of them'} to"
                    f" --only, or leave {option} out."
                )

    @property
    def share(self) -> float:
        """The share of images that a random split holds out."""
        return 0.2 if self.held_out is None else self.held_out

    @property
    def column(self) -> str:
        """The column of a split file that says train or test."""
        return self.split_column or "split"

    @property
    def probe_optimizer(self) -> str:
        return self.optimizer or "lars"


def refuse_unknown_name(what: str, name: str, known: Iterable[str]) -> None:
    """Raises ValueError, with the nearest name, if `name` is not among the known ones."""
    known = tuple(known)
    if name not in known:
        raise ValueError(f"There is no {what} '{name}'.{did_you_mean(name, known)} Known: {', '.join(known)}.")
