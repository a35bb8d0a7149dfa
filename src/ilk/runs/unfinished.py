"""What a run folder without results or without a model is, and what to do about it, as sentences."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ilk.system.files import read_json
from ilk.system.own_folders import REPRESENTATION

State = Literal["finished", "training", "model", "prediction"]


def state_of(folder: Path, config: Mapping[str, Any] | None = None) -> State:
    """How far the run in `folder` is.

    "finished": it has results. "prediction": it was begun by `ilk predict` and has none yet. "model": a trained
    model without results or a checkpoint, as imported from elsewhere; training it "on" would start from scratch.
    "training": all others. `config`: the content of its config.json, if that was read already.
    """
    if (folder / "assignments.parquet").is_file():
        return "finished"
    if predicted_with(folder, config) is not None:
        return "prediction"
    if (folder / "model.safetensors").is_file() and not (folder / "checkpoint.pt").is_file():
        return "model"
    return "training"


def why_no_results(folder: Path, config: Mapping[str, Any] | None = None) -> str:
    """Why the run in `folder` has no results and how to get them, two sentences."""
    config = plain_config(folder) if config is None else config
    state = state_of(folder, config)
    if state == "prediction":
        command = ["ilk", "predict", str(predicted_with(folder, config)), "SOURCE", "--out", str(folder)]
        return f"It is a prediction that has not finished. Go on with: {shlex.join(command)}"
    if state == "model":
        command = ["ilk", "predict", str(folder), "SOURCE"]
        return (
            "It holds a trained model without results, as after an import. Sort images with it:"
            f" {shlex.join(command)}"
        )  # fmt: skip
    return f"Its training has not finished. Go on with: {resume_command(folder, config)}"


def why_no_model(folder: Path, config: Mapping[str, Any] | None = None) -> str:
    """Why the run in `folder` has no model and what to do, two sentences."""
    config = plain_config(folder) if config is None else config
    by = predicted_with(folder, config)
    if by is not None:
        return f"It is a prediction. Use the run that made it: {by}"
    if state_of(folder, config) == "finished":
        return "It has results, so its model.safetensors was removed. Put it back, or train again in another folder."
    return f"Its training has not finished. Go on with: {resume_command(folder, config)}"


def resume_command(folder: Path, config: Mapping[str, Any] | None = None) -> str:
    """The command that goes on with the training in `folder`: the one it was started with, if that is known."""
    config = plain_config(folder) if config is None else config
    recorded = config.get("command")
    words = [str(word) for word in recorded] if isinstance(recorded, list) else []
    if words[:2] != ["ilk", "fit"]:
        number = config.get("number")
        clusters = number.get("asked") if isinstance(number, Mapping) else config.get("n_clusters", "K")
        words = ["ilk", "fit", "SOURCE", "--method", str(config.get("method", "cc")), "--clusters", str(clusters)]
    target = folder.parent if folder.name == REPRESENTATION else folder  # resumed with the run around it
    return shlex.join([*without_target(words), "--out", str(target), "--resume"])


def without_target(words: list[str]) -> list[str]:
    """The words of an `ilk fit` command without --out and --resume: the folder may have been moved since."""
    kept, skip = [], False
    for word in words:
        if skip or word in ("--out", "--resume") or word.startswith("--out="):
            skip = word == "--out" and not skip
            continue
        kept.append(word)
    return kept


def predicted_with(folder: Path, config: Mapping[str, Any] | None = None) -> str | None:
    """The run whose model made the prediction in `folder`; None for a run of its own."""
    by = (plain_config(folder) if config is None else config).get("predicted_with")
    return None if by is None else str(by)


def plain_config(folder: Path) -> dict[str, Any]:
    """The content of config.json, {} where there is none or it is damaged: advice must not fail."""
    try:
        config = read_json(folder / "config.json")
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}
