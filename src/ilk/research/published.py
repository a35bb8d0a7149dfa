"""What the papers report: every table of figures that they print, with its protocol and its known misprints.

The tables are TOML files, one a paper (`benchmarks/published` in the sources, `ilk/published` when installed).
"""

from __future__ import annotations

import functools
import re
import sys
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

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
    "unknown": "a set that is not named",
}
ALIASES = {
    "cifar100": "cifar20", "cifar100_20": "cifar20", "imagenet_dog15": "imagenet_dogs", "dogs": "imagenet_dogs",
}  # fmt: skip
CLASSES = {
    "cifar10": 10, "cifar20": 20, "stl10": 10, "imagenet10": 10, "imagenet_dogs": 15, "tiny_imagenet": 200,
    "imagenet": 1000, "imagenet50": 50, "imagenet100": 100, "imagenet200": 200,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Table:
    """One published table.

    `ref`: how others name it, "cc/views". `citation`: the paper, `number`: the table in it. `protocol`: how the
    figures came about, in words, by `PROTOCOL`. `rows`: of a "cell" or a "method" each, its "dataset", and
    scores in [0, 1], where a misprint is known as they should be read. `main`: whether these are results of
    whole methods, and no ablation. `uncertain`: what is not known for sure, or "".
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

    def figures(self, cell: str) -> dict[str, dict[str, float]]:
        """The scores of one cell, by data set."""
        found = [row for row in self.rows if cell in (row.get("cell"), row.get("method"))]
        return {row["dataset"]: {name: row[name] for name in SCORES if name in row} for row in found}


def read_toml(path: Path) -> dict[str, Any]:
    """What a TOML file says. Raises ValueError, a sentence, if it is none, FileNotFoundError if it is not there."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no file '{path}'.")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"'{path}' is not valid TOML ({error}).") from None


def folder() -> Path:
    """Where the tables lie: beside this file when installed, in the sources otherwise."""
    installed = Path(__file__).parent / "published_tables"
    return installed if installed.is_dir() else Path(__file__).parents[3] / "benchmarks" / "published"


@functools.cache
def tables() -> dict[str, Table]:
    """All published tables by their ref. Raises FileNotFoundError where none are installed."""
    files = sorted(folder().glob("*.toml"))
    if not files:
        raise FileNotFoundError(f"The published tables are not in '{folder()}'. Install ilk anew.")
    return {one.ref: one for file in files for one in read_tables(file)}


def read_tables(file: Path) -> list[Table]:
    """The tables of one paper. Raises ValueError that names the file, the table and what is wrong."""
    text = read_toml(file)
    found = []
    for one in text.get("tables", []):
        where = f"'{file}', table '{one.get('id', '?')}'"
        missing = [name for name in ("id", "number", "title", "columns", "rows", "protocol") if name not in one]
        missing += [name for name in PROTOCOL if name not in one.get("protocol", {})]
        if missing:
            raise ValueError(f"{where} does not say: {', '.join(missing)}.")
        known = ("cell", "method", "dataset", *SCORES)
        if wrong := [name for name in one["columns"] if name not in known]:
            raise ValueError(f"{where} has the unknown column '{wrong[0]}'. Known: {', '.join(known)}.")
        if short := [row for row in one["rows"] if len(row) != len(one["columns"])]:
            raise ValueError(f"{where}: the row {short[0]} has not {len(one['columns'])} values, one a column.")
        rows = [dict(zip(one["columns"], row, strict=True)) for row in one["rows"]]
        found.append(
            Table(
                ref=f"{file.stem}/{one['id']}", citation=text["source"], number=one["number"], title=one["title"],
                protocol=one["protocol"], rows=rows, main=one.get("main", False), note=one.get("note", ""),
                uncertain=one.get("uncertain", ""), misprints=one.get("misprints", []),
            )
        )  # fmt: skip
    return found


def table(ref: str) -> Table:
    """The table called `ref`, such as "cc/views". Raises ValueError with the nearest name."""
    known = tables()
    if ref not in known:
        near = get_close_matches(ref, known, 1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise ValueError(f"There is no published table '{ref}'.{hint} Known: {', '.join(known)}.")
    return known[ref]


def dataset_of(source_name: str) -> str | None:
    """The published set that a source is called after: "cifar10" of "data/CIFAR-10"; None if it is after none."""
    name = re.split(r"[\\/:]", source_name.lower().rstrip("\\/"))[-1].split(".")[0]
    known = {one: one for one in CLASSES} | ALIASES
    return next((found for one, found in known.items() if re.fullmatch(spelling(one), name)), None)


def spelling(name: str) -> str:
    """A pattern: one separator may stand, or not, where the name has one, and where its digits begin after letters.

    Digits are never joined: "cifar10-0" is no CIFAR-100.
    """
    return "[-_ ]?".join(re.findall(r"[a-z]+|[0-9]+", name))


def figures(method: str, source_name: str, classes: int | None = None) -> list[dict[str, Any]]:
    """What papers report of a method on a set: `acc`, `nmi`, `ari` (None if not given), `source`, `protocol`, `note`.

    `source_name`: a name or path such as "cifar10". `classes`: how many the source has, where that is known. An empty
    list where nothing is published, or for another number of classes: all 100 of CIFAR-100 are not its 20 kinds.
    """
    dataset = dataset_of(source_name)
    if classes is not None and dataset is not None and classes != CLASSES[dataset]:
        return []
    return [
        {
            **{name: row.get(name) for name in ("acc", "nmi", "ari")},
            "source": f"{one.citation}, {one.number}",
            "protocol": protocol_line(one),
            "note": " ".join(filter(None, (one.note, f"Uncertain: {one.uncertain}" if one.uncertain else ""))),
        }
        for one in tables().values()
        if one.main
        for row in one.rows
        if row.get("method") == method and row["dataset"] == dataset and dataset is not None
    ]


def protocol_line(one: Table) -> str:
    """The protocol of a table in one line."""
    said = one.protocol
    return (
        f"{said['split']}; {said['resolution']} pixels; {said['backbone']}; {said['epochs']} epochs;"
        f" {said['selection']}; trials: {said['trials']}"
    )
