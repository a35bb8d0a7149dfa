"""What a newcomer tries first: `ilk methods` and `ilk demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ilk.cli.app import app
from ilk.cli.options import REQUEST, Quiet, Seed, as_typer
from ilk.pipeline.request import Request


@app.command()
def methods() -> None:
    """List the methods, their presets and settings."""
    from ilk.cli.display import method_lines

    method_lines()


@app.command()
def demo(
    minutes: Annotated[
        float, as_typer(REQUEST["minutes"], panel=None, default=1.5, help="Train for about this many minutes.")
    ] = 1.5,
    out: Annotated[
        Path | None, typer.Option(metavar="RUN", help="The run folder to make.", show_default="runs/demo")
    ] = None,
    seed: Seed = 0,
    epochs: Annotated[
        int | None,
        as_typer(REQUEST["epochs"], panel=None, unset=None, help="How often to go through all images, instead."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Sort 1,797 real handwritten digits, and see how well that went."""
    from ilk.cli.display import Display, cluster_table, demo_lines, score_lines
    from ilk.pipeline.demo import demo as run_demo
    from ilk.runs.folder import Run, free_name

    request = Request(n_clusters=10, minutes=None if epochs else minutes, epochs=epochs, seed=seed)
    run = Run(out or free_name(Path("runs"), "demo"))
    with Display(quiet=quiet) as display:
        display.say(
            "1,797 handwritten digits of 8 x 8 pixels (scikit-learn's load_digits);"
            " their labels are used for the score only"
        )
        baseline = run_demo(request, run, watch=display)
    cluster_table(run)
    score_lines(run)
    demo_lines(run, baseline)
