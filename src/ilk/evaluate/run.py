"""The protocols, one after the other, on a finished run: what comes out is kept in its `evaluation.json`."""

from __future__ import annotations

import difflib
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ilk.distributed import choose_device
from ilk.evaluate import protocols
from ilk.evaluate.data import LABELS_NEEDED, Collection, Rows, open_collection, open_rows, with_codes
from ilk.evaluate.features import backbone_features
from ilk.evaluate.intervals import RESAMPLES
from ilk.evaluate.label_free import VIEWED
from ilk.evaluate.protocols import Scene
from ilk.evaluate.retrieval import QUERIES
from ilk.files import file_hash, read_json, write_json
from ilk.methods.base import Method
from ilk.runs import Run
from ilk.watch import Watch

FILE = "evaluation.json"
FORMAT = 1
WORK: dict[str, Callable[[Scene], dict[str, Any]]] = {
    "labels": protocols.labels,
    "knn": protocols.knn,
    "probe": protocols.probe,
    "retrieval": protocols.retrieval,
    "opinions": protocols.opinions,
    "label-free": protocols.label_free,
}
PROTOCOLS = tuple(WORK)
NEED_LABELS = ("labels", "knn", "probe")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is asked of an evaluation.

    `only`: names of `PROTOCOLS`; none for all that can be done. `labels`, `test_labels`: as for `score_run`.
    `test`: the folder of a prediction on held-out images; without one, `split` says what is held out: "random",
    "folders" (ids in train/ and test/) or a CSV or Parquet file with a column `split_column`.
    `features`: "embeddings", or "backbone" for what the network gives before its heads.
    `images`, `test_images`: sources, where the recorded paths lead nowhere. `against`: other runs of the same images.
    """

    only: tuple[str, ...] = ()
    labels: str | os.PathLike[str] | None = None
    test: Path | None = None
    test_labels: str | os.PathLike[str] | None = None
    split: str = "random"
    split_column: str = "split"
    held_out: float = 0.2
    features: str = "embeddings"
    optimizer: str = "lars"
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
            one_of("protocol", name, PROTOCOLS)
        one_of("kind of features", self.features, ("embeddings", "backbone"))
        one_of("optimizer of the linear probe", self.optimizer, ("lars", "sgd"))
        for name in ("queries", "views_of", "resamples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name.replace('_', ' ')} must be at least 1; got {getattr(self, name)}.")
        if self.seed < 0:
            raise ValueError(f"The seed must be 0 or more; got {self.seed}.")
        if not 0 < self.held_out < 1:
            raise ValueError(f"The part that is held out is a number between 0 and 1; got {self.held_out}.")
        if self.test is not None and self.split != "random":
            raise ValueError("--test already says which images are held out. Leave --split out.")
        if self.test is None and (self.test_labels is not None or self.test_images is not None):
            raise ValueError("--test-labels and --test-images are of a prediction. Say which: --test PREDICTION.")


def one_of(what: str, name: str, known: Iterable[str]) -> None:
    known = tuple(known)
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise ValueError(f"There is no {what} '{name}'.{hint} Known: {', '.join(known)}.")


def evaluate_run(
    run: Run, asked: Asked, *, model: Callable[[Run], Method] | None = None, watch: Watch | None = None
) -> dict[str, Any]:
    """What the protocols that are asked for find, written to the run's `evaluation.json` as soon as each is done.

    The others keep what the file has of them, as long as the assignments are the same.
    `model`: opens the trained model of a run, from images to clusters; without it nothing that needs one is done.
    Raises ValueError or FileNotFoundError, a sentence, for what a person can put right.
    """
    watch = watch or Watch()
    choose_device(asked.device)  # a wrong name is no reason to leave things out
    scene = open_scene(run, asked, model, watch)
    chosen = tuple(name for name in PROTOCOLS if name in asked.only) or PROTOCOLS
    if not scene.labelled:
        needed = [name for name in asked.only if name in NEED_LABELS]
        if needed:
            raise ValueError(f"{', '.join(needed)} cannot be done: no labels are known for '{run}'. {LABELS_NEEDED}")
        watch.say(f"no labels are known: {', '.join(NEED_LABELS)} are left out. {LABELS_NEEDED}")
        chosen = tuple(name for name in chosen if name not in NEED_LABELS)
    if "label-free" in chosen:
        _ = scene.agreements  # what is wrong with another run, or with the split, is said before hours of work
    if any(name in NEED_LABELS for name in chosen) and (scene.held_out or chosen != ("labels",)):
        _ = scene.split
    found = begun(run, scene)
    for place, name in enumerate(chosen):
        start = time.monotonic()
        watch.say(f"evaluating: {name}")
        try:
            block = WORK[name](scene)
        except KeyboardInterrupt:
            kept = (
                f"{', '.join(chosen[:place])} {'is' if place == 1 else 'are'} kept in {run / FILE}. " if place else ""
            )
            watch.warn(f"stopped. {kept}For the others, run the same command with --only {','.join(chosen[place:])}")
            raise
        found["protocols"][name] = {**block, "seed": asked.seed, "seconds": round(time.monotonic() - start, 2)}
        found["protocols"] = {one: found["protocols"][one] for one in PROTOCOLS if one in found["protocols"]}
        write_json(run / FILE, found)
    return {**found, "protocols": {name: found["protocols"][name] for name in chosen}}


def begun(run: Run, scene: Scene) -> dict[str, Any]:
    """What an earlier evaluation of the same assignments has found, or an empty one."""
    empty: dict[str, Any] = {
        "format": FORMAT, "assignments": file_hash(run / "assignments.parquet"), "images": len(scene.main),
        "n_clusters": run.config["n_clusters"], "protocols": {},
    }  # fmt: skip
    file = run / FILE
    if not file.is_file():
        return empty
    try:
        there = read_json(file)
        same = all(there[name] == empty[name] for name in ("format", "assignments"))
        return {**empty, "protocols": dict(there["protocols"])} if same else empty
    except (ValueError, TypeError, KeyError, AttributeError):  # of another program, or damaged: made anew
        return empty


def open_scene(run: Run, asked: Asked, model: Callable[[Run], Method] | None, watch: Watch) -> Scene:
    """The images that are evaluated, with labels and features; what is opened only when needed is left closed."""
    by_folder = asked.test is None and asked.split == "folders"
    opened = [open_collection(run, asked.labels, by_folder=by_folder)]
    if asked.test is not None:
        labels = asked.labels if asked.test_labels is None else asked.test_labels
        opened.append(open_collection(Run(asked.test), labels))
        check_test(run, opened[1], opened[0], watch)
    opened, words = with_codes(opened)

    def opener(rows: Rows) -> Any:
        source = asked.images if rows.of.run is run else asked.test_images
        return open_rows(rows, source, cache_dir=asked.cache_dir, progress=watch.progress)

    scene = Scene(
        main=opened[0], test=opened[1] if asked.test is not None else None, words=words, asked=asked, watch=watch,
        open=opener, model=model,
    )  # fmt: skip
    if asked.features == "backbone":
        main, test = (
            one if one is None else replace(one, features=backbone_features(scene, one))
            for one in (scene.main, scene.test)
        )
        assert main is not None  # it never is
        scene = replace(scene, main=main, test=test)
    return scene


def check_test(run: Run, test: Collection, main: Collection, watch: Watch) -> None:
    """Raises ValueError unless `test` looks like a prediction by the model of `run` on other images."""
    if not test.predicted:
        raise ValueError(
            f"'{test.run}' is no prediction. Make one with: ilk predict {run} SOURCE --out FOLDER, then --test FOLDER"
        )
    if test.features.shape[1] != main.features.shape[1] or test.run.config["n_clusters"] != run.config["n_clusters"]:
        raise ValueError(f"'{test.run}' is a prediction by another model than that of '{run}'.")
    if Path(test.run.config["predicted_with"]).resolve() != run.folder.resolve():
        watch.warn(f"'{test.run}' was predicted with '{test.run.config['predicted_with']}', which is another folder")
    both = len(set(test.ids) & set(main.ids))
    if both and not np.array_equal(test.ids, main.ids):
        watch.warn(f"{both:,} images of '{test.run}' have the ids of images of the run; are they really held out?")
    elif both:
        raise ValueError(f"'{test.run}' has the very images of '{run}', so nothing is held out. Leave --test out.")
