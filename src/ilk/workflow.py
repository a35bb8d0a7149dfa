"""A whole piece of work from end to end: source in, run folder out. The faces only call these."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from ilk.distributed import make_fabric
from ilk.duplicates import find_duplicates, flag_images, odd_line
from ilk.evaluate import score_run
from ilk.frozen import (
    load_model,
)
from ilk.images import Images, load_images
from ilk.known import FILE as KNOWN_FILE
from ilk.known import Known, known_of
from ilk.metrics import accuracy, effective_clusters
from ilk.plan import Plan
from ilk.predict import Assignments, assign
from ilk.prepare import open_images, prepare, reopen
from ilk.report import write_report
from ilk.report.sprites import write_thumbnails
from ilk.request import Request, device_and_precision
from ilk.results import (
    Cluster,
    assignments_table,
    summarise,
    write_bad_files,
    write_clusters,
    write_duplicates,
    write_embeddings,
    write_flags,
    write_known_labels,
    write_table,
)
from ilk.runs import Run, in_short, versions
from ilk.sheet import write_sheet
from ilk.snapshots import Moments
from ilk.train import train
from ilk.watch import Watch, collapse_warning, collapsing


def fit(
    request: Request,
    source: Any,
    run: Run,
    *,
    extra: Any = None,
    labels: Any = None,
    resume: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
    command: Sequence[str] = (),
    report: bool = True,
    watch: Watch | None = None,
) -> Run:
    """Trains on `source` and fills the folder of `run`; with `resume`, goes on where it was left.

    `extra`: a source of images that help the training and are not clustered. `labels` are for scores only.
    `report`: whether to end with report.html.
    Raises ValueError, FileNotFoundError or FileExistsError for what a person can put right, and
    TrainingDiverged when a loss stops being a number.
    """
    watch = watch or Watch()
    request.resolved_preset()  # unknown names are refused before any image is read
    request.refuse_needless(extra=extra is not None)
    device, precision = device_and_precision(request)
    fabric = make_fabric(device, precision)
    if resume and run.exists:
        images, plan = reopen(request, source, run, extra, fabric, labels, cache_dir, watch)
        if run.finished:
            watch.say(f"'{run}' is finished; nothing is left to do")
            return run
    else:
        run.refuse_used()
        images, plan = prepare(request, source, fabric, extra=extra, labels=labels, cache_dir=cache_dir, watch=watch)
        start(plan, images, run, circumstances(images, device, precision, command), watch)
    write_bad_files(run / "bad_files.csv", images.bad)
    warned = train_into(run, plan, images, fabric, watch)
    finish(run, plan, images, fabric, watch, warned=warned, report=report)
    return run


def start(plan: Plan, images: Images, run: Run, found: dict[str, Any], watch: Watch) -> None:
    """Writes the plan of a new run down, with the circumstances `found`."""
    for note in plan.notes:
        watch.say(note)
    for text in plan.warnings:
        watch.warn(text)
    run.create()
    watch.say(f"run folder: {run}")
    if plan.known is not None:
        write_known_labels(run / KNOWN_FILE, images.ids, plan.known.labels())
    run.write_config({**plan.config, **found})


def circumstances(images: Images, device: str, precision: str, command: Sequence[str] = ()) -> dict[str, Any]:
    """What config.json says of the source and the machine."""
    return {
        "source": {
            "name": images.name,
            "kind": images.source_kind,
            "fingerprint": images.fingerprint,
            "original_size": images.original_size,
            "bad_files": len(images.bad),
        },
        "labels": {"names": images.label_names} if images.labels is not None else None,
        "device": device,
        "precision": precision,
        "versions": versions(),
        "command": list(command),
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def train_into(run: Run, plan: Plan, images: Images, fabric: Fabric, watch: Watch) -> bool:
    """Trains, keeping log and checkpoint in the run's folder, and saves the model; whether it warned of collapse."""
    records = train(
        plan.method, plan.data(images), plan.views, plan.train, fabric, extra=plan.extra, known=plan.known_rows,
        checkpoint=run / "checkpoint.pt", moments=Moments(run / "moments.npz"),
        on_step=lambda done, total: watch.progress(done, total, "training"),
    )  # fmt: skip
    warned = False
    for number, record in enumerate(records):
        if number == 0:
            run.cut_log(record["epoch"] - 1)
        run.append_log(record)
        watch.epoch(record)
        if not warned and (text := collapsing(record, plan.method.n_clusters)):
            watch.warn(text)
            warned = True
    run.save_model(plan.method)
    return warned


def finish(
    run: Run, plan: Plan, images: Images, fabric: Fabric, watch: Watch, *, warned: bool, report: bool = True
) -> None:
    """Assigns every image and writes the results; warns of collapsed clusters unless that was done."""
    found = assign(
        plan.method, plan.data(images), fabric, progress=lambda done, total: watch.progress(done, total, "assigning")
    )
    text = collapse_warning(effective_clusters(found.cluster), plan.method.n_clusters)
    if text and not warned:
        watch.warn(text)
    write_results(run, images, found, plan.method.n_clusters, plan.known, report=report, watch=watch)


def label_texts(images: Images) -> list[str | None] | None:
    if images.labels is None:
        return None
    return [images.label_names[code] if code >= 0 else None for code in images.labels]


def write_results(
    run: Run,
    images: Images,
    found: Assignments,
    n_clusters: int,
    known: Known | None = None,
    *,
    report: bool = True,
    watch: Watch | None = None,
) -> list[Cluster]:
    """Writes every result file of a run; `assignments.parquet` marks it finished, scores and report come after it."""
    watch = watch or Watch()
    table = assignments_table(
        images.ids, images.paths, found.cluster, found.confidence, found.second, found.margin, label_texts(images),
        None if known is None else known.codes >= 0,
    )  # fmt: skip
    clusters = summarise(found.cluster, found.confidence, found.margin, found.embedding, n_clusters)
    write_clusters(run / "clusters.csv", clusters, images.ids, None if known is None else known.names)
    if known is not None:
        write_known_labels(run / KNOWN_FILE, images.ids, known.labels())
    write_embeddings(run / "embeddings.npy", found.embedding)
    write_sheet(run / "clusters.png", images, clusters)
    write_bad_files(run / "bad_files.csv", images.bad)
    attempted(watch, "tables of duplicates and odd images", write_odd, run, images, found, watch)
    attempted(watch, "thumbnails", write_thumbnails, run.folder, images, clusters)
    write_table(table, run.folder, "assignments")
    score_run(run)
    if report:
        attempted(watch, "report", write_report, run.folder)
    return clusters


def write_odd(run: Run, images: Images, found: Assignments, watch: Watch) -> None:
    """Writes duplicates.csv and flags.csv, and says what is in them if anything is."""
    for name in ("duplicates.csv", "flags.csv"):
        (run / name).unlink(missing_ok=True)  # those of other images must not outlive a failure
    groups = find_duplicates(
        images, found.embedding, progress=lambda done, total: watch.progress(done, total, "looking for duplicates")
    )
    write_duplicates(run / "duplicates.csv", groups, images.ids)
    flags = flag_images(images)
    write_flags(run / "flags.csv", flags, images.ids)
    if text := odd_line(groups, flags):
        watch.say(text)


def attempted(watch: Watch, what: str, write: Callable[..., Any], *arguments: Any) -> None:
    """Writes what a run can do without; whatever goes wrong there is a warning."""
    try:
        write(*arguments)
    except Exception as error:  # a full disk, a picture that cannot be drawn: the results are worth more
        watch.warn(f"the {what} could not be written ({in_short(error)}); the results are all there")


def predict(
    run: Run,
    source: Any,
    out: Path,
    *,
    device: str = "auto",
    labels: Any = None,
    cache_dir: str | os.PathLike[str] | None = None,
    report: bool = True,
    watch: Watch | None = None,
) -> list[Cluster]:
    """Assigns the images of a new source with the model of `run`; writes the tables into the folder `out`."""
    watch = watch or Watch()
    config = run.open().config
    method = load_model(run, watch)
    device, precision = device_and_precision(Request(n_clusters=config["n_clusters"], device=device))
    target = Run(out)
    target.refuse_used()
    images = open_images(
        source, device=device, size=config["images"]["size"], channels=config["images"]["channels"], labels=labels,
        cache_dir=cache_dir, watch=watch,
    )  # fmt: skip
    found = assign(
        method, images, make_fabric(device, precision),
        progress=lambda done, total: watch.progress(done, total, "assigning"),
    )  # fmt: skip
    known = known_of(run, images)
    target.create()
    target.write_config(
        {**config, "predicted_with": str(run.folder.resolve()), **circumstances(images, device, precision)}
    )
    return write_results(target, images, found, config["n_clusters"], known, report=report, watch=watch)


def demo(request: Request, run: Run, watch: Watch | None = None) -> float:
    """Clusters scikit-learn's 1,797 handwritten digits; returns the accuracy of k-means on the raw pixels."""
    from sklearn.cluster import KMeans
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = load_images((digits.images * (255 / 16)).round().astype("uint8"), labels=digits.target)
    fit(request, images, run, watch=watch)
    pixels = KMeans(10, n_init=10, random_state=request.seed).fit_predict(digits.data)
    return accuracy(digits.target, pixels)
