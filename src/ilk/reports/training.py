"""What the log of a run says of its training, as columns with one entry an epoch."""

from __future__ import annotations

from typing import Any

from ilk.reports.folder import number

PAIRS = ("instance_positive", "instance_negative", "cluster_positive", "cluster_negative")
COLUMNS = ("loss", "effective_clusters", "confidence", "learning_rate", "images_per_second")


def training_payload(log: list[dict[str, Any]]) -> dict[str, Any]:
    """Loss terms, clusters, confidence and pair similarities by epoch; None where an epoch had no such value."""
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
    found = record.get(name)
    return found if isinstance(found, dict) else {}
