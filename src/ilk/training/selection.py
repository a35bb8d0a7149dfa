"""The choice of the epoch whose model a run keeps: the last epoch, or the one with the smallest value of a `Rule`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from ilk.images import Images
from ilk.methods.base import Method
from ilk.networks.features import Features
from ilk.networks.weights import put_state
from ilk.runs.folder import SELECTION, Run
from ilk.system.files import replacing, write_json
from ilk.system.progress import Watch
from ilk.system.text import in_short
from ilk.training.assign import assign

SELECTED = "selected.safetensors"  # the model of the best epoch so far, until the run is finished

Terms = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How an epoch is chosen: the model of the epoch with the least `value` is kept.

    `name`: recorded as `select` in config.json and as `by` in selection.json.
    `value`: called after each epoch with its record and a function that assigns all images with the model as it is
    now, (n,) cluster numbers.
    `describe`: the value in words, for the line that says which epoch was kept.
    `same_terms`: compare only epochs with the same loss terms.
    `uses_labels`: recorded, and marked wherever scores of the run are shown.
    """

    name: str
    value: Callable[[Mapping[str, Any], Callable[[], np.ndarray]], float]
    describe: Callable[[float], str]
    same_terms: bool = False
    uses_labels: bool = False


MIN_LOSS = Rule(
    name="min_loss", value=lambda record, clusters: float(record["loss"]), describe=lambda loss: f"loss {loss:.4f}",
    same_terms=True,
)  # fmt: skip
RULES: dict[str, Rule | None] = {"last": None, "min_loss": MIN_LOSS}  # None: the last epoch's model, nothing to compare


def rule_for(run: Run, name: str, chosen: Rule | None) -> Rule | None:
    """The rule of a run whose config.json says `select = name`.

    `chosen`: the rule of the caller, for names that are not in `RULES`. Raises ValueError where the run needs
    a rule that is missing, or was started with another one.
    """
    if chosen is not None and chosen.name == name:
        return chosen
    if chosen is not None:
        raise ValueError(f"'{run}' was started with select={name}, not {chosen.name}. Choose another folder.")
    if name not in RULES:
        raise ValueError(
            f"'{run}' was started with select={name}, which lets labels choose the epoch. Only the ilk compare or"
            " ilk study command that started it can resume it."
        )
    return RULES[name]


class Selection:
    """Keeps the model of the best epoch so far in the run's folder, so that it survives a kill.

    With a rule of `same_terms`, losses are compared only among epochs with the same terms: a term that starts later
    (warm-started clusters) adds to the sum, so earlier epochs would always win, and some methods alternate between
    terms. The best epoch of each set of terms is kept; at the end, the set of the last epoch decides. Epochs in which
    the method has no clusters yet never count.
    """

    def __init__(self, rule: Rule | None, run: Run, method: Method, data: Images | Features, fabric: Fabric) -> None:
        self.rule, self.run, self.method, self.data, self.fabric = rule, run, method, data, fabric
        self.terms: Terms | None = None  # of the last epoch that counts
        self.best: dict[Terms, tuple[float, int]] = {}  # the least value and its epoch
        self.models: dict[Terms, dict[str, torch.Tensor]] = {}
        if rule is not None and self.file.is_file():
            self.resume()

    @property
    def file(self) -> Path:
        return self.run / SELECTED

    def resume(self) -> None:
        """Reads the models that a killed run has kept. Raises ValueError where the file is damaged."""
        try:
            with safe_open(self.file, "pt") as stored:
                entries = json.loads((stored.metadata() or {})["ilk"])
            tensors = load_file(self.file)
            for number, entry in enumerate(entries):
                terms, prefix = tuple(map(str, entry["terms"])), f"{number}/"
                self.best[terms] = float(entry["best"]), int(entry["epoch"])
                self.models[terms] = {
                    name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)
                }
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"'{self.file}' is damaged ({in_short(error)}). Delete it to go on; the epoch is then chosen among"
                " those that follow."
            ) from error

    def group(self, record: Mapping[str, Any]) -> Terms | None:
        """The terms among whose epochs this one is compared, () for all epochs alike; None where it does not count."""
        if record["effective_clusters"] is None or record["loss"] is None or not math.isfinite(record["loss"]):
            return None
        if self.rule is None or not self.rule.same_terms:
            return ()
        return tuple(sorted(name for name in record["terms"] if not name.startswith("extra_")))

    def see(self, record: dict[str, Any]) -> None:
        """Keeps the current model if the epoch of `record` is the best so far."""
        terms = None if self.rule is None else self.group(record)
        if self.rule is None or terms is None:
            return
        self.terms = terms
        value = self.rule.value(record, self.clusters)
        if terms in self.best and value >= self.best[terms][0]:
            return
        self.best[terms] = value, record["epoch"]
        state = self.method.state_dict()
        self.models[terms] = {name: tensor.detach().to("cpu", copy=True) for name, tensor in state.items()}
        self.write()

    def clusters(self) -> np.ndarray:
        """The cluster of each image by the model as it is now, (n,) int64; the method's mode is left as it was."""
        training = self.method.training
        clusters = assign(self.method, self.data, self.fabric).cluster
        self.method.train(training)
        return clusters

    def write(self) -> None:
        """Saves the models kept so far, with value, epoch and terms of each as metadata."""
        entries = [{"best": best, "epoch": epoch, "terms": terms} for terms, (best, epoch) in self.best.items()]
        tensors = {
            f"{number}/{name}": tensor.contiguous()
            for number, terms in enumerate(self.best)
            for name, tensor in self.models[terms].items()
        }
        with replacing(self.file) as temporary:
            save_file(tensors, temporary, metadata={"format": "pt", "ilk": json.dumps(entries)})

    def restore(self, epochs: int, watch: Watch) -> None:
        """Loads the chosen epoch's model into the method, and writes selection.json, which says which epoch it is."""
        if self.rule is None:
            return
        rule = self.rule
        if self.terms is None:  # a run that was killed after its last epoch
            counted = [terms for terms in map(self.group, self.run.log()) if terms is not None]
            self.terms = counted[-1] if counted else None
        if self.terms in self.best:
            put_state(self.method, self.models[self.terms])
            best, epoch = self.best[self.terms]
            watch.say(
                f"the model of epoch {epoch} of {epochs} is kept, that of the best {rule.describe(best)}"
                f" (select={rule.name})"
            )
        else:
            epoch = epochs
            watch.say(f"the model of the last epoch is kept: no epoch had clusters to choose from (select={rule.name})")
        write_json(
            self.run / SELECTION,
            {"by": rule.name, "epoch": epoch, "epochs": epochs, "used_labels": rule.uses_labels},
        )
