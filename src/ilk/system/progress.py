"""What is told while work goes on: to whom (a face's `Watch`), and in which words."""

from __future__ import annotations

from typing import Any

ONE = 1.1  # effective clusters; below that nearly all images are in a single one, which of two clusters is a half


class Watch:
    """What a face may show while work goes on; this one shows nothing."""

    def say(self, text: str) -> None:
        """A sentence worth reading."""

    def warn(self, text: str) -> None:
        """A sentence that should not be missed."""

    def progress(self, done: int, total: int, what: str) -> None:
        """`done` of `total` of `what` (decoding, training step, assigning)."""

    def epoch(self, record: dict[str, Any]) -> None:
        """The record of an epoch that has just ended."""


def epoch_line(record: dict[str, Any]) -> str:
    """One epoch as a line of text."""
    terms = ", ".join(f"{name} {value:.3f}" for name, value in record["terms"].items())
    clusters = ", clusters start later"
    if record["effective_clusters"] is not None:
        clusters = f", {record['effective_clusters']:.1f} effective clusters, {record['confidence']:.0%} sure"
    left = (record["epochs"] - record["epoch"]) * record["seconds"] / max(record["epoch"], 1)
    return (
        f"epoch {record['epoch']}/{record['epochs']}, {record['images_per_second']:,.0f} images/s,"
        f" {spell(left)} left, {terms}{clusters}"
    )


def spell(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def collapsing(record: dict[str, Any], k: int) -> str | None:
    """A warning when, late in training, half of the clusters are hardly used."""
    late = record["epoch"] >= 0.75 * record["epochs"]
    return collapse_warning(record["effective_clusters"], k) if late else None


def collapse_warning(effective: float | None, k: int) -> str | None:
    """What to say, in plain words, when the images fill less than half of the clusters, or but one; else None."""
    if effective is None or effective >= max(k / 2, ONE):
        return None
    return (
        f"the clusters are collapsing: the images fill only about {effective:.1f} of {k} clusters. Often the views do"
        " not suit the pictures (try --views drawing, object or photo), the training is short (--epochs, --minutes),"
        f" or there are fewer than {k} kinds (--clusters)"
    )
