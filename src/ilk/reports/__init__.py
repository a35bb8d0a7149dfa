"""The report of a run: one self-contained HTML file, made from the files in the run folder, without torch."""

from __future__ import annotations

import os
from pathlib import Path

from ilk.reports import page
from ilk.reports.payload import collect
from ilk.reports.sprites import MOST
from ilk.system.files import write_text

__all__ = ["collect", "write_report"]


def write_report(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    most: int = MOST,
    layout: str | None = None,
) -> Path:
    """Writes the report of a run and returns its path: `out`, or `report.html` in the run folder.

    `most`: the largest number of images shown. `layout`: the method of the map, "pca", "umap" or "tsne"; None for the
    map saved in the folder, or else principal components. Raises FileNotFoundError or ValueError for a folder that is
    not a run or is damaged, and OSError if the file cannot be written.
    """
    file = Path(folder) / "report.html" if out is None else Path(out)
    text = page.render(collect(folder, most, layout=layout))
    if file.is_dir():
        raise IsADirectoryError(f"'{file}' is a folder; --out needs a file, such as '{file / 'report.html'}'.")
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, text)
    return file
