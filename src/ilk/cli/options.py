"""Options and arguments that several commands have; no torch here, so that help is instant."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer


class Mode(str, enum.Enum):
    copy = "copy"
    symlink = "symlink"
    hardlink = "hardlink"


RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The run folder that ilk fit made.")]
Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE", help="A folder, image, .zip, .tar, .parquet, .npz or .npy file.", show_default=False
    ),
]
MaybeSource = Annotated[
    str | None,
    typer.Argument(
        metavar="SOURCE", help="A folder, image, .zip, .tar, .parquet, .npz or .npy file.", show_default=False
    ),
]
Embeddings = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        show_default=False,
        help="Features of the images that were computed elsewhere: .npy, or .parquet with a column of lists.",
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
CacheDir = Annotated[
    Path | None,
    typer.Option(
        help="Where decoded images are kept (default: $ILK_CACHE or the user's cache folder).", show_default=False
    ),
]
NoReport = Annotated[bool, typer.Option("--no-report", help="Write no report.html.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results and warnings only.")]
