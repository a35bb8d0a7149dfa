"""The command line: words in, calls out. Nothing is decided here, and torch is loaded only when it is needed."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from ilk.options import CacheDir, Device, Embeddings, Labels, MaybeSource, Mode, NoReport, Quiet, RunFolder, Source
from ilk.ranks import rank, world

app = typer.Typer(
    name="ilk",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Find images of the same kind in an unlabelled collection.",
    epilog="Start with:  ilk demo    then:  ilk fit my-photos/ --clusters 10",
)


def show_version(value: bool) -> None:
    if value:
        from ilk import __version__

        print(f"ilk {__version__}")
        raise typer.Exit()


@app.callback()
def top(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Find images of the same kind in an unlabelled collection."""


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
    labels: Labels = "none",
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
    seed: Annotated[int, typer.Option(help="The same seed gives the same result.")] = 0,
    device: Device = "auto",
    precision: Annotated[str, typer.Option(help="auto, float32 or bf16.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out, or start it.")] = False,
    cache_dir: CacheDir = None,
    no_report: NoReport = False,
    quiet: Quiet = False,
) -> None:
    """Learn from the images of SOURCE and sort them into clusters."""
    from ilk.display import Display, cluster_table, next_commands, score_lines

    if source is None and embeddings is None:
        raise ValueError("Say which images: ilk fit SOURCE, or which embeddings: ilk fit --embeddings FILE.")
    if resume and out is None:
        raise ValueError("--resume needs --out RUN, to say which run to go on with.")
    from ilk.request import Request
    from ilk.runs import Run, free_name
    from ilk.workflow import fit as run_fit

    request = Request(
        n_clusters=clusters, method=method, preset=preset, epochs=epochs, minutes=minutes, image_size=image_size,
        backbone=backbone, views=views, seed=seed, device=device, precision=precision, settings=parsed(settings or []),
        init=init, freeze_backbone=freeze_backbone, known_labels=known_labels, train=train,
        feature_views=feature_views, neighbours=neighbours, balance=balance, offline=offline,
        embeddings=embeddings,
    )  # fmt: skip
    run = Run(out or free_name(Path("runs"), Path(source or str(embeddings)).resolve().stem or "images"))
    with Display(quiet=quiet or rank() > 0) as display:
        try:
            run_fit(
                request, source, run, extra=extra, labels=None if labels == "none" else labels, resume=resume,
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


@app.command()
def predict(
    run: RunFolder,
    source: Source,
    out: Annotated[
        Path | None, typer.Option(help="The folder to write to (default: RUN/predictions/NAME).", show_default=False)
    ] = None,
    embeddings: Embeddings = None,
    labels: Labels = "none",
    device: Device = "auto",
    cache_dir: CacheDir = None,
    no_report: NoReport = False,
    quiet: Quiet = False,
) -> None:
    """Sort new images into the clusters of a finished run."""
    from ilk.display import Display, cluster_table, score_lines
    from ilk.runs import Run, free_name
    from ilk.workflow import predict as run_predict

    opened = Run(run).open()
    begun = "parts/parts.json"  # of a prediction that was stopped, which goes on
    target = out or free_name(opened / "predictions", Path(source).resolve().stem or "images", but=begun)
    with Display(quiet=quiet or rank() > 0) as display:
        run_predict(
            opened, source, target, device=device, labels=None if labels == "none" else labels, cache_dir=cache_dir,
            embeddings=embeddings, report=not no_report, watch=display,
        )  # fmt: skip
    if rank() > 0:
        return
    cluster_table(Run(target))
    score_lines(Run(target))
    print()
    if (target / "report.html").is_file():
        print(f"Look:   {target / 'report.html'}")
    print(f"Tables: {target / 'assignments.csv'}, {target / 'assignments.parquet'}")


@app.command()
def score(
    run: RunFolder,
    labels: Annotated[
        str | None,
        typer.Option(
            help="folders, or a CSV or Parquet FILE with columns id, label.", show_default="those the run was made with"
        ),
    ] = None,
) -> None:
    """Compare the clusters of a run with labels."""
    from ilk.display import score_lines
    from ilk.evaluate import score_run
    from ilk.runs import Run

    with Run(run).open().working():
        score_run(Run(run), labels)
    score_lines(Run(run), always=True)
    print(f"Written to {run / 'scores.json'}")


@app.command()
def report(
    run: RunFolder,
    out: Annotated[
        Path | None, typer.Option(help="The file to write (default: RUN/report.html).", show_default=False)
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(help="Also write the plots as SVG and PNG into this folder.", show_default=False)
    ] = None,
    most: Annotated[int, typer.Option(help="How many images to show, at most.")] = 10_000,
    layout: Annotated[
        str | None, typer.Option("--map", help="pca, umap or tsne.", show_default="the one there is, else pca")
    ] = None,
) -> None:
    """Show a run as one HTML file, which needs no network and no pictures beside it."""
    from ilk.lock import held
    from ilk.reporting import report as build

    with held(run) if out is None and run.is_dir() else nullcontext():
        build(run, out, figures=figures, most=most, layout=layout)


@app.command()
def export(
    run: RunFolder,
    folders: Annotated[
        Path | None, typer.Option(help="Put the image files into one sub-folder a cluster here.", show_default=False)
    ] = None,
    mode: Annotated[Mode, typer.Option(help="How files get there; originals are never moved.")] = Mode.copy,
    csv: Annotated[
        Path | None, typer.Option(help="Write the assignments to this CSV file.", show_default=False)
    ] = None,
    onnx: Annotated[Path | None, typer.Option(help="Write the model to this ONNX file.", show_default=False)] = None,
    to: Annotated[
        tuple[str, Path] | None,
        typer.Option(metavar="VIEWER PATH", help="embedding-atlas FILE.parquet, or fiftyone DIR.", show_default=False),
    ] = None,
    undo: Annotated[
        Path | None, typer.Option(help="Take away what --folders put into this folder.", show_default=False)
    ] = None,
) -> None:
    """Hand the clusters on: as folders, as a table, to a viewer, as an ONNX model."""
    if not any((folders, csv, onnx, to, undo)):
        raise ValueError(
            "Say what to export: --folders DIR, --csv FILE, --to VIEWER PATH, --onnx FILE (or --undo DIR)."
        )
    if to:
        from ilk.reporting import export_to

        export_to(run, *to)
    if not any((folders, csv, onnx, undo)):
        return
    from ilk.runs import Run

    if undo:
        from ilk.export import undo_folders

        print(f"{undo_folders(undo):,} files removed from {undo}")
    if folders:
        from ilk.display import Display
        from ilk.export import MANIFEST, export_folders

        with Display() as display:
            made = export_folders(
                Run(run), folders, mode.value, lambda done, total: display.progress(done, total, mode.value)
            )
        undo_with = shlex.join(["ilk", "export", str(run), "--undo", str(folders)])
        print(f"{len(made['made']):,} files in {folders} ({mode.value}); undo with: {undo_with}")
        if made["left_out"]:
            first = made["left_out"][0]
            print(
                f"{len(made['left_out']):,} images left out (the first: {first['id']}: {first['reason']});"
                f" see {folders / MANIFEST}"
            )
    if csv:
        from ilk.export import export_csv

        print(f"{export_csv(Run(run), csv):,} rows in {csv}")
    if onnx:
        from ilk.frozen import load_model
        from ilk.onnx_export import export_onnx

        opened = Run(run).open()
        images = opened.config["images"]
        worst = export_onnx(load_model(opened), onnx, channels=images["channels"], size=images["size"])
        print(f"{onnx}: uint8 images (batch, {images['channels']}, height, width) in, probabilities and embeddings out;"
              f" onnxruntime agrees to {worst:.1e}")  # fmt: skip


@app.command("import")
def import_(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="cc: a checkpoint of the authors' code.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The checkpoint, a .tar saved by torch.")],
    out: Annotated[Path, typer.Option(help="The run folder to make.", show_default=False)],
    image_size: Annotated[int, typer.Option(help="The side in pixels that it was trained at.")] = 224,
) -> None:
    """Make a run of a published checkpoint, to predict with."""
    from ilk.cc_import import import_cc

    if kind != "cc":
        raise ValueError(f"Only checkpoints of cc can be imported; got '{kind}'. Use: ilk import cc FILE --out RUN")
    run = import_cc(file, out, image_size=image_size, say=print)
    print(f"Sort images with it:  {shlex.join(['ilk', 'predict', str(run), 'SOURCE'])}")


@app.command()
def methods() -> None:
    """List the methods, their presets and settings."""
    from ilk.display import method_lines

    method_lines()


@app.command()
def demo(
    minutes: Annotated[float, typer.Option(help="How long to train, about.")] = 1.5,
    out: Annotated[Path | None, typer.Option(help="The run folder to make.", show_default="runs/demo")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same result.")] = 0,
    epochs: Annotated[int | None, typer.Option(help="Train for this many epochs instead.", show_default=False)] = None,
    quiet: Quiet = False,
) -> None:
    """Sort 1,797 real handwritten digits into ten clusters, and see how well that went."""
    from ilk.display import Display, cluster_table, demo_lines, score_lines
    from ilk.request import Request
    from ilk.runs import Run, free_name
    from ilk.workflow import demo as run_demo

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


def main() -> None:
    """The entry point: a mistake becomes one sentence and exit code 2, never a traceback."""
    if world() > 1:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # warnings for programmers, once for each process
    before = signal.signal(signal.SIGTERM, interrupted)
    try:
        app()
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        sys.exit(130)
    except (ValueError, OSError, RuntimeError) as error:
        if os.environ.get("ILK_DEBUG") or not readable(error):
            raise
        if rank() > 0 and isinstance(error, (ValueError, OSError)):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            time.sleep(OTHERS)  # the first process says it too, and torchrun then ends this one; once is enough
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, (ValueError, OSError)) else 1)
    finally:
        signal.signal(signal.SIGTERM, before)


OTHERS = 20.0  # seconds


def interrupted(*_: object) -> NoReturn:
    """What a batch system or torchrun asks of us is what Ctrl-C asks."""
    raise KeyboardInterrupt


def readable(error: Exception) -> bool:
    """Whether the error is one that ilk raised for a person: sentences, not an accident inside torch."""
    if isinstance(error, (ValueError, OSError)):
        return True
    from ilk.distributed import OutOfMemory, PeerLost
    from ilk.train import TrainingDiverged

    return isinstance(error, (TrainingDiverged, PeerLost, OutOfMemory))
