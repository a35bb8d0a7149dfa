"""Saves a training that is held in memory as a run folder, also where its images are no longer at hand."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ilk.images import Images
from ilk.images.collection import BadFile
from ilk.pipeline.known_labels import Known
from ilk.pipeline.results import Listing, write_pictures, write_result_files
from ilk.reports.folder import read_bad_files
from ilk.runs.folder import SELECTION, Run
from ilk.runs.tables import Cluster, read_embeddings, read_table
from ilk.system.files import file_hash, replacing
from ilk.system.progress import Watch
from ilk.training.assign import Assignments

IDENTITY = ("config.json", "model.safetensors", "assignments.parquet")  # a folder with other ones is another run
FROM_IMAGES = ("duplicates.csv", "flags.csv", "clusters.png", "thumbnails")
OF_TRAINING = ("moments.npz", "k_curve.csv", "hierarchy.parquet", SELECTION)
LATER = ("scores.json", "evaluation.json", "retrieval.png", "map.npz")  # what commands have added to a run


@dataclass(frozen=True)
class Origin:
    """The run folder that a model was read from, and the hashes of the files that make it that run."""

    folder: Path
    hashes: dict[str, str]

    def unchanged(self) -> bool:
        """Whether the folder still holds that run."""
        return self.hashes == identity_of(self.folder)


def identity_of(folder: Path) -> dict[str, str]:
    """The hash of each of the files `IDENTITY` that is in `folder`."""
    return {name: file_hash(folder / name) for name in IDENTITY if (folder / name).is_file()}


def origin_of(run: Run) -> Origin:
    """`run` as it is now."""
    return Origin(run.folder.resolve(), identity_of(run.folder))


def read_results(run: Run) -> tuple[Listing, Assignments]:
    """The images of a finished run and their assignments, from its tables."""
    table = read_table(run / "assignments.parquet")
    ids, paths, labels = (table[name].to_pylist() for name in ("id", "path", "label"))
    uncertain = np.array(table["uncertain"].to_pylist(), dtype=bool) if "uncertain" in table.column_names else None
    assignments = Assignments(
        cluster=table["cluster"].to_numpy().astype(np.int64),
        confidence=table["confidence"].to_numpy(),
        second=table["second_cluster"].to_numpy().astype(np.int64),
        margin=table["margin"].to_numpy(),
        embedding=np.array(read_embeddings(run / "embeddings.npy", table.num_rows)),
        uncertain=uncertain,
    )
    bad = [BadFile(row["id"], row["path"], row["reason"]) for row in read_bad_files(run / "bad_files.csv")]
    return Listing(ids, paths, labels if any(label is not None for label in labels) else None, bad), assignments


def write_saved(
    run: Run, listing: Listing, assignments: Assignments, n_clusters: int, known: Known | None, *,
    images: Images | None, origin: Origin | None, watch: Watch,
) -> None:  # fmt: skip
    """Writes the results into `run`: tables from memory, pictures from the images or else from the run `origin`.

    Where neither is at hand, as after pickling, the files that are made of pixels are left out, with a warning.
    """
    same = origin if origin is not None and origin.unchanged() else None

    def pictures(clusters: list[Cluster]) -> None:
        if images is not None:
            write_pictures(run, images, assignments, clusters, watch)
        elif same is not None:
            copy_files(same.folder, run.folder, (*OF_TRAINING, *FROM_IMAGES, *LATER))
        else:
            watch.warn(missing_pictures(run, origin))

    write_result_files(run, listing, assignments, n_clusters, known, pictures=pictures, watch=watch)


def missing_pictures(run: Run, origin: Origin | None) -> str:
    """What a saved run lacks whose images are not at hand, a sentence."""
    if origin is None:
        return (
            f"the images are not at hand after pickling, so '{run}' has no {', '.join(FROM_IMAGES)}; its other results"
            " are there. To have all, save before pickling"
        )
    return (
        f"the run '{origin.folder}' that was loaded is gone or has changed, so '{run}' has the tables that were in"
        f" memory, but no {', '.join((*FROM_IMAGES, *OF_TRAINING))}"
    )


def copy_files(source: Path, target: Path, names: Iterable[str]) -> None:
    """Copies the plain files `names` of a folder, and the plain files in those that are folders. Links are left out."""
    for name in names:
        place = source / name
        if place.is_symlink():
            continue
        if place.is_dir():
            (target / name).mkdir(exist_ok=True)
            copy_files(place, target / name, sorted(file.name for file in place.iterdir() if file.is_file()))
        elif place.is_file():
            with replacing(target / name) as temporary:
                shutil.copyfile(place, temporary)


def folder_files(folder: Path) -> dict[str, bytes]:
    """The content of the files of a run that a pickle keeps, by their path: all but the checkpoint."""
    files = (file for file in sorted(folder.rglob("*")) if file.is_file() and not file.is_symlink())
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in files
        if file.name not in ("checkpoint.pt", ".lock") and "predictions" not in file.relative_to(folder).parts
    }


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes what `folder_files` gave into the new folder `folder`."""
    for name, data in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
