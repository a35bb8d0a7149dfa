"""What papers report for the methods of a comparison, and how their protocol differs from ours."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ilk.research.baselines import BASELINES
from ilk.research.compare.groups import GROUPED_BY, grouped
from ilk.research.grid import PIXELS
from ilk.research.labelled import short_name
from ilk.research.published import published_scores, published_tables


def published_for(group: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What papers report of the group's method on a set with that name and as many classes."""
    if group["on"] != PIXELS or group["read_out"] != "heads":
        return []
    return published_scores(group["method"], short_name(group["source"]), group["n_clusters"])


def triple(figure: Mapping[str, Any]) -> str:
    """`0.790 / 0.705 / 0.637`: published ACC, NMI and ARI."""
    return " / ".join("-" if figure[name] is None else f"{figure[name]:.3f}" for name in ("acc", "nmi", "ari"))


def our_protocol(group: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The protocol of a group's rows, with the names that `ilk.research.published` uses."""
    members = [row for row in rows if all(row.get(name) == group.get(name) for name in GROUPED_BY)]
    members = [row for row in members if not row.get("error")]

    def values(name: str) -> str:
        return " or ".join(dict.fromkeys(str(row.get(name)) for row in members if row.get(name) is not None)) or "none"

    protocol = {
        "split": values("split").replace("+", " and "), "resolution": values("image_size"),
        "selection": values("select"), "backbone": values("backbone"), "epochs": values("epochs"),
        "trials": str(len(members)),
    }  # fmt: skip
    sizes = {row["n_images"] for row in members}
    if len(sizes) == 1 and any(row["images"] or row["imbalance"] for row in members):
        protocol["split"] += f", {sizes.pop():,} of the images"
    if group["method"] in BASELINES:
        return {name: protocol[name] for name in ("split", "resolution", "trials")}
    return protocol


def protocol_differences(figure: Mapping[str, Any], ours: Mapping[str, str]) -> str:
    """How a published protocol is known to differ from ours; both protocols where its table is not known."""
    theirs = next(
        (
            table.protocol
            for table in published_tables().values()
            if f"{table.citation}, {table.number}" == figure["source"]
        ),
        None,
    )
    if theirs is None:
        return f"there {figure['protocol']}; here {'; '.join(ours.values())}"
    parts = [
        f"{name} {theirs[name]} (here {value})"
        for name, value in ours.items()
        if letters(theirs[name]) != letters(value)
    ]
    return "; ".join(parts) or "nothing that is known"


def letters(text: str) -> str:
    """Letters and digits alone, in lower case."""
    return re.sub(r"[^a-z0-9]", "", text.lower())


def notes(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """For each published figure in the table: how its protocol differs from ours, and the note of its table."""
    sentences = []
    for group in grouped(rows):
        ours = our_protocol(group, rows)
        for figure in published_for(group) if group["seeds"] else []:
            name = f"{group['method']} on {short_name(group['source'])}"
            what = f"{name}, published {triple(figure)} ({figure['source']})"
            sentences.append((f"{what}: differs in {protocol_differences(figure, ours)}.", figure["note"]))
    return sentences
