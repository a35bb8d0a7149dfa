"""Which epoch's model a run keeps: the last, the one of least loss, or, for comparison with papers, labels' choice."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from ilk.analysis.metrics import accuracy
from ilk.images import Images
from ilk.methods.base import Method
from ilk.networks.features import Features
from ilk.networks.weights import put_state
from ilk.runs.folder import SELECTION, Run
from ilk.system.files import replacing, write_json
from ilk.system.processes import several
from ilk.system.progress import Watch
from ilk.system.text import in_short
from ilk.training.assign import assign

SELECTED = "selected.safetensors"  # the model of the best epoch so far, until the run is finished


class Selection:
    """Keeps the model of the best epoch so far in the run's folder, so that a run that was killed still has it.

    `by`: "last" (nothing is kept), "min_loss", or "oracle_acc", the epoch of highest accuracy against the
    labels of `images`, as CC, DCDC and other papers report; a score of that kind is no score of a method that
    works without labels, and is marked wherever it is shown.
    Losses are compared among epochs of the same terms only: a term that sets in later (clusters that
    start from a partition, say) adds to the sum, so that the epochs before it would always win, and a method
    may train its terms by turns. So the best of each set of terms is kept, and in the end the one whose
    terms are those of the last epoch wins. Epochs in which there are no clusters yet never count.
    """

    def __init__(self, by: str, run: Run, method: Method, data: Images | Features, images: Images, fabric: Fabric):
        self.by, self.run, self.method, self.data, self.fabric = by, run, method, data, fabric
        self.codes = images.labels
        self.terms: tuple[str, ...] | None = None  # of the last epoch that counts
        self.best: dict[tuple[str, ...], tuple[float, int]] = {}  # by terms: the least value and its epoch
        self.models: dict[tuple[str, ...], dict[str, torch.Tensor]] = {}
        if by == "oracle_acc":
            refuse_without_labels(images)
        if by != "last" and self.file.is_file():
            self.go_on()

    @property
    def file(self) -> Any:
        return self.run / SELECTED

    def go_on(self) -> None:
        """Takes up what a killed run has kept. Raises ValueError, a sentence, where that is damaged."""
        try:
            with safe_open(self.file, "pt") as stored:
                said = json.loads((stored.metadata() or {})["ilk"])
            tensors = load_file(self.file)
            for number, one in enumerate(said):
                terms, start = tuple(map(str, one["terms"])), f"{number}/"
                self.best[terms] = float(one["best"]), int(one["epoch"])
                self.models[terms] = {
                    name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)
                }
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"'{self.file}' is damaged ({in_short(error)}). Delete it to go on; the epoch is then chosen among"
                " those that follow."
            ) from error

    def counted(self, record: Mapping[str, Any]) -> tuple[str, ...] | None:
        """The terms among whose epochs the one of `record` is compared; None where it does not count."""
        if record["effective_clusters"] is None or record["loss"] is None or not math.isfinite(record["loss"]):
            return None
        if self.by == "oracle_acc":
            return ()
        return tuple(sorted(name for name in record["terms"] if not name.startswith("extra_")))

    def see(self, record: dict[str, Any]) -> None:
        """Looks at the model after an epoch and keeps it if it is the best so far."""
        terms = None if self.by == "last" else self.counted(record)
        if terms is None:
            return
        self.terms = terms
        value = record["loss"] if self.by == "min_loss" else -self.accuracy()
        if terms in self.best and value >= self.best[terms][0]:
            return
        self.best[terms] = value, record["epoch"]
        state = self.method.state_dict()
        self.models[terms] = {name: tensor.detach().to("cpu", copy=True) for name, tensor in state.items()}
        self.write()

    def write(self) -> None:
        said = [{"best": best, "epoch": epoch, "terms": terms} for terms, (best, epoch) in self.best.items()]
        tensors = {
            f"{number}/{name}": tensor.contiguous()
            for number, terms in enumerate(self.best)
            for name, tensor in self.models[terms].items()
        }
        with replacing(self.file) as temporary:
            save_file(tensors, temporary, metadata={"format": "pt", "ilk": json.dumps(said)})

    def accuracy(self) -> float:
        assert self.codes is not None  # refused in the beginning
        training = self.method.training
        found = assign(self.method, self.data, self.fabric).cluster
        self.method.train(training)
        rows = np.flatnonzero(self.codes >= 0)
        return accuracy(self.codes[rows], found[rows])

    def restore(self, epochs: int, watch: Watch) -> None:
        """Puts the chosen epoch's model in place of the last one's, and writes down which it is."""
        if self.by == "last":
            return
        labels = self.by == "oracle_acc"
        if self.terms is None:  # a run that was killed after its last epoch
            counted = [terms for terms in map(self.counted, self.run.log()) if terms is not None]
            self.terms = counted[-1] if counted else None
        if self.terms in self.best:
            put_state(self.method, self.models[self.terms])
            best, chosen = self.best[self.terms]
            what = f"accuracy {-best:.3f} against the LABELS" if labels else f"loss {best:.4f}"
            watch.say(f"the model of epoch {chosen} of {epochs} is kept, that of the best {what} (select={self.by})")
        else:
            chosen = epochs
            watch.say(f"the model of the last epoch is kept: there was none with clusters to choose (select={self.by})")
        write_json(self.run / SELECTION, {"by": self.by, "epoch": chosen, "epochs": epochs, "used_labels": labels})


def refuse_without_labels(images: Images) -> None:
    if images.labels is None or not (images.labels >= 0).any():
        raise ValueError(
            "select=oracle_acc lets labels choose the epoch, and there are none. Give --labels, or leave --select out."
        )
    if several():
        raise ValueError("select=oracle_acc works in one process only. Leave --select out, or start without torchrun.")
