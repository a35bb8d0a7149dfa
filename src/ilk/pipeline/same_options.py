"""Which options a run began with, and what may be asked of it when it goes on: the same, or nothing."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from ilk.pipeline.initial_weights import find_initial
from ilk.pipeline.options import options_of
from ilk.pipeline.request import Request
from ilk.pipeline.trained import OWN
from ilk.runs.config import MOST_PARTS, MOST_TEXT, Plan
from ilk.system.files import file_hash
from ilk.system.progress import Watch
from ilk.system.wording import flag

# looked at elsewhere (clusters, method; files by their content), or without effect on the result
ELSEWHERE = ("n_clusters", "method", "embeddings", "known_labels", "device", "offline")
OF_A_REPRESENTATION = ("preset", "epochs", "image_size", "train", "settings", "init", "freeze_backbone", "balance")
UNKNOWN = object()  # a value that is not recorded, or an object that cannot be


def asked_of(request: Request) -> dict[str, Any]:
    """The options of `request` that differ from their defaults, as plain values for config.json."""
    values = {name: plain(getattr(request, name)) for name in options_of(Request)}
    return {
        name: value for name, value in values.items() if value is not UNKNOWN and value != default_of(name)
    }  # fmt: skip


def refuse_contradictions(request: Request, given: Collection[str], run: object, plan: Plan, watch: Watch) -> None:
    """Raises ValueError where an option asks for another training than the one that goes on.

    `given`: the options that were given, even if with their default. An option that cannot be compared, in a run of an
    earlier version or with an object of Python, is named to `watch` as without effect.
    """
    differing: dict[str, object] = {}
    unknown = []
    for name in options_of(Request):
        value = plain(getattr(request, name))
        if name in ELSEWHERE or value is UNKNOWN or value == "auto":
            continue
        if name not in given and value == default_of(name):
            continue
        if plan.asked is not None and value == plan.asked.get(name, default_of(name)):
            continue
        if name == "settings" and plan.asked is not None and same_settings(request, plan.asked.get(name, [])):
            continue
        if name == "init" and plan.init is not None and has_weights(str(value), plan.init.hash):
            continue
        began = began_with(plan, name)
        if began is UNKNOWN and plan.asked is None:
            unknown.append(flag(name))
        elif began is UNKNOWN:
            differing[name] = plan.asked.get(name, default_of(name)) if plan.asked is not None else None
        elif not equal(name, value, began):
            differing[name] = began
    if differing:
        raise ValueError(sentence(request, run, plan, differing))
    if unknown:
        watch.say(f"{', '.join(unknown)} cannot be compared with the settings of '{run}', and changes nothing in it")


def sentence(request: Request, run: object, plan: Plan, differing: Mapping[str, object]) -> str:
    """What contradicts the run, and what to do instead."""
    began = " and ".join(words(name, value) for name, value in differing.items())
    asked = " and ".join(words(name, plain(getattr(request, name))) for name in differing)
    advice = f"Leave {'it' if len(differing) == 1 else 'them'} out to go on with the run, or choose another --out."
    longer = request.epochs is not None and request.epochs > plan.train.epochs
    if list(differing) == ["epochs"] and longer and plan.encoder is None:
        advice = (
            f"To train longer, begin a new run with its weights: ilk fit SOURCE --clusters {plan.n_clusters} --method"
            f" {plan.method} --init {run} --out OTHER"
        )
    return f"'{run}' began with {began}; it cannot go on with {asked}. {advice}"


def words(name: str, value: object) -> str:
    """An option with its value, as on the command line."""
    if value is None or value is False or value == []:
        return f"no {flag(name)}"
    if value is True:
        return flag(name)
    if isinstance(value, list):
        return " ".join(f"{flag(name)} {part}" for part in value)
    return f"{flag(name)} {value}"


def began_with(plan: Plan, name: str) -> object:
    """The value that an option has in the plan of a run; UNKNOWN where the plan does not say it."""
    old_representation = plan.asked is None and plan.encoder is not None and plan.encoder.spec == OWN
    if old_representation and name in OF_A_REPRESENTATION:  # that of the run inside, not of the heads
        return UNKNOWN
    features = plan.features
    if name in ("feature_views", "neighbours"):
        return UNKNOWN if features is None else features.views if name == "feature_views" else features.neighbours
    if name == "backbone" and (plan.asked is None or plan.encoder is not None):
        return UNKNOWN  # an encoder may have several names
    values: dict[str, object] = {
        "preset": plan.preset, "epochs": plan.train.epochs, "seed": plan.seed, "select": plan.select,
        "image_size": plan.images.size, "freeze_backbone": plan.freeze_backbone, "backbone": plan.backbone,
        "precision": plan.precision or UNKNOWN, "views": UNKNOWN if plan.views.name == "custom" else plan.views.name,
        "init": None if plan.init is None else plan.init.path, "balance": plan.method_config.get("balance", UNKNOWN),
    }  # fmt: skip
    return values.get(name, UNKNOWN)


def equal(name: str, value: object, began: object) -> bool:
    if name == "init" and isinstance(value, str) and isinstance(began, str):
        return os.path.realpath(os.path.expanduser(value)) == os.path.realpath(os.path.expanduser(began))
    return value == began


def has_weights(path: str, digest: str) -> bool:
    """Whether the run or file at `path` has the weights of that hash, wherever it was moved."""
    try:
        return file_hash(find_initial(path).file) == digest
    except (ValueError, OSError):
        return False


def same_settings(request: Request, asked: list[str]) -> bool:
    """Whether the settings of `request` come to the same as those asked for before, NAME=VALUE each."""
    before = replace(request, settings=dict(text.split("=", 1) for text in asked))
    return before.resolved_preset() == request.resolved_preset()


def default_of(name: str) -> object:
    return plain(options_of(Request)[name].default)


def plain(value: object) -> object:
    """A value as config.json has it: a number, a text, None, or a list of NAME=VALUE; UNKNOWN for other objects."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str):
        return value if len(value) <= MOST_TEXT and "\0" not in value else UNKNOWN
    if isinstance(value, Mapping):
        pairs = sorted(f"{name}={part}" for name, part in value.items())
        short = len(pairs) <= MOST_PARTS and all(len(pair) <= MOST_TEXT for pair in pairs)
        return pairs if short else UNKNOWN
    return UNKNOWN
