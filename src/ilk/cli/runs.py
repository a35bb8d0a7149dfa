"""Commands for finished runs: `ilk predict`, `score`, `report`, `export`; and `import`, which makes a run."""

from __future__ import annotations

import shlex
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from ilk.cli.app import app
from ilk.cli.options import (
    CacheDir,
    Device,
    Embeddings,
    Exclude,
    Include,
    Mode,
    NoReport,
    OwnMethod,
    Quiet,
    RunFolder,
    Source,
    SourceLabels,
)
from ilk.system.ranks import rank


@app.command()
def predict(
    run: RunFolder,
    source: Source,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="The folder to make (default: RUN/predictions/NAME).", show_default=False),
    ] = None,
    embeddings: Embeddings = None,
    method: OwnMethod = None,
    labels: SourceLabels = "auto",
    device: Device = "auto",
    include: Include = None,
    exclude: Exclude = None,
    cache_dir: CacheDir = None,
    no_report: NoReport = False,
    quiet: Quiet = False,
) -> None:
    """Sort new images into the clusters of a finished run."""
    from ilk.cli.display import Display, cluster_table, score_lines
    from ilk.images.choose_files import choose_files
    from ilk.methods import use_method
    from ilk.pipeline.predicting import predict as run_predict
    from ilk.runs.folder import Run, free_name

    if method is not None:
        use_method(method)
    opened = Run(run).open()
    begun = "parts/parts.json"  # of a prediction that was stopped, which goes on
    target = out or free_name(opened / "predictions", Path(source).resolve().stem or "images", but=begun)
    with Display(quiet=quiet or rank() > 0) as display:
        run_predict(
            opened, choose_files(source, include, exclude), target, device=device,
            labels=None if labels == "auto" else labels, cache_dir=cache_dir,
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
            metavar="LABELS",
            help="Labels to compare with: folders, or a CSV or Parquet FILE with columns id, label.",
            show_default="those the run was made with",
        ),
    ] = None,
) -> None:
    """Compare the clusters of a run with labels."""
    from ilk.cli.display import score_lines
    from ilk.evaluation import score_run
    from ilk.runs.folder import Run

    with Run(run).open().working():
        score_run(Run(run), labels)
    score_lines(Run(run), always=True)
    print(f"Written to {run / 'scores.json'}")


@app.command()
def report(
    run: RunFolder,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The file to write (default: RUN/report.html).", show_default=False),
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Write the plots into this folder too, as SVG and PNG.", show_default=False
        ),
    ] = None,
    most: Annotated[int, typer.Option(metavar="N", help="Show at most this many images.")] = 10_000,
    layout: Annotated[
        str | None,
        typer.Option(
            "--map",
            metavar="NAME",
            help="How to lay out the map of images: pca, umap or tsne.",
            show_default="the one there is, else pca",
        ),
    ] = None,
) -> None:
    """Show a run as one HTML file, which needs no network."""
    from ilk.cli.reporting import report as build
    from ilk.runs.folder import Run

    opened = Run(run)
    with opened.working() if out is None and opened.exists else nullcontext():
        build(run, out, figures=figures, most=most, layout=layout)


@app.command()
def export(
    run: RunFolder,
    folders: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Put the image files into this folder, one sub-folder for each cluster.",
            show_default=False,
        ),
    ] = None,
    mode: Annotated[Mode, typer.Option(help="How the files get there; originals are never moved.")] = Mode.copy,
    csv: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the cluster of each image to this CSV file.", show_default=False),
    ] = None,
    onnx: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the model to this ONNX file.", show_default=False)
    ] = None,
    method: OwnMethod = None,
    to: Annotated[
        tuple[str, Path] | None,
        typer.Option(metavar="VIEWER PATH", help="embedding-atlas FILE.parquet, or fiftyone DIR.", show_default=False),
    ] = None,
    undo: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Remove what --folders put into this folder.", show_default=False),
    ] = None,
) -> None:
    """Hand clusters on: as folders, a table, to a viewer, as ONNX."""
    if not any((folders, csv, onnx, to, undo)):
        raise ValueError(
            "Say what to export: --folders DIR, --csv FILE, --to VIEWER PATH, --onnx FILE (or --undo DIR)."
        )
    if to:
        from ilk.cli.reporting import export_to

        export_to(run, *to)
    if not any((folders, csv, onnx, undo)):
        return
    from ilk.runs.folder import Run

    if undo:
        from ilk.pipeline.export import undo_folders

        undone = undo_folders(undo)
        print(f"{undone.removed:,} files removed from {undo}")
        if undone.kept:
            print(undone.kept_line())
    if folders:
        from ilk.cli.display import Display
        from ilk.pipeline.export import export_folders
        from ilk.system.own_folders import MANIFEST

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
        from ilk.pipeline.export import export_csv

        print(f"{export_csv(Run(run), csv):,} rows in {csv}")
    if onnx:
        from ilk.methods import use_method
        from ilk.pipeline.onnx import export_onnx
        from ilk.pipeline.onnx_check import compare_onnx
        from ilk.pipeline.trained import load_model
        from ilk.training.confidence import read_calibration

        if method is not None:
            use_method(method)
        opened = Run(run).open()
        plan, model = opened.config, load_model(opened)
        shape, temperature = plan.images, read_calibration(opened).temperature
        export_onnx(
            model, onnx, channels=shape.channels, size=shape.size, temperature=temperature, names=plan.cluster_names
        )  # fmt: skip
        print(f"{onnx}: uint8 images (batch, {shape.channels}, height, width) in,"
              f" {'calibrated ' if temperature else ''}probabilities and embeddings out")  # fmt: skip
        print(compare_onnx(opened, model, onnx))


@app.command("import")
def import_(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="cc: a checkpoint of the authors' code.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The checkpoint, a .tar saved by torch.")],
    out: Annotated[Path, typer.Option(metavar="RUN", help="The run folder to make.", show_default=False)],
    image_size: Annotated[int, typer.Option(metavar="PIXELS", help="The side of the images it was trained on.")] = 224,
) -> None:
    """Make a run of a published checkpoint, to predict with."""
    from ilk.pipeline.import_cc import import_cc

    if kind != "cc":
        raise ValueError(f"Only checkpoints of cc can be imported; got '{kind}'. Use: ilk import cc FILE --out RUN")
    run = import_cc(file, out, image_size=image_size, say=print)
    print(f"Sort images with it:  {shlex.join(['ilk', 'predict', str(run), 'SOURCE'])}")
