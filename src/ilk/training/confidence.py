"""The calibration of a run's confidence: computed after training, saved in calibration.json, used to predict."""

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
    assignments: Assignments, features: Features | None, seed: int, watch: Watch
) -> tuple[Assignments, Calibration]:
    """The assignments with calibrated confidence, and the calibration; no labels are used.

    `assignments` must have probabilities; the result does not. `features`: those of a frozen encoder, if any. If the
    calibration fails, warns and returns the confidence of the model. Raises ValueError without probabilities.
    """
    if assignments.probability is None:
        raise ValueError("Confidence is calibrated from all probabilities; assign with probabilities=True.")
    try:
        plain = None if features is None else features.plain()
        fitted = calibrate(assignments.probability, assignments.embedding, features=plain, seed=seed)
    except Exception as error:  # the results of the training must not be lost
        watch.warn(f"the confidence could not be calibrated ({in_short(error)}); it is that of the model")
        return replace(assignments, probability=None), Calibration()
    y = tempered(torch.from_numpy(assignments.probability), fitted.calibration.temperature).numpy()  # as for new images
    rows = np.arange(len(y))
    confidence = y[rows, assignments.cluster]
    return replace(
        assignments, confidence=confidence, margin=confidence - y[rows, assignments.second],
        uncertain=fitted.uncertain, probability=None,
    ), fitted.calibration  # fmt: skip


def mark_uncertain(assignments: Assignments, calibration: Calibration) -> Assignments:
    """The assignments of new images with `uncertain`; their confidence must be calibrated already."""
    return replace(assignments, uncertain=assignments.confidence < calibration.sure)


def write_calibration(run: Run, calibration: Calibration) -> None:
    """Writes calibration.json."""
    write_json(run / FILE, calibration.described())


def read_calibration(run: Run) -> Calibration:
    """The calibration of a run; for a run without one, a calibration that changes nothing.

    Raises ValueError for a damaged file, or one with another number of clusters.
    """
    file = run / FILE
    if not file.is_file():
        return Calibration()
    try:
        calibration = calibration_of(read_json(file))
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"'{file}' is damaged: {in_short(error)}") from None
    if calibration.temperature and len(calibration.temperature) != run.config.n_clusters:
        raise ValueError(
            f"'{file}' is for {len(calibration.temperature)} clusters, but the run has {run.config.n_clusters}."
        )
    return calibration
