"""The rows of a comparison in groups over seeds, and what each group is called."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ilk.research.baselines import BASELINES
from ilk.research.grid import PIXELS
from ilk.research.oracle import ORACLE
from ilk.research.score_tables import summary

GROUPED_BY = ("source", "method", "on", "read_out", "select", "preset", "settings", "balance")
CHOSEN_BY_LABELS = "labels chose the epoch"


def grouped(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Means over seeds, as `summary` gives them, and the number of clusters, which published figures depend on."""
    n_clusters = {row["source"]: row["n_clusters"] for row in rows if row.get("n_clusters")}
    return [{**group, "n_clusters": n_clusters.get(group["source"])} for group in summary(rows, GROUPED_BY)]


def method_name(group: Mapping[str, Any]) -> str:
    """The method as tables name it, with its read-out and with what labels chose."""
    name = str(group["method"])
    name += "" if group["on"] == PIXELS else f" on {group['on']}"
    name += " + k-means" if group["read_out"] == "kmeans" else ""
    if group["select"] == "last" or group["method"] in BASELINES:
        return name
    return f"{name} ({group['select']}{': ' + CHOSEN_BY_LABELS if group['select'] == ORACLE else ''})"


def variant(group: Mapping[str, Any], groups: Sequence[Mapping[str, Any]]) -> str:
    """The preset, settings or balance that distinguish a group from others of its method, ` [...]`; or nothing."""
    if group["method"] in BASELINES:
        return ""
    same_method = [other for other in groups if all(other[name] == group[name] for name in ("source", "method"))]
    parts = []
    for name in ("preset", "settings", "balance"):
        if len({json.dumps(other[name], sort_keys=True, default=str) for other in same_method}) == 1:
            continue
        value = group[name]
        if name == "settings":
            parts += [f"{key}={setting}" for key, setting in sorted((value or {}).items())] or ["no settings"]
        else:
            parts.append(f"{name} {value or 'as preset'}")
    return f" [{', '.join(parts)}]" if parts else ""


def table_notes(rows: Sequence[Mapping[str, Any]]) -> str:
    """What a reader of the table must know, in sentences."""
    sentences = ["Collapsed: less than half of the clusters are in use."]
    if any(row["select"] == ORACLE and row["method"] not in BASELINES for row in rows):
        sentences.append(
            "oracle_acc: labels chose the epoch, as in some papers; without labels there is no such score."
        )
    return " ".join(sentences)
