"""A comparison from its jobs to its files: runs what is missing, writes and prints the results."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ilk.research.compare.comparison_table import PUBLISHED, comparison_table, results_page
from ilk.research.compare.groups import table_notes
from ilk.research.compare.picture import draw_comparison
from ilk.research.compare.published_figures import notes
from ilk.research.grid import Job, run_jobs
from ilk.research.score_tables import console, latex, write_rows
from ilk.system.files import write_text
from ilk.system.progress import Watch
from ilk.system.text import safe_text


def run_comparison(
    jobs: Sequence[Job],
    folder: str | os.PathLike[str],
    *,
    labels: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    watch: Watch | None = None,
    command: str = "",
    report: bool = False,
) -> list[dict[str, Any]]:
    """One row for each job, as `run_jobs` returns them; results.parquet, .md, .tex and .png are written to `folder`.

    `command`: the command line that is noted in results.md.
    """
    watch = watch or Watch()
    return run_jobs(
        jobs, folder, labels=labels, cache_dir=cache_dir, watch=watch, report=report,
        then=lambda rows: write_comparison(Path(folder), rows, command, watch),
    )  # fmt: skip


def write_comparison(
    folder: Path, rows: Sequence[Mapping[str, Any]], command: str = "", watch: Watch | None = None
) -> None:
    """Writes the rows as Parquet, and the means as Markdown, LaTeX and, with matplotlib, a picture."""
    write_rows(folder / "results.parquet", rows)
    write_text(folder / "results.md", safe_text(results_page(rows, command)))
    header, cells = comparison_table(rows)
    caption = f"Mean and standard deviation (n - 1) over seeds. {table_notes(rows)}"
    small = [text for text, _ in notes(rows)]
    text = latex(header, cells, caption=caption, label="tab:ilk-compare", left=2, notes=small)
    write_text(folder / "results.tex", safe_text(text))
    (folder / "results.png").unlink(missing_ok=True)  # a picture of another command must not stay if this draws none
    try:
        draw_comparison(folder / "results.png", rows)
    except ImportError:
        (watch or Watch()).say("results.png needs matplotlib: pip install 'ilk[figures]', then the same command again")


def print_results(rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Prints the table and the names of the files."""
    from rich.table import Table

    header, cells = comparison_table(rows)
    shown = Table(box=None, header_style="bold", pad_edge=False)
    for name in header:
        shown.add_column(name, no_wrap=name not in ("method", PUBLISHED))
    for line in cells:
        shown.add_row(*map(safe_text, line))
    console().print(shown)
    print(f"mean +- standard deviation (n - 1) over seeds. {table_notes(rows)}")
    for text, _ in notes(rows):
        print(safe_text(f"  {text}"))
    files = [folder / f"results.{ending}" for ending in ("md", "tex", "parquet", "png")]
    print(safe_text(f"Written: {', '.join(str(file) for file in files if file.is_file())}"))
