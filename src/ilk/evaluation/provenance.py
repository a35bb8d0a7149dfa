"""What scores rest on: whether labels chose or steered the model, and whether it was trained on the images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ilk.runs.config import Plan
from ilk.runs.folder import SELECTION, Run
from ilk.system.files import read_json

SELECTION_FIELDS = {"by": str, "epoch": int, "epochs": int, "used_labels": bool}
POSITION_DIGITS = 6  # ids that are positions have at least so many digits


def read_selection(run: Run) -> dict[str, Any] | None:
    """The run's selection.json: which epoch's model was kept, and by which rule; None for the last epoch.

    Raises ValueError where the file is damaged.
    """
    file = run / SELECTION
    if not file.exists():
        return None
    selection = read_json(file)
    if not isinstance(selection, dict) or any(
        type(selection.get(name)) is not kind for name, kind in SELECTION_FIELDS.items()
    ):
        raise ValueError(
            f"'{file}' is damaged: it must have {', '.join(SELECTION_FIELDS)}. Whether labels chose the model is not"
            " known without it; put back a copy of the file."
        )
    return selection


def labels_used(run: Run) -> dict[str, Any]:
    """What labels had to do with the model of a run or a prediction, and which epoch's model it is."""
    plan, selection = run.config, read_selection(run)
    if selection is None and plan.select == "oracle_acc":  # the file is gone, but config.json still says it
        selection = {"by": plan.select, "epoch": None, "epochs": None, "used_labels": True}
    known = plan.known_labels
    if known is not None and known.images is None:
        raise ValueError(f"'{run / 'config.json'}' is damaged: it does not say how many labels were known.")
    return {
        "epoch": selection,
        "labels_chose_epoch": bool(selection and selection["used_labels"]),
        "known_labels": None if known is None else known.images,
    }


def are_positions(ids: Sequence[str]) -> bool:
    """Whether ids look like positions in an array, which say nothing about what an image is."""
    widths = {len(name) for name in ids}
    return len(widths) == 1 and min(widths) >= POSITION_DIGITS and all(name.isdecimal() for name in ids)


def same_source(a: Plan, b: Plan) -> bool:
    """Whether two runs recorded the same image fingerprint."""
    return bool(a.source.fingerprint) and a.source.fingerprint == b.source.fingerprint


def predicting_run(run: Run) -> Run | None:
    """The run whose model made a prediction (its folder may be gone); None if `run` is not a prediction."""
    folder = run.config.predicted_with
    return Run(folder) if folder else None


def never_trained_on(run: Run) -> bool:
    """Whether the network has not seen the images of `run` in training, as far as the files tell."""
    model = predicting_run(run)
    if model is None:
        return False
    return not model.exists or not same_source(model.config, run.config)


def refuse_other_images(plan: Plan, ids: Sequence[str], other_plan: Plan, other_ids: Sequence[str], what: str) -> None:
    """Raises ValueError where equal ids need not mean equal images; `what` begins the sentence."""
    if (are_positions(ids) or are_positions(other_ids)) and not same_source(plan, other_plan):
        raise ValueError(
            f"{what}: their images have no names, only positions, and their sources differ (or were read at another"
            " image size). Give runs of the same images."
        )


def label_source(given: Any, names: Sequence[str | None] | None, codes: np.ndarray) -> str | None:
    """Where labels come from: "recorded" with the run, or what was `given`; None where no label may score."""
    if names is None or not (codes >= 0).any():
        return None
    return "recorded" if given is None else str(given)
