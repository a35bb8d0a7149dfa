"""The confidence of a run: calibrated when its images are assigned, kept beside the model, used for new images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from ilk.analysis.calibration import Calibration, calibrate, calibration_of
from ilk.networks.features import Features
from ilk.runs.folder import Run
from ilk.system.files import read_json, write_json
from ilk.system.progress import Watch
from ilk.system.text import in_short
from ilk.training.assign import Assignments, tempered

FILE = "calibration.json"


def calibrated(
    found: Assignments, features: Features | None, seed: int, watch: Watch
) -> tuple[Assignments, Calibration]:
    """The assignments with a confidence that was calibrated without labels, and how; as they are if that fails.

    `found` must hold the probabilities; what comes back does not. `features`: those of a frozen encoder, if any.
    """
    if found.probability is None:
        raise ValueError("Confidence is calibrated from all probabilities; assign with probabilities=True.")
    try:
        plain = None if features is None else features.plain()
        made = calibrate(found.probability, found.embedding, features=plain, seed=seed)
    except Exception as error:  # an opinion that cannot be asked must not cost the results
        watch.warn(f"the confidence could not be calibrated ({in_short(error)}); it is the model's own")
        return replace(found, probability=None), Calibration()
    y = tempered(torch.from_numpy(found.probability), made.calibration.temperature).numpy()  # as for new images
    rows = np.arange(len(y))
    confidence = y[rows, found.cluster]
    return replace(
        found, confidence=confidence, margin=confidence - y[rows, found.second], uncertain=made.uncertain,
        probability=None,
    ), made.calibration  # fmt: skip


def sorted_out(found: Assignments, calibration: Calibration) -> Assignments:
    """New images, assigned with the temperatures of `calibration`, and which of them are uncertain."""
    return replace(found, uncertain=found.confidence < calibration.sure)


def write_calibration(run: Run, calibration: Calibration) -> None:
    write_json(run / FILE, calibration.described())


def read_calibration(run: Run) -> Calibration:
    """How the confidence of a run was calibrated; one that changes nothing for runs of earlier versions."""
    file = run / FILE
    if not file.is_file():
        return Calibration()
    try:
        found = calibration_of(read_json(file))
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"'{file}' is damaged: {in_short(error)}") from None
    if found.temperature and len(found.temperature) != run.config.n_clusters:
        raise ValueError(f"'{file}' is of a run with {len(found.temperature)} clusters, not of this one.")
    return found
