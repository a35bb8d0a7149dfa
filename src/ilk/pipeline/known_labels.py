"""A few known labels that steer a training. Labels never do so otherwise."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ilk.images import Images
from ilk.images.labels import encode_labels, match_labels, read_labels
from ilk.runs.folder import Run
from ilk.runs.tables import read_known_labels, read_table
from ilk.system.text import safe_text

FILE = "known_labels.csv"


@dataclass(frozen=True)
class Known:
    """`codes`: (n,) int64, the known cluster of each image, or -1. `names`: the classes of clusters 0, 1, ..."""

    codes: np.ndarray
    names: list[str]

    @property
    def rows(self) -> list[int]:
        """Positions of the images with a known label."""
        return [int(row) for row in np.flatnonzero(self.codes >= 0)]

    def labels(self) -> list[str | None]:
        """The known label of each image, or None."""
        return [self.names[code] if code >= 0 else None for code in self.codes]


def labels_file(given: str | os.PathLike[str]) -> Path:
    """The file of known labels. Raises FileNotFoundError."""
    file = Path(given).expanduser()
    if not file.is_file():
        raise FileNotFoundError(
            f"There is no file of known labels '{given}'. Give a CSV or Parquet file with columns id, label."
        )
    return file


def find_known(given: Any, images: Images, n_clusters: int) -> tuple[Known, str | None]:
    """The known labels, and a warning about ids that no image has, or None.

    `given`: a CSV or Parquet file with columns id and label, a mapping from id to label, or one label per image
    (None, "" or, among whole numbers, -1: unknown). The sorted classes are clusters 0, 1, ...
    """
    strangers: list[str] = []
    values = given
    if isinstance(given, (str, os.PathLike)):
        file = labels_file(given)
        values, strangers = match_labels(read_labels(file), images.ids, images.paths, file)
    elif isinstance(given, Mapping):
        table = {str(key): value for key, value in given.items()}
        values, strangers = match_labels(table, images.ids, images.paths)
    elif not hasattr(given, "__len__"):
        raise TypeError(f"known_labels is a {type(given).__name__}; give a file, a dict from id, or a label an image.")
    codes, names = encode_labels(values, len(images))
    names = [safe_text(name) for name in names]
    if not (codes >= 0).any():
        raise ValueError("The known labels name no image's class: all are empty. Fill some in, or leave them out.")
    if len(names) > n_clusters:
        raise ValueError(
            f"The known labels have {len(names)} classes ({', '.join(names[:3])}, ...), more than the {n_clusters}"
            f" clusters asked for. Use --clusters {len(names)} or more."
        )
    warning = None
    if strangers:
        shown = ", ".join(strangers[:5]) + (", ..." if len(strangers) > 5 else "")
        warning = f"{len(strangers):,} of the known labels belong to no image and are left out: {shown}"
    return Known(codes, names), warning


def known_of(run: Run, images: Images) -> Known | None:
    """The known labels of a run for `images`, its own or others; None if it had none.

    Other images get the label of the run's image with the same path.
    """
    plan = run.config
    if plan.known_labels is None:
        return None
    names = plan.known_labels.names
    own = images.fingerprint == plan.source.fingerprint
    if own:
        return known_by_id(run, images.ids, names)
    ids: list[str] = [""] * len(images)
    if (run / "assignments.parquet").is_file():
        table = read_table(run / "assignments.parquet")
        id_of = dict(zip(table["path"].to_pylist(), table["id"].to_pylist(), strict=True))
        ids = [id_of.get(safe_text(path), "") if path else "" for path in images.paths]
    return known_by_id(run, ids, names)


def known_by_id(run: Run, ids: Sequence[str], names: list[str]) -> Known:
    """The known labels of a run for its images with these ids. Raises FileNotFoundError or ValueError."""
    label_of = read_known_labels(run / FILE)
    code = {name: i for i, name in enumerate(names)}
    if strange := set(label_of.values()) - code.keys():
        raise ValueError(f"'{run / FILE}' was changed: this run knows no class '{min(strange)}'.")
    labels = (label_of.get(safe_text(key)) for key in ids)
    return Known(np.array([-1 if label is None else code[label] for label in labels], dtype=np.int64), names)
