"""`ilk compare`: methods and baselines side by side on labelled sets."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ilk.cli.app import app
from ilk.cli.options import CacheDir, Panels, Quiet, settings_of, split_words, with_options
from ilk.pipeline.options import FIRST, options_of
from ilk.research.options import LabelledTraining

OPTIONS = [option for option in options_of(LabelledTraining).values() if option.name not in ("seed", "on", "read_out")]


@app.command(cls=Panels)
@with_options(OPTIONS)
def compare(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            show_default=False,
            help="Labelled sets: digits, a folder with one sub-folder for each class, an .npz file with x and y, or"
            " FILE.py:NAME, which calls load(NAME) there.",
        ),
    ],
    methods: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Methods and baselines, with commas. Baselines: kmeans, mini-batch-kmeans, spectral, agglomerative,"
            " nmf+kmeans, pca+kmeans.",
            rich_help_panel=FIRST,
        ),
    ] = "cc,crlc,scl,dcdc,c2bin,kmeans",
    seeds: Annotated[
        int, typer.Option(metavar="N", help="Train with this many seeds: 0, 1, ...", rich_help_panel=FIRST)
    ] = 3,
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="The folder of the runs and results; finished runs are not repeated.")
    ] = Path("runs/compare"),
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="LABELS",
            help="Labels to score with: folders, or a CSV or Parquet FILE with columns id, label.",
            show_default="what the source has",
        ),
    ] = None,
    on: Annotated[
        str,
        typer.Option(
            metavar="WHAT", help="What baselines cluster: pixels, or the embeddings of run folders, with commas."
        ),
    ] = "pixels",
    report: Annotated[bool, typer.Option("--report", help="Write a report.html for every run.")] = False,
    cache_dir: CacheDir = None,
    quiet: Quiet = False,
    **options: Any,
) -> None:
    """Train methods and baselines on labelled sets, side by side."""
    from ilk.cli.display import Display
    from ilk.research.compare import comparison_jobs, print_results, run_comparison

    options["settings"] = settings_of(options["settings"])
    jobs = comparison_jobs(
        sources, split_words(methods), seeds, on=split_words(on), **options
    )  # fmt: skip
    command = shlex.join(["ilk", *sys.argv[1:]])
    with Display(quiet=quiet) as display:
        try:
            rows = run_comparison(
                jobs, out, labels=labels, cache_dir=cache_dir, watch=display, command=command, report=report
            )
        except KeyboardInterrupt:
            display.close()
            print(
                f"\nStopped. What was finished is in {out / 'rows.jsonl'}, and the training under way is kept up to its"
                f" last checkpoint. Go on with the same command:\n  {command}",
                file=sys.stderr,
            )
            raise typer.Exit(130) from None
    print_results(rows, out)
    if any(row["error"] for row in rows):
        raise typer.Exit(1)
