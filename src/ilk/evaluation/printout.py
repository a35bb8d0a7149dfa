"""An evaluation as lines of text: each score, the images it was measured on, and what it can tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ilk.evaluation.label_free import MEANINGS

SCORES = {
    "accuracy": "accuracy (best matching)", "nmi_arithmetic": "NMI, arithmetic", "nmi_geometric": "NMI, geometric",
    "ari": "ARI", "purity": "purity", "fowlkes_mallows": "Fowlkes-Mallows",
}  # fmt: skip
MOST_CLASSES = 20


def evaluation_lines(results: Mapping[str, Any], only: Sequence[str] = ()) -> list[str]:
    """The tables of an evaluation, as `evaluate_run` returns it: of the protocols in `only`, or of all."""
    lines: list[str] = []
    for name, block in results["protocols"].items():
        if not only or name in only:
            text = [f"{name} is left out: {block['left_out']}"] if "left_out" in block else LINES[name](block)
            lines += ["", *text]
    intervals = "[ ] are 95 % bootstrap intervals over images, not over trainings."
    return [*lines, "", intervals, *footer(results["selection"])]


def footer(selection: Mapping[str, Any]) -> list[str]:
    """What labels had to do with the model; `selection`: as `labels_used` returns it."""
    lines = []
    if selection["labels_chose_epoch"]:
        epoch = selection["epoch"]
        which = f"epoch {epoch['epoch']} of {epoch['epochs']}" if epoch["epoch"] else "its epoch"
        lines.append(
            f"LABELS CHOSE {which} of this model (select={epoch['by']}): the scores say what was possible, not what"
            " works without labels."
        )
    if selection["known_labels"] is not None:
        lines.append(
            f"The training was given the labels of {selection['known_labels']:,} images, which affect the scores of"
            " other images too."
        )
    return lines or ["Labels chose nothing here."]


def with_interval(score: Mapping[str, Any]) -> str:
    """`0.791 [0.780, 0.802]`: a score with its interval."""
    if score["value"] is None:
        return "-"
    return f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"


def grid(rows: Sequence[Sequence[str]]) -> list[str]:
    """Cells in aligned columns; the first row is the header."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  " + "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def label_lines(block: Mapping[str, Any]) -> list[str]:
    """The scores against labels, a column for each part of the images."""
    parts = block["parts"]
    source_of = {of: "recorded with the run" if text == "recorded" else text for of, text in block["labels"].items()}
    sources = [str(source_of["run"])]
    if len(set(source_of.values())) > 1:
        sources = [f"of {of}: {text or 'none'}" for of, text in source_of.items()]
    head = f"clusters against labels ({'; '.join(sources)})"
    for count, what in (("unlabelled", "without a label"), ("known_left_out", "whose label was used in training")):
        if block[count]:
            head += f"; {block[count]:,} images {what} are left out"
    names = {"test": block["split"]["name"]} if block["split"] else {}
    if block["parts_without_labels"]:
        head += f"; {' and '.join(names.get(name, name) for name in block['parts_without_labels'])} has no labels"
    rows = [["", *(f"{names.get(name, name)} ({part['images']:,} images, {part['classes']} classes)"
                   for name, part in parts.items())]]  # fmt: skip
    rows += [[title, *(with_interval(part[name]) for part in parts.values())] for name, title in SCORES.items()]
    classes = list(dict.fromkeys(name for part in parts.values() for name in part["recall"]))
    none = {"value": None}
    rows += [[f"recall of {name}", *(with_interval(part["recall"].get(name, none)) for part in parts.values())]
             for name in classes[:MOST_CLASSES]]  # fmt: skip
    left = len(classes) - MOST_CLASSES
    return [head, *grid(rows), *([f"  ... and {left} more classes in evaluation.json"] if left > 0 else [])]


def sides_line(block: Mapping[str, Any]) -> str:
    """Which features and images a classifier learnt from and was tested with."""
    text = (
        f"on the {block['features']} ({block['dim']} dimensions), learnt from {block['learnt_from']}"
        f" ({block['train_images']:,}), tested on {block['tested_on']} ({block['test_images']:,};"
        f" {'new to the network' if block['unseen'] else 'the network was trained on them'})"
    )
    if block["unseen_labels"]:
        text += f"; {block['unseen_labels']} classes are only in the test split and count as wrong"
    return text


def knn_lines(block: Mapping[str, Any]) -> list[str]:
    rows = [["", f"weighted, exp(cosine / {block['temperature']})", "majority"]]
    for k, accuracy in block["k"].items():
        name = f"k = {k}" if accuracy["used"] == int(k) else f"k = {k} (all {accuracy['used']} images)"
        rows.append([name, with_interval(accuracy["weighted"]), with_interval(accuracy["majority"])])
    return ["nearest neighbours, accuracy", "  " + sides_line(block), *grid(rows)]


def probe_lines(block: Mapping[str, Any]) -> list[str]:
    recipe = block["published"]
    how = (
        f"{recipe['optimizer'].upper()}, {recipe['epochs']:g} epochs, rate {recipe['rate']:g} by {recipe['folds']}-fold"
        " cross-validation in train"
    )
    rows = [
        ["", "accuracy"],
        ["logistic regression, C = 1", with_interval(block["logistic"])],
        [how, with_interval(recipe)],
    ]
    return ["linear probe, accuracy", "  " + sides_line(block), *grid(rows)]


def retrieval_lines(block: Mapping[str, Any]) -> list[str]:
    lines = [
        f"retrieval on the {block['features']}: queries from {block['queries_from']} ({block['sampled']}), gallery"
        f" {block['gallery_from']} ({block['gallery']:,} images)"
    ]
    if "mean_average_precision" in block:
        rows = [["mean average precision", with_interval(block["mean_average_precision"])]]
        rows += [[f"precision at {k}", with_interval(precision)] for k, precision in block["precision"].items()]
        lines += grid(rows)
        if block["without_partner"]:
            lines.append(
                f"  {block['without_partner']:,} queries have no other image with their label and are left out"
            )
    else:
        lines.append("  no labels, so no scores" if block["no_scores"] == "no labels" else f"  {block['no_scores']}")
    lines.append(f"  picture: {block['picture']}" if block["picture"] else f"  no picture: {block['no_picture']}")
    return lines


def opinion_lines(block: Mapping[str, Any]) -> list[str]:
    rows = [["", "images", "agreement with the heads (ARI)", "accuracy", "NMI, arithmetic", "ARI",
             "the heads' accuracy there"]]  # fmt: skip
    none = {"value": None}
    for name, opinion in block["opinions"].items():
        scores, heads = opinion.get("scores", {}), opinion.get("heads", {})
        cells = [with_interval(scores.get(key, none)) for key in ("accuracy", "nmi_arithmetic", "ari")]
        cells.append(with_interval(heads.get("accuracy", none)))
        rows.append([f"{name}, k = {block['n_clusters']}", opinion["which"], f"{opinion['agreement']:.3f}", *cells])
    return [f"a second opinion on the {block['features']} of {block['of']} ({block['images']:,} images)", *grid(rows)]


def label_free_lines(block: Mapping[str, Any]) -> list[str]:
    rows: list[tuple[str, str, str]] = [
        ("effective_clusters", "effective clusters", f"{block['effective_clusters']:.1f} of {block['n_clusters']}"),
        ("mean_confidence", "mean confidence", f"{block['mean_confidence']:.3f}"),
        ("confidence_entropy", "its entropy", f"{block['confidence_entropy']:.3f}"),
    ]
    width = "-" if block["silhouette"] is None else f"{block['silhouette']:.3f} ({block['silhouette_images']:,} images)"
    rows.append(("silhouette", "silhouette", width))
    views = block["views"]
    if "left_out" not in views:
        rows.append(("view_stability", "stability under views", f"{views['kept']:.3f} ({views['images']:,} images)"))
        rows.append(("view_agreement", "agreement of two views", f"ARI {views['agreement']:.3f}"))
    for other in block["runs"]:
        text = f"ARI {other['ari']:.3f}, NMI {other['nmi']:.3f} ({other['images']:,} images)"
        rows.append(("run_agreement", f"against {other['run']}", text))
    for key, title in (("generalisation", f"refit from {block['features']}"), ("generalisation_pixels", "from pixels")):
        if block.get(key):
            refit = block[key]
            text = f"{refit['accuracy']:.3f} (chance {refit['chance']:.3f}; {refit['images']:,} images)"
            rows.append((key, title, text))
    lines = [f"without labels, {block['of']} ({block['images']:,} images)"]
    wide = max(len(title) for _, title, _ in rows)
    explained = set()
    for key, title, text in rows:
        lines.append(f"  {title.ljust(wide)}   {text}")
        if key not in explained:
            lines.append(f"      {MEANINGS[key]}")
        explained.add(key)
    if "left_out" in views:
        lines.append(f"  stability under views is left out: {views['left_out']}")
    elif views["reproduced"] < 0.99:
        lines.append(
            f"  only {views['reproduced']:.0%} of the plain images get their recorded cluster: images or model have"
            " changed"
        )
    return lines


LINES = {
    "labels": label_lines, "knn": knn_lines, "probe": probe_lines, "retrieval": retrieval_lines,
    "opinions": opinion_lines, "label-free": label_free_lines,
}  # fmt: skip
