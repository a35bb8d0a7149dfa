"""The embeddings of a labelled set's images in a finished run."""

from __future__ import annotations

from typing import Any

import numpy as np

from ilk.images import load_images
from ilk.research.labelled import Labelled
from ilk.runs.config import Plan
from ilk.runs.folder import Run
from ilk.runs.tables import read_embeddings, read_table
from ilk.system.text import safe_text


def embeddings_for(run: Run, labelled: Labelled, rows: np.ndarray, cache_dir: Any = None) -> np.ndarray:
    """The embeddings of the images `rows` in a run, float32. Raises ValueError where the run is of other images.

    Images are the same if their fingerprint (at the run's image size) is; otherwise each is looked up by id or path.
    Ids that are only positions say nothing, so then the run's labels must be the same.
    """
    table = read_table(run.open() / "assignments.parquet")
    found = read_embeddings(run / "embeddings.npy", len(table))
    return np.asarray(found[positions_in_run(run, table, labelled, rows, cache_dir)], dtype=np.float32)


def positions_in_run(run: Run, table: Any, labelled: Labelled, rows: np.ndarray, cache_dir: Any) -> np.ndarray:
    """The positions of the images in the table of a run, (len(rows),)."""
    plan, ids = run.config, table["id"].to_pylist()
    whole = np.arange(len(labelled.images))
    if len(ids) not in (len(rows), len(whole)):
        raise ValueError(
            f"'{run}' has {len(ids):,} images and {len(rows):,} of '{labelled.source}' are asked for. Give the"
            " source, --split and --images that the run was made with."
        )
    for part in (rows, whole) if len(rows) < len(whole) else (whole,):
        if len(part) == len(ids) and made_from(labelled, part, plan, cache_dir):
            return np.arange(len(rows)) if part is rows else rows
    by_position = all(name.isdecimal() and int(name) == place for place, name in enumerate(ids))
    if by_position:
        return by_labels(run, table, labelled, rows)
    mine = labelled.images
    for theirs, own in ((ids, mine.ids), (table["path"].to_pylist(), mine.paths)):
        at = {name: place for place, name in enumerate(theirs) if name}
        wanted = [safe_text(own[row]) for row in rows]
        if all(name in at for name in wanted):
            return np.array([at[name] for name in wanted])
    raise ValueError(f"The images of '{run}' are not those of '{labelled.source}'. Give the source it was made with.")


def made_from(labelled: Labelled, rows: np.ndarray, plan: Plan, cache_dir: Any) -> bool:
    """Whether a run was made from exactly these images."""
    stored = plan.source.fingerprint
    if len(rows) == len(labelled.images) and stored == labelled.images.fingerprint:
        return True
    source, _ = labelled.given(rows)
    images = load_images(
        source, image_size=plan.images.size, channels=plan.images.channels, labels="none",
        cache_dir=cache_dir,
    )  # fmt: skip
    return bool(images.fingerprint == stored)


def by_labels(run: Run, table: Any, labelled: Labelled, rows: np.ndarray) -> np.ndarray:
    """The positions of images whose ids are only positions, if all labels of the run are the same."""
    texts = table["label"].to_pylist()
    for part, places_in in ((rows, np.arange(len(rows))), (np.arange(len(labelled.images)), rows)):
        own = [labelled.names[code] if code >= 0 else None for code in labelled.codes[part]]
        if any(text is not None for text in texts) and texts == own:
            return places_in
    raise ValueError(
        f"The images of '{run}' are not those of '{labelled.source}', or have changed since: neither they nor their"
        " labels are the same. Give the source, --split and --images that the run was made with."
    )
