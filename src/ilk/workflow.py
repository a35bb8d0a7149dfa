"""A whole piece of work from end to end: source in, run folder out. The faces only call these."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric
from torch import nn

from ilk.distributed import make_fabric
from ilk.evaluate import score_run
from ilk.images import Images, load_images
from ilk.metrics import accuracy, effective_clusters
from ilk.plan import MAX_SIZE, Plan, Request, device_and_precision, make_plan, replan
from ilk.predict import Assignments, assign
from ilk.results import (
    Cluster,
    assignments_table,
    summarise,
    write_bad_files,
    write_clusters,
    write_embeddings,
    write_table,
)
from ilk.runs import Run, method_of, versions
from ilk.sheet import write_sheet
from ilk.train import Record, train


class Watch:
    """What a face may show while work goes on; this one shows nothing."""

    def say(self, text: str) -> None:
        """A sentence worth reading."""

    def warn(self, text: str) -> None:
        """A sentence that should not be missed."""

    def progress(self, done: int, total: int, what: str) -> None:
        """`done` of `total` of `what` (decoding, training step, assigning)."""

    def epoch(self, record: Record) -> None:
        """The record of an epoch that has just ended."""


def epoch_line(record: dict[str, Any]) -> str:
    """One epoch as a line of text."""
    terms = ", ".join(f"{name} {value:.3f}" for name, value in record["terms"].items())
    clusters = ", clusters start later"
    if record["effective_clusters"] is not None:
        clusters = f", {record['effective_clusters']:.1f} effective clusters, {record['confidence']:.0%} sure"
    left = (record["epochs"] - record["epoch"]) * record["seconds"] / max(record["epoch"], 1)
    return (
        f"epoch {record['epoch']}/{record['epochs']}, {record['images_per_second']:,.0f} images/s,"
        f" {spell(left)} left, {terms}{clusters}"
    )


def spell(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def open_images(
    source: Any,
    *,
    device: str,
    size: int | None = None,
    channels: int | None = None,
    labels: Any = None,
    cache_dir: str | os.PathLike[str] | None = None,
    watch: Watch | None = None,
) -> Images:
    """`load_images` with a size limit that suits the device, saying what was found."""
    watch = watch or Watch()
    images = load_images(
        source, image_size=size, max_image_size=MAX_SIZE[device.split(":")[0]], channels=channels, labels=labels,
        cache_dir=cache_dir, progress=watch.progress,
    )  # fmt: skip
    colour = {1: "gray", 3: "colour"}.get(images.shape[0], f"{images.shape[0]} channels")
    watch.say(f"{images.name}: {colour}, used at {images.shape[2]} x {images.shape[1]} pixels")
    if images.bad:
        first = images.bad[0]
        watch.warn(
            f"{len(images.bad):,} files could not be read and are left out (the first: {first.id}: {first.reason})"
        )
    if images.labels is not None:
        watch.say(
            f"{int((images.labels >= 0).sum()):,} have a label, {len(images.label_names)} kinds; used for scores only"
        )
    return images


def fit(
    request: Request,
    source: Any,
    run: Run,
    *,
    labels: Any = None,
    resume: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
    command: Sequence[str] = (),
    watch: Watch | None = None,
) -> Run:
    """Trains on `source` and fills the folder of `run`; with `resume`, goes on where it was left.

    Raises ValueError, FileNotFoundError or FileExistsError for what a person can put right, and
    TrainingDiverged when a loss stops being a number.
    """
    watch = watch or Watch()
    request.resolved_preset()  # unknown names are refused before any image is read
    device, precision = device_and_precision(request)
    fabric = make_fabric(device, precision)
    if resume and run.exists:
        images, plan = reopen(request, source, run, device, labels, cache_dir, watch)
        if run.finished:
            watch.say(f"'{run}' is finished; nothing is left to do")
            return run
    else:
        run.refuse_used()
        images = open_images(
            source, device=device, size=request.wanted_size(), labels=labels, cache_dir=cache_dir, watch=watch
        )
        plan = start(request, images, run, fabric, device, precision, command, watch)
    write_bad_files(run / "bad_files.csv", images.bad)
    warned = train_into(run, plan, images, fabric, watch)
    finish(run, plan, images, fabric, watch, warned=warned)
    return run


def start(
    request: Request,
    images: Images,
    run: Run,
    fabric: Fabric,
    device: str,
    precision: str,
    command: Sequence[str],
    watch: Watch,
) -> Plan:
    """Makes the plan of a new run and writes it down."""
    plan = make_plan(request, images, fabric)
    for note in plan.notes:
        watch.say(note)
    run.create()
    watch.say(f"run folder: {run}")
    run.write_config({**plan.config, **circumstances(images, device, precision, command)})
    return plan


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


def reopen(
    request: Request, source: Any, run: Run, device: str, labels: Any, cache_dir: Any, watch: Watch
) -> tuple[Images, Plan]:
    """The images and the plan of an existing run, if what is asked does not contradict it."""
    config = run.open().config
    if request.n_clusters != config["n_clusters"] or request.method != config["method"]:
        raise ValueError(
            f"'{run}' is a run of {config['method']} with {config['n_clusters']} clusters; it cannot go on as"
            f" {request.method} with {request.n_clusters}. Choose another --out."
        )
    images = open_images(
        source, device=device, size=config["images"]["size"], labels=labels, cache_dir=cache_dir, watch=watch
    )
    if images.fingerprint != config["source"]["fingerprint"]:
        raise ValueError(
            f"The images are not those that '{run}' began with ({config['source']['name']}): files were added, removed"
            " or changed. Start a new run with another --out."
        )
    backbone = request.backbone if isinstance(request.backbone, nn.Module) else None
    done = len(run.log())
    watch.say(
        f"going on with '{run}' after {done} of {config['train']['epochs']} epochs, with the settings it began with"
    )
    return images, replan(config, method_of(config, backbone))


def train_into(run: Run, plan: Plan, images: Images, fabric: Fabric, watch: Watch) -> bool:
    """Trains, keeping log and checkpoint in the run's folder, and saves the model; whether it warned of collapse."""
    records = train(
        plan.method, images, plan.views, plan.train, fabric, checkpoint=run / "checkpoint.pt",
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


def collapsing(record: Record, k: int) -> str | None:
    """A warning when, late in training, half of the clusters are hardly used."""
    late = record["epoch"] >= 0.75 * record["epochs"]
    return collapse_warning(record["effective_clusters"], k) if late else None


def collapse_warning(effective: float | None, k: int) -> str | None:
    """What to say, in plain words, when the images fill less than half of the clusters; else None."""
    if effective is None or effective >= k / 2:
        return None
    return (
        f"the clusters are collapsing: the images fill only about {effective:.1f} of {k} clusters. Often the views do"
        " not suit the pictures (try --views drawing, object or photo), the training is short (--epochs, --minutes),"
        f" or there are fewer than {k} kinds (--clusters)"
    )


def finish(run: Run, plan: Plan, images: Images, fabric: Fabric, watch: Watch, *, warned: bool) -> None:
    """Assigns every image and writes the results; warns of collapsed clusters unless that was done."""
    found = assign(plan.method, images, fabric, progress=lambda done, total: watch.progress(done, total, "assigning"))
    text = collapse_warning(effective_clusters(found.cluster), plan.method.n_clusters)
    if text and not warned:
        watch.warn(text)
    write_results(run, images, found, plan.method.n_clusters)


def label_texts(images: Images) -> list[str | None] | None:
    if images.labels is None:
        return None
    return [images.label_names[code] if code >= 0 else None for code in images.labels]


def write_results(run: Run, images: Images, found: Assignments, n_clusters: int) -> list[Cluster]:
    """Writes every result file of a run; `assignments.parquet` comes last and marks it finished."""
    table = assignments_table(
        images.ids, images.paths, found.cluster, found.confidence, found.second, found.margin, label_texts(images)
    )
    clusters = summarise(found.cluster, found.confidence, found.margin, found.embedding, n_clusters)
    write_clusters(run / "clusters.csv", clusters, images.ids)
    write_embeddings(run / "embeddings.npy", found.embedding)
    write_sheet(run / "clusters.png", images, clusters)
    write_bad_files(run / "bad_files.csv", images.bad)
    write_table(table, run.folder, "assignments")
    score_run(run)
    return clusters


def predict(
    run: Run,
    source: Any,
    out: Path,
    *,
    device: str = "auto",
    labels: Any = None,
    cache_dir: str | os.PathLike[str] | None = None,
    watch: Watch | None = None,
) -> list[Cluster]:
    """Assigns the images of a new source with the model of `run`; writes the tables into the folder `out`."""
    watch = watch or Watch()
    config = run.open().config
    method = run.load_method()
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
    target.create()
    target.write_config(
        {**config, "predicted_with": str(run.folder.resolve()), **circumstances(images, device, precision)}
    )
    return write_results(target, images, found, config["n_clusters"])


def demo(request: Request, run: Run, watch: Watch | None = None) -> float:
    """Clusters scikit-learn's 1,797 handwritten digits; returns the accuracy of k-means on the raw pixels."""
    from sklearn.cluster import KMeans
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = load_images((digits.images * (255 / 16)).round().astype("uint8"), labels=digits.target)
    fit(request, images, run, watch=watch)
    pixels = KMeans(10, n_init=10, random_state=request.seed).fit_predict(digits.data)
    return accuracy(digits.target, pixels)
