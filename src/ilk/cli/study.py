"""`ilk study`: the papers' ablations, run again."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from ilk.cli.app import app
from ilk.cli.options import CacheDir, Quiet


@app.command()
def study(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Studies, with commas; all; or a FILE.toml of your own. Without it they are listed.",
            show_default=False,
        ),
    ] = None,
    source: Annotated[
        str,
        typer.Option(
            metavar="SOURCE", help="Labelled images: digits, a folder with class folders, an .npz, FILE.py:NAME."
        ),
    ] = "digits",
    seeds: Annotated[int, typer.Option(metavar="N", help="How often to train each cell.")] = 3,
    epochs: Annotated[int | None, typer.Option(help="Passes over the images.", show_default="the study's")] = None,
    images: Annotated[int | None, typer.Option(help="A random part of that many images.", show_default="all")] = None,
    cells: Annotated[str | None, typer.Option(help="Some cells only, as A,B.", show_default="all")] = None,
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="The folder of runs and tables; finished runs are not repeated.")
    ] = Path("runs/studies"),
    labels: Annotated[
        str | None, typer.Option(help="folders, or a CSV or Parquet FILE (id, label).", show_default="the source's")
    ] = None,
    cache_dir: CacheDir = None,
    quiet: Quiet = False,
) -> None:
    """Try the papers' ablations, beside their published figures."""
    from ilk.research.study.terminal import show_results, show_studies

    if name is None:
        show_studies(seeds)
        return
    from ilk.cli.display import Display
    from ilk.research.study import wanted
    from ilk.research.study.train_cells import Options, run_studies

    chosen = wanted(name, cells)
    options = Options(
        source=source, seeds=seeds, epochs=epochs, images=images, labels=labels, cache_dir=cache_dir
    )  # fmt: skip
    with Display(quiet=quiet) as display:
        try:
            found = run_studies(chosen, out, options, display)
        except KeyboardInterrupt:
            display.close()
            print(
                "\nStopped; trainings and tables so far are kept. Go on with the same command:\n "
                f" {shlex.join(['ilk', *sys.argv[1:]])}",
                file=sys.stderr,
            )
            raise typer.Exit(130) from None
    show_results(chosen, found, options.setting(out))
    if any(row["error"] for rows in found.values() for row in rows):
        raise typer.Exit(1)
