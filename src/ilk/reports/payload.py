"""All that the report's page shows of a run, as one dict of finite numbers, text and lists."""

from __future__ import annotations

import os
import shlex
from typing import Any

import numpy as np

from ilk.reports.choose import EXAMPLES, choose_rows, sample_note
from ilk.reports.folder import Results, RunFiles, attempt, number, read_run
from ilk.reports.how_many import how_many_payload
from ilk.reports.neighbours import (
    affinity_payload,
    cluster_cosines,
    near_clusters,
    neighbours_payload,
    unit_rows,
)
from ilk.reports.odd import odd_payload, read_odd
from ilk.reports.projection import Map, find_map, read_moments, whole_numbers
from ilk.reports.scores import confidence_payload, confusion_payload, matching_of, scores_payload
from ilk.reports.sprites import MOST, Thumbnails, read_thumbnails
from ilk.reports.training import training_payload
from ilk.runs.papers import paper_of
from ilk.runs.tables import Cluster
from ilk.runs.unfinished import resume_command, state_of
from ilk.system.text import safe_text

BAD_FILES = 100  # the most files that could not be read that are listed
NO_IMAGES: dict[str, Any] = {
    "id": [], "cluster": [], "confidence": [], "second": [], "margin": [], "label": None, "row": [], "x": [], "y": [],
}  # fmt: skip


def collect(folder: str | os.PathLike[str], most: int = MOST, *, layout: str | None = None) -> dict[str, Any]:
    """The payload of a run's page: the same keys for every run, with None for what is not known.

    `most`: the largest number of images shown. `layout`: the method of the map, "pca", "umap" or "tsne"; None for the
    map saved in the folder, or else principal components. Reads the files in `folder` only, without torch, and saves a
    new map there. Raises FileNotFoundError or ValueError for a folder that is not a run or is damaged.
    """
    if most < 1:
        raise ValueError(f"A report shows at least one image; got --most {most}.")
    files = read_run(folder)
    notes = [*texts(files.config.get("notes")), *files.notes]
    if "predicted_with" in files.config:
        notes.append(f"assigned by the model of the run '{files.config['predicted_with']}', which was not trained on"
                     " these images")  # fmt: skip
    if files.config.get("select") == "oracle_acc":
        notes.append("labels chose which epoch's model this is (select=oracle_acc): its scores say what was possible,"
                     " not what works without labels")  # fmt: skip
    if files.results is not None and files.results.known.any():
        notes.append(f"the labels of {int(files.results.known.sum()):,} images were used in training; scores against"
                     " labels leave these images out")  # fmt: skip
    shown = results_payload(files, most, notes, layout) if files.results is not None else no_results(files, notes)
    result: dict[str, Any] = clean({
        "format": 1,
        "run": run_payload(files, len(shown["images"]["row"])),
        **shown,
        "training": training_payload(files.log),
        "bad_files": [{"id": bad["id"], "reason": bad["reason"]} for bad in files.bad[:BAD_FILES]],
        "made": made_payload(files, notes),
        "next": next_commands(files),
    })  # fmt: skip
    return result


def no_results(files: RunFiles, notes: list[str]) -> dict[str, Any]:
    """The part of the payload that results make, for a run without results."""
    model_only = state_of(files.folder, files.config) == "model"
    why = "holds a model without results" if model_only else "has not finished"
    notes.append(f"the run {why}, so there are no clusters to show yet")
    return {
        "scores": [], "label_names": None, "images": NO_IMAGES, "sprites": None, "large": None, "clusters": [],
        "map": None, "neighbours": None, "confidence": None, "affinity": None, "confusion": None,
        "odd": None, "how_many": how_many_payload(files, notes),
    }  # fmt: skip


def results_payload(files: RunFiles, most: int, notes: list[str], layout: str | None) -> dict[str, Any]:
    """The part of the payload that results make; `files.results` is not None."""
    results = files.results
    assert results is not None  # `collect` has checked it
    n, epochs = len(results), int(files.section("train").get("epochs") or 0)
    thumbnails = attempt(lambda: read_thumbnails(files.folder, n), None, notes)
    moments = attempt(lambda: read_moments(files.folder / "moments.npz", epochs, n), None, notes)
    odd = read_odd(files.folder, results.ids, notes)
    followed = [] if moments is None else moments["rows"].tolist()
    rows = shown_rows(results, thumbnails, most, [*odd.rows, *followed])
    sprites = attempt(lambda: thumbnails.payload(rows), None, notes) if thumbnails else None
    position = {int(row): place for place, row in enumerate(rows)}
    plane = find_map(files.folder, results.embedding, np.sort(rows), layout)
    xy, step = whole_numbers(plane.of(rows))
    matching = matching_of(results)
    cosines = cluster_cosines(results.embedding, results.clusters)
    return {
        "scores": scores_payload(results, files.folder, matching),
        "label_names": results.label_names or None,
        "images": images_payload(results, rows, xy),
        "sprites": sprites,
        "large": thumbnails.large_payload(position) if thumbnails and sprites else None,
        "clusters": [cluster_payload(cluster, results, position, cosines) for cluster in results.clusters],
        "map": map_payload(plane, step, moments, results, position),
        "neighbours": neighbours_payload(unit_rows(results.embedding[rows])),
        "confidence": confidence_payload(results, matching),
        "affinity": affinity_payload(results.embedding, cosines, results.clusters),
        "confusion": confusion_payload(results, matching, notes),
        "odd": odd_payload(odd, position),
        "how_many": how_many_payload(files, notes, rows, sprites["count"] if sprites else None),
    }


def shown_rows(results: Results, thumbnails: Thumbnails | None, most: int, always: list[int]) -> np.ndarray:
    """The rows to show: those with a thumbnail, ascending, then others while there is room."""
    if thumbnails is None:
        return choose_rows(results.clusters, most, always=always)
    with_picture = choose_rows(results.clusters, most, always=always, among=thumbnails.rows)
    others = np.setdiff1d(np.arange(len(results)), with_picture)
    room = max(0, most - len(with_picture))
    if len(others) > room:
        others = np.sort(np.random.default_rng(0).choice(others, room, replace=False))
    return np.concatenate([with_picture, others])


def run_payload(files: RunFiles, shown: int) -> dict[str, Any]:
    """The facts about a run of which `shown` images are shown."""
    config, results = files.config, files.results
    source, images = files.section("source"), files.section("images")
    paper = paper_of(str(config.get("method", "")))
    n = len(results) if results is not None else number(images.get("n"))
    seconds = number(files.log[-1].get("seconds")) if files.log else None
    bad = number(source.get("bad_files"))
    return {
        "name": files.folder.resolve().name, "source": source.get("name"), "method": config.get("method"),
        "method_title": paper.title, "method_source": paper.source, "preset": config.get("preset"),
        "created": config.get("created"), "n_images": n, "n_clusters": config["n_clusters"],
        "clusters_used": sum(cluster.size > 0 for cluster in results.clusters) if results is not None else None,
        "n_bad": len(files.bad) if bad is None else bad,
        "minutes": None if seconds is None else round(seconds / 60, 2),
        "epochs": number(files.section("train").get("epochs")),
        "epochs_done": files.log[-1]["epoch"] if files.log else 0,
        "finished": results is not None, "image_size": number(images.get("size")), "shown": shown,
        "sample_note": sample_note(shown, len(results)) if results is not None else None,
    }  # fmt: skip


def images_payload(results: Results, rows: np.ndarray, xy: np.ndarray) -> dict[str, Any]:
    """The columns of the images `rows`; `xy` is their place on the map."""
    return {
        "id": [results.ids[row] for row in rows],
        "cluster": results.cluster[rows].tolist(),
        "confidence": rounded(results.confidence[rows]),
        "second": results.second[rows].tolist(),
        "margin": rounded(results.margin[rows]),
        "label": None if results.label is None else results.label[rows].tolist(),
        "row": rows.tolist(),
        "x": xy[:, 0].tolist(),
        "y": xy[:, 1].tolist(),
    }


def rounded(values: np.ndarray) -> list[float]:
    """Values with three decimals."""
    return [round(value, 3) for value in values.astype(float).tolist()]


def cluster_payload(
    cluster: Cluster, results: Results, position: dict[int, int], cosines: np.ndarray
) -> dict[str, Any]:
    """The facts about a cluster; `position` of a row among the images shown, `cosines` between clusters."""
    names = results.cluster_names
    labels = None
    if results.label is not None:
        codes = results.label[cluster.rows]
        counts = np.bincount(codes[codes >= 0], minlength=len(results.label_names))
        order = np.argsort(-counts, kind="stable")
        labels = [{"code": int(code), "count": int(counts[code])} for code in order if counts[code]]
    return {
        "number": cluster.number, "size": cluster.size,
        "name": names[cluster.number] if cluster.number < len(names) else None,
        "confidence": round(cluster.confidence, 4) if cluster.size else None,
        "typical": positions(cluster.rows, position), "uncertain": positions(cluster.uncertain, position),
        "near": near_clusters(cosines, results.clusters, cluster.number), "labels": labels,
    }  # fmt: skip


def positions(rows: np.ndarray, position: dict[int, int]) -> list[int]:
    """The places of the first 24 of `rows` among the images shown, without those that are not shown."""
    return [position[int(row)] for row in rows[:EXAMPLES] if int(row) in position]


def map_payload(
    plane: Map, step: float, moments: dict[str, Any] | None, results: Results, position: dict[int, int]
) -> dict[str, Any]:
    """The map and its moments; `step` is the length of one whole number in the map's own unit."""
    shown: list[dict[str, Any]] = []
    if moments is not None:
        kept = np.array([int(row) in position for row in moments["rows"]], dtype=bool)
        rows = moments["rows"][kept]
        for moment in moments["moments"] if kept.any() else []:
            xy, _ = whole_numbers(moment["xy"][kept])
            cluster = moment["cluster"]
            shown.append({
                "epoch": moment["epoch"], "title": moment["title"], "index": [position[int(row)] for row in rows],
                "x": xy[:, 0].tolist(), "y": xy[:, 1].tolist(),
                "cluster": None if cluster is None else cluster[kept].tolist(),
                "label": None if results.label is None else results.label[rows].tolist(),
            })  # fmt: skip
    return {"method": plane.method, "note": plane.note, "step": step, "moments": shown or None}


def made_payload(files: RunFiles, notes: list[str]) -> dict[str, Any]:
    """How the run was made: settings, versions, command, notes and what to cite."""
    config = files.config
    command = config.get("command")
    return {
        "settings": settings_of(files),
        "versions": {name: str(value) for name, value in files.section("versions").items()},
        "command": shlex.join(map(str, command)) if isinstance(command, list) and command else None,
        "notes": notes,
        "cite": paper_of(str(config.get("method", ""))).bibtex,
    }


def settings_of(files: RunFiles) -> dict[str, Any]:
    """All settings by name, without sections."""
    plain = ("method", "preset", "n_clusters", "seed", "backbone", "front_end", "device", "precision")
    settings = {name: files.config[name] for name in plain if name in files.config}
    settings["views"] = files.section("views").get("name")
    settings |= {f"image_{name}": value for name, value in files.section("images").items()}
    for section in ("train", "method_config"):
        settings |= {name: value for name, value in files.section(section).items() if name not in settings}
    return {
        name: value if isinstance(value, (int, float, str, bool)) else shown(value) for name, value in settings.items()
    }


def shown(value: Any) -> str | None:
    """A value as text; None stays None."""
    return None if value is None else str(value)


def texts(value: Any) -> list[str]:
    """The items of a list as text; nothing for another value."""
    return [str(text) for text in value] if isinstance(value, list) else []


def next_commands(files: RunFiles) -> list[str]:
    """Commands that go on with the run."""
    run = shlex.quote(str(files.folder))
    if files.results is None:
        state = state_of(files.folder, files.config)
        if state == "training":
            return [resume_command(files.folder, files.config)]
        if state == "prediction":
            by = shlex.quote(str(files.config["predicted_with"]))
            return [f"ilk predict {by} SOURCE --out {run}"]
        return [f"ilk predict {run} MORE_IMAGES"]
    commands = [f"ilk export {run} --folders sorted/", f"ilk export {run} --to embedding-atlas atlas.parquet"]
    if "predicted_with" not in files.config:
        commands.insert(1, f"ilk predict {run} MORE_IMAGES")
    commands.append(f"ilk report {run} --figures figures/")
    if files.results.label is None:
        commands.append(f"ilk score {run} --labels LABELS.csv")
    return commands


def clean(value: Any) -> Any:
    """`value` with None for numbers that are not finite, and escapes for text that is not valid Unicode."""
    if isinstance(value, dict):
        return {safe_text(str(key)): clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        if value and type(value[0]) is int and all(type(item) is int for item in value):
            return list(value)
        return [clean(item) for item in value]
    if isinstance(value, str):
        return safe_text(value)
    if isinstance(value, float):
        return number(value)
    return value
