"""The training of a run as columns with one entry per epoch, from its log."""

from __future__ import annotations

from typing import Any

from ilk.reports.folder import number

PAIRS = ("instance_positive", "instance_negative", "cluster_positive", "cluster_negative")
COLUMNS = ("loss", "effective_clusters", "confidence", "learning_rate", "images_per_second")


def training_payload(log: list[dict[str, Any]]) -> dict[str, Any]:
    """Loss terms, effective clusters, confidence and pair similarities by epoch; None where an epoch has no value."""
    names = list(dict.fromkeys(name for record in log for name in table_of(record, "terms")))
    pairs = None
    if any(table_of(record, "pairs") for record in log):
        pairs = {name: [number(table_of(record, "pairs").get(name)) for record in log] for name in PAIRS}
    return {
        "epoch": [record["epoch"] for record in log],
        "terms": {name: [number(table_of(record, "terms").get(name)) for record in log] for name in names},
        **{name: [number(record.get(name)) for record in log] for name in COLUMNS},
        "pairs": pairs,
        "messages": [
            {"epoch": record["epoch"], "text": str(record["message"])} for record in log if record.get("message")
        ],
    }


def table_of(record: dict[str, Any], name: str) -> dict[str, Any]:
    """The dict of that name in a record of the log; empty where there is none."""
    table = record.get(name)
    return table if isinstance(table, dict) else {}
