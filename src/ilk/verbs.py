"""The public verbs: `fit`, `predict`, `evaluate` and `report`, as plain functions on run folders.

They do what the commands of the same names do, and return a `Run` or what was written.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from ilk.evaluation import EvaluationOptions, evaluate_run
from ilk.images.choose_files import Patterns, choose_files
from ilk.methods import Method, use_method
from ilk.pipeline import fitting, predicting, trained
from ilk.pipeline.request import Request
from ilk.reports import write_report
from ilk.runs.folder import Run, free_name
from ilk.system.progress import Watch
from ilk.system.text import did_you_mean
from ilk.system.wording import in_python_words

__all__ = ["evaluate", "fit", "load_model", "predict", "report"]

PathLike = str | os.PathLike[str]


@in_python_words()
def fit(
    source: Any,
    n_clusters: int | str = "auto",
    *,
    out: PathLike | None = None,
    labels: Any = None,
    extra: Any = None,
    resume: bool = False,
    report: bool = True,
    include: Patterns = None,
    exclude: Patterns = None,
    cache_dir: PathLike | None = None,
    watch: Watch | None = None,
    on_epoch: Callable[[dict[str, Any], Callable[[], np.ndarray]], None] | None = None,
    **options: Any,
) -> Run:
    """The finished run of a training on the images of `source`; its folder holds model, tables and report.

    `source`: whatever `load_images` reads: a folder, a list of paths, an archive, a Parquet file, an array
    (n, h, w[, c]) of uint8, a torch Dataset, or `Images`.
    `n_clusters`: at least 2; "auto", or a range such as "5-60", finds the number from the features.
    `report`: whether to write report.html.
    `out`: the run folder, which must be new or empty (with `resume`, the run to go on with). None: a new folder below
    `runs/`, named after the source.
    `labels`: for scores only, as for `load_images`; they never affect the training. `extra`: a source of further
    images that are learnt from but not clustered.
    `include`, `exclude`: which files of the source to take, as for `load_images`.
    `cache_dir`: where decoded images are kept; None: the platform's cache folder. `watch`: gets messages, progress
    and the record of each epoch.
    `on_epoch`: called after each epoch, when its checkpoint is written, with its record (a dict with epoch, loss, terms
    and more) and a function that assigns all images with the model as it is now, (n,) cluster numbers. What it raises
    stops the training, which `resume` continues.
    `options`: method, preset, epochs or minutes, image_size (pixels), backbone, views, seed, device, precision,
    settings (a dict that replaces single settings of the preset), select and the other options of `ilk fit`.

    Raises TypeError for an unknown option, ValueError, FileNotFoundError or FileExistsError, with a sentence, for what
    a person can correct, and `TrainingDiverged` (a RuntimeError) when the loss is no longer a finite number.
    """
    refuse_unknown_options(options, Request, "fit")
    request = Request(n_clusters=n_clusters, **options)
    if resume and out is None:
        raise ValueError("resume=True needs out=, the folder of the run to go on with.")
    run = Run(out if out is not None else free_name(Path("runs"), stem_of(source)))
    chosen = choose_files(source, include, exclude)
    return fitting.fit(
        request, chosen, run, extra=extra, labels=labels, resume=resume, given=options, cache_dir=cache_dir,
        command=["ilk.fit"], report=report, on_epoch=on_epoch, watch=watch,
    )  # fmt: skip


@in_python_words()
def predict(
    run: Run | PathLike,
    source: Any,
    *,
    out: PathLike | None = None,
    method: str | type[Method] | None = None,
    labels: Any = None,
    embeddings: Any = None,
    device: str = "auto",
    report: bool = True,
    include: Patterns = None,
    exclude: Patterns = None,
    cache_dir: PathLike | None = None,
    watch: Watch | None = None,
) -> Run:
    """The prediction of a finished run's model for the images of a new source: a folder with the tables of a run.

    `source`, `labels`, `include`, `exclude`, `cache_dir`, `watch`: as for `fit`. `out`: the folder to write to; None:
    a new one below `RUN/predictions/`. `method`: your own, if the run was trained with one: its class, "FILE.py:CLASS"
    or "MODULE:CLASS". `embeddings`: (n, d) features of the images, for a run that was trained on embeddings.
    `device`: "auto", "cpu", "cuda" or "mps". `report`: whether to write report.html.
    A prediction that was stopped goes on in its folder. Raises ValueError, FileNotFoundError or FileExistsError.
    """
    opened = opened_with(run, method)
    target = out if out is not None else free_name(opened / "predictions", stem_of(source), but="parts/parts.json")
    predicting.predict(
        opened, choose_files(source, include, exclude), Path(target), device=device, labels=labels,
        cache_dir=cache_dir, embeddings=embeddings, report=report, watch=watch,
    )  # fmt: skip
    return Run(target)


@in_python_words()
def evaluate(
    run: Run | PathLike,
    *,
    only: str | Sequence[str] = (),
    method: str | type[Method] | None = None,
    labels: PathLike | None = None,
    write: bool = True,
    watch: Watch | None = None,
    **options: Any,
) -> dict[str, Any]:
    """The results of the protocols of `ilk evaluate` on a finished run, in `["protocols"]` by name.

    `only`: one or more of labels, knn, probe, retrieval, opinions and label-free; empty: all that can be done.
    `method`: as for `predict`.
    `labels`: None for those recorded with the run, "folders", "none", or a CSV or Parquet file with columns id and
    label. `write`: whether results are kept in the run's `evaluation.json`. `options`: fields of
    `ilk.evaluation.EvaluationOptions`, such as `test` (a prediction on held-out images), `seed` and `resamples`.
    Scores are in [0, 1] unless their name says otherwise, with 95 % bootstrap intervals over images.

    Raises TypeError for an unknown option, ValueError or FileNotFoundError for what a person can correct.
    """
    refuse_unknown_options(options, EvaluationOptions, "evaluate")
    opened = opened_with(run, method)
    chosen = (only,) if isinstance(only, str) else tuple(only)
    asked = EvaluationOptions(only=chosen, labels=labels, **options)
    with opened.working() if write else nullcontext():
        return evaluate_run(opened, asked, model=trained.load_model, write=write, watch=watch)


@in_python_words()
def report(
    run: Run | PathLike, out: PathLike | None = None, *, most: int | None = None, layout: str | None = None
) -> Path:
    """The path of the run's report, one HTML file that needs no network, written anew.

    `out`: the file; None: `report.html` in the run folder. `most`: how many images it shows at most. `layout`: the
    map, "pca", "umap" or "tsne"; None: the one in the folder, else "pca".
    Raises FileNotFoundError or ValueError for a folder that is not a run or is damaged, OSError where the file cannot
    be written.
    """
    opened = as_run(run)
    limit = {} if most is None else {"most": most}
    with opened.working() if out is None and opened.exists else nullcontext():
        return write_report(opened.folder, out, layout=layout, **limit)


@in_python_words()
def load_model(run: Run | PathLike, *, method: str | type[Method] | None = None, watch: Watch | None = None) -> Method:
    """The trained model of a finished run, in evaluation mode on the CPU.

    `assign(x)` gives (b, k) probabilities and `embed(x)` (b, d) rows of length 1, for `x` (b, c, h, w) floats in [0, 1]
    at the image size of the run. `method`: as for `predict`. Raises FileNotFoundError or ValueError where there is no
    run or its model is damaged.
    """
    return trained.load_model(opened_with(run, method), watch)


def opened_with(run: Run | PathLike, method: str | type[Method] | None) -> Run:
    """The run, opened, after a method of the user's own was made known."""
    if method is not None:
        use_method(method)
    return as_run(run).open()


def as_run(run: Run | PathLike) -> Run:
    """A run, or the run in a folder."""
    return run if isinstance(run, Run) else Run(run)


def stem_of(source: Any) -> str:
    """What a new folder is called after a source: the name of its file or folder, else "images"."""
    return Path(source).resolve().stem or "images" if isinstance(source, (str, os.PathLike)) else "images"


def refuse_unknown_options(options: dict[str, Any], record: type, verb: str) -> None:
    """Raises TypeError, with the nearest name, for an option that `record` does not take."""
    known = list(inspect.signature(record).parameters)
    for name in options:
        if name not in known:
            raise TypeError(f"ilk.{verb} has no option '{name}'.{did_you_mean(name, known)} See help(ilk.{verb}).")
