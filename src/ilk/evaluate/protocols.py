"""Each protocol on the images at hand; every block says which images, which features and which labels it rests on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ilk.batches import spaced
from ilk.evaluate import label_free as free
from ilk.evaluate import probe as probing
from ilk.evaluate.data import Collection, Opener, Rows, Split, random_split, split_by_folder, split_by_table
from ilk.evaluate.features import fabric_of
from ilk.evaluate.intervals import score_with_intervals
from ilk.evaluate.opinions import second_opinions
from ilk.evaluate.pictures import Line, write_retrieval
from ilk.evaluate.retrieval import (
    Ranking,
    chosen_queries,
    picture_rows,
    rank_gallery,
    retrieval_scores,
)
from ilk.methods.base import Method
from ilk.results import read_table
from ilk.runs import Run
from ilk.watch import Watch

if TYPE_CHECKING:
    from ilk.evaluate.run import Asked

SHOWN_QUERIES = 6  # of each sort in the picture
PICTURE = "retrieval.png"


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
        return bool((self.main.codes >= 0).any())

    @property
    def whole(self) -> str:
        """The name of all images of the run: those it was trained on, or those it was asked about."""
        return "test" if self.main.predicted else "train"

    @cached_property
    def split(self) -> Split:
        """What classifiers learn from and are tested with, labelled images only."""
        asked = self.asked
        if self.test is not None:
            found = Split("test", everything(self.main), everything(self.test))
        elif asked.split == "random":
            return random_split(self.main, asked.held_out, asked.seed)
        elif asked.split == "folders":
            found = split_by_folder(self.main)
        else:
            found = split_by_table(self.main, Path(asked.split).expanduser(), asked.split_column)
        left = found.left_out + sum(int((part.codes < 0).sum()) for part in (found.train, found.test))
        split = Split(found.name, found.train.labelled(), found.test.labelled(), left)
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
        origin = self.main.run.config.get("predicted_with")
        return self.model(Run(origin) if origin else self.main.run)

    def progress(self, what: str) -> Callable[[int, int], None]:
        return lambda done, total: self.watch.progress(done, total, what)

    @property
    def options(self) -> dict[str, int]:
        return {"resamples": self.asked.resamples, "seed": self.asked.seed}

    def about(self) -> dict[str, Any]:
        """The features that a protocol saw."""
        return {"features": self.asked.features, "dim": int(self.main.features.shape[1])}


def everything(of: Collection) -> Rows:
    return Rows(of, np.arange(len(of)))


def sides(scene: Scene) -> dict[str, Any]:
    """Which images a protocol learnt from and was tested with, and how many are in neither."""
    split = scene.split
    return {
        **scene.about(), "learnt_from": "train", "train_images": len(split.train), "tested_on": split.name,
        "test_images": len(split.test), "left_out": split.left_out,
        "unseen_labels": len(set(split.test.codes.tolist()) - set(split.train.codes.tolist())),
    }  # fmt: skip


def labels(scene: Scene) -> dict[str, Any]:
    """The clusters against labels, on each part that has a name."""
    if scene.held_out:
        parts = {"train": [scene.split.train], "test": [scene.split.test]}
        parts["train+test"] = parts["train"] + parts["test"]
    else:
        parts = {scene.whole: [everything(scene.main).labelled()]}
    found: dict[str, Any] = {}
    for name, rows in parts.items():
        codes, clusters = (np.concatenate([getattr(one, what) for one in rows]) for what in ("codes", "cluster"))
        scores = score_with_intervals(codes, clusters, **scene.options)
        scores["recall"] = {scene.words[code]: value for code, value in scores["recall"].items()}
        found[name] = scores
    collections = [scene.main] + ([] if scene.test is None else [scene.test])
    return {
        "labels": "recorded" if scene.asked.labels is None else str(scene.asked.labels), "parts": found,
        "unlabelled": sum(int(((one.codes < 0) & ~one.known).sum()) for one in collections),
        "known_left_out": sum(int(one.known.sum()) for one in collections),
        "resamples": scene.asked.resamples,
    }  # fmt: skip


def knn(scene: Scene) -> dict[str, Any]:
    split = scene.split
    found = probing.knn(
        split.train.features, split.train.codes, split.test.features, split.test.codes,
        progress=scene.progress("finding neighbours"), resamples=scene.asked.resamples, seed=scene.asked.seed,
    )  # fmt: skip
    return {**sides(scene), "temperature": probing.TEMPERATURE, "k": found}


def probe(scene: Scene) -> dict[str, Any]:
    split = scene.split
    found = probing.probes(
        split.train.features, split.train.codes, split.test.features, split.test.codes,
        optimizer=scene.asked.optimizer, progress=scene.watch.progress, **scene.options,
    )  # fmt: skip
    return {**sides(scene), "used": found.pop("learnt_from"), **found}


def retrieval(scene: Scene) -> dict[str, Any]:
    """Queries of the test images in the train images where a split was asked for, else of all images in all others."""
    if scene.held_out and scene.labelled:
        query, gallery, own_of = scene.split.test, scene.split.train, None
        names = {"queries_from": scene.split.name, "gallery_from": "train"}
    elif scene.test is not None:
        query, gallery, own_of = everything(scene.test), everything(scene.main), None
        names = {"queries_from": "test", "gallery_from": "train"}
    else:
        gallery = everything(scene.main).labelled() if scene.labelled else everything(scene.main)
        query, own_of = gallery, np.arange(len(gallery))
        names = {"queries_from": scene.whole, "gallery_from": f"{scene.whole}, without the query"}
    if len(gallery) < 2:
        raise ValueError("Retrieval needs two images at least. Choose other protocols with --only.")
    chosen = chosen_queries(len(query), scene.asked.queries, scene.asked.seed)
    some = Rows(query.of, query.at[chosen])
    found = rank_gallery(
        some.features, gallery.features, some.codes, gallery.codes, own=None if own_of is None else own_of[chosen],
        progress=scene.progress("ranking"),
    )  # fmt: skip
    block: dict[str, Any] = {
        **scene.about(), **names, "gallery": len(gallery), "candidates": len(query), "asked": len(chosen),
        "sampled": "all" if len(chosen) == len(query) else f"a random {len(chosen):,} of {len(query):,}",
    }  # fmt: skip
    if scene.labelled:
        block |= retrieval_scores(found, **scene.options)
    try:
        show(scene, some, gallery, found)
        block["picture"] = PICTURE
    except (ValueError, OSError) as error:
        (scene.main.run / PICTURE).unlink(missing_ok=True)  # one of an earlier evaluation would mislead
        scene.watch.warn(f"no picture of the retrieval: {error}")
        block["picture"], block["no_picture"] = None, str(error)
    return block


def show(scene: Scene, query: Rows, gallery: Rows, found: Ranking) -> None:
    """Writes `retrieval.png`: queries evenly chosen, and the worst."""
    even, worst = picture_rows(found, query.codes, SHOWN_QUERIES)
    rows = np.concatenate([even, worst])
    shown = np.unique(found.near[rows])
    pictures = scene.open(Rows(gallery.of, gallery.at[shown])).pictures(np.arange(len(shown)))
    at = {int(row): picture for row, picture in zip(shown, pictures, strict=True)}
    asked = scene.open(Rows(query.of, query.at[rows])).pictures(np.arange(len(rows)))
    lines, ids = [], query.of.ids
    for row, picture in zip(rows, asked, strict=True):
        code, near, name = query.codes[row], found.near[row], ids[query.at[row]]
        ap = found.average_precision[row]
        right = (gallery.codes[near] == code).tolist() if code >= 0 else None
        detail = f"nearest {found.cosine[row, 0]:.2f}" if np.isnan(ap) else f"average precision {ap:.2f}"
        texts = (scene.words[code], name, detail) if code >= 0 else (name, detail)
        lines.append(Line(texts, picture, [at[int(one)] for one in near], right))
    groups = [("Queries, evenly chosen", lines[: len(even)]), ("The worst queries", lines[len(even) :])]
    write_retrieval(scene.main.run / PICTURE, groups)


def opinions(scene: Scene) -> dict[str, Any]:
    scene.watch.say("k-means and agglomerative clustering on the same features")
    main, k = scene.main, scene.main.run.config["n_clusters"]
    found = second_opinions(main.features, main.cluster, main.codes, k, **scene.options)
    return {**scene.about(), "of": scene.whole, "images": len(main), "n_clusters": k, "opinions": found}


def label_free(scene: Scene) -> dict[str, Any]:
    """What needs no labels; what needs images or the model is left out, with the reason, where they are not there."""
    main, seed = scene.main, scene.asked.seed
    confidence, margin = (main.table[name].to_numpy() for name in ("confidence", "margin"))
    k = main.run.config["n_clusters"]
    block = free.label_free_scores(free.LabelFree(main.cluster, confidence, margin, main.features, k), seed=seed)
    block = {**scene.about(), "of": scene.whole, "images": len(main), **block}
    rows = Rows(main, spaced(len(main), free.SILHOUETTE).numpy())
    try:
        images = scene.open(rows)
        block["generalisation_pixels"] = free.generalisation(free.small_pixels(images), rows.cluster, seed=seed)
        few = spaced(len(rows), scene.asked.views_of).numpy()
        block["views"] = free.view_stability(
            scene.method(), images.subset(few), rows.cluster[few], main.run.config["views"],
            fabric_of(scene.asked.device), seed=seed, progress=scene.watch.progress,
        )  # fmt: skip
    except (ValueError, OSError) as error:
        scene.watch.warn(f"the stability under views is left out: {error}")
        block["views"] = {"left_out": str(error)}
    return {**block, "runs": scene.agreements}


def against(main: Collection, folder: Path) -> dict[str, Any]:
    """The agreement with another run of the same images."""
    other = Run(folder).open()
    table = read_table(other / "assignments.parquet")
    try:
        found = free.run_agreement(main.ids, main.cluster, table["id"].to_pylist(), table["cluster"].to_numpy())
    except ValueError as error:
        raise ValueError(
            f"'{folder}' cannot be compared with '{main.run}': {error}. Give runs of the same images."
        ) from None
    return {"run": str(folder), "seed": other.config["seed"], "n_clusters": other.config["n_clusters"], **found}
