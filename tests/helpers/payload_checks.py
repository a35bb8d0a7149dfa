"""What the payload of a report holds for every run: all keys, finite numbers, columns of one length."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

KEYS = {
    "": "format run scores label_names images sprites large clusters map neighbours confidence training affinity"
    " confusion odd how_many bad_files made next",
    "run": "name source method method_title method_source preset created n_images n_clusters clusters_used n_bad"
    " minutes epochs epochs_done finished image_size shown sample_note",
    "images": "id cluster confidence second margin label row x y",
    "training": "epoch terms loss effective_clusters confidence learning_rate images_per_second pairs messages",
    "made": "settings versions command notes cite",
    "sprites": "tile columns per_sheet count sheets",
    "map": "method note step moments",
    "neighbours": "ranks data dtype similarity",
    "confidence": "edges counts reliability",
    "affinity": "samples clusters",
    "confusion": "matrix clusters labels",
}


LISTS = {
    "scores": "key name value shown meaning labels",
    "clusters": "number name size confidence typical uncertain near labels",
    "bad_files": "id reason",
}


def values(found: Any) -> Iterator[Any]:
    """Every value in nested lists and dicts."""
    if isinstance(found, (dict, list)):
        for one in found.values() if isinstance(found, dict) else found:
            yield from values(one)
    else:
        yield found


def check(payload: dict[str, Any]) -> None:
    """The contract that holds for every run: keys, types JSON knows, finite numbers, columns of one length."""
    for name, keys in KEYS.items():
        part = payload[name] if name else payload
        if part is not None:
            assert set(part) == set(keys.split()), name
    for name, keys in LISTS.items():
        assert all(set(one) == set(keys.split()) for one in payload[name]), name
    for value in values(payload):
        assert value is None or type(value) in (str, int, float, bool), repr(value)
        assert not isinstance(value, float) or math.isfinite(value)
    json.dumps(payload, allow_nan=False).encode("utf-8")
    images = payload["images"]
    n = payload["run"]["shown"]
    assert {len(column) for column in images.values() if column is not None} == {n}
    assert all(0 <= at <= 65535 for at in [*images["x"], *images["y"]])
    for one in payload["clusters"]:
        for place in [*one["typical"], *one["uncertain"]]:
            assert images["cluster"][place] == one["number"]
    assert [one["number"] for one in payload["clusters"]] == list(range(len(payload["clusters"])))
    epochs = len(payload["training"]["epoch"])
    columns = [*payload["training"]["terms"].values(), *(payload["training"]["pairs"] or {}).values()]
    assert all(len(column) == epochs for column in columns)
