"""DCDC: the assignments themselves are contrasted, images by rows and clusters by columns.

Source: Dang, Deng, Yang, Huang. Doubly Contrastive Deep Clustering. arXiv 2103.05484, 2021.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from pydantic import model_validator
from torch import Tensor, nn
from typing_extensions import Self

from ilk.losses import contrast
from ilk.methods.base import Method
from ilk.methods.records import (
    BALANCE,
    DEFAULT,
    HEADS,
    WARM_START,
    Balance,
    Count,
    Number,
    Positive,
    Preset,
    Recipe,
    Share,
    Weight,
    setting,
    settings,
)
from ilk.methods.start import Encode, due
from ilk.methods.subheads import SubHeads
from ilk.runs.papers import PAPERS
from ilk.system.processes import gather


@settings
class DCDCConfig:
    """Settings of DCDC; the defaults are the paper's for CIFAR-10 (tables II and III)."""

    temperature: Positive = setting(0.5, "of both contrasts (0.3 for CIFAR-100 and STL-10)")
    over_clusters: Number = setting(70, "size of the over-clustering head (700 for Tiny-ImageNet); 0: none")
    repeats: Count = setting(3, "randomly changed views an image, beside the original")
    mask_same_image: bool = setting(False, "other views of the same image are no negatives (the paper counts them)")
    symmetric: bool = setting(False, "contrast in both directions (not in the paper)")
    sample_weight: Weight = setting(1.0, "weight of the sample view, the contrast of images")
    class_weight: Weight = setting(1.0, "weight of the class view, the contrast of clusters")
    entropy_weight: Weight = setting(0.0, "weight of the marginal entropy (1 in the released code)")
    cluster_heads: Count = setting(1, HEADS)
    warm_start: Share = setting(0.0, WARM_START + "; until then the over-clustering head trains alone")
    balance: Balance = setting("uniform", BALANCE)

    @model_validator(mode="after")
    def check(self) -> Self:
        if self.sample_weight + self.class_weight == 0:
            raise ValueError("Without sample_weight and class_weight nothing is contrasted; set one above 0.")
        if self.over_clusters == 1:
            raise ValueError("over_clusters must be 0 (no over-clustering head) or at least 2; got 1.")
        if self.warm_start and not self.over_clusters:
            raise ValueError("warm_start needs the over-clustering head; set over_clusters or warm_start=0.")
        return self


class DCDC(Method):
    """A linear cluster head and a linear over-clustering head, trained in turn, an epoch each.

    What the paper calls an epoch, one pass for each head, is two epochs here; the last is the cluster head's.
    Extra images pass in the over-clustering epochs.
    """

    name = "dcdc"
    title = PAPERS["dcdc"].title
    source = PAPERS["dcdc"].source
    uses_extra = True
    config: DCDCConfig

    def __init__(self, backbone: nn.Module, n_clusters: int, n_images: int, config: DCDCConfig) -> None:
        super().__init__(backbone, n_clusters, n_images, config)
        d = self.feature_dim
        self.cluster_heads = SubHeads.from_config(lambda: nn.Linear(d, n_clusters), n_clusters, config)
        self.over_head = SubHeads(lambda: nn.Linear(d, config.over_clusters), 1) if config.over_clusters else None
        self.repeats = config.repeats
        self.over = False  # whether the over-clustering head is trained; `start_epoch` decides it for each epoch

    def forward(self, view_a: Tensor, view_b: Tensor, index: Tensor | None) -> dict[str, Tensor]:
        heads = self.cluster_heads
        h_a = gather(self.backbone(view_a))  # (n, d), the original view
        h_b = torch.cat([gather(part) for part in self.backbone(view_b).chunk(self.repeats)])  # (r n, d), view by view
        if self.over_head is None or (heads.active and not self.over and index is not None):
            return self.mean_over_heads(*self.terms(heads, h_a, h_b))
        if heads.active and index is not None:
            with torch.no_grad():
                self.observed = heads.observe(heads.logits(h_a).log_softmax(2))
        terms, _ = self.terms(self.over_head, h_a, h_b)
        return {f"over_{name}": term.mean() for name, term in terms.items()}

    def terms(self, heads: SubHeads, h_a: Tensor, h_b: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """The losses of each head, (heads,), and the logarithms of the original views' assignments, (heads, n, k).

        Losses: sample view (rows are images), class view (columns are clusters), entropy of the original views.
        """
        config, n = self.config, len(h_a)
        log_a, log_b = heads.logits(torch.cat([h_a, h_b])).log_softmax(2).tensor_split([n], 1)  # (heads, n and r n, k)
        a, b = log_a.exp().repeat(1, self.repeats, 1), log_b.exp()  # (heads, r n, k)
        same = None
        if config.mask_same_image and self.repeats > 1:
            image = torch.arange(n, device=h_a.device).repeat(self.repeats)
            same = image[:, None] == image[None, :]
        form: dict[str, Any] = {"negatives": "other_view", "symmetric": config.symmetric}
        terms: dict[str, Tensor] = {}
        if config.sample_weight:
            terms["sample"] = config.sample_weight * contrast(a, b, config.temperature, ignore=same, **form)
        if config.class_weight:
            terms["class"] = config.class_weight * contrast(a.mT, b.mT, config.temperature, **form)
        if config.entropy_weight:
            terms["entropy"] = config.entropy_weight * heads.imbalance(log_a)
        return terms, log_a

    def embed_features(self, h: Tensor) -> Tensor:
        return F.normalize(h.float(), dim=1)

    def start_epoch(self, epoch: int, epochs: int, encode: Encode, seed: int) -> str | None:
        """Decides which head is trained; starts the cluster heads from the features when their time has come."""
        self.over = self.takes_extra(epoch, epochs)
        return super().start_epoch(epoch, epochs, encode, seed)

    def takes_extra(self, epoch: int, epochs: int) -> bool:
        """Whether the epoch is the over-clustering head's: all before the warm start, then every other but the last."""
        if self.over_head is None:
            return False
        return not due(epoch, epochs, self.config.warm_start) or (epochs - 1 - epoch) % 2 == 1


PAPER = Recipe(
    backbone="resnet34-pica", image_size=32, views="dcdc", front_end="normalize-sobel", learning_rate=1e-3,
    batch_size=50, epochs=400,
)  # fmt: skip
DCDC.presets = {
    "default": Preset(
        DCDCConfig(cluster_heads=10, warm_start=0.5, repeats=1, symmetric=True),
        DEFAULT,
        "best we found on small images and CPUs: several heads, started half-way from the features",
    ),
    "paper": Preset(
        DCDCConfig(), PAPER, "the published settings for CIFAR-10: ResNet-34 on edges, Adam 1e-3, 2 x 200 epochs"
    ),
    "released": Preset(
        DCDCConfig(entropy_weight=1.0), PAPER, "the authors' code: as the paper, and the entropy of the mean assignment"
    ),
}
