"""`ilk fit`, and how to go on with one that was stopped."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from ilk.cli.app import app
from ilk.cli.options import CacheDir, Device, Embeddings, MaybeSource, NoReport, Quiet
from ilk.system.ranks import rank, world

SourceLabels = Annotated[
    str,
    typer.Option(
        help="Labels, for scores only: auto (those that an .npz or a table brings), none, folders (sub-folder names),"
        " or a CSV or Parquet FILE (id, label)."
    ),
]


@app.command()
def fit(
    source: MaybeSource = None,
    clusters: Annotated[
        str, typer.Option("--clusters", "-k", help="How many clusters: a number, auto, or a range such as 5-60.")
    ] = "auto",
    out: Annotated[
        Path | None, typer.Option(help="The run folder to make (default: runs/NAME).", show_default=False)
    ] = None,
    method: Annotated[str, typer.Option(help="See: ilk methods.")] = "cc",
    preset: Annotated[str, typer.Option(help="See: ilk methods.")] = "default",
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the images.", show_default="as many as the preset says")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Train for about this long instead.", show_default=False)
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Side in pixels.", show_default="their own, at most 48 on a CPU")
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            help="Pretrained: dinov2-small, hf:ID or hf:FOLDER, run:FOLDER, weights:FILE, ... From scratch: small,"
            " resnet18, resnet34-cifar, ...",
            show_default="chosen",
        ),
    ] = None,
    train: Annotated[
        str | None,
        typer.Option(help="heads (on a frozen encoder) or all.", show_default="heads with a pretrained backbone"),
    ] = None,
    feature_views: Annotated[
        int, typer.Option(help="Random views of each image that heads learn from; 0 is fastest.")
    ] = 4,
    neighbours: Annotated[int, typer.Option(help="Nearest images that heads learn from; 0 for none.")] = 10,
    balance: Annotated[
        str | None,
        typer.Option(help="Sizes of clusters: uniform (alike), estimated or off (any).", show_default="uniform"),
    ] = None,
    embeddings: Embeddings = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask nothing of the network.")] = False,
    views: Annotated[str | None, typer.Option(help="photo, drawing, object, ...", show_default="chosen")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Replace one setting of the preset; may be repeated."),
    ] = None,
    labels: SourceLabels = "auto",
    known_labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            show_default=False,
            help="A few labels (CSV or Parquet: id, label) that steer training, the one case where labels do.",
        ),
    ] = None,
    extra: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="More images, to learn from only.", show_default=False)
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Start from a run or a .safetensors file.", show_default=False),
    ] = None,
    freeze_backbone: Annotated[
        bool, typer.Option("--freeze-backbone", help="Train the heads only; needs --init.")
    ] = False,
    select: Annotated[
        str, typer.Option(help="The epoch whose model is kept: last, or min_loss (the least loss).")
    ] = "last",
    seed: Annotated[int, typer.Option(help="The same seed gives the same result.")] = 0,
    device: Device = "auto",
    precision: Annotated[str, typer.Option(help="auto, float32 or bf16.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out, or start it.")] = False,
    cache_dir: CacheDir = None,
    no_report: NoReport = False,
    quiet: Quiet = False,
) -> None:
    """Learn from the images of SOURCE and sort them into clusters."""
    from ilk.cli.display import Display, cluster_table, next_commands, score_lines

    if source is None and embeddings is None:
        raise ValueError("Say which images: ilk fit SOURCE, or which embeddings: ilk fit --embeddings FILE.")
    if resume and out is None:
        raise ValueError("--resume needs --out RUN, to say which run to go on with.")
    from ilk.pipeline.request import Request
    from ilk.pipeline.workflow import fit as run_fit
    from ilk.runs.folder import Run, free_name

    request = Request(
        n_clusters=clusters, method=method, preset=preset, epochs=epochs, minutes=minutes, image_size=image_size,
        backbone=backbone, views=views, seed=seed, device=device, precision=precision, settings=parsed(settings or []),
        init=init, freeze_backbone=freeze_backbone, known_labels=known_labels, train=train,
        feature_views=feature_views, neighbours=neighbours, balance=balance, offline=offline,
        embeddings=embeddings, select=select,
    )  # fmt: skip
    run = Run(out or free_name(Path("runs"), Path(source or str(embeddings)).resolve().stem or "images"))
    with Display(quiet=quiet or rank() > 0) as display:
        try:
            run_fit(
                request, source, run, extra=extra, labels=None if labels == "auto" else labels, resume=resume,
                cache_dir=cache_dir, command=["ilk", *sys.argv[1:]], report=not no_report, watch=display,
            )  # fmt: skip
        except KeyboardInterrupt:
            display.close()
            stopped(run)
    if rank() > 0:  # the first process writes and speaks for all
        return
    cluster_table(run)
    score_lines(run)
    next_commands(run, source or "IMAGES")


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


def parsed(settings: list[str]) -> dict[str, str]:
    """NAME=VALUE pairs as a dict."""
    pairs = {}
    for text in settings:
        name, sign, value = text.partition("=")
        if not sign or not name or not value:
            raise ValueError(f"--set takes NAME=VALUE; got '{text}'.")
        pairs[name.strip().replace("-", "_")] = value.strip()
    return pairs
