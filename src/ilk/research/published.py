"""What the papers report: each of their tables of scores, with its protocol and its known misprints.

The tables are TOML files, one a paper (`benchmarks/published` in the sources, `ilk/published` when installed).
"""

from __future__ import annotations

import functools
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ilk.system.text import did_you_mean

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = [
    "CLASSES",
    "DATASETS",
    "PROTOCOL",
    "SCORES",
    "PublishedTable",
    "dataset_of",
    "find_table",
    "protocol_line",
    "published_scores",
    "published_tables",
]

SCORES = ("nmi", "acc", "ari", "linear", "knn5", "knn200", "error", "score")  # all in [0, 1]; error is 1 - acc
PROTOCOL = ("split", "resolution", "selection", "backbone", "epochs", "trials")
DATASETS = {
    "cifar10": "CIFAR-10",
    "cifar20": "CIFAR-100, 20 super-classes",
    "stl10": "STL-10",
    "imagenet10": "ImageNet-10",
    "imagenet_dogs": "ImageNet-Dogs",
    "tiny_imagenet": "Tiny-ImageNet",
    "imagenet": "ImageNet",
    "imagenet50": "ImageNet-50",
    "imagenet100": "ImageNet-100",
    "imagenet200": "ImageNet-200",
    "unknown": "an unnamed set",
}
ALIASES = {
    "cifar100": "cifar20", "cifar100_20": "cifar20", "imagenet_dog15": "imagenet_dogs", "dogs": "imagenet_dogs",
}  # fmt: skip
CLASSES = {
    "cifar10": 10, "cifar20": 20, "stl10": 10, "imagenet10": 10, "imagenet_dogs": 15, "tiny_imagenet": 200,
    "imagenet": 1000, "imagenet50": 50, "imagenet100": 100, "imagenet200": 200,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PublishedTable:
    """One published table.

    `ref`: its name in ilk, such as "cc/views". `citation`: the paper, `number`: the table in it. `protocol`: how the
    scores were measured, in words, for each name of `PROTOCOL`. `rows`: each with a "cell" or a "method", a "dataset",
    and scores in [0, 1], with known misprints corrected. `main`: whether these are results of whole methods rather
    than an ablation. `uncertain`: what is not known for sure, or "".
    """

    ref: str
    citation: str
    number: str
    title: str
    protocol: dict[str, str]
    rows: list[dict[str, Any]]
    main: bool = False
    note: str = ""
    uncertain: str = ""
    misprints: list[dict[str, Any]] = field(default_factory=list)

    def scores_of(self, cell: str) -> dict[str, dict[str, float]]:
        """The scores of one cell, by data set."""
        rows = [row for row in self.rows if cell in (row.get("cell"), row.get("method"))]
        return {row["dataset"]: {name: row[name] for name in SCORES if name in row} for row in rows}


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file. Raises FileNotFoundError if there is none, ValueError if it is not valid TOML."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no file '{path}'.")
    try:
        result: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        return result
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"'{path}' is not valid TOML ({error}).") from None


def tables_folder() -> Path:
    """The folder of the tables: beside this file when installed, in the sources otherwise."""
    installed = Path(__file__).parent / "published_tables"
    return installed if installed.is_dir() else Path(__file__).parents[3] / "benchmarks" / "published"


@functools.cache
def published_tables() -> dict[str, PublishedTable]:
    """All published tables by their ref. Raises FileNotFoundError where none are installed."""
    files = sorted(tables_folder().glob("*.toml"))
    if not files:
        raise FileNotFoundError(f"The published tables are not in '{tables_folder()}'. Install ilk again.")
    return {table.ref: table for file in files for table in read_tables(file)}


def read_tables(file: Path) -> list[PublishedTable]:
    """The tables of one paper. Raises ValueError that names the file, the table and what is wrong."""
    paper = read_toml(file)
    return [read_table_entry(entry, file, paper["source"]) for entry in paper.get("tables", [])]


def read_table_entry(entry: dict[str, Any], file: Path, citation: str) -> PublishedTable:
    """One table of a paper's file, checked."""
    where = f"'{file}', table '{entry.get('id', '?')}'"
    missing = [name for name in ("id", "number", "title", "columns", "rows", "protocol") if name not in entry]
    missing += [name for name in PROTOCOL if name not in entry.get("protocol", {})]
    if missing:
        raise ValueError(f"{where} does not say: {', '.join(missing)}.")
    known = ("cell", "method", "dataset", *SCORES)
    if unknown := [name for name in entry["columns"] if name not in known]:
        raise ValueError(f"{where} has the unknown column '{unknown[0]}'. Known: {', '.join(known)}.")
    if wrong := [row for row in entry["rows"] if len(row) != len(entry["columns"])]:
        raise ValueError(f"{where}: the row {wrong[0]} does not have {len(entry['columns'])} values, one per column.")
    return PublishedTable(
        ref=f"{file.stem}/{entry['id']}", citation=citation, number=entry["number"], title=entry["title"],
        protocol=entry["protocol"], rows=[dict(zip(entry["columns"], row, strict=True)) for row in entry["rows"]],
        main=entry.get("main", False), note=entry.get("note", ""), uncertain=entry.get("uncertain", ""),
        misprints=entry.get("misprints", []),
    )  # fmt: skip


def find_table(ref: str) -> PublishedTable:
    """The table called `ref`, such as "cc/views". Raises ValueError with the nearest name."""
    known = published_tables()
    if ref not in known:
        raise ValueError(f"There is no published table '{ref}'.{did_you_mean(ref, known)} Known: {', '.join(known)}.")
    return known[ref]


def dataset_of(source_name: str) -> str | None:
    """The published set that a source is named after: "cifar10" for "data/CIFAR-10"; None if there is none."""
    name = re.split(r"[\\/:]", source_name.lower().rstrip("\\/"))[-1].split(".")[0]
    names = {dataset: dataset for dataset in CLASSES} | ALIASES
    return next((dataset for known, dataset in names.items() if re.fullmatch(spelling(known), name)), None)


def spelling(name: str) -> str:
    """A pattern for `name` with or without one separator between its words, and between letters and digits.

    Digits are never joined: "cifar10-0" is not CIFAR-100.
    """
    return "[-_ ]?".join(re.findall(r"[a-z]+|[0-9]+", name))


def published_scores(method: str, source_name: str, classes: int | None = None) -> list[dict[str, Any]]:
    """What papers report for a method on a set: `acc`, `nmi`, `ari` (None if not given), `source`, `protocol`, `note`.

    `source_name`: a name or path such as "cifar10". `classes`: how many the source has, if that is known. Empty where
    nothing is published, or for another number of classes: the 100 classes of CIFAR-100 are not its 20 super-classes.
    """
    dataset = dataset_of(source_name)
    if dataset is None or (classes is not None and classes != CLASSES[dataset]):
        return []
    return [
        {
            **{name: row.get(name) for name in ("acc", "nmi", "ari")},
            "source": f"{table.citation}, {table.number}",
            "protocol": protocol_line(table),
            "note": " ".join(filter(None, (table.note, f"Uncertain: {table.uncertain}" if table.uncertain else ""))),
        }
        for table in published_tables().values()
        if table.main
        for row in table.rows
        if row.get("method") == method and row["dataset"] == dataset
    ]


def protocol_line(table: PublishedTable) -> str:
    """The protocol of a table in one line."""
    protocol = table.protocol
    return (
        f"{protocol['split']}; {protocol['resolution']} pixels; {protocol['backbone']}; {protocol['epochs']} epochs;"
        f" {protocol['selection']}; trials: {protocol['trials']}"
    )
