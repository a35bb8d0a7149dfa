"""What is evaluated, how it is split, and what every figure of it rests on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ilk.evaluate import label_free as free
from ilk.evaluate.basis import labels_said, never_trained_on, origin, refuse_other_images, shared_images
from ilk.evaluate.data import Collection, Opener, Rows, Split, random_split, split_by_folder, split_by_table
from ilk.methods.base import Method
from ilk.runs.folder import Run
from ilk.runs.tables import read_table
from ilk.system.progress import Watch

if TYPE_CHECKING:
    from ilk.evaluate.run import Asked


@dataclass(frozen=True)
class Scene:
    """What is evaluated, and the way to what is opened only when it is needed."""

    main: Collection
    test: Collection | None
    words: list[str]  # what the codes of labels mean
    asked: Asked
    watch: Watch
    open: Opener
    model: Callable[[Run], Method] | None

    @property
    def labelled(self) -> bool:
        """Whether any image has a label that may score."""
        return any(bool((one.codes >= 0).any()) for one in self.collections)

    @property
    def collections(self) -> list[Collection]:
        return [self.main] if self.test is None else [self.main, self.test]

    @property
    def whole(self) -> str:
        """The name of all images of the run: those it was trained on, or those it was asked about."""
        return "test" if self.main.predicted else "train"

    @cached_property
    def division(self) -> Split:
        """What is learnt from and what is held out, with and without labels; of a random split those with labels."""
        asked = self.asked
        if self.test is not None:
            folder, parts = str(self.test.run), (everything(self.main), everything(self.test))
            return Split(f"test (prediction {folder})", *parts, kind="prediction", source=folder)
        if asked.split == "random":
            return random_split(self.main, asked.share, asked.seed)
        if asked.split == "folders":
            return split_by_folder(self.main)
        return split_by_table(self.main, Path(asked.split).expanduser(), asked.column)

    @cached_property
    def split(self) -> Split:
        """What classifiers learn from and are tested with, labelled images only."""
        found = self.division
        left = found.left_out + sum(int((part.codes < 0).sum()) for part in (found.train, found.test))
        split = replace(found, train=found.train.labelled(), test=found.test.labelled(), left_out=left)
        for name, part in (("train", split.train), ("test", split.test)):
            if len(part) == 0:
                raise ValueError(f"None of the {name} images has a label. Give them with --labels (or --test-labels).")
        return split

    @cached_property
    def agreements(self) -> list[dict[str, Any]]:
        """The agreement with each of the other runs that were named."""
        return [against(self.main, Path(folder)) for folder in self.asked.against]

    @property
    def held_out(self) -> bool:
        """Whether a split was asked for, not drawn."""
        return self.test is not None or self.asked.split != "random"

    def method(self) -> Method:
        if self.model is None:
            raise ValueError("the model was not given")
        model = origin(self.main.run)
        return self.model(self.main.run if model is None else model.open())

    def progress(self, what: str) -> Callable[[int, int], None]:
        return lambda done, total: self.watch.progress(done, total, what)

    @property
    def options(self) -> dict[str, int]:
        return {"resamples": self.asked.resamples, "seed": self.asked.seed}

    def about(self) -> dict[str, Any]:
        """The features that a protocol saw."""
        return {"features": self.asked.features, "dim": int(self.main.features.shape[1])}

    def rests_on(self) -> dict[str, Any]:
        """Of all images of the run: where their labels come from, and whether the network was not trained on them."""
        return {"labels": self.labels, "unseen": never_trained_on(self.main)}

    @property
    def labels(self) -> dict[str, str | None]:
        """Where the labels that score come from, by what they are of."""
        main, given = self.main, self.asked.labels
        found = {"run": labels_said(given, main.names, main.codes)}
        if self.test is not None:
            given = given if self.asked.test_labels is None else self.asked.test_labels
            found["test"] = labels_said(given, self.test.names, self.test.codes)
        return found

    @cached_property
    def test_unseen(self) -> bool:
        """Whether the network was trained on none of the images that are held out."""
        if self.test is not None:
            return never_trained_on(self.test) and shared_images(self.test, self.main) == 0
        return never_trained_on(self.main)

    def held(self) -> dict[str, Any]:
        """What was held out, by what, with which labels, and whether the network is new to it."""
        one, share = self.division, self.asked.share
        split: dict[str, Any] = {"name": one.name, "kind": one.kind, "source": one.source}
        if one.kind == "random":
            split["held_out"] = share
        if one.kind == "table":
            split["column"] = self.asked.column
        return {"split": split, "labels": self.labels, "unseen": self.test_unseen}


def everything(of: Collection) -> Rows:
    return Rows(of, np.arange(len(of)))


def against(main: Collection, folder: Path) -> dict[str, Any]:
    """The agreement with another run of the same images."""
    other = Run(folder).open()
    table = read_table(other / "assignments.parquet")
    ids, what = table["id"].to_pylist(), f"'{folder}' cannot be compared with '{main.run}'"
    refuse_other_images(main.run.config, main.ids, other.config, ids, what)
    try:
        found = free.run_agreement(main.ids, main.cluster, ids, table["cluster"].to_numpy())
    except ValueError as error:
        raise ValueError(f"{what}: {error}. Give runs of the same images.") from None
    return {"run": str(folder), "seed": other.config["seed"], "n_clusters": other.config["n_clusters"], **found}
