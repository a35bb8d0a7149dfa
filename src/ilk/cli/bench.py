"""`ilk bench`: how fast this machine is with ilk."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from ilk.cli.app import app
from ilk.cli.options import REQUEST, Device, Precision, Quiet, as_typer


@app.command()
def bench(
    parts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PARTS]...",
            help="What to measure: start, decode, views, train, predict, memory.",
            show_default="all of them",
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Only check that it works; the figures mean little.")] = False,
    repeats: Annotated[int, typer.Option(help="How often to measure each case.")] = 5,
    images: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Pictures to decode.", show_default="drawn ones")
    ] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    seed: Annotated[int, as_typer(REQUEST["seed"], panel=None, help="Random seed of the drawn pictures.")] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write all figures to this JSON file.", show_default=False)
    ] = None,
    against: Annotated[
        Path | None, typer.Option(metavar="FILE", help="An earlier --out to compare with.", show_default=False)
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Measure how fast this machine is with ilk, and with its peers."""
    from ilk.cli.display import Display
    from ilk.research.bench import BenchRecord, chosen_parts, differing_conditions, read_record, run_bench, show_record

    wanted = chosen_parts(parts or [])
    before, earlier = (None, None) if against is None else read_record(against)
    found = BenchRecord({})
    stopped = False
    with Display(quiet=quiet) as display:
        try:
            run_bench(
                wanted, device=device, precision=precision, repeats=repeats, quick=quick, seed=seed, images=images,
                out=out, watch=display, found=found,
            )  # fmt: skip
        except KeyboardInterrupt:
            stopped = True
        for text in [] if before is None else differing_conditions(found.about, before):
            display.warn(text)
    show_record(found.lines, found.goals, earlier)
    if out is not None and out.exists():
        print(f"\nWritten to {out}")
    if stopped:
        left = shlex.join(part for part in wanted if part not in found.parts)
        print(f"\nStopped. Measure the rest, into another file, with:\n  ilk bench {left}", file=sys.stderr)
        raise typer.Exit(130)
