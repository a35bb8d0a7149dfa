"""The protocols, one after the other, on a finished run: what comes out is kept in its `evaluation.json`."""

from __future__ import annotations

import difflib
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ilk.evaluate import protocols
from ilk.evaluate.basis import labels_used, origin, same_images, shared_images
from ilk.evaluate.data import LABELS_NEEDED, Collection, Rows, open_collection, open_rows, with_codes
from ilk.evaluate.features import backbone_features
from ilk.evaluate.intervals import RESAMPLES
from ilk.evaluate.label_free import VIEWED
from ilk.evaluate.retrieval import QUERIES
from ilk.evaluate.scene import Scene
from ilk.methods.base import Method
from ilk.runs.folder import Run
from ilk.system.devices import choose_device
from ilk.system.files import file_hash, read_json, write_json
from ilk.system.progress import Watch

FILE = "evaluation.json"
FORMAT = 2
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
SPLIT = ("labels", "knn", "probe", "retrieval")  # what looks at what is held out


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is asked of an evaluation.

    `only`: names of `PROTOCOLS`; none for all that can be done. `labels`, `test_labels`: as for `score_run`.
    `test`: the folder of a prediction on held-out images; without one, `split` says what is held out: "random",
    "folders" (ids in train/ and test/) or a CSV or Parquet file with a column `split_column`.
    `features`: "embeddings", or "backbone" for what the network gives before its heads.
    `held_out` (0.2), `split_column` ("split") and `optimizer` ("lars") are refused where nothing would heed them.
    `images`, `test_images`: sources, where the recorded paths lead nowhere. `against`: other runs of the same images.
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
            one_of("protocol", name, PROTOCOLS)
        one_of("kind of features", self.features, ("embeddings", "backbone"))
        one_of("optimizer of the linear probe", self.recipe, ("lars", "sgd"))
        for name in ("queries", "views_of", "resamples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name.replace('_', ' ')} must be at least 1; got {getattr(self, name)}.")
        if self.seed < 0:
            raise ValueError(f"The seed must be 0 or more; got {self.seed}.")
        if not 0 < self.share < 1:
            raise ValueError(f"The part that is held out is a number between 0 and 1; got {self.held_out}.")
        self.refuse_contradictions()

    def refuse_contradictions(self) -> None:
        """Raises ValueError, a sentence, for words that exclude each other or that nothing would heed."""
        if self.test is not None and self.split != "random":
            raise ValueError("--test already says which images are held out. Leave --split out.")
        if self.test is None and (self.test_labels is not None or self.test_images is not None):
            raise ValueError("--test-labels and --test-images are of a prediction. Say which: --test PREDICTION.")
        if self.held_out is not None and (self.test is not None or self.split != "random"):
            said = "--test" if self.test is not None else f"--split {self.split}"
            raise ValueError(f"{said} already says which images are held out. Leave --held-out out.")
        if self.split_column is not None and (self.test is not None or self.split in ("random", "folders")):
            raise ValueError("--split-column is a column of a file. Say which: --split FILE.")
        if self.test_labels is not None and self.only and not set(self.only) & set(SPLIT):
            raise ValueError(f"--test-labels is for {', '.join(SPLIT)}. Add one of them to --only, or leave it out.")
        for given, option, heeded in (
            (bool(self.against), "--against", ("label-free",)),
            (self.optimizer is not None, "--optimizer", ("probe",)),
            (self.held_out is not None, "--held-out", ("knn", "probe")),
            (self.test is not None, "--test", SPLIT),
            (self.split != "random", "--split", SPLIT),
        ):
            if given and self.only and not set(self.only) & set(heeded):
                raise ValueError(
                    f"{option} is for {', '.join(heeded)}. Add {'it' if len(heeded) == 1 else 'one of them'} to --only,"
                    f" or leave {option} out."
                )

    @property
    def share(self) -> float:
        return 0.2 if self.held_out is None else self.held_out

    @property
    def column(self) -> str:
        return self.split_column or "split"

    @property
    def recipe(self) -> str:
        return self.optimizer or "lars"


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
    if scene.held_out and set(chosen) & set(SPLIT):
        _ = scene.division
    if {"knn", "probe"} & set(asked.only):
        _ = scene.split
    found = begun(run, scene, watch)
    for place, name in enumerate(chosen):
        start = time.monotonic()
        watch.say(f"evaluating: {name}")
        try:
            block = WORK[name](scene)
        except (ValueError, OSError) as error:
            if asked.only:
                raise
            watch.warn(f"{name} is left out: {error}")
            block = {"left_out": str(error)}
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


def begun(run: Run, scene: Scene, watch: Watch) -> dict[str, Any]:
    """What an earlier evaluation of the same assignments has found, or an empty one."""
    empty: dict[str, Any] = {
        "format": FORMAT, "assignments": file_hash(run / "assignments.parquet"), "images": len(scene.main),
        "n_clusters": run.config["n_clusters"], "selection": labels_used(run), "protocols": {},
    }  # fmt: skip
    file = run / FILE
    if not file.exists():
        return empty
    if not file.is_file():
        raise ValueError(f"'{file}' is a folder, where the figures are to be written. Remove it.")
    try:
        there = read_json(file)
        same = all(there[name] == empty[name] for name in ("format", "assignments"))
        return {**empty, "protocols": dict(there["protocols"])} if same else empty
    except (ValueError, TypeError, KeyError, AttributeError):  # of another program, or damaged
        watch.warn(f"'{file}' is damaged or was not written by ilk; it is made anew")
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
    model = origin(test.run)
    if model is not None and model.folder.resolve() != run.folder.resolve():
        watch.warn(f"'{test.run}' was predicted with '{model}', which is another folder")
    if same_images(test, main):
        raise ValueError(f"'{test.run}' has the very images of '{run}', so nothing is held out. Leave --test out.")
    if both := shared_images(test, main):
        watch.warn(f"{both:,} images of '{test.run}' have the ids of images of the run; are they really held out?")
