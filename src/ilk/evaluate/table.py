"""An evaluation as lines of text: what was measured, on which images, and what it can tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ilk.evaluate.label_free import MEANINGS

SCORES = {
    "accuracy": "accuracy (best matching)", "nmi_arithmetic": "NMI, arithmetic", "nmi_geometric": "NMI, geometric",
    "ari": "ARI", "purity": "purity", "fowlkes_mallows": "Fowlkes-Mallows",
}  # fmt: skip
MOST_CLASSES = 20


def evaluation_lines(found: Mapping[str, Any], only: Sequence[str] = ()) -> list[str]:
    """The tables of an evaluation, those of `only` or all that are there."""
    lines: list[str] = []
    for name, block in found["protocols"].items():
        if not only or name in only:
            text = [f"{name} is left out: {block['left_out']}"] if "left_out" in block else LINES[name](block)
            lines += ["", *text]
    intervals = "[ ] are 95 % bootstrap intervals over images, not over trainings."
    return [*lines, "", intervals, *footer(found["selection"])]


def footer(said: Mapping[str, Any]) -> list[str]:
    """What labels had to do with the model that was measured."""
    lines = []
    if said["labels_chose_epoch"]:
        epoch = said["epoch"]
        which = f"epoch {epoch['epoch']} of {epoch['epochs']}" if epoch["epoch"] else "its epoch"
        lines.append(
            f"LABELS CHOSE {which} of this model (select={epoch['by']}): the scores say what was possible, not what"
            " works without labels."
        )
    if said["known_labels"] is not None:
        lines.append(
            f"The training was given the labels of {said['known_labels']:,} images; other images' scores rest on them"
            " too."
        )
    return lines or ["Labels chose nothing here."]


def shown(score: Mapping[str, Any]) -> str:
    if score["value"] is None:
        return "-"
    return f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"


def grid(rows: Sequence[Sequence[str]]) -> list[str]:
    """Cells in columns, the first row as their heads."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  " + "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def label_lines(block: Mapping[str, Any]) -> list[str]:
    parts = block["parts"]
    said = {of: "recorded with the run" if text == "recorded" else text for of, text in block["labels"].items()}
    sources = [f"of {of}: {text or 'none'}" for of, text in said.items()] if len(set(said.values())) > 1 else [
        str(said["run"])
    ]  # fmt: skip
    head = f"clusters against labels ({'; '.join(sources)})"
    for count, what in (("unlabelled", "without a label"), ("known_left_out", "whose label was used in training")):
        if block[count]:
            head += f"; {block[count]:,} images {what} are left out"
    names = {"test": block["split"]["name"]} if block["split"] else {}
    if block["parts_without_labels"]:
        head += f"; {' and '.join(names.get(one, one) for one in block['parts_without_labels'])} has no labels"
    rows = [["", *(f"{names.get(name, name)} ({one['images']:,} images, {one['classes']} kinds)"
                   for name, one in parts.items())]]  # fmt: skip
    rows += [[title, *(shown(one[name]) for one in parts.values())] for name, title in SCORES.items()]
    kinds = list(dict.fromkeys(kind for one in parts.values() for kind in one["recall"]))
    none = {"value": None}
    rows += [[f"recall of {kind}", *(shown(one["recall"].get(kind, none)) for one in parts.values())]
             for kind in kinds[:MOST_CLASSES]]  # fmt: skip
    more = [f"  ... and {len(kinds) - MOST_CLASSES} more kinds in evaluation.json"] if len(kinds) > MOST_CLASSES else []
    return [head, *grid(rows), *more]


def sides_line(block: Mapping[str, Any]) -> str:
    text = (
        f"on the {block['features']} ({block['dim']} numbers an image), learnt from {block['learnt_from']}"
        f" ({block['train_images']:,}), tested on {block['tested_on']} ({block['test_images']:,};"
        f" {'new to the network' if block['unseen'] else 'the network was trained on them'})"
    )
    if block["unseen_labels"]:
        text += f"; {block['unseen_labels']} kinds are in the test split only and count as wrong"
    return text


def knn_lines(block: Mapping[str, Any]) -> list[str]:
    rows = [["", f"weighted, exp(cosine / {block['temperature']})", "majority"]]
    for k, one in block["k"].items():
        name = f"k = {k}" if one["used"] == int(k) else f"k = {k} (all {one['used']} there are)"
        rows.append([name, shown(one["weighted"]), shown(one["majority"])])
    return ["nearest neighbours, accuracy", "  " + sides_line(block), *grid(rows)]


def probe_lines(block: Mapping[str, Any]) -> list[str]:
    recipe = block["published"]
    how = (
        f"{recipe['optimizer'].upper()}, {recipe['epochs']:g} epochs, rate {recipe['rate']:g} by {recipe['folds']}-fold"
        " cross-validation in train"
    )
    rows = [["", "accuracy"], ["logistic regression, C = 1", shown(block["logistic"])], [how, shown(recipe)]]
    return ["linear probe, accuracy", "  " + sides_line(block), *grid(rows)]


def retrieval_lines(block: Mapping[str, Any]) -> list[str]:
    lines = [
        f"retrieval on the {block['features']}: queries from {block['queries_from']} ({block['sampled']}), gallery"
        f" {block['gallery_from']} ({block['gallery']:,} images)"
    ]
    if "mean_average_precision" in block:
        rows = [["mean average precision", shown(block["mean_average_precision"])]]
        rows += [[f"precision at {k}", shown(one)] for k, one in block["precision"].items()]
        lines += grid(rows)
        if block["without_partner"]:
            lines.append(f"  {block['without_partner']:,} queries have no other image of their kind and are left out")
    else:
        lines.append("  no labels, so no scores" if block["no_scores"] == "no labels" else f"  {block['no_scores']}")
    lines.append(f"  picture: {block['picture']}" if block["picture"] else f"  no picture: {block['no_picture']}")
    return lines


def opinion_lines(block: Mapping[str, Any]) -> list[str]:
    found = block["opinions"]
    rows = [["", "images", "agreement with the heads (ARI)", "accuracy", "NMI, arithmetic", "ARI",
             "the heads' accuracy there"]]  # fmt: skip
    none = {"value": None}
    for name, one in found.items():
        scores, heads = one.get("scores", {}), one.get("heads", {})
        cells = [shown(scores.get(key, none)) for key in ("accuracy", "nmi_arithmetic", "ari")]
        cells.append(shown(heads.get("accuracy", none)))
        rows.append([f"{name}, k = {block['n_clusters']}", one["which"], f"{one['agreement']:.3f}", *cells])
    return [f"a second opinion on the {block['features']} of {block['of']} ({block['images']:,} images)", *grid(rows)]


def label_free_lines(block: Mapping[str, Any]) -> list[str]:
    rows: list[tuple[str, str, str]] = [
        ("effective_clusters", "effective clusters", f"{block['effective_clusters']:.1f} of {block['n_clusters']}"),
        ("mean_confidence", "mean confidence", f"{block['mean_confidence']:.3f}"),
        ("confidence_entropy", "its entropy", f"{block['confidence_entropy']:.3f}"),
    ]
    near = "-" if block["silhouette"] is None else f"{block['silhouette']:.3f} ({block['silhouette_images']:,} images)"
    rows.append(("silhouette", "silhouette", near))
    views = block["views"]
    if "left_out" not in views:
        rows.append(("view_stability", "stability under views", f"{views['kept']:.3f} ({views['images']:,} images)"))
        rows.append(("view_agreement", "agreement of two views", f"ARI {views['agreement']:.3f}"))
    for one in block["runs"]:
        text = f"ARI {one['ari']:.3f}, NMI {one['nmi']:.3f} ({one['images']:,} images)"
        rows.append(("run_agreement", f"against {one['run']}", text))
    for key, title in (("generalisation", f"refit from {block['features']}"), ("generalisation_pixels", "from pixels")):
        if block.get(key):
            one = block[key]
            text = f"{one['accuracy']:.3f} (chance {one['chance']:.3f}; {one['images']:,} images)"
            rows.append((key, title, text))
    lines = [f"without labels, {block['of']} ({block['images']:,} images)"]
    wide = max(len(title) for _, title, _ in rows)
    told = set()
    for key, title, text in rows:
        lines.append(f"  {title.ljust(wide)}   {text}")
        if key not in told:
            lines.append(f"      {MEANINGS[key]}")
        told.add(key)
    if "left_out" in views:
        lines.append(f"  stability under views is left out: {views['left_out']}")
    elif views["reproduced"] < 0.99:
        lines.append(
            f"  only {views['reproduced']:.0%} of the plain images come out as recorded: images or model have changed"
        )
    return lines


LINES = {
    "labels": label_lines, "knn": knn_lines, "probe": probe_lines, "retrieval": retrieval_lines,
    "opinions": opinion_lines, "label-free": label_free_lines,
}  # fmt: skip
