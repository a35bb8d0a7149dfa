"""A whole piece of work from end to end: source in, run folder out. The faces only call these."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric
from torch import nn

from ilk.distributed import make_fabric
from ilk.evaluate import score_run
from ilk.images import Images, load_images
from ilk.initial import find_initial, start_from
from ilk.known import FILE as KNOWN_FILE
from ilk.known import Known, find_known, known_of
from ilk.metrics import accuracy, effective_clusters
from ilk.plan import MAX_SIZE, Plan, Request, device_and_precision, make_plan, replan
from ilk.predict import Assignments, assign
from ilk.report import write_report
from ilk.report.sprites import write_thumbnails
from ilk.results import (
    Cluster,
    assignments_table,
    summarise,
    write_bad_files,
    write_clusters,
    write_embeddings,
    write_known_labels,
    write_table,
)
from ilk.runs import Run, in_short, method_of, versions
from ilk.sheet import write_sheet
from ilk.snapshots import Moments
from ilk.train import train
from ilk.watch import Watch, collapse_warning, collapsing


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


def open_extra(source: Any, images: Images, *, device: str, cache_dir: Any, watch: Watch) -> Images | None:
    """The extra images of `source` (None: none), in the size and channels of `images`."""
    if source is None:
        return None
    channels, size, _ = images.shape
    return open_images(
        source, device=device, size=size, channels=channels, labels="none", cache_dir=cache_dir, watch=watch
    )


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
        images, plan = reopen(request, source, run, extra, device, labels, cache_dir, watch)
        if run.finished:
            watch.say(f"'{run}' is finished; nothing is left to do")
            return run
    else:
        run.refuse_used()
        images = open_images(
            source, device=device, size=request.wanted_size(), labels=labels, cache_dir=cache_dir, watch=watch
        )
        further = open_extra(extra, images, device=device, cache_dir=cache_dir, watch=watch)
        plan = make_plan(request, images, fabric, further)
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


def reopen(
    request: Request, source: Any, run: Run, extra: Any, device: str, labels: Any, cache_dir: Any, watch: Watch
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
    began = config.get("extra")
    if began and extra is None:
        raise ValueError(f"'{run}' began with extra images, {began['name']}. Give them again with --extra.")
    if extra is not None and not began:
        raise ValueError(f"'{run}' began without extra images. Leave --extra out, or start a new run.")
    further = open_extra(extra, images, device=device, cache_dir=cache_dir, watch=watch)
    if began and further is not None and further.fingerprint != began["fingerprint"]:
        raise ValueError(
            f"The extra images are not those that '{run}' began with ({began['name']}). Give the same with --extra."
        )
    known = known_of(run, images)
    if request.known_labels is not None:
        given, _ = find_known(request.known_labels, images, request.n_clusters)
        if known is None or given.labels() != known.labels():
            raise ValueError(f"The known labels are not those that '{run}' began with. Leave --known-labels out.")
    method = method_of(config, request.backbone if isinstance(request.backbone, nn.Module) else None)
    if (begun := config.get("init")) and not (run / "checkpoint.pt").exists() and not run.finished:
        start_from(method, find_initial(request.init or begun["path"]), expected=begun["hash"])
    done = len(run.log())
    watch.say(
        f"going on with '{run}' after {done} of {config['train']['epochs']} epochs, with the settings it began with"
    )
    return images, replan(config, method, further, known)


def train_into(run: Run, plan: Plan, images: Images, fabric: Fabric, watch: Watch) -> bool:
    """Trains, keeping log and checkpoint in the run's folder, and saves the model; whether it warned of collapse."""
    records = train(
        plan.method, images, plan.views, plan.train, fabric, extra=plan.extra, known=plan.known_rows,
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
    found = assign(plan.method, images, fabric, progress=lambda done, total: watch.progress(done, total, "assigning"))
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
    attempted(watch, "thumbnails", write_thumbnails, run.folder, images, clusters)
    write_table(table, run.folder, "assignments")
    score_run(run)
    if report:
        attempted(watch, "report", write_report, run.folder)
    return clusters


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
