"""`Job`: what is trained on which images, and a key that identifies it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, field
from typing import Any

from pydantic.dataclasses import dataclass

from ilk.methods import METHODS
from ilk.pipeline.options import field_of, one_sentence
from ilk.pipeline.request import Request
from ilk.research.baselines import BASELINES
from ilk.research.grid.fingerprints import embeddings_of, full_path, network_of, recipes_of
from ilk.research.labelled import short_name
from ilk.research.options import PIXELS, STRICT, Balance, LabelledTraining, ReadOut, Rule, Split
from ilk.research.oracle import ORACLE
from ilk.system.text import did_you_mean

BASELINE_FIELDS = ("source", "method", "seed", "image_size", "n_clusters", "images", "imbalance", "split", "on")


@one_sentence()
@dataclass(frozen=True, kw_only=True, config=STRICT)
class Job:
    """One training or one baseline on one labelled set, and how its clusters are read out.

    `source`: as on the command line (a folder, .npz, FILE.py:NAME, ...), or "digits", scikit-learn's 1,797.
    `method`: of ilk, or one of `ilk.research.baselines.BASELINES`. `preset` to `n_clusters`: as for `Request`; without
    `n_clusters`, the number of classes. `images`: a random subset of that many, the same for every seed.
    `imbalance`: a long tail of that ratio, drawn by `seed` (`long_tailed`). `split`: which images are trained on
    and scored. `on`: what a baseline clusters, "pixels" or the embeddings of a run folder. `read_out`: "kmeans"
    takes k-means of a run's embeddings (10 starts) for its clusters. `select`: which epoch's model is
    kept: "last", "min_loss", or "oracle_acc", where labels choose, as some papers do.
    """

    source: str
    method: str
    seed: int = field_of(LabelledTraining, "seed")
    preset: str = field_of(LabelledTraining, "preset")
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)
    views: str | None = field_of(LabelledTraining, "views")
    backbone: str | None = field_of(LabelledTraining, "backbone")
    image_size: int | None = field_of(LabelledTraining, "image_size")
    balance: Balance | None = field_of(LabelledTraining, "balance")
    epochs: int | None = field_of(LabelledTraining, "epochs")
    minutes: float | None = field_of(LabelledTraining, "minutes")
    n_clusters: int | None = field_of(LabelledTraining, "n_clusters")
    images: int | None = field_of(LabelledTraining, "images")
    imbalance: int | float | None = field_of(LabelledTraining, "imbalance")
    split: Split = field_of(LabelledTraining, "split")
    on: str = field_of(LabelledTraining, "on")
    read_out: ReadOut = field_of(LabelledTraining, "read_out")
    select: Rule = field_of(LabelledTraining, "select")

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", dict(self.settings))

    @property
    def is_baseline(self) -> bool:
        return self.method in BASELINES

    @property
    def key(self) -> str:
        """A hash of every field that changes the training (all but `read_out`); see also `Task`.

        It includes what names stand for: the settings behind a preset, the recipes behind views, the weights of a run
        or a file. Where those change, both runs are kept. The spelling of numbers and paths does not matter.
        """
        asked = {name: value for name, value in asdict(self).items() if name != "read_out"}
        asked["settings"] = {name: str(value) for name, value in sorted(self.settings.items())}
        asked["source"] = full_path(self.source)
        asked["on"] = PIXELS if self.on == PIXELS else embeddings_of(self.on)
        for name in ("minutes", "imbalance"):
            asked[name] = None if asked[name] is None else float(asked[name])
        if self.is_baseline:
            asked = {name: asked[name] for name in BASELINE_FIELDS}
        else:
            asked["backbone"] = None if self.backbone is None else network_of(self.backbone)
            try:
                preset = self.request(2).resolved_preset()
                asked["preset_means"] = [asdict(preset.config), asdict(preset.recipe)]
                asked["settings"] = sorted(self.settings)  # which ones were given matters: defaults may depend on it
                asked["views_mean"] = None if self.views is None else recipes_of(self.views)
            except (ValueError, TypeError):  # the job will be refused with this message when it runs
                pass
        text = json.dumps(asked, sort_keys=True, default=str)
        return hashlib.blake2b(text.encode(), digest_size=5).hexdigest()

    def folder_of(self, key: str) -> str:
        """The name of its run folder; `key`: that of its `Task`."""
        return f"{short_name(self.source)}-{self.method}-s{self.seed}-{key}"

    @property
    def title(self) -> str:
        """The job in a few words, for messages."""
        on = "" if self.on == PIXELS else f" ({self.on})"
        read = ", read by k-means" if self.read_out == "kmeans" else ""
        return f"{self.method} on {short_name(self.source)}{on}, seed {self.seed}{read}"

    def request(self, k: int) -> Request:
        """The training request for images of `k` classes."""
        return Request(
            n_clusters=self.n_clusters or k, method=self.method, preset=self.preset, seed=self.seed,
            settings=self.settings, views=self.views, backbone=self.backbone, image_size=self.image_size,
            balance=self.balance, epochs=self.epochs, minutes=self.minutes,
            select="last" if self.select == ORACLE else self.select,
        )  # fmt: skip


def refuse_unknown(method: str) -> None:
    """Raises ValueError, with the nearest name, for a name that is neither a method nor a baseline."""
    known = [*METHODS, *BASELINES]
    if method not in known:
        raise ValueError(f"Unknown method '{method}'.{did_you_mean(method, known)} Known: {', '.join(known)}.")
