"""`ilk fit`, and how to go on with one that was stopped."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from ilk.cli.app import app
from ilk.cli.options import (
    FIRST,
    REQUEST,
    TRAINING,
    CacheDir,
    Exclude,
    Include,
    MaybeSource,
    NoReport,
    Panels,
    Quiet,
    SourceLabels,
    settings_of,
    with_options,
)
from ilk.pipeline.request import Request
from ilk.system.ranks import rank, world


@app.command(cls=Panels)
@with_options(REQUEST.values())
def fit(
    context: typer.Context,
    source: MaybeSource = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="The run folder to make (default: runs/NAME).",
            show_default=False,
            rich_help_panel=FIRST,
        ),
    ] = None,
    labels: SourceLabels = "auto",
    extra: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="More images to learn from, which get no cluster.",
            show_default=False,
            rich_help_panel=TRAINING,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the run in --out, or start it.", rich_help_panel=FIRST),
    ] = False,
    include: Include = None,
    exclude: Exclude = None,
    cache_dir: CacheDir = None,
    no_report: NoReport = False,
    quiet: Quiet = False,
    **options: Any,
) -> None:
    """Learn from the images of SOURCE and sort them into clusters."""
    from ilk.cli.display import Display, cluster_table, next_commands, score_lines

    embeddings = options["embeddings"]
    if source is None and embeddings is None:
        raise ValueError("Say which images: ilk fit SOURCE, or which embeddings: ilk fit --embeddings FILE.")
    if resume and out is None:
        raise ValueError("--resume needs --out RUN, to say which run to go on with.")
    request = Request(**{**options, "settings": settings_of(options["settings"])})
    from ilk.images.choose_files import choose_files
    from ilk.pipeline.fitting import fit as run_fit
    from ilk.runs.folder import Run, free_name

    chosen = choose_files(source, include, exclude)
    run = Run(out or free_name(Path("runs"), Path(source or str(embeddings)).resolve().stem or "images"))
    with Display(quiet=quiet or rank() > 0) as display:
        try:
            run_fit(
                request, chosen, run, extra=extra, labels=None if labels == "auto" else labels, resume=resume,
                given=given_in(context), cache_dir=cache_dir, command=["ilk", *sys.argv[1:]], report=not no_report,
                watch=display,
            )  # fmt: skip
        except KeyboardInterrupt:
            display.close()
            stopped(run)
    if rank() > 0:  # the first process writes and speaks for all
        return
    cluster_table(run)
    score_lines(run)
    next_commands(run, source or "IMAGES")


def given_in(context: typer.Context) -> list[str]:
    """The names of the options in the command itself; others have their defaults."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]


def started_with() -> list[str]:
    """The words before `fit` in the command that started this."""
    if world() == 1:
        return ["ilk"]
    local = os.environ.get("LOCAL_WORLD_SIZE", str(world()))
    nodes = world() // int(local)
    return ["torchrun", *(["--nnodes", str(nodes)] if nodes > 1 else []), "--nproc-per-node", local, "-m", "ilk"]


def stopped(run: Any) -> NoReturn:
    """Says how to go on after Ctrl-C."""
    if rank() > 0:
        raise typer.Exit(130)
    words = [*started_with(), *sys.argv[1:]]
    if not any(word == "--out" or word.startswith("--out=") for word in words):
        words += ["--out", str(run)]
    words += [] if "--resume" in words else ["--resume"]
    done = len(run.log()) if run.exists else 0
    kept = "; all up to the last checkpoint are kept" if (run / "checkpoint.pt").is_file() else ""
    print(f"\nStopped after {done} epochs{kept}. Go on with:\n  {shlex.join(words)}", file=sys.stderr)
    raise typer.Exit(130)
