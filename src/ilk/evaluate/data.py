"""What is evaluated: the images of a run or a prediction, their features and labels, and how they are split."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ilk.evaluate.basis import are_positions
from ilk.evaluate.quick import find_labels
from ilk.images import Images, load_images
from ilk.images.labels import KEY_COLUMNS, encode_labels, folder_labels, match_labels
from ilk.runs.folder import Run
from ilk.runs.tables import read_embeddings, read_table
from ilk.system.text import safe_text

SIDES = ("train", "test")
LABELS_NEEDED = "Give them: --labels folders, or --labels FILE with columns id and label."


@dataclass(frozen=True)
class Collection:
    """The images of a finished run or of a prediction, one row an image in the order of its table."""

    run: Run
    table: Any
    names: Sequence[str | None] | None  # labels as words
    known: np.ndarray  # (n,) bool, whether the label was given to the training
    features: np.ndarray  # (n, d) floats, perhaps memory-mapped
    codes: np.ndarray  # (n,) int64, -1 where there is no label that may score

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def ids(self) -> list[str]:
        found: list[str] = self.table["id"].to_pylist()
        return found

    @property
    def cluster(self) -> np.ndarray:
        found: np.ndarray = self.table["cluster"].to_numpy()
        return found

    @property
    def predicted(self) -> bool:
        """Whether the model has not seen these images in training."""
        return bool(self.run.config.get("predicted_with"))


def open_collection(run: Run, labels: str | os.PathLike[str] | None, *, by_folder: bool = False) -> Collection:
    """The images of `run` with the labels that `score_run` would take, not encoded yet (see `with_codes`).

    `by_folder`: the first folders of ids are train/ and test/, and those of labels come below them.
    """
    table = read_table(run.open() / "assignments.parquet")
    n = len(table)
    known = np.zeros(n, dtype=bool)
    if "known" in table.column_names:
        known = np.array(table["known"].to_pylist(), dtype=bool)
    if by_folder and labels == "folders":
        names: Sequence[str | None] | None = folder_labels([without_side(one) for one in table["id"].to_pylist()])
    else:
        names = find_labels(table, labels)
    if by_folder and names is not None and {one for one in names if one} <= set(SIDES):
        raise ValueError(
            f"The labels of '{run}' are only the names of its folders train/ and test/. Add --labels folders, which"
            " takes the folders below those."
        )
    return Collection(run, table, names, known, read_embeddings(run / "embeddings.npy", n), np.full(n, -1))


def with_codes(collections: Sequence[Collection]) -> tuple[list[Collection], list[str]]:
    """The collections with the codes of their labels, the same for all, and what the codes mean.

    Images whose label was given to the training keep none: they may not score.
    """
    every: list[str | None] = []
    for one in collections:
        every += [None] * len(one) if one.names is None else list(one.names)
    codes, words = encode_labels(every, len(every))
    found, start = [], 0
    for one in collections:
        own = np.where(one.known, -1, codes[start : start + len(one)])
        found.append(replace(one, codes=own))
        start += len(one)
    return found, words


@dataclass(frozen=True)
class Rows:
    """Some images of a collection, by position."""

    of: Collection
    at: np.ndarray

    def __len__(self) -> int:
        return len(self.at)

    @property
    def features(self) -> np.ndarray:
        return np.asarray(self.of.features[self.at])

    @property
    def codes(self) -> np.ndarray:
        return self.of.codes[self.at]

    @property
    def cluster(self) -> np.ndarray:
        return self.of.cluster[self.at]

    def labelled(self) -> Rows:
        return Rows(self.of, self.at[self.codes >= 0])


@dataclass(frozen=True)
class Split:
    """Images to learn from and images to test with. `name` is shown with every figure that rests on it.

    `kind`: random, folders, table or prediction; `source`: the file or folder that says which is which.
    """

    name: str
    train: Rows
    test: Rows
    left_out: int = 0  # images in neither
    kind: str = "random"
    source: str | None = None


def without_side(name: str) -> str:
    first, _, rest = name.partition("/")
    return rest if first.lower() in SIDES else name


def random_split(collection: Collection, share: float, seed: int) -> Split:
    """A seeded hold-out of `share` of the labelled images of every label, at least one of each that has two.

    Images without a label are left out. Raises ValueError for a share outside (0, 1) or labels that are too few.
    """
    if not 0 < share < 1:
        raise ValueError(f"The part that is held out is a number between 0 and 1; got {share}. The usual one is 0.2.")
    held = stratified(collection.codes, share, seed)
    labelled = collection.codes >= 0
    train, test = np.flatnonzero(labelled & ~held), np.flatnonzero(held)
    if len(test) == 0:
        raise ValueError("No image can be held out: every label has one image at most.")
    return Split(
        f"random {share:.0%}".replace("%", " %"), Rows(collection, train), Rows(collection, test),
        int((~labelled).sum()),
    )  # fmt: skip


def stratified(codes: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Which rows are held out, (n,) bool: of each code m times `share`, rounded, 1 to m - 1; none of a single one."""
    draws, held = np.random.default_rng(seed), np.zeros(len(codes), dtype=bool)
    for code in np.unique(codes[codes >= 0]):
        rows = draws.permutation(np.flatnonzero(codes == code))
        held[rows[: min(len(rows) - 1, max(1, round(share * len(rows))))]] = True
    return held


def split_by_words(
    collection: Collection, words: Sequence[str | None], where: str, kind: str, source: str | None = None
) -> Split:
    """The images that are called train and those called test; others are left out and counted."""
    side = np.array([(word or "").strip().lower() for word in words])
    parts = [np.flatnonzero(side == name) for name in SIDES]
    if min(map(len, parts)) == 0:
        said = ", ".join(sorted({word for word in side.tolist() if word})[:5]) or "nothing"
        raise ValueError(f"{where} must call some images train and some test; it says {said}. Or use --split random.")
    train, test = (Rows(collection, at) for at in parts)
    left_out = len(collection) - len(train) - len(test)
    return Split(f"test ({source or kind})", train, test, left_out, kind, source)


def split_by_folder(collection: Collection) -> Split:
    words = [one.partition("/")[0] if "/" in one else None for one in collection.ids]
    return split_by_words(collection, words, "The first folder of each id", "folders")


def split_by_table(collection: Collection, file: Path, column: str) -> Split:
    """The split that a CSV or Parquet table gives: a column of ids (or paths, file names) and `column`."""
    if not file.is_file():
        raise FileNotFoundError(f"There is no split '{file}'. Use random, folders, or a CSV or Parquet file.")
    words = read_column(file, column)
    matched, _ = match_labels(words, collection.ids, collection.table["path"].to_pylist(), file)
    return split_by_words(collection, matched, f"The column {column} of '{file}'", "table", str(file))


def read_column(file: Path, column: str) -> dict[str, str]:
    """{id: word} of one column of a table. Raises ValueError, a sentence, where it or a column of ids is not there."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    try:
        if file.suffix.lower() in (".parquet", ".pq"):
            table = pyarrow.parquet.ParquetFile(file).read()
        else:
            table = pyarrow.csv.read_csv(file, convert_options=pyarrow.csv.ConvertOptions(column_types=as_text(file)))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"'{file}' cannot be read as a table: {(str(error).splitlines() or [''])[0]}") from None
    columns = {name.strip().lower(): name for name in table.column_names}
    key = next((columns[name] for name in KEY_COLUMNS if name in columns), None)
    if key is None or column.lower() not in columns:
        raise ValueError(
            f"'{file}' has the columns {', '.join(table.column_names) or '(none)'}; it needs a column 'id' (or 'path',"
            f" 'filename') and '{column}' (another name: --split-column)."
        )
    names = [str(one).replace("\\", "/").removeprefix("./") for one in table[key].to_pylist()]
    return dict(zip(names, ("" if one is None else str(one) for one in table[columns[column.lower()]].to_pylist()),
                    strict=True))  # fmt: skip


def as_text(file: Path) -> dict[str, Any]:
    """Every column of a CSV as text, or ids such as 0001 would lose their zeros."""
    import csv

    import pyarrow as pa

    with open(file, encoding="utf-8-sig", newline="") as stream:
        return {name: pa.string() for name in next(csv.reader(stream), [])}


def open_rows(rows: Rows, source: Any = None, *, cache_dir: Any = None, progress: Any = None) -> Images:
    """Those images themselves, in that order, at the size of the model; from their recorded paths, or from `source`.

    Raises ValueError, a sentence, where they cannot be opened any more.
    """
    config, size = rows.of.run.config, rows.of.run.config["images"]
    ids, paths = rows.of.ids, rows.of.table["path"].to_pylist()
    wanted, paths = [ids[at] for at in rows.at], [paths[at] for at in rows.at]
    if config["source"].get("kind") == "embeddings":
        raise ValueError(f"'{rows.of.run}' was made from embeddings alone: it has no images to open.")
    options = {"image_size": size["size"], "channels": size["channels"], "progress": progress, "labels": "none"}
    holders = {path.partition("::")[0] for path in paths}
    try:
        if source is not None:
            images = load_images(source, cache_dir=cache_dir, **options)
        elif all(paths) and not any("::" in path for path in paths):
            images = load_images(paths, ids=wanted, cache=False, **options)
        elif len(holders) == 1 and all(paths):
            images = load_images(next(iter(holders)), cache_dir=cache_dir, **options)
        else:
            raise ValueError("they came from an array or from several archives, and nothing says where they are")
    except (ValueError, OSError, TypeError) as error:
        raise ValueError(
            f"The images of '{rows.of.run}' cannot be opened any more: {str(error).rstrip('.')}. Say where they are"
            " with --images SOURCE (--test-images for those of --test)."
        ) from None
    if source is not None and len(images) != len(ids) and are_positions(ids) and are_positions(images.ids):
        raise ValueError(
            f"What is given as the images of '{rows.of.run}' are {len(images):,}, not its {len(ids):,}, and only"
            " positions say which is which. Give the very source it was made from."
        )
    at = {safe_text(name): place for place, name in enumerate(images.ids)}
    missing = [name for name in wanted if name not in at]
    if missing:
        raise ValueError(
            f"{len(missing):,} of {len(wanted):,} images of '{rows.of.run}' cannot be opened any more (the first:"
            f" {missing[0]}). Say where they are with --images SOURCE (--test-images for those of --test)."
        )
    return images.subset([at[name] for name in wanted])


Opener = Callable[[Rows], Images]
