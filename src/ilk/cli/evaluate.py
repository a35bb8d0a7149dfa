"""`ilk evaluate`: the protocols of the papers on a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ilk.cli.app import app
from ilk.cli.options import CacheDir, Device, OwnMethod, Quiet, RunFolder, Seed


@app.command()
def evaluate(
    run: RunFolder,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="LABELS",
            help="Labels to compare with: folders, none, or a CSV or Parquet FILE with columns id, label.",
            show_default="those the run was made with",
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES",
            help="Which protocols: labels, knn, probe, retrieval, opinions, label-free; separate several by commas.",
            show_default="all",
        ),
    ] = None,
    test: Annotated[
        Path | None,
        typer.Option(metavar="PREDICTION", help="Held-out images: a folder that ilk predict made.", show_default=False),
    ] = None,
    test_labels: Annotated[
        str | None, typer.Option(metavar="LABELS", help="Labels of the images in --test.", show_default="as --labels")
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            metavar="SPLIT", help="Without --test: random, folders (train/ and test/), or a CSV or Parquet FILE."
        ),
    ] = "random",
    split_column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The column of that FILE with train or test.", show_default="split"),
    ] = None,
    held_out: Annotated[
        float | None, typer.Option(metavar="PART", help="The part that a random split holds out.", show_default="0.2")
    ] = None,
    features: Annotated[
        str, typer.Option(metavar="NAME", help="What to measure: embeddings, or backbone (opens the images again).")
    ] = "embeddings",
    optimizer: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Optimizer of the linear probe: lars or sgd.", show_default="lars"),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="Where the images of the run are now; also digits, or FILE.py:NAME.",
            show_default="where they were",
        ),
    ] = None,
    test_images: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="Where the images of --test are now.", show_default="where they were"),
    ] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="RUN", help="Compare with another run of the same images; may be repeated.", show_default=False
        ),
    ] = None,
    queries: Annotated[int, typer.Option(metavar="N", help="Retrieval: at most this many random queries.")] = 2000,
    views_of: Annotated[int, typer.Option(metavar="N", help="Assign the views of at most this many images.")] = 500,
    resamples: Annotated[int, typer.Option(metavar="N", help="Bootstrap samples for each interval.")] = 1000,
    seed: Seed = 0,
    method: OwnMethod = None,
    device: Device = "auto",
    cache_dir: CacheDir = None,
    quiet: Quiet = False,
) -> None:
    """Measure a run by the papers' protocols, and without labels."""
    from ilk.cli.display import Display
    from ilk.evaluation import EvaluationOptions, evaluate_run, evaluation_lines
    from ilk.evaluation.run_protocols import FILE
    from ilk.methods import use_method
    from ilk.pipeline.trained import load_model
    from ilk.runs.folder import Run

    chosen = tuple(name.strip() for text in only or [] for name in text.split(",") if name.strip())
    options = EvaluationOptions(
        only=chosen, labels=labels, test=test, test_labels=test_labels, split=split, split_column=split_column,
        held_out=held_out, features=features, optimizer=optimizer, images=source_of(images),
        test_images=source_of(test_images),
        against=tuple(against or []), queries=queries, views_of=views_of, resamples=resamples, seed=seed,
        device=device, cache_dir=cache_dir,
    )  # fmt: skip
    if method is not None:
        use_method(method)
    opened = Run(run).open()
    with opened.working(), Display(quiet=quiet) as display:
        found = evaluate_run(opened, options, model=load_model, watch=display)
    for line in evaluation_lines(found):
        print(line)
    print(f"Written to {run / FILE}")


def source_of(text: str | None) -> Any:
    """The images of the built-in digits or of FILE.py:NAME, as `ilk compare` takes them; other sources as they are."""
    from ilk.research.labelled import DIGITS, PROGRAM, open_labelled

    if text is None or Path(text).exists() or not (text == DIGITS or PROGRAM.match(text)):
        return text
    return open_labelled(text).array
