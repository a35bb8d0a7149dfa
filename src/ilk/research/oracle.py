"""The rule by which labels choose the epoch, as some papers report it; for comparisons with their figures only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ilk.analysis.metrics import accuracy
from ilk.training.selection import RULES, Rule

ORACLE = "oracle_acc"
SELECTIONS = (*RULES, ORACLE)  # what `select` of a comparison may be


def by_accuracy(codes: np.ndarray) -> Rule:
    """The rule that keeps the epoch with the highest accuracy against labels.

    `codes`: (n,) label codes of the images in training order, -1 for no label. A score of such a run says what was
    possible, not what works without labels, so the run is marked wherever it is shown (CC and DCDC report such
    scores). Raises ValueError where no image has a label.
    """
    labelled = np.flatnonzero(codes >= 0)
    if not len(labelled):
        raise ValueError(
            f"select={ORACLE} lets labels choose the epoch, and none of these images has one. Give --labels, or leave"
            " --select out."
        )

    def value(record: Mapping[str, Any], clusters: Callable[[], np.ndarray]) -> float:
        assigned = clusters()
        if len(assigned) != len(codes):
            raise ValueError(
                f"There are {len(assigned):,} clustered images and {len(codes):,} labels: some file could be read at"
                " one time and not at another. Start again with another --out."
            )
        return -accuracy(codes[labelled], assigned[labelled])

    return Rule(
        name=ORACLE, value=value, describe=lambda value: f"accuracy {-value:.3f} against the LABELS", uses_labels=True
    )


def rule_of(select: str, codes: np.ndarray) -> Rule | None:
    """The rule to hand to `fit` for a `select` of a comparison; None for those that `fit` knows by name."""
    return by_accuracy(codes) if select == ORACLE else None
