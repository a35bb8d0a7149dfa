"""The protocols, one function each; every block says which images, features and labels it was computed from."""

from __future__ import annotations

from typing import Any

import numpy as np

from ilk.evaluation import label_free as free
from ilk.evaluation import probe as probing
from ilk.evaluation.backbone_features import fabric_of
from ilk.evaluation.evaluated_images import Subset, everything
from ilk.evaluation.inputs import Inputs
from ilk.evaluation.intervals import score_with_intervals
from ilk.evaluation.opinions import second_opinions
from ilk.evaluation.provenance import never_trained_on
from ilk.evaluation.retrieval import Ranking, chosen_queries, picture_rows, rank_gallery, retrieval_scores
from ilk.evaluation.retrieval_picture import Line, write_retrieval
from ilk.sampling import spaced

SHOWN_QUERIES = 6  # in each group of the picture
PICTURE = "retrieval.png"


def sides(inputs: Inputs) -> dict[str, Any]:
    """Which images a classifier learnt from and was tested with, and how many are in neither."""
    split = inputs.split
    return {
        **inputs.about_features(), **inputs.about_split(), "learnt_from": "train", "train_images": len(split.train),
        "tested_on": split.name, "test_images": len(split.test), "in_neither": split.left_out,
        "unseen_labels": len(set(split.test.codes.tolist()) - set(split.train.codes.tolist())),
    }  # fmt: skip


def labels(inputs: Inputs) -> dict[str, Any]:
    """Scores of the clusters against labels, for all images or for train, test and both together.

    Raises ValueError where no image has a label that may score.
    """
    parts = scored_parts(inputs)
    without = [name for name, (subsets, _) in parts.items() if not sum(map(len, subsets))]
    if len(without) == len(parts):
        raise ValueError("None of the images has a label that may score.")
    scored: dict[str, Any] = {}
    for name, (subsets, unseen) in parts.items():
        if name in without:
            continue
        codes = np.concatenate([subset.codes for subset in subsets])
        clusters = np.concatenate([subset.cluster for subset in subsets])
        scores = score_with_intervals(codes, clusters, **inputs.bootstrap)
        scores["recall"] = {inputs.label_names[code]: value for code, value in scores["recall"].items()}
        scored[name] = {**scores, "unseen": unseen}
    about = inputs.about_split() if inputs.held_out else {"split": None, **inputs.about_images()}
    return {
        **about, "parts": scored, "parts_without_labels": without,
        "unlabelled": sum(int(((part.codes < 0) & ~part.known).sum()) for part in inputs.collections),
        "known_left_out": sum(int(part.known.sum()) for part in inputs.collections),
        "resamples": inputs.options.resamples,
    }  # fmt: skip


def scored_parts(inputs: Inputs) -> dict[str, tuple[list[Subset], bool]]:
    """The parts of the images that are scored, by name: labelled images, and whether training did not see them."""
    whole = never_trained_on(inputs.main.run)
    if not inputs.held_out:
        return {inputs.whole: ([everything(inputs.main).labelled()], whole)}
    train, test = inputs.division.train.labelled(), inputs.division.test.labelled()
    parts = {"train": ([train], whole), "test": ([test], inputs.test_unseen)}
    if len(train) and len(test):
        parts["train+test"] = ([train, test], whole and inputs.test_unseen)
    return parts


def knn(inputs: Inputs) -> dict[str, Any]:
    """The accuracy of nearest labelled neighbours on the test split."""
    split = inputs.split
    accuracies = probing.knn_accuracy(
        split.train.features, split.train.codes, split.test.features, split.test.codes,
        progress=inputs.progress("finding neighbours"), resamples=inputs.options.resamples, seed=inputs.options.seed,
    )  # fmt: skip
    return {**sides(inputs), "temperature": probing.TEMPERATURE, "k": accuracies}


def probe(inputs: Inputs) -> dict[str, Any]:
    """The accuracy of linear classifiers on the test split."""
    split = inputs.split
    accuracies = probing.probes(
        split.train.features, split.train.codes, split.test.features, split.test.codes,
        optimizer=inputs.options.probe_optimizer, progress=inputs.watch.progress, **inputs.bootstrap,
    )  # fmt: skip
    return {**sides(inputs), "used": accuracies.pop("learnt_from"), **accuracies}


def retrieval(inputs: Inputs) -> dict[str, Any]:
    """Retrieval scores and a picture: test images as queries and train images as gallery where a split was named,
    else all images as queries and all others as gallery.

    Raises ValueError for fewer than two images.
    """
    query, gallery, names = query_and_gallery(inputs)
    scored = len(query.labelled()) > 0 and len(gallery.labelled()) > 0
    if scored:
        query, gallery = query.labelled(), gallery.labelled()
    if len(gallery) < 2:
        raise ValueError("Retrieval needs at least two images. Choose other protocols with --only.")
    chosen = chosen_queries(len(query), inputs.options.queries, inputs.options.seed)
    queries = Subset(query.of, query.at[chosen])
    ranking = rank_gallery(
        queries.features, gallery.features, queries.codes, gallery.codes, own=None if inputs.held_out else chosen,
        progress=inputs.progress("ranking"),
    )  # fmt: skip
    block: dict[str, Any] = {
        **inputs.about_features(), **names, "gallery": len(gallery), "candidates": len(query), "asked": len(chosen),
        "sampled": "all" if len(chosen) == len(query) else f"a random {len(chosen):,} of {len(query):,}",
    }  # fmt: skip
    block["no_scores"] = None if scored else "no labels"
    try:
        block |= retrieval_scores(ranking, **inputs.bootstrap) if scored else {}
    except ValueError as error:  # the nearest images can still be shown
        block["no_scores"] = str(error)
    try:
        draw_retrieval(inputs, queries, gallery, ranking)
        block["picture"] = PICTURE
    except (ValueError, OSError) as error:
        (inputs.main.run / PICTURE).unlink(missing_ok=True)  # a picture of an earlier evaluation would mislead
        inputs.watch.warn(f"no picture of the retrieval: {error}")
        block["picture"], block["no_picture"] = None, str(error)
    return block


def query_and_gallery(inputs: Inputs) -> tuple[Subset, Subset, dict[str, Any]]:
    """The images that queries and gallery are taken from, and what they are called in the block."""
    if inputs.held_out:
        division = inputs.division
        names = {**inputs.about_split(), "queries_from": division.name, "gallery_from": "train"}
        return division.test, division.train, names
    names = {
        "split": None, **inputs.about_images(), "queries_from": inputs.whole,
        "gallery_from": f"{inputs.whole}, without the query",
    }  # fmt: skip
    return everything(inputs.main), everything(inputs.main), names


def draw_retrieval(inputs: Inputs, query: Subset, gallery: Subset, ranking: Ranking) -> None:
    """Writes `retrieval.png`: evenly spaced queries, and the worst."""
    even, worst = picture_rows(ranking, query.codes, SHOWN_QUERIES)
    rows = np.concatenate([even, worst])
    shown = np.unique(ranking.near[rows])
    pictures = inputs.open(Subset(gallery.of, gallery.at[shown])).pictures(np.arange(len(shown)))
    picture_of = {int(row): picture for row, picture in zip(shown, pictures, strict=True)}
    query_pictures = inputs.open(Subset(query.of, query.at[rows])).pictures(np.arange(len(rows)))
    lines, ids = [], query.of.ids
    for row, picture in zip(rows, query_pictures, strict=True):
        code, near, name = query.codes[row], ranking.near[row], ids[query.at[row]]
        precision = ranking.average_precision[row]
        right = (gallery.codes[near] == code).tolist() if code >= 0 else None
        nearest = f"nearest {ranking.cosine[row, 0]:.2f}"
        detail = nearest if np.isnan(precision) else f"average precision {precision:.2f}"
        texts = (inputs.label_names[code], name, detail) if code >= 0 else (name, detail)
        lines.append(Line(texts, picture, [picture_of[int(position)] for position in near], right))
    groups = [("Queries, evenly spaced", lines[: len(even)]), ("The worst queries", lines[len(even) :])]
    write_retrieval(inputs.main.run / PICTURE, groups)


def opinions(inputs: Inputs) -> dict[str, Any]:
    """K-means and agglomerative clustering of the same features, compared with the heads."""
    inputs.watch.say("k-means and agglomerative clustering on the same features")
    main, k = inputs.main, inputs.main.run.config.n_clusters
    results = second_opinions(main.features, main.cluster, main.codes, k, **inputs.bootstrap)
    about = {**inputs.about_features(), **inputs.about_images()}
    return {**about, "of": inputs.whole, "images": len(main), "n_clusters": k, "opinions": results}


def label_free(inputs: Inputs) -> dict[str, Any]:
    """Scores that need no labels; those that need images or the model are left out, with the reason, where these
    cannot be opened."""
    main, seed = inputs.main, inputs.options.seed
    confidence, margin = (main.table[name].to_numpy() for name in ("confidence", "margin"))
    k = main.run.config.n_clusters
    scores = free.label_free_scores(free.LabelFree(main.cluster, confidence, margin, main.features, k), seed=seed)
    about = {**inputs.about_features(), "unseen": never_trained_on(main.run)}
    block = {**about, "of": inputs.whole, "images": len(main), **scores}
    subset = Subset(main, spaced(len(main), free.SILHOUETTE).numpy())
    try:
        images = inputs.open(subset)
        block["generalisation_pixels"] = free.generalisation(free.small_pixels(images), subset.cluster, seed=seed)
        few = spaced(len(subset), inputs.options.views_of).numpy()
        block["views"] = free.view_stability(
            inputs.method(), images.subset(few), subset.cluster[few], main.run.config.views,
            fabric_of(inputs.options.device), seed=seed, progress=inputs.watch.progress,
        )  # fmt: skip
    except (ValueError, OSError) as error:
        inputs.watch.warn(f"the stability under views is left out: {error}")
        block["views"] = {"left_out": str(error)}
    return {**block, "runs": inputs.agreements}
