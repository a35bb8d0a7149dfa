"""Reports of long work: whom they go to (`Watch`), and how an epoch and a warning read."""

from __future__ import annotations

from typing import Any

SINGLE = 1.1  # effective clusters; with fewer, nearly all images are in one cluster


class Watch:
    """Receives reports while work goes on. This one ignores them; the command line and Python show them."""

    def say(self, text: str) -> None:
        """Information for the user, a sentence."""

    def warn(self, text: str) -> None:
        """A warning for the user, a sentence."""

    def progress(self, done: int, total: int, what: str) -> None:
        """`done` of `total` units of the work `what`, such as "decoding images" or "training"."""

    def epoch(self, record: dict[str, Any]) -> None:
        """The record of an epoch that has just ended, a line of log.jsonl."""


def epoch_line(record: dict[str, Any]) -> str:
    """The record of an epoch as a line of text."""
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
    """A duration in the unit that suits it: `45 s`, `12 min` or `1.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def collapsing(record: dict[str, Any], k: int) -> str | None:
    """`collapse_warning` for an epoch in the last quarter of training, None before."""
    late = record["epoch"] >= 0.75 * record["epochs"]
    return collapse_warning(record["effective_clusters"], k) if late else None


def collapse_warning(effective: float | None, k: int) -> str | None:
    """A warning if the images fill fewer than half of the `k` clusters, or only one; else None.

    `effective`: the effective number of clusters, the exponential of the entropy of their sizes; None: not known yet.
    """
    if effective is None or effective >= max(k / 2, SINGLE):
        return None
    return (
        f"the clusters are collapsing: the images fill only about {effective:.1f} of {k} clusters. Often the views do"
        " not suit the pictures (try --views drawing, object or photo), the training is short (--epochs, --minutes),"
        f" or there are fewer than {k} kinds (--clusters)"
    )
