"""Results of many trainings as tables: means over seeds, as Markdown, LaTeX and Parquet."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ilk.runs.tables import write_parquet
from ilk.system.progress import collapse_warning
from ilk.system.text import safe_text

__all__ = ["SCORES", "TITLES", "latex", "markdown", "mean_and_sd", "spread", "summary", "write_rows"]

SCORES = ("accuracy", "nmi_arithmetic", "nmi_geometric", "ari")
TITLES = {"accuracy": "ACC", "nmi_arithmetic": "NMI", "nmi_geometric": "NMI (geometric)", "ari": "ARI"}
SPECIAL = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", "\u2212": "$-$", "\u00b1": r"$\pm$", "\u00d7": r"$\times$",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
}  # fmt: skip


def mean_and_sd(values: Iterable[float]) -> tuple[float, float | None]:
    """The mean, and the standard deviation (n - 1); None instead of that for a single value."""
    x = np.array(list(values), dtype=np.float64)
    return float(x.mean()), float(x.std(ddof=1)) if len(x) > 1 else None


def collapsed(row: Mapping[str, Any]) -> bool:
    """Whether the images of a run fill less than half of its clusters, as in `collapse_warning`; False if unknown."""
    return collapse_warning(row.get("effective_clusters"), row.get("n_clusters", 0)) is not None


def summary(
    rows: Iterable[Mapping[str, Any]], by: Sequence[str], scores: Sequence[str] = SCORES
) -> list[dict[str, Any]]:
    """One record for each group of rows with equal fields `by`, in order of appearance.

    A record has those fields, `seeds` (how many rows did not fail), `failed` and `collapsed` (counts), and for each
    score and for `training_seconds` NAME (the mean; None where every row failed), NAME_sd (n - 1; None for fewer than
    two rows) and NAME_each (the values).
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(json.dumps([row.get(name) for name in by], default=str), []).append(row)
    records = []
    for members in groups.values():
        done = [row for row in members if not row.get("error")]
        group: dict[str, Any] = {name: members[0].get(name) for name in by}
        group |= {
            "seeds": len(done), "failed": len(members) - len(done), "collapsed": sum(map(collapsed, done)),
        }  # fmt: skip
        for name in (*scores, "training_seconds"):
            each = [row[name] for row in done if row.get(name) is not None]
            mean, sd = mean_and_sd(each) if each else (None, None)
            group |= {name: mean, f"{name}_sd": sd, f"{name}_each": each}
        records.append(group)
    return records


def spread(mean: float | None, sd: float | None = None, digits: int = 3) -> str:
    """`0.911 +- 0.068`: mean and standard deviation; the mean alone without a deviation, a dash without a mean."""
    if mean is None or not math.isfinite(mean):
        return "-"
    return f"{mean:.{digits}f}" if sd is None else f"{mean:.{digits}f} +- {sd:.{digits}f}"


def markdown(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table; bars and line breaks in cells are escaped."""

    def line(cells: Iterable[Any]) -> str:
        texts = (" ".join(str(cell).split()).replace("\\", "\\\\").replace("|", "\\|") for cell in cells)
        return f"| {' | '.join(texts)} |"

    return "\n".join([line(header), line(["---"] * len(header)), *map(line, rows)])


def escaped(text: Any) -> str:
    """Text escaped for LaTeX; ` +- ` between digits becomes the sign."""
    plain = "".join(SPECIAL.get(letter, letter) for letter in " ".join(str(text).split()))
    return re.sub(r"(?<=\d) \+- (?=\d)", r" $\\pm$ ", plain)


def latex(
    header: Sequence[str], rows: Iterable[Sequence[Any]], *, caption: str = "", label: str = "", left: int = 1,
    notes: Sequence[str] = (),
) -> str:  # fmt: skip
    """A LaTeX table for the package booktabs; the first `left` columns are left-aligned, the others centred.

    `notes`: sentences in small print below the table.
    """
    columns = "l" * left + "c" * (len(header) - left)
    lines = ["% needs \\usepackage{booktabs}", "\\begin{table}", "  \\centering"]
    lines += [f"  \\caption{{{escaped(caption)}}}"] if caption else []
    lines += [f"  \\label{{{label}}}"] if label else []
    lines += [f"  \\begin{{tabular}}{{{columns}}}", "    \\toprule"]
    lines += [f"    {' & '.join(map(escaped, header))} \\\\", "    \\midrule"]
    lines += [f"    {' & '.join(map(escaped, row))} \\\\" for row in rows]
    lines += ["    \\bottomrule", "  \\end{tabular}"]
    lines += [f"  \\par\\footnotesize {escaped(note)}" for note in notes]
    return "\n".join([*lines, "\\end{table}", ""])


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows as Parquet, one column of one type for each field; dicts and lists become JSON text."""
    import pyarrow as pa

    names = dict.fromkeys(name for row in rows for name in row)
    write_parquet(path, pa.table({name: arrow_column([row.get(name) for row in rows]) for name in names}))


def arrow_column(values: Sequence[Any]) -> Any:
    """A pyarrow column of booleans, integers, floats or text; text where the values are of several kinds."""
    import pyarrow as pa

    plain = [
        value if value is None or isinstance(value, (bool, int, float, str)) else json.dumps(value, default=str)
        for value in values
    ]
    kinds = {type(value) for value in plain if value is not None}
    if kinds <= {bool} and kinds:
        return pa.array(plain, pa.bool_())
    if kinds <= {int} and kinds:
        return pa.array(plain, pa.int64())
    if kinds <= {int, float} and kinds:
        return pa.array([None if value is None else float(value) for value in plain], pa.float64())
    return pa.array([None if value is None else safe_text(str(value)) for value in plain], pa.string())


WIDE = 200  # most characters of a line in a file or a pipe


def console() -> Any:
    """A rich console for tables; where the output is no terminal, lines are up to 200 characters wide."""
    from rich.console import Console

    terminal = Console(highlight=False, markup=False)
    return terminal if terminal.is_terminal else Console(highlight=False, markup=False, width=WIDE)
