"""`ilk compare`: methods and baselines side by side on labelled sets."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from ilk.cli.app import app
from ilk.cli.fit import parsed
from ilk.cli.options import CacheDir, Quiet


@app.command()
def compare(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            show_default=False,
            help="Labelled sets: digits, a folder of class folders, an .npz with x and y, FILE.py:NAME (load(NAME)).",
        ),
    ],
    methods: Annotated[
        str,
        typer.Option(
            help="Methods, and baselines: kmeans, mini-batch-kmeans, spectral, agglomerative, nmf+kmeans, pca+kmeans."
        ),
    ] = "cc,crlc,scl,dcdc,c2bin,kmeans",
    seeds: Annotated[int, typer.Option(help="How many seeds, 0, 1, ...")] = 3,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the images.", show_default="as many as the preset says")
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Train each for about this long.", show_default=False)] = None,
    out: Annotated[
        Path, typer.Option(help="The folder of the runs and results; what is done there stays done.")
    ] = Path("runs/compare"),
    preset: Annotated[str, typer.Option(help="See: ilk methods.")] = "default",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Replace one setting of the preset; may be repeated."),
    ] = None,
    views: Annotated[str | None, typer.Option(help="photo, drawing, object, ...", show_default="chosen")] = None,
    backbone: Annotated[str | None, typer.Option(help="As for ilk fit.", show_default="chosen")] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Side in pixels.", show_default="their own, at most 48 on a CPU")
    ] = None,
    balance: Annotated[
        str | None, typer.Option(help="Sizes of clusters: uniform, estimated or off.", show_default="uniform")
    ] = None,
    clusters: Annotated[int | None, typer.Option("--clusters", "-k", show_default="the number of classes")] = None,
    images: Annotated[
        int | None, typer.Option(help="A random part of so many images, the same for all.", show_default="all")
    ] = None,
    imbalance: Annotated[
        float | None, typer.Option(help="A long tail: how much larger the largest class is.", show_default=False)
    ] = None,
    split: Annotated[str, typer.Option(help="train+test, train or test: which images count.")] = "train+test",
    select: Annotated[
        str, typer.Option(help="last, min_loss, or oracle_acc: labels choose the epoch, as in some papers.")
    ] = "last",
    labels: Annotated[
        str | None,
        typer.Option(
            help="folders, or a CSV or Parquet FILE (id, label); for scores only.", show_default="what the source has"
        ),
    ] = None,
    on: Annotated[
        str, typer.Option(help="What baselines cluster: pixels, or run folders (their embeddings), with commas.")
    ] = "pixels",
    report: Annotated[bool, typer.Option("--report", help="Write a report.html for every run.")] = False,
    cache_dir: CacheDir = None,
    quiet: Quiet = False,
) -> None:
    """Train methods and baselines on labelled sets, side by side."""
    from ilk.cli.display import Display
    from ilk.research.compare import comparison_jobs, print_results, run_comparison

    jobs = comparison_jobs(
        sources, split_words(methods), seeds, on=split_words(on), preset=preset, settings=parsed(settings or []),
        views=views, backbone=backbone, image_size=image_size, balance=balance, epochs=epochs, minutes=minutes,
        n_clusters=clusters, images=images, imbalance=imbalance, split=split, select=select,
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


def split_words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
