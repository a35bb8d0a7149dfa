"""A whole piece of work from end to end: source in, run folder out. The faces only call these."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from lightning_fabric import Fabric

from ilk.analysis.duplicates import find_duplicates, flag_images, odd_line
from ilk.analysis.hierarchy import Hierarchy, table
from ilk.analysis.metrics import accuracy, effective_clusters
from ilk.evaluation import score_run
from ilk.images import Images, load_images
from ilk.images.embeddings import STAND_INS, fingerprint
from ilk.networks.features import Features
from ilk.networks.pretrained import Encoder
from ilk.pipeline.build import load_method, save_model
from ilk.pipeline.contact_sheet import write_sheet
from ilk.pipeline.frozen import EMBEDDINGS, REPRESENTATION, given_features, load_model, own_encoder
from ilk.pipeline.known_labels import FILE as KNOWN_FILE
from ilk.pipeline.known_labels import Known, known_of
from ilk.pipeline.plan import Plan
from ilk.pipeline.prepare import open_images, prepare, reopen
from ilk.pipeline.request import Request, device_and_precision
from ilk.reports import write_report
from ilk.reports.sprites import write_thumbnails
from ilk.runs.folder import LAST, SELECTION, Run
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
from ilk.system.devices import choose_device, make_fabric, recorded_precision
from ilk.system.files import file_hash, read_json, write_json
from ilk.system.processes import in_turn, several, shared, together
from ilk.system.progress import Watch, collapse_warning, collapsing
from ilk.system.text import in_short, safe_text
from ilk.system.versions import versions
from ilk.training.assign import PARTS, Assignments, assign, assign_in_parts, forget_parts, parts_begun
from ilk.training.confidence import calibrated, read_calibration, sorted_out, write_calibration
from ilk.training.loop import train
from ilk.training.selection import RULES, SELECTED, Rule, Selection, rule_for
from ilk.training.snapshots import Moments

BEFORE = (REPRESENTATION, "k_curve.csv", "hierarchy.parquet", KNOWN_FILE)  # written before config.json makes it a run

OnEpoch = Callable[[dict[str, Any], Callable[[], np.ndarray]], None]


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
    choose: Rule | None = None,
    on_epoch: OnEpoch | None = None,
    watch: Watch | None = None,
) -> Run:
    """Trains on `source` and fills the folder of `run`; with `resume`, goes on where it was left.

    `extra`: a source of images that help the training and are not clustered. `labels` are for scores only.
    `report`: whether to end with report.html. `choose`: the rule by which the epoch is chosen whose model is kept, in
    place of `request.select`; a resumed run needs the rule that it was started with. `on_epoch`: called after each
    epoch, when its checkpoint is written, with its record and a function that assigns all images with the model as it
    is now, (n,) cluster numbers. What it raises stops the training, which can be resumed.
    Raises ValueError, FileNotFoundError or FileExistsError for what a person can put right, and
    TrainingDiverged when a loss stops being a number.
    """
    request.resolved_preset()  # unknown names are refused before any image is read
    request.refuse_needless(extra=extra is not None)
    device, precision = device_and_precision(request)
    fabric = make_fabric(device, precision)
    first = fabric.is_global_zero
    watch = watch if watch is not None and first else Watch()
    with together(), run.working() if first else nullcontext():
        if several():
            run.folder = shared(run.folder)
        if shared(resume and run.exists):
            images, plan = reopen(request, source, run, extra, fabric, labels, cache_dir, watch)
            if shared(run.finished):
                if first:
                    complete(run, report, watch)
                return run
            rule = rule_for(run, plan.config.select, choose)
        else:
            rule = choose or RULES[request.select]
            base = Run(run / REPRESENTATION)
            request.refuse_missing(extra)
            if first:
                run.refuse_used(but=BEFORE if resume else ())

            def learn(before: Request) -> Encoder:
                watch.say("first a representation is learnt, from which the number of clusters is then found")
                fit(
                    before, source, base, extra=extra, labels="none", resume=resume, cache_dir=cache_dir,
                    command=command, report=False, watch=watch,
                )  # fmt: skip
                return in_turn(lambda: own_encoder(run, watch), among="all")

            images, plan = prepare(
                request, source, fabric, learn=learn, extra=extra, labels=labels, cache_dir=cache_dir, watch=watch
            )
            if first:
                found = circumstances(images, device, precision, command)
                if rule is not None:
                    found["select"] = rule.name
                start(plan, images, run, found, watch)
        if first:
            write_bad_files(run / "bad_files.csv", images.bad)
        warned = train_into(run, plan, images, fabric, watch, rule=rule, on_epoch=on_epoch)
        if first:  # the others leave
            finish(run, plan, images, fabric, watch, warned=warned, report=report)
    return run


def complete(run: Run, report: bool, watch: Watch) -> None:
    """Makes what a run that was killed right after its assignments still lacks."""
    missing = run.lacks(report=report)
    (run / SELECTED).unlink(missing_ok=True)
    if "scores.json" in missing:
        score_run(run)
    if "report.html" in missing:
        attempted(watch, "report", write_report, run.folder)
    found = f"; made {' and '.join(missing)}, which it still lacked" if missing else "; nothing is left to do"
    watch.say(f"'{run}' is finished{found}")


def start(plan: Plan, images: Images, run: Run, found: dict[str, Any], watch: Watch) -> None:
    """Writes the plan of a new run down, with the circumstances `found`."""
    for note in plan.notes:
        watch.say(note)
    for text in plan.warnings:
        watch.warn(text)
    run.folder.mkdir(parents=True, exist_ok=True)
    watch.say(f"run folder: {run}")
    if plan.hierarchy is not None:
        write_hierarchy(run, plan.hierarchy, images.ids)
    if plan.known is not None:
        write_known_labels(run / KNOWN_FILE, images.ids, plan.known.labels())
    run.write_config(plan.config.replace(**found))


def write_hierarchy(run: Run, hierarchy: Hierarchy, ids: Sequence[str]) -> None:
    """`k_curve.csv`, the evidence for each number of clusters, and `hierarchy.parquet`, every level of the tree."""
    curve = hierarchy.rows()
    write_csv(run / "k_curve.csv", list(curve[0]), (row.values() for row in curve))
    write_parquet(run / "hierarchy.parquet", table(hierarchy, [safe_text(one) for one in ids]))


def circumstances(images: Images, device: str, precision: str, command: Sequence[str] = ()) -> dict[str, Any]:
    """What config.json says of the source and the machine."""
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


def train_into(
    run: Run, plan: Plan, images: Images, fabric: Fabric, watch: Watch, *, rule: Rule | None = None,
    on_epoch: OnEpoch | None = None,
) -> bool:  # fmt: skip
    """Trains, keeping log and checkpoint in the run's folder, and saves the model; whether it warned of collapse."""
    logged: list[int] = []
    data = plan.data(images)
    selection = Selection(rule, run, plan.method, data, fabric)

    def log(record: dict[str, Any]) -> None:
        if not logged:
            run.cut_log(record["epoch"] - 1)
        run.append_log(record)
        logged.append(record["epoch"])
        selection.see(record)  # before the epoch's checkpoint: a kill in between repeats the epoch

    records = train(
        plan.method, data, plan.views, plan.train, fabric, extra=plan.extra, known=plan.known_rows,
        checkpoint=run / "checkpoint.pt", moments=Moments(run / "moments.npz"), log=log,
        on_step=lambda done, total: watch.progress(done, total, "training"),
    )  # fmt: skip
    warned = False
    for record in records:
        watch.epoch(record)
        if on_epoch is not None:
            on_epoch(record, selection.clusters)
        if not warned and (text := collapsing(record, plan.method.n_clusters)):
            watch.warn(text)
            warned = True
    if fabric.is_global_zero:
        selection.restore(plan.train.epochs, watch)
        save_model(run, plan.method)
    return warned


def finish(
    run: Run, plan: Plan, images: Images, fabric: Fabric, watch: Watch, *, warned: bool, report: bool = True
) -> None:
    """Assigns every image and writes the results; warns of collapsed clusters unless that was done."""
    found = assign(
        plan.method, plan.data(images), fabric, probabilities=True,
        progress=lambda done, total: watch.progress(done, total, "assigning"),
    )  # fmt: skip
    found, calibration = calibrated(found, plan.features, plan.train.seed, watch)
    write_calibration(run, calibration)
    text = collapse_warning(effective_clusters(found.cluster), plan.method.n_clusters)
    if text and not warned:
        watch.warn(text)
    write_results(run, images, found, plan.method.n_clusters, plan.known, report=report, watch=watch)
    (run / SELECTED).unlink(missing_ok=True)


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
        None if known is None else known.codes >= 0, found.uncertain,
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
    for name in LAST:
        (run / name).unlink(missing_ok=True)  # of a training under way: what is there afterwards was made afterwards
    write_table(table, run.folder, "assignments")
    score_run(run)
    if report:
        attempted(watch, "report", write_report, run.folder)
    return clusters


def write_odd(run: Run, images: Images, found: Assignments, watch: Watch) -> None:
    """Writes duplicates.csv and flags.csv, and says what is in them if anything is."""
    for name in ("duplicates.csv", "flags.csv"):
        (run / name).unlink(missing_ok=True)  # those of other images must not outlive a failure
    if images.source_kind == STAND_INS:
        return
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
    embeddings: Any = None,
    report: bool = True,
    watch: Watch | None = None,
) -> list[Cluster]:
    """Assigns the images of a new source with the model of `run`; writes the tables into the folder `out`.

    A prediction that was stopped there goes on, if model and images are the same. Several processes share
    the images; all but the first return an empty list.
    `embeddings`: those of the images, where the run was trained on embeddings that were computed elsewhere.
    """
    config = run.open().config
    was_given = config.encoder is not None and config.encoder.spec == EMBEDDINGS
    if embeddings is not None and not was_given:
        raise ValueError(f"'{run}' takes images, not embeddings. Leave --embeddings out.")
    device = choose_device(device)
    precision = recorded_precision(config.precision, device)
    fabric, target = make_fabric(device, precision), Run(out)
    first = fabric.is_global_zero
    watch = watch if watch is not None and first else Watch()
    with together(), target.working() if first else nullcontext():
        target.folder = shared(target.folder)
        if first and not parts_begun(target.folder):
            target.refuse_used(but=(PARTS,))
        method = load_method(run) if embeddings is not None else load_model(run, watch)
        images = open_images(
            source, device=device, size=config.images.size, channels=config.images.channels, labels=labels,
            cache_dir=cache_dir, watch=watch,
        )  # fmt: skip
        data: Images | Features = images
        if embeddings is not None and config.encoder is not None:
            data = given_features(embeddings, images, config.encoder.feature_dim)
        known = known_of(run, images)
        calibration = read_calibration(run)
        identity = {
            "temperature": list(calibration.temperature),
            "model": file_hash(run / "model.safetensors"), "source": images.fingerprint, "precision": precision,
            "embeddings": fingerprint(data.rows) if isinstance(data, Features) else None,
        }  # fmt: skip
        found = assign_in_parts(
            method, data, fabric, target.folder, identity, temperature=calibration.temperature,
            progress=lambda done, total: watch.progress(done, total, "assigning"),
        )  # fmt: skip
        if found is None:
            return []
        target.write_config(
            config.replace(predicted_with=str(run.folder.resolve()), **circumstances(images, device, precision))
        )
        if (run / SELECTION).is_file():  # scores of new images are scores of that model
            write_json(target / SELECTION, read_json(run / SELECTION))
        found = sorted_out(found, calibration)
        write_calibration(target, calibration)
        clusters = write_results(target, images, found, config.n_clusters, known, report=report, watch=watch)
        forget_parts(target.folder)
        return clusters


def demo(request: Request, run: Run, watch: Watch | None = None) -> float:
    """Clusters scikit-learn's 1,797 handwritten digits; returns the accuracy of k-means on the raw pixels."""
    from sklearn.cluster import KMeans
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = load_images((digits.images * (255 / 16)).round().astype("uint8"), labels=digits.target)
    fit(request, images, run, watch=watch)
    pixels = KMeans(10, n_init=10, random_state=request.seed).fit_predict(digits.data)
    return accuracy(digits.target, pixels)
