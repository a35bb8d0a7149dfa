"""Each protocol on the images at hand; every block says which images, which features and which labels it rests on."""

from __future__ import annotations

from typing import Any

import numpy as np

from ilk.evaluate import label_free as free
from ilk.evaluate import probe as probing
from ilk.evaluate.basis import never_trained_on
from ilk.evaluate.data import Rows
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
from ilk.evaluate.scene import Scene, everything
from ilk.sampling import spaced

SHOWN_QUERIES = 6  # of each sort in the picture
PICTURE = "retrieval.png"


def sides(scene: Scene) -> dict[str, Any]:
    """Which images a protocol learnt from and was tested with, and how many are in neither."""
    split = scene.split
    return {
        **scene.about(), **scene.held(), "learnt_from": "train", "train_images": len(split.train),
        "tested_on": split.name, "test_images": len(split.test), "in_neither": split.left_out,
        "unseen_labels": len(set(split.test.codes.tolist()) - set(split.train.codes.tolist())),
    }  # fmt: skip


def labels(scene: Scene) -> dict[str, Any]:
    """The clusters against labels, on each part that has a name."""
    whole = never_trained_on(scene.main)
    if scene.held_out:
        train, test = scene.division.train.labelled(), scene.division.test.labelled()
        parts = {"train": ([train], whole), "test": ([test], scene.test_unseen)}
        if len(train) and len(test):
            parts["train+test"] = ([train, test], whole and scene.test_unseen)
    else:
        parts = {scene.whole: ([everything(scene.main).labelled()], whole)}
    found: dict[str, Any] = {}
    without = [name for name, (rows, _) in parts.items() if not sum(map(len, rows))]
    if len(without) == len(parts):
        raise ValueError("None of the images has a label that may score.")
    for name, (rows, unseen) in parts.items():
        if name in without:
            continue
        codes, clusters = (np.concatenate([getattr(one, what) for one in rows]) for what in ("codes", "cluster"))
        scores = score_with_intervals(codes, clusters, **scene.options)
        scores["recall"] = {scene.words[code]: value for code, value in scores["recall"].items()}
        found[name] = {**scores, "unseen": unseen}
    held = scene.held() if scene.held_out else {"split": None, **scene.rests_on()}
    return {
        **held, "parts": found, "parts_without_labels": without,
        "unlabelled": sum(int(((one.codes < 0) & ~one.known).sum()) for one in scene.collections),
        "known_left_out": sum(int(one.known.sum()) for one in scene.collections),
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
        optimizer=scene.asked.recipe, progress=scene.watch.progress, **scene.options,
    )  # fmt: skip
    return {**sides(scene), "used": found.pop("learnt_from"), **found}


def retrieval(scene: Scene) -> dict[str, Any]:
    """Queries of the test images in the train images where a split was asked for, else of all images in all others."""
    own_of: np.ndarray | None = None
    names: dict[str, Any]
    if scene.held_out:
        query, gallery = scene.division.test, scene.division.train
        scored = len(query.labelled()) > 0 and len(gallery.labelled()) > 0
        if scored:
            query, gallery = query.labelled(), gallery.labelled()
        names = {**scene.held(), "queries_from": scene.division.name, "gallery_from": "train"}
    else:
        gallery = everything(scene.main)
        scored = len(gallery.labelled()) > 0
        gallery = gallery.labelled() if scored else gallery
        query, own_of = gallery, np.arange(len(gallery))
        names = {"split": None, **scene.rests_on(), "queries_from": scene.whole,
                 "gallery_from": f"{scene.whole}, without the query"}  # fmt: skip
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
    block["no_scores"] = None if scored else "no labels"
    try:
        block |= retrieval_scores(found, **scene.options) if scored else {}
    except ValueError as error:  # what came back can still be shown
        block["no_scores"] = str(error)
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
    about = {**scene.about(), **scene.rests_on()}
    return {**about, "of": scene.whole, "images": len(main), "n_clusters": k, "opinions": found}


def label_free(scene: Scene) -> dict[str, Any]:
    """What needs no labels; what needs images or the model is left out, with the reason, where they are not there."""
    main, seed = scene.main, scene.asked.seed
    confidence, margin = (main.table[name].to_numpy() for name in ("confidence", "margin"))
    k = main.run.config["n_clusters"]
    block = free.label_free_scores(free.LabelFree(main.cluster, confidence, margin, main.features, k), seed=seed)
    about = {**scene.about(), "unseen": never_trained_on(main)}
    block = {**about, "of": scene.whole, "images": len(main), **block}
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
