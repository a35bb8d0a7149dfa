"""What figures rest on: whether images are the same, and whether labels had a part in the model that is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ilk.runs.folder import SELECTION, Run
from ilk.system.files import read_json

if TYPE_CHECKING:
    from ilk.evaluate.data import Collection

SAID = {"by": str, "epoch": int, "epochs": int, "used_labels": bool}
POSITION = 6  # digits of a position at least


def read_selection(run: Run) -> dict[str, Any] | None:
    """Which epoch's model a run keeps and by what it was chosen; None for the last. Raises ValueError, a sentence."""
    file = run / SELECTION
    if not file.exists():
        return None
    found = read_json(file)
    if not isinstance(found, dict) or any(type(found.get(name)) is not kind for name, kind in SAID.items()):
        raise ValueError(
            f"'{file}' is damaged: it must say {', '.join(SAID)}. Whether labels chose the model is not known without"
            " it; put back a copy of the file."
        )
    return found


def labels_used(run: Run) -> dict[str, Any]:
    """What labels had to do with the model of a run or a prediction, and which epoch's it is."""
    config, said = run.config, read_selection(run)
    if said is None and config["select"] == "oracle_acc":  # the file is gone; what was asked for is still known
        said = {"by": config["select"], "epoch": None, "epochs": None, "used_labels": True}
    known = config.get("known_labels")
    if known and not isinstance(known.get("images"), int):
        raise ValueError(f"'{run / 'config.json'}' is damaged: it does not say how many labels were known.")
    return {
        "epoch": said,
        "labels_chose_epoch": bool(said and said["used_labels"]),
        "known_labels": known["images"] if known else None,
    }


def are_positions(ids: Sequence[str]) -> bool:
    """Whether ids look like places in an array, which any other array has too."""
    widths = {len(one) for one in ids}
    return len(widths) == 1 and min(widths) >= POSITION and all(one.isdecimal() for one in ids)


def same_source(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two configurations were made with the very same images."""
    first, second = (one["source"].get("fingerprint") for one in (a, b))
    return bool(first) and first == second


def shared_images(a: Collection, b: Collection) -> int:
    """How many images of `a` are in `b` too, as far as ids and sources tell; ids that are positions tell nothing."""
    if same_source(a.run.config, b.run.config):
        return len(a)
    if are_positions(a.ids) or are_positions(b.ids):
        return 0
    return len(set(a.ids) & set(b.ids))


def same_images(a: Collection, b: Collection) -> bool:
    """Whether both are the same images in the same order."""
    paths = [one.table["path"].to_pylist() for one in (a, b)]
    return same_source(a.run.config, b.run.config) or (all(paths[0]) and paths[0] == paths[1] and a.ids == b.ids)


def origin(run: Run) -> Run | None:
    """The run whose model made a prediction, which may be gone; None for a run. Raises ValueError, a sentence."""
    found = run.config.get("predicted_with")
    if found is not None and not isinstance(found, str):
        raise ValueError(f"'{run / 'config.json'}' is damaged: predicted_with must be the folder of a run.")
    return Run(found) if found else None


def never_trained_on(of: Collection) -> bool:
    """Whether the network has not seen these images in training, as far as can be told."""
    model = origin(of.run)
    if model is None:
        return False
    return not model.exists or not same_source(model.config, of.run.config)


def refuse_other_images(mine: Mapping[str, Any], ids: Sequence[str], theirs: Mapping[str, Any], own: Sequence[str],
                        what: str) -> None:  # fmt: skip
    """Raises ValueError where equal ids need not be equal images."""
    if (are_positions(ids) or are_positions(own)) and not same_source(mine, theirs):
        raise ValueError(
            f"{what}: their images have no names, only positions, and the sources are not the same (nor are they when"
            " read at another size). Give runs of the same images."
        )


def labels_said(given: Any, names: Sequence[str | None] | None, codes: np.ndarray) -> str | None:
    """Where the labels of a collection come from, None where it has none that may score."""
    if names is None or not (codes >= 0).any():
        return None
    return "recorded" if given is None else str(given)
