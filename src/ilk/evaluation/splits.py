"""How images are split into those that a classifier learns from and those it is tested with."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ilk.evaluation.evaluated_images import SIDES, Collection, Subset
from ilk.images.columns import ID_COLUMNS
from ilk.images.labels import match_labels


@dataclass(frozen=True)
class Split:
    """Images to learn from and images to test with.

    `name` is shown with every score of the split. `kind`: random, folders, table or prediction.
    `source`: the file or folder that defines the split.
    """

    name: str
    train: Subset
    test: Subset
    left_out: int = 0  # images in neither
    kind: str = "random"
    source: str | None = None


def random_split(collection: Collection, share: float, seed: int) -> Split:
    """A seeded hold-out of `share` of the labelled images of each class; of a class with two or more at least one.

    Images without a label are left out. Raises ValueError for a share outside (0, 1), or where no class has two images.
    """
    if not 0 < share < 1:
        raise ValueError(f"The share that is held out is a number between 0 and 1; got {share}. The usual one is 0.2.")
    held = stratified(collection.codes, share, seed)
    labelled = collection.codes >= 0
    train, test = np.flatnonzero(labelled & ~held), np.flatnonzero(held)
    if len(test) == 0:
        raise ValueError("No image can be held out: no label has more than one image.")
    name = f"random {share:.0%}".replace("%", " %")
    return Split(name, Subset(collection, train), Subset(collection, test), int((~labelled).sum()))


def stratified(codes: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Which rows are held out, (n,) bool: of a code with m rows, `share` * m rounded, from 1 to m - 1; none of one row.

    `codes`: (n,) label codes, -1 for no label (never held out).
    """
    random, held = np.random.default_rng(seed), np.zeros(len(codes), dtype=bool)
    for code in np.unique(codes[codes >= 0]):
        rows = random.permutation(np.flatnonzero(codes == code))
        held[rows[: min(len(rows) - 1, max(1, round(share * len(rows))))]] = True
    return held


def split_by_words(
    collection: Collection, words: Sequence[str | None], where: str, kind: str, source: str | None = None
) -> Split:
    """The images whose word is train and those whose word is test; others are left out and counted.

    Raises ValueError, which begins with `where`, if one side has no image.
    """
    side = np.array([(word or "").strip().lower() for word in words])
    positions = [np.flatnonzero(side == name) for name in SIDES]
    if min(map(len, positions)) == 0:
        present = ", ".join(sorted({word for word in side.tolist() if word})[:5]) or "nothing"
        raise ValueError(f"{where} must name some images train and some test; it has {present}. Or use --split random.")
    train, test = (Subset(collection, at) for at in positions)
    left_out = len(collection) - len(train) - len(test)
    return Split(f"test ({source or kind})", train, test, left_out, kind, source)


def split_by_folder(collection: Collection) -> Split:
    """The split by the first folder of each id, train/ or test/."""
    words = [name.partition("/")[0] if "/" in name else None for name in collection.ids]
    return split_by_words(collection, words, "The first folder of each id", "folders")


def split_by_table(collection: Collection, file: Path, column: str) -> Split:
    """The split in a CSV or Parquet table with a column of ids (or paths, file names) and `column`."""
    if not file.is_file():
        raise FileNotFoundError(f"There is no split '{file}'. Use random, folders, or a CSV or Parquet file.")
    words = read_column(file, column)
    matched, _ = match_labels(words, collection.ids, collection.table["path"].to_pylist(), file)
    return split_by_words(collection, matched, f"The column {column} of '{file}'", "table", str(file))


def read_column(file: Path, column: str) -> dict[str, str]:
    """{id: text} of one column of a table. Raises ValueError where it, or a column of ids, is missing."""
    table = read_text_table(file)
    columns = {name.strip().lower(): name for name in table.column_names}
    key = next((columns[name] for name in ID_COLUMNS if name in columns), None)
    if key is None or column.lower() not in columns:
        raise ValueError(
            f"'{file}' has the columns {', '.join(table.column_names) or '(none)'}; it needs a column 'id' (or 'path',"
            f" 'filename') and '{column}' (another name: --split-column)."
        )
    ids = [str(name).replace("\\", "/").removeprefix("./") for name in table[key].to_pylist()]
    texts = ["" if text is None else str(text) for text in table[columns[column.lower()]].to_pylist()]
    return dict(zip(ids, texts, strict=True))


def read_text_table(file: Path) -> Any:
    """A Parquet table, or a CSV with all columns as text: ids such as 0001 would lose their zeros as numbers."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    try:
        if file.suffix.lower() in (".parquet", ".pq"):
            return pyarrow.parquet.ParquetFile(file).read()
        with open(file, encoding="utf-8-sig", newline="") as stream:
            types = {name: pa.string() for name in next(csv.reader(stream), [])}
        return pyarrow.csv.read_csv(file, convert_options=pyarrow.csv.ConvertOptions(column_types=types))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"'{file}' cannot be read as a table: {(str(error).splitlines() or [''])[0]}") from None
