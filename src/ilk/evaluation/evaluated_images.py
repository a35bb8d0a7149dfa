"""What is evaluated: the images of a run or a prediction with their clusters, features and labels."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ilk.evaluation.provenance import are_positions, same_source
from ilk.images import Images, load_images
from ilk.images.labels import encode_labels, folder_labels, labels_from_file
from ilk.runs.config import Plan
from ilk.runs.folder import Run
from ilk.runs.tables import read_embeddings, read_table
from ilk.system.text import did_you_mean, safe_text

SIDES = ("train", "test")
LABELS_NEEDED = "Give them: --labels folders, or --labels FILE with columns id and label."


@dataclass(frozen=True)
class Collection:
    """The images of a finished run or of a prediction, in the order of its table of assignments."""

    run: Run
    table: Any  # assignments.parquet
    names: Sequence[str | None] | None  # labels as words
    known: np.ndarray  # (n,) bool, whether the label was given to the training
    features: np.ndarray  # (n, d) floats, perhaps memory-mapped
    codes: np.ndarray  # (n,) int64, -1 where there is no label that may score

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def ids(self) -> list[str]:
        ids: list[str] = self.table["id"].to_pylist()
        return ids

    @property
    def cluster(self) -> np.ndarray:
        """(n,) the cluster of each image."""
        cluster: np.ndarray = self.table["cluster"].to_numpy()
        return cluster

    @property
    def predicted(self) -> bool:
        """Whether this is a prediction, by a model that was not trained on these images."""
        return bool(self.run.config.predicted_with)


@dataclass(frozen=True)
class Subset:
    """Some images of a collection. `at`: (m,) their positions."""

    of: Collection
    at: np.ndarray

    def __len__(self) -> int:
        return len(self.at)

    @property
    def features(self) -> np.ndarray:
        return np.asarray(self.of.features[self.at])

    @property
    def codes(self) -> np.ndarray:
        result: np.ndarray = self.of.codes[self.at]
        return result

    @property
    def cluster(self) -> np.ndarray:
        result: np.ndarray = self.of.cluster[self.at]
        return result

    def labelled(self) -> Subset:
        """Those with a label that may score."""
        return Subset(self.of, self.at[self.codes >= 0])


Opener = Callable[[Subset], Images]


def everything(of: Collection) -> Subset:
    """All images of a collection."""
    return Subset(of, np.arange(len(of)))


def find_labels(table: Any, labels: str | os.PathLike[str] | None) -> Sequence[str | None] | None:
    """One label per row of a run's table of assignments, or None without labels.

    `labels`: None for those recorded with the run, "none", "folders" for the first folder of each id, or a CSV or
    Parquet file with columns id and label. Raises FileNotFoundError where there is no such file.
    """
    if labels is None:
        recorded = table["label"].to_pylist()
        return recorded if any(name is not None for name in recorded) else None
    if labels == "none":
        return None
    ids, paths = table["id"].to_pylist(), table["path"].to_pylist()
    if labels == "folders":
        return folder_labels(ids)
    file = Path(labels).expanduser()
    if not file.is_file():
        hint = did_you_mean(str(labels), ("folders", "none"))
        hint = hint or " Give folders, or a CSV or Parquet file with columns id, label."
        raise FileNotFoundError(f"There is no file of labels '{labels}'.{hint}")
    return labels_from_file(file, ids, paths)


def open_collection(run: Run, labels: str | os.PathLike[str] | None, *, by_folder: bool = False) -> Collection:
    """The images of `run` with labels as for `find_labels`; their codes are set by `with_codes`.

    `by_folder`: the first folder of each id is train/ or test/, and folder labels are those below it.
    Raises ValueError where the labels would only say train and test.
    """
    table = read_table(run.open() / "assignments.parquet")
    n = len(table)
    known = np.zeros(n, dtype=bool)
    if "known" in table.column_names:
        known = np.array(table["known"].to_pylist(), dtype=bool)
    if by_folder and labels == "folders":
        names: Sequence[str | None] | None = folder_labels([without_side(name) for name in table["id"].to_pylist()])
    else:
        names = find_labels(table, labels)
    if by_folder and names is not None and {name for name in names if name} <= set(SIDES):
        raise ValueError(
            f"The labels of '{run}' are only the names of its folders train/ and test/. Add --labels folders, which"
            " takes the folders below those."
        )
    return Collection(run, table, names, known, read_embeddings(run / "embeddings.npy", n), np.full(n, -1))


def without_side(name: str) -> str:
    """An id without its first folder if that is train/ or test/."""
    first, _, rest = name.partition("/")
    return rest if first.lower() in SIDES else name


def with_codes(collections: Sequence[Collection]) -> tuple[list[Collection], list[str]]:
    """The collections with label codes that mean the same in all of them, and the label of each code.

    Images whose label was given to the training get no code: they may not score.
    """
    names: list[str | None] = []
    for collection in collections:
        names += [None] * len(collection) if collection.names is None else list(collection.names)
    codes, label_names = encode_labels(names, len(names))
    coded, start = [], 0
    for collection in collections:
        own = np.where(collection.known, -1, codes[start : start + len(collection)])
        coded.append(replace(collection, codes=own))
        start += len(collection)
    return coded, label_names


def shared_images(a: Collection, b: Collection) -> int:
    """How many images of `a` are in `b` too, by ids and sources; ids that are positions tell nothing."""
    if same_source(a.run.config, b.run.config):
        return len(a)
    if are_positions(a.ids) or are_positions(b.ids):
        return 0
    return len(set(a.ids) & set(b.ids))


def same_images(a: Collection, b: Collection) -> bool:
    """Whether both are the same images in the same order."""
    paths = [collection.table["path"].to_pylist() for collection in (a, b)]
    return same_source(a.run.config, b.run.config) or (all(paths[0]) and paths[0] == paths[1] and a.ids == b.ids)


def reopen_images(subset: Subset, source: Any = None, *, cache_dir: Any = None, progress: Any = None) -> Images:
    """The images of a subset in its order, at the image size of the model.

    They are read from `source`, or from the paths that the run recorded. Raises ValueError where they cannot be
    opened any more.
    """
    run, plan = subset.of.run, subset.of.run.config
    ids, all_paths = subset.of.ids, subset.of.table["path"].to_pylist()
    wanted, paths = [ids[at] for at in subset.at], [all_paths[at] for at in subset.at]
    if plan.source.kind == "embeddings":
        raise ValueError(f"'{run}' was made from embeddings alone: it has no images to open.")
    try:
        images = load_again(plan, wanted, paths, source, cache_dir, progress)
    except (ValueError, OSError, TypeError) as error:
        raise ValueError(
            f"The images of '{run}' cannot be opened any more: {str(error).rstrip('.')}. Say where they are"
            " with --images SOURCE (--test-images for those of --test)."
        ) from None
    if source is not None and len(images) != len(ids) and are_positions(ids) and are_positions(images.ids):
        raise ValueError(
            f"--images for '{run}' has {len(images):,} images, not its {len(ids):,}, and only positions say which is"
            " which. Give the source that the run was made from."
        )
    position = {safe_text(name): place for place, name in enumerate(images.ids)}
    missing = [name for name in wanted if name not in position]
    if missing:
        raise ValueError(
            f"{len(missing):,} of {len(wanted):,} images of '{run}' cannot be opened any more (the first:"
            f" {missing[0]}). Say where they are with --images SOURCE (--test-images for those of --test)."
        )
    return images.subset([position[name] for name in wanted])


def load_again(
    plan: Plan, ids: list[str], paths: list[str | None], source: Any, cache_dir: Any, progress: Any
) -> Images:
    """Images that contain those of `ids`, from `source`, from their own files, or from the archive they came in."""
    options = {"image_size": plan.images.size, "channels": plan.images.channels, "progress": progress, "labels": "none"}
    if source is not None:
        return load_images(source, cache_dir=cache_dir, **options)
    known = [path for path in paths if path]
    archives = {path.partition("::")[0] for path in known}
    if len(known) == len(paths) and not any("::" in path for path in known):
        return load_images(known, ids=ids, cache=False, **options)
    if len(known) == len(paths) and len(archives) == 1:
        return load_images(next(iter(archives)), cache_dir=cache_dir, **options)
    raise ValueError("they came from an array or from several archives, and nothing says where they are")
