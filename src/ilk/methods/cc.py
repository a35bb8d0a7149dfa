"""CC: rows of the batch are images, columns of the assignments are clusters, and both are contrasted.

Source: Li, Hu, Liu, Peng, Zhou, Peng. Contrastive Clustering. AAAI 2021 (arXiv 2009.09687).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ilk.losses import cluster_contrast, nt_xent
from ilk.methods.base import DEFAULT, Encode, Method, Preset, Recipe, check, check_choice, check_part
from ilk.methods.subheads import BALANCES, SubHeads
from ilk.networks.heads import mlp
from ilk.system.processes import gather


@dataclass(frozen=True, kw_only=True)
class CCConfig:
    """Settings of CC; the defaults are the paper's.

    `embedding_dim`: width of the instance head (section 4.2). `instance_temperature`,
    `cluster_temperature`: tau_I and tau_C (section 4.2). The three weights multiply the instance
    loss, the cluster loss and the entropy term; the paper adds them up (eq. 7).

    Ours, off in the paper: `cluster_heads` heads are trained side by side and in the end one is used, see `SubHeads`;
    with `warm_start` > 0 the cluster loss waits for that part of the training, and each
    head then starts from its own partition of the features (`start.py`) instead of from chance.
    `balance`: which sizes of clusters the entropy term holds for right, see `SubHeads`.
    """

    embedding_dim: int = 128
    instance_temperature: float = 0.5
    cluster_temperature: float = 1.0
    instance_weight: float = 1.0
    cluster_weight: float = 1.0
    entropy_weight: float = 1.0
    cluster_heads: int = 1
    warm_start: float = 0.0
    balance: str = "uniform"

    def __post_init__(self) -> None:
        check(self, 1, "embedding_dim", "cluster_heads")
        check(self, 0, "instance_temperature", "cluster_temperature", strict=True)
        check(self, 0, "instance_weight", "cluster_weight", "entropy_weight")
        check_part(self, "warm_start")
        check_choice(self, "balance", *BALANCES)


class CC(Method):
    """Instance head and cluster head(s) on one backbone, trained together (Li et al. 2021, figure 2)."""

    name = "cc"
    title = "Contrastive Clustering"
    source = "Li et al., AAAI 2021"
    representation = ("instance_head",)
    config: CCConfig
    uses_extra = True

    def __init__(self, backbone: nn.Module, n_clusters: int, n_images: int, config: CCConfig) -> None:
        super().__init__(backbone, n_clusters, n_images, config)
        d = self.feature_dim
        self.instance_head = mlp(d, d, config.embedding_dim)
        self.cluster_heads = SubHeads(
            lambda: mlp(d, d, n_clusters), config.cluster_heads, wait=config.warm_start > 0, clusters=n_clusters,
            balance=config.balance,
        )  # fmt: skip

    def forward(self, view_a: Tensor, view_b: Tensor, index: Tensor) -> dict[str, Tensor]:
        h_a, h_b = self.backbone(view_a), self.backbone(view_b)  # apart: each view has its own batch statistics
        z_a, z_b = gather(self.instance_head(h_a)), gather(self.instance_head(h_b))  # (n, d)
        terms = {"instance": self.config.instance_weight * nt_xent(z_a, z_b, self.config.instance_temperature)}
        if self.extra or not self.cluster_heads.active:
            self.observed = None
            return terms
        logits = self.cluster_heads.logits(torch.cat([gather(h_a), gather(h_b)]))
        log_a, log_b = logits.log_softmax(2).chunk(2, 1)  # (heads, n, k)
        contrast = cluster_contrast(log_a.exp(), log_b.exp(), self.config.cluster_temperature)  # (heads,)
        entropy = self.cluster_heads.imbalance(log_a) + self.cluster_heads.imbalance(log_b)  # (heads,)
        cluster = self.config.cluster_weight * contrast
        balance = self.config.entropy_weight * entropy
        self.cluster_heads.follow((cluster + balance).detach())
        self.observed = self.cluster_heads.observe(log_a)
        return terms | {"cluster": cluster.mean(), "entropy": balance.mean()}

    def assign_features(self, h: Tensor) -> Tensor:
        return self.cluster_heads.assign(h)

    def embed_features(self, h: Tensor) -> Tensor:
        z: Tensor = self.instance_head(h)
        return F.normalize(z.float(), dim=1)

    def start_epoch(self, epoch: int, epochs: int, encode: Encode, seed: int) -> str | None:
        """Starts the cluster heads from partitions of the features, once, when their time has come."""
        return self.cluster_heads.start_when_due(
            encode, self.n_clusters, epoch=epoch, epochs=epochs, warm_start=self.config.warm_start, seed=seed
        )

    def finish(self, encode: Encode) -> None:
        """Settles on one of the cluster heads."""
        self.cluster_heads.choose(encode, self.n_clusters)


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
