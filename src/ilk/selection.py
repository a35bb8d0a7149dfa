"""Which epoch's model a run keeps: the last, the one of least loss, or, for comparison with papers, labels' choice."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
from lightning_fabric import Fabric
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ilk.distributed import several
from ilk.features import Features
from ilk.files import replacing, write_json
from ilk.images import Images
from ilk.methods.base import Method
from ilk.metrics import accuracy
from ilk.predict import assign
from ilk.runs import SELECTION, Run
from ilk.watch import Watch
from ilk.weights import put_state

SELECTED = "selected.safetensors"  # the model of the best epoch so far, until the run is finished


class Selection:
    """Keeps the model of the best epoch so far in the run's folder, so that a run that was killed still has it.

    `by`: "last" (nothing is kept), "min_loss", or "oracle_acc", the epoch of highest accuracy against the
    labels of `images`, as CC, DCDC and other papers report; a score of that kind is no score of a method that
    works without labels, and is marked wherever it is shown.
    Losses are compared among epochs of the same terms only: a term that sets in later (clusters that
    start from a partition, say) adds to the sum, so that the epochs before it would always win. Epochs
    in which there are no clusters yet never count.
    """

    def __init__(self, by: str, run: Run, method: Method, data: Images | Features, images: Images, fabric: Fabric):
        self.by, self.run, self.method, self.data, self.fabric = by, run, method, data, fabric
        self.codes = images.labels
        self.terms: tuple[str, ...] = ()
        self.best, self.epoch = math.inf, 0
        if by == "oracle_acc":
            refuse_without_labels(images)
        if by != "last" and self.file.is_file():
            with safe_open(self.file, "pt") as stored:
                said = json.loads((stored.metadata() or {})["ilk"])
            self.best, self.epoch, self.terms = said["best"], said["epoch"], tuple(said["terms"])

    @property
    def file(self) -> Any:
        return self.run / SELECTED

    def see(self, record: dict[str, Any]) -> None:
        """Looks at the model after an epoch and keeps it if it is the best so far."""
        if self.by == "last" or record["effective_clusters"] is None or not math.isfinite(record["loss"]):
            return
        terms = tuple(sorted(name for name in record["terms"] if not name.startswith("extra_")))
        value = record["loss"] if self.by == "min_loss" else -self.accuracy()
        if value >= self.best and (self.by != "min_loss" or terms == self.terms):
            return
        self.best, self.epoch, self.terms = value, record["epoch"], terms
        said = json.dumps({"best": value, "epoch": self.epoch, "terms": terms})
        tensors = {name: tensor.contiguous() for name, tensor in self.method.state_dict().items()}
        with replacing(self.file) as temporary:
            save_file(tensors, temporary, metadata={"format": "pt", "ilk": said})

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
        if self.file.is_file():
            put_state(self.method, load_file(self.file))
        else:  # clusters came in no epoch
            self.epoch = epochs
        what = f"accuracy {-self.best:.3f} against the LABELS" if labels else f"loss {self.best:.4f}"
        watch.say(f"the model of epoch {self.epoch} of {epochs} is kept, that of the best {what} (select={self.by})")
        write_json(self.run / SELECTION, {"by": self.by, "epoch": self.epoch, "epochs": epochs, "used_labels": labels})


def refuse_without_labels(images: Images) -> None:
    if images.labels is None or not (images.labels >= 0).any():
        raise ValueError(
            "select=oracle_acc lets labels choose the epoch, and there are none. Give --labels, or leave --select out."
        )
    if several():
        raise ValueError("select=oracle_acc works in one process only. Leave --select out, or start without torchrun.")
