"""A training from a source of images to results: into a run folder, or in memory for `Clusterer`."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from lightning_fabric import Fabric

from ilk.analysis.calibration import Calibration
from ilk.analysis.metrics import effective_clusters
from ilk.networks.pretrained import Encoder
from ilk.pipeline.begin import Learn, begin
from ilk.pipeline.build import Training, save_model
from ilk.pipeline.known_labels import FILE as KNOWN_FILE
from ilk.pipeline.request import Request, device_and_precision
from ilk.pipeline.results import circumstances, write_hierarchy, write_missing, write_results
from ilk.pipeline.resume import reopen
from ilk.pipeline.same_options import asked_of, refuse_contradictions
from ilk.pipeline.trained import own_encoder
from ilk.runs.folder import Run
from ilk.runs.tables import write_bad_files, write_known_labels
from ilk.system.devices import make_fabric
from ilk.system.own_folders import REPRESENTATION
from ilk.system.processes import in_turn, several, shared, together
from ilk.system.progress import Watch, collapse_warning, collapsing
from ilk.training.assign import Assignments, assign
from ilk.training.confidence import calibrated, write_calibration
from ilk.training.epoch import Record
from ilk.training.loop import train
from ilk.training.selection import RULES, SELECTED, Rule, Selection, rule_for
from ilk.training.snapshots import Moments

BEFORE = (REPRESENTATION, "k_curve.csv", "hierarchy.parquet", KNOWN_FILE)  # written before config.json makes it a run

OnEpoch = Callable[[Record, Callable[[], np.ndarray]], None]


@dataclass(frozen=True)
class Fitted:
    """A training that is done, and what its model says of the images that it was trained on."""

    training: Training
    history: list[Record]  # one record an epoch
    assignments: Assignments
    calibration: Calibration
    moments: Moments | None = None


def fit(
    request: Request,
    source: Any,
    run: Run,
    *,
    extra: Any = None,
    labels: Any = None,
    resume: bool = False,
    given: Collection[str] = (),
    cache_dir: str | os.PathLike[str] | None = None,
    command: Sequence[str] = (),
    report: bool = True,
    choose: Rule | None = None,
    on_epoch: OnEpoch | None = None,
    watch: Watch | None = None,
) -> Run:
    """Trains on `source` and fills the folder of `run`; with `resume`, goes on where it was left.

    `extra`: a source of images that help the training and are not clustered. `labels` are for scores only.
    `given`: the options that were named, even if with their default: a run that goes on must have begun with the same.
    `report`: whether to end with report.html. `choose`: the rule by which the epoch is chosen whose model is kept, in
    place of `request.select`; a resumed run needs the rule that it was started with. `on_epoch`: called after each
    epoch, when its checkpoint is written, with its record and a function that assigns all images with the model as it
    is now, (n,) cluster numbers. What it raises stops the training, which can be resumed.
    Raises ValueError, FileNotFoundError or FileExistsError for what a person can put right, and
    TrainingDiverged when a loss stops being a number.
    """
    watch = watch or Watch()
    if resume and run.exists:
        request = as_begun(request, given, run, watch)
    device, precision, fabric = machine_for(request, extra=extra is not None)
    source = list(source) if isinstance(source, Iterator) else source
    first = fabric.is_global_zero
    watch = watch if first else Watch()
    with together(), run.working(begun=BEFORE) if first else nullcontext():
        if several():
            run.folder = shared(run.folder)
        if shared(resume and run.exists):
            training = reopen(
                request, source, run, fabric, extra=extra, labels=labels, cache_dir=cache_dir, watch=watch
            )
            if shared(run.finished):
                if first:
                    write_missing(run, report, watch)
                return run
            rule = rule_for(run, training.plan.select, choose)
        else:
            rule = choose or RULES[request.select]
            request.refuse_missing(extra)
            if first:
                run.refuse_used(but=BEFORE if resume else ())
            learn = learner(
                lambda: run,
                source,
                watch,
                extra=extra,
                resume=resume,
                given=given,
                cache_dir=cache_dir,
                command=command,
            )
            training = begin(
                request, source, fabric, learn=learn, extra=extra, labels=labels, cache_dir=cache_dir, watch=watch
            )
            if first:
                facts = {**circumstances(training.images, device, precision, command), "asked": asked_of(request)}
                if rule is not None:
                    facts["select"] = rule.name
                tell(training, watch)
                write_start(replace(training, plan=training.plan.replace(**facts)), run, watch)
        if first:
            write_bad_files(run / "bad_files.csv", training.images.bad)
        warned = train_run(training, run, fabric, watch, rule=rule, on_epoch=on_epoch)
        if first:  # the others leave
            finish_run(training, run, fabric, watch, warned=warned, report=report)
    return run


def as_begun(request: Request, given: Collection[str], run: Run, watch: Watch) -> Request:
    """The request for going on with a run, in the precision it began with. Raises ValueError for other options."""
    plan = run.open().config
    refuse_contradictions(request, given, run, plan, watch)
    return request if plan.precision is None else replace(request, precision=plan.precision)


def fit_in_memory(
    request: Request, source: Any, *, home: Callable[[], Run], extra: Any = None,
    cache_dir: str | os.PathLike[str] | None = None, watch: Watch,
) -> Fitted:  # fmt: skip
    """Trains on `source` as `fit` does, but keeps everything in memory.

    `home`: gives the folder for the run of a representation, where one has to be learned first.
    """
    device, precision, fabric = machine_for(request, extra=extra is not None)
    request.refuse_missing(extra)
    source = list(source) if isinstance(source, Iterator) else source
    learn = learner(home, source, watch, extra=extra, cache_dir=cache_dir)
    training = begin(request, source, fabric, learn=learn, extra=extra, cache_dir=cache_dir, watch=watch)
    tell(training, watch)
    plan = training.plan.replace(**circumstances(training.images, device, precision))
    return train_in_memory(replace(training, plan=plan), fabric, watch, moments=Moments())


def machine_for(request: Request, *, extra: bool) -> tuple[str, str, Fabric]:
    """Device, precision and processes of a training; unknown names are refused before any image is read."""
    request.resolved_preset()
    request.refuse_needless(extra=extra)
    device, precision = device_and_precision(request)
    return device, precision, make_fabric(device, precision)


def learner(
    home: Callable[[], Run], source: Any, watch: Watch, *, extra: Any, resume: bool = False,
    given: Collection[str] = (), cache_dir: Any, command: Sequence[str] = (),
) -> Learn:  # fmt: skip
    """A function that trains a representation in a run inside `home()`, and returns it as an encoder."""

    def learn(request: Request) -> Encoder:
        outer = home()
        watch.say("first a representation is learnt, from which the number of clusters is then found")
        fit(
            request, source, Run(outer / REPRESENTATION), extra=extra, labels="none", resume=resume,
            given=given, cache_dir=cache_dir, command=command, report=False, watch=watch,
        )  # fmt: skip
        return in_turn(lambda: own_encoder(outer, watch), among="all")

    return learn


def tell(training: Training, watch: Watch) -> None:
    """Says what was chosen for a new training and why, and warns of what looks wrong."""
    for note in training.plan.notes:
        watch.say(note)
    for text in training.warnings:
        watch.warn(text)


def write_start(training: Training, run: Run, watch: Watch) -> None:
    """Writes the folder of a new run up to config.json, from which it counts as one."""
    run.folder.mkdir(parents=True, exist_ok=True)
    watch.say(f"run folder: {run}")
    if training.hierarchy is not None:
        write_hierarchy(run, training.hierarchy, training.images.ids)
    if training.known is not None:
        write_known_labels(run / KNOWN_FILE, training.images.ids, training.known.labels())
    run.write_config(training.plan)


def train_run(
    training: Training, run: Run, fabric: Fabric, watch: Watch, *, rule: Rule | None = None,
    on_epoch: OnEpoch | None = None,
) -> bool:  # fmt: skip
    """Trains with log and checkpoint in the run's folder and saves the model; whether `watch` heard of a collapse."""
    logged: list[int] = []
    selection = Selection(rule, run, training.method, training.data, fabric)

    def log(record: Record) -> None:
        if not logged:
            run.cut_log(record["epoch"] - 1)
        run.append_log(record)
        logged.append(record["epoch"])
        selection.see(record)  # before the epoch's checkpoint: a kill in between repeats the epoch

    records = train(
        training.method, training.data, training.views, training.plan.train, fabric, extra=training.extra,
        known=training.known_rows, checkpoint=run / "checkpoint.pt", moments=Moments(run / "moments.npz"), log=log,
        on_step=lambda done, total: watch.progress(done, total, "training"),
    )  # fmt: skip
    warned = False
    for record in records:
        watch.epoch(record)
        if on_epoch is not None:
            on_epoch(record, selection.clusters)
        if not warned and (text := collapsing(record, training.method.n_clusters)):
            watch.warn(text)
            warned = True
    if fabric.is_global_zero:
        selection.restore(training.plan.train.epochs, watch)
        save_model(run, training.method)
    return warned


def train_in_memory(
    training: Training, fabric: Fabric, watch: Watch, *, moments: Moments | None = None
) -> Fitted:  # fmt: skip
    """Trains without a folder, and assigns the images."""
    history = []
    for record in train(
        training.method, training.data, training.views, training.plan.train, fabric, extra=training.extra,
        known=training.known_rows, moments=moments,
    ):  # fmt: skip
        history.append(record)
        watch.epoch(record)
    assignments, calibration = assign_own(training, fabric, watch)
    return Fitted(training, history, assignments, calibration, moments)


def assign_own(
    training: Training, fabric: Fabric, watch: Watch, *, warned: bool = False
) -> tuple[Assignments, Calibration]:
    """The clusters of the images that were trained on, with calibrated confidence; warns once of collapsed clusters."""
    assignments = assign(
        training.method, training.data, fabric, probabilities=True,
        progress=lambda done, total: watch.progress(done, total, "assigning"),
    )  # fmt: skip
    assignments, calibration = calibrated(assignments, training.features, training.plan.train.seed, watch)
    text = collapse_warning(effective_clusters(assignments.cluster), training.method.n_clusters)
    if text and not warned:
        watch.warn(text)
    return assignments, calibration


def finish_run(
    training: Training, run: Run, fabric: Fabric, watch: Watch, *, warned: bool, report: bool = True
) -> None:  # fmt: skip
    """Assigns every image and writes the results; warns of collapsed clusters unless that was done."""
    assignments, calibration = assign_own(training, fabric, watch, warned=warned)
    write_calibration(run, calibration)
    write_results(
        run, training.images, assignments, training.method.n_clusters, training.known, report=report, watch=watch
    )
    (run / SELECTED).unlink(missing_ok=True)
