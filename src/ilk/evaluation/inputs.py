"""What the protocols get: the images that are evaluated, how they are split, and how to open what is needed later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ilk.evaluation.backbone_features import backbone_features, fabric_of
from ilk.evaluation.evaluated_images import (
    Collection,
    Opener,
    Subset,
    everything,
    open_collection,
    reopen_images,
    same_images,
    shared_images,
    with_codes,
)
from ilk.evaluation.evaluation_options import EvaluationOptions
from ilk.evaluation.label_free import run_agreement
from ilk.evaluation.provenance import label_source, never_trained_on, predicting_run, refuse_other_images
from ilk.evaluation.splits import Split, random_split, split_by_folder, split_by_table
from ilk.methods.base import Method
from ilk.runs.folder import Run
from ilk.runs.tables import read_table
from ilk.system.progress import Watch

OpenModel = Callable[[Run], Method]


@dataclass(frozen=True)
class Inputs:
    """What is evaluated. Images and model are opened only when a protocol needs them."""

    main: Collection
    test: Collection | None
    label_names: list[str]  # of each code
    options: EvaluationOptions
    watch: Watch
    open: Opener
    open_model: OpenModel | None

    @property
    def labelled(self) -> bool:
        """Whether any image has a label that may score."""
        return any(bool((collection.codes >= 0).any()) for collection in self.collections)

    @property
    def collections(self) -> list[Collection]:
        return [self.main] if self.test is None else [self.main, self.test]

    @property
    def whole(self) -> str:
        """What all images of the run are called: "train", or "test" where the run is a prediction."""
        return "test" if self.main.predicted else "train"

    @cached_property
    def division(self) -> Split:
        """What is learnt from and what is held out, labelled or not; a random split has labelled ones only."""
        options = self.options
        if self.test is not None:
            folder = str(self.test.run)
            parts = everything(self.main), everything(self.test)
            return Split(f"test (prediction {folder})", *parts, kind="prediction", source=folder)
        if options.split == "random":
            return random_split(self.main, options.share, options.seed)
        if options.split == "folders":
            return split_by_folder(self.main)
        return split_by_table(self.main, Path(options.split).expanduser(), options.column)

    @cached_property
    def split(self) -> Split:
        """What classifiers learn from and are tested with, labelled only. Raises ValueError where a side has none."""
        division = self.division
        unlabelled = sum(int((subset.codes < 0).sum()) for subset in (division.train, division.test))
        split = replace(
            division, train=division.train.labelled(), test=division.test.labelled(),
            left_out=division.left_out + unlabelled,
        )  # fmt: skip
        for name, subset in (("train", split.train), ("test", split.test)):
            if len(subset) == 0:
                raise ValueError(f"None of the {name} images has a label. Give them with --labels (or --test-labels).")
        return split

    @cached_property
    def agreements(self) -> list[dict[str, Any]]:
        """The agreement with each of the other runs that were named."""
        return [agreement_with(self.main, Path(folder)) for folder in self.options.against]

    @property
    def held_out(self) -> bool:
        """Whether the person named what is held out, rather than have it drawn."""
        return self.test is not None or self.options.split != "random"

    def method(self) -> Method:
        """The trained model of the run. Raises ValueError where none was given."""
        if self.open_model is None:
            raise ValueError("the model was not given")
        model = predicting_run(self.main.run)
        return self.open_model(self.main.run if model is None else model.open())

    def progress(self, what: str) -> Callable[[int, int], None]:
        return lambda done, total: self.watch.progress(done, total, what)

    @property
    def bootstrap(self) -> dict[str, int]:
        """How intervals are drawn."""
        return {"resamples": self.options.resamples, "seed": self.options.seed}

    def about_features(self) -> dict[str, Any]:
        """Which features a protocol saw, for its block."""
        return {"features": self.options.features, "dim": int(self.main.features.shape[1])}

    def about_images(self) -> dict[str, Any]:
        """Where the labels of all images come from, and whether the network was not trained on them."""
        return {"labels": self.label_sources, "unseen": never_trained_on(self.main.run)}

    def about_split(self) -> dict[str, Any]:
        """What was held out and how, with which labels, and whether the network was not trained on it."""
        division = self.division
        split: dict[str, Any] = {"name": division.name, "kind": division.kind, "source": division.source}
        if division.kind == "random":
            split["held_out"] = self.options.share
        if division.kind == "table":
            split["column"] = self.options.column
        return {"split": split, "labels": self.label_sources, "unseen": self.test_unseen}

    @property
    def label_sources(self) -> dict[str, str | None]:
        """Where the labels that score come from, of the run and of the test images."""
        main, given = self.main, self.options.labels
        sources = {"run": label_source(given, main.names, main.codes)}
        if self.test is not None:
            given = given if self.options.test_labels is None else self.options.test_labels
            sources["test"] = label_source(given, self.test.names, self.test.codes)
        return sources

    @cached_property
    def test_unseen(self) -> bool:
        """Whether the network was trained on none of the images that are held out."""
        if self.test is not None:
            return never_trained_on(self.test.run) and shared_images(self.test, self.main) == 0
        return never_trained_on(self.main.run)


def agreement_with(main: Collection, folder: Path) -> dict[str, Any]:
    """How far the run in `folder` agrees with `main`. Raises ValueError where it is not of the same images."""
    other = Run(folder).open()
    table = read_table(other / "assignments.parquet")
    ids, what = table["id"].to_pylist(), f"'{folder}' cannot be compared with '{main.run}'"
    refuse_other_images(main.run.config, main.ids, other.config, ids, what)
    try:
        agreement = run_agreement(main.ids, main.cluster, ids, table["cluster"].to_numpy())
    except ValueError as error:
        raise ValueError(f"{what}: {error}. Give runs of the same images.") from None
    plan = other.config
    return {"run": str(folder), "seed": plan.seed, "n_clusters": plan.n_clusters, **agreement}


def open_inputs(run: Run, options: EvaluationOptions, open_model: OpenModel | None, watch: Watch) -> Inputs:
    """The images that are evaluated, with labels and features. Raises ValueError or FileNotFoundError."""
    by_folder = options.test is None and options.split == "folders"
    collections = [open_collection(run, options.labels, by_folder=by_folder)]
    if options.test is not None:
        labels = options.labels if options.test_labels is None else options.test_labels
        collections.append(open_collection(Run(options.test), labels))
        check_test(run, collections[1], collections[0], watch)
    collections, label_names = with_codes(collections)

    def opener(subset: Subset) -> Any:
        source = options.images if subset.of.run is run else options.test_images
        return reopen_images(subset, source, cache_dir=options.cache_dir, progress=watch.progress)

    inputs = Inputs(
        main=collections[0], test=collections[1] if options.test is not None else None, label_names=label_names,
        options=options, watch=watch, open=opener, open_model=open_model,
    )  # fmt: skip
    if options.features == "backbone":
        inputs = replace(
            inputs, main=on_backbone(inputs, inputs.main),
            test=None if inputs.test is None else on_backbone(inputs, inputs.test),
        )  # fmt: skip
    return inputs


def on_backbone(inputs: Inputs, collection: Collection) -> Collection:
    """The collection with the backbone's features in place of the embeddings; its images are opened for it."""
    images, method = inputs.open(everything(collection)), inputs.method()
    fabric = fabric_of(inputs.options.device)
    features = backbone_features(method, images, fabric, inputs.progress("backbone features"))
    return replace(collection, features=features)


def check_test(run: Run, test: Collection, main: Collection, watch: Watch) -> None:
    """Raises ValueError unless `test` looks like a prediction by the model of `run` on other images."""
    if not test.predicted:
        raise ValueError(
            f"'{test.run}' is not a prediction. Make one with: ilk predict {run} SOURCE --out FOLDER, then"
            " --test FOLDER"
        )
    if test.features.shape[1] != main.features.shape[1] or test.run.config.n_clusters != run.config.n_clusters:
        raise ValueError(f"'{test.run}' is a prediction by another model than that of '{run}'.")
    model = predicting_run(test.run)
    if model is not None and model.folder.resolve() != run.folder.resolve():
        watch.warn(f"'{test.run}' was predicted with '{model}', which is another folder")
    if same_images(test, main):
        raise ValueError(f"'{test.run}' has the same images as '{run}', so nothing is held out. Leave --test out.")
    if both := shared_images(test, main):
        watch.warn(f"{both:,} images of '{test.run}' have the ids of images of the run; are they really held out?")
