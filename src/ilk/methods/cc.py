"""CC: rows of the batch are images, columns of the assignments are clusters, and both are contrasted.

Source: Li, Hu, Liu, Peng, Zhou, Peng. Contrastive Clustering. AAAI 2021 (arXiv 2009.09687).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ilk.losses import nt_xent
from ilk.methods.base import Method
from ilk.methods.records import (
    BALANCE,
    DEFAULT,
    HEADS,
    WARM_START,
    Balance,
    Count,
    Positive,
    Preset,
    Recipe,
    Share,
    Weight,
    setting,
    settings,
)
from ilk.methods.subheads import SubHeads
from ilk.networks.heads import mlp
from ilk.runs.papers import PAPERS
from ilk.system.processes import gather


@settings
class CCConfig:
    """Settings of CC; the defaults are the paper's (section 4.2), which adds up the three terms (eq. 7)."""

    embedding_dim: Count = setting(128, "width of the instance head")
    instance_temperature: Positive = setting(0.5, "tau_I, of the contrast of images")
    cluster_temperature: Positive = setting(1.0, "tau_C, of the contrast of clusters")
    instance_weight: Weight = setting(1.0, "weight of the contrast of images")
    cluster_weight: Weight = setting(1.0, "weight of the contrast of clusters")
    entropy_weight: Weight = setting(1.0, "weight of the entropy term, which keeps clusters from emptying")
    cluster_heads: Count = setting(1, HEADS)
    warm_start: Share = setting(0.0, WARM_START)
    balance: Balance = setting("uniform", BALANCE)


class CC(Method):
    """Instance head and cluster heads on one backbone, trained together (Li et al. 2021, figure 2)."""

    name = "cc"
    title = PAPERS["cc"].title
    source = PAPERS["cc"].source
    representation = ("instance_head",)
    uses_extra = True
    config: CCConfig

    def __init__(self, backbone: nn.Module, n_clusters: int, n_images: int, config: CCConfig) -> None:
        super().__init__(backbone, n_clusters, n_images, config)
        d = self.feature_dim
        self.instance_head = mlp(d, d, config.embedding_dim)
        self.cluster_heads = SubHeads.from_config(lambda: mlp(d, d, n_clusters), n_clusters, config)

    def forward(self, view_a: Tensor, view_b: Tensor, index: Tensor | None) -> dict[str, Tensor]:
        config, heads = self.config, self.cluster_heads
        h_a, h_b = self.backbone(view_a), self.backbone(view_b)  # apart: each view has its own batch statistics
        z_a, z_b = gather(self.instance_head(h_a)), gather(self.instance_head(h_b))  # (n, d), a row an image
        instance = {"instance": config.instance_weight * nt_xent(z_a, z_b, config.instance_temperature)}
        if index is None or not heads.active:
            return instance
        log_a, log_b = heads.logits(torch.cat([gather(h_a), gather(h_b)])).log_softmax(2).chunk(2, 1)
        y_a, y_b = log_a.exp(), log_b.exp()  # (heads, n, k), a column a cluster
        terms = {
            "cluster": config.cluster_weight * nt_xent(y_a.mT, y_b.mT, config.cluster_temperature),
            "entropy": config.entropy_weight * (heads.imbalance(log_a) + heads.imbalance(log_b)),
        }
        return instance | self.mean_over_heads(terms, log_a)

    def embed_features(self, h: Tensor) -> Tensor:
        z: Tensor = self.instance_head(h)
        return F.normalize(z.float(), dim=1)


CC.presets = {
    "default": Preset(
        CCConfig(cluster_heads=10, warm_start=0.5, entropy_weight=0.3, instance_temperature=0.3),
        DEFAULT,
        "best we found on small images and CPUs: a sharper contrast, several heads, started half-way from the features",
    ),
    "paper": Preset(
        CCConfig(),
        Recipe(backbone="resnet34", image_size=224, views="cc", batch_size=256, epochs=1000),
        "the published settings: ResNet-34 at 224 pixels, Adam 3e-4, 1,000 epochs (a GPU and days)",
    ),
}
