"""The result files of a run: tables, pictures, scores and the report; and the facts for its config."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from ilk.analysis.duplicates import find_duplicates, flag_images, odd_line
from ilk.analysis.hierarchy import Hierarchy, table
from ilk.evaluation import score_run
from ilk.images import Images
from ilk.images.collection import BadFile
from ilk.images.embeddings import STAND_INS
from ilk.pipeline.best_copy import best_first
from ilk.pipeline.contact_sheet import write_sheet
from ilk.pipeline.known_labels import FILE as KNOWN_FILE
from ilk.pipeline.known_labels import Known
from ilk.reports import write_report
from ilk.reports.sprites import write_thumbnails
from ilk.runs.folder import LAST, Run
from ilk.runs.tables import (
    Cluster,
    assignments_table,
    summarise,
    write_bad_files,
    write_clusters,
    write_csv,
    write_duplicates,
    write_embeddings,
    write_flags,
    write_known_labels,
    write_parquet,
    write_table,
)
from ilk.system.progress import Watch
from ilk.system.text import in_short, safe_text
from ilk.system.versions import versions
from ilk.training.assign import Assignments
from ilk.training.selection import SELECTED


def circumstances(images: Images, device: str, precision: str, command: Sequence[str] = ()) -> dict[str, Any]:
    """The facts about source, labels and machine that config.json records."""
    return {
        "source": {
            "name": images.name,
            "kind": images.source_kind,
            "fingerprint": images.fingerprint,
            "original_size": list(images.original_size) if images.original_size else None,
            "bad_files": len(images.bad),
        },
        "labels": {"names": images.label_names} if images.labels is not None else None,
        "device": device,
        "precision": precision,
        "versions": versions(),
        "command": list(command),
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def write_hierarchy(run: Run, hierarchy: Hierarchy, ids: Sequence[str]) -> None:
    """`k_curve.csv`, the evidence for each number of clusters, and `hierarchy.parquet`, every level of the tree."""
    curve = hierarchy.rows()
    write_csv(run / "k_curve.csv", list(curve[0]), (row.values() for row in curve))
    write_parquet(run / "hierarchy.parquet", table(hierarchy, [safe_text(name) for name in ids]))


@dataclass(frozen=True)
class Listing:
    """What the tables list about the images besides their assignments, with one entry per image."""

    ids: list[str]
    paths: list[str]
    labels: list[str | None] | None  # None for an image without one; None where no image has one
    bad: list[BadFile]  # what could not be read


def listing_of(images: Images) -> Listing:
    """The ids, paths and labels of the images, and the files that could not be read."""
    return Listing(images.ids, images.paths, label_texts(images), images.bad)


def write_results(
    run: Run,
    images: Images,
    assignments: Assignments,
    n_clusters: int,
    known: Known | None = None,
    *,
    report: bool = True,
    watch: Watch | None = None,
) -> list[Cluster]:
    """The clusters of a run, after writing all its result files.

    `assignments.parquet` marks the run as finished, so scores and report are written after it. `known`: the labels that
    were used in training.
    """
    watch = watch or Watch()
    return write_result_files(
        run, listing_of(images), assignments, n_clusters, known,
        pictures=lambda clusters: write_pictures(run, images, assignments, clusters, watch), report=report, watch=watch,
    )  # fmt: skip


def write_result_files(
    run: Run, listing: Listing, assignments: Assignments, n_clusters: int, known: Known | None, *,
    pictures: Callable[[list[Cluster]], None], report: bool = True, watch: Watch,
) -> list[Cluster]:  # fmt: skip
    """The clusters of a run, after writing all its result files. `pictures(clusters)` writes those made of pixels.

    `assignments.parquet` marks the run as finished; files of `LAST` that do not exist by then are written after it.
    """
    rows = assignments_table(
        listing.ids, listing.paths, assignments.cluster, assignments.confidence, assignments.second,
        assignments.margin, listing.labels, None if known is None else known.codes >= 0, assignments.uncertain,
    )  # fmt: skip
    clusters = summarise(
        assignments.cluster, assignments.confidence, assignments.margin, assignments.embedding, n_clusters
    )
    write_clusters(run / "clusters.csv", clusters, listing.ids, None if known is None else known.names)
    if known is not None:
        write_known_labels(run / KNOWN_FILE, listing.ids, known.labels())
    write_embeddings(run / "embeddings.npy", assignments.embedding)
    write_bad_files(run / "bad_files.csv", listing.bad)
    for name in LAST:
        (run / name).unlink(missing_ok=True)  # they are from an earlier training
    pictures(clusters)
    write_table(rows, run.folder, "assignments")
    if not (run / "scores.json").is_file():
        score_run(run)
    if report:
        attempt(watch, "report", write_report, run.folder)
    return clusters


def write_pictures(
    run: Run, images: Images, assignments: Assignments, clusters: list[Cluster], watch: Watch
) -> None:  # fmt: skip
    """Writes the files that need the images themselves: contact sheet, thumbnails, duplicates.csv and flags.csv."""
    write_sheet(run / "clusters.png", images, clusters)
    attempt(watch, "tables of duplicates and odd images", write_duplicates_and_flags, run, images, assignments, watch)
    attempt(watch, "thumbnails", write_thumbnails, run.folder, images, clusters)


def label_texts(images: Images) -> list[str | None] | None:
    """The label of each image, None for an image without one; None if the source has no labels."""
    if images.labels is None:
        return None
    return [images.label_names[code] if code >= 0 else None for code in images.labels]


def write_duplicates_and_flags(run: Run, images: Images, assignments: Assignments, watch: Watch) -> None:
    """Writes duplicates.csv and flags.csv, and reports how many images they list."""
    for name in ("duplicates.csv", "flags.csv"):
        (run / name).unlink(missing_ok=True)  # if this fails, no files of other images remain
    if images.source_kind == STAND_INS:
        return
    groups = find_duplicates(
        images, assignments.embedding,
        progress=lambda done, total: watch.progress(done, total, "looking for duplicates"),
        best_first=lambda rows: best_first(rows, images.paths),
    )  # fmt: skip
    write_duplicates(run / "duplicates.csv", groups, images.ids)
    flags = flag_images(images)
    write_flags(run / "flags.csv", flags, images.ids)
    if text := odd_line(groups, flags):
        watch.say(text)


def write_missing(run: Run, report: bool, watch: Watch) -> None:
    """Writes the scores and the report of a run that was killed after writing its assignments."""
    missing = run.lacks(report=report)
    (run / SELECTED).unlink(missing_ok=True)
    if "scores.json" in missing:
        score_run(run)
    if "report.html" in missing:
        attempt(watch, "report", write_report, run.folder)
    written = f"; wrote the missing {' and '.join(missing)}" if missing else "; nothing is left to do"
    watch.say(f"'{run}' is finished{written}")


def attempt(watch: Watch, what: str, write: Callable[..., Any], *arguments: Any) -> None:
    """Calls `write(*arguments)` for a file that is not essential; any error becomes a warning."""
    try:
        write(*arguments)
    except Exception as error:  # such as a full disk; the results must not be lost
        watch.warn(f"the {what} could not be written ({in_short(error)}); the other results are complete")
