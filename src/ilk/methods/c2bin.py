"""C2BIN: two views of an image are pulled together, as in BYOL; contrast is between clusters, at several scales.

Source: Contrasting Clusters while Bootstrapping Instances, anonymous submission to ICLR 2021.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import model_validator
from torch import Tensor, nn
from typing_extensions import Self

from ilk.losses import alignment, contrast, negative_marginal_entropy
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
from ilk.networks.banks import Twin
from ilk.networks.heads import mlp
from ilk.runs.papers import PAPERS
from ilk.system.processes import gather


@settings
class C2BINConfig:
    """Settings of C2BIN; the defaults are the paper's for clustering (table 10).

    Where the text can be read in several ways: `batch_norm` is not mentioned (BYOL has it and is fragile without);
    `normalize=False` compares columns by raw products, which favours large clusters; the formula as printed leaves
    the positive out of the denominator (`include_positive`).
    """

    hidden_dim: Count = setting(512, "hidden width of projector and predictor")
    embedding_dim: Count = setting(512, "output width of projector and predictor")
    batch_norm: bool = setting(True, "BatchNorm in their hidden layer")
    twin_momentum: Share = setting(0.995, "gamma, how slowly the follower moves")
    scales: str = setting("40,160", "sizes of the further cluster predictors")
    temperature: Positive = setting(1.0, "tau, of the contrast of clusters")
    align_weight: Weight = setting(1.0, "weight of the alignment of both views")
    cluster_weight: Weight = setting(1.0, "lambda_clust, weight of all cluster terms")
    entropy_weight: Weight = setting(1.0, "lambda_ent, of the marginal entropy, within cluster_weight")
    symmetric: bool = setting(True, "alignment and contrast averaged over both directions")
    normalize: bool = setting(True, "columns are compared by cosine; else by raw products")
    include_positive: bool = setting(False, "the positive is in the denominator too")
    target_teaches: bool = setting(True, "for ablations: whether the wanted number of clusters shapes the features")
    cluster_heads: Count = setting(1, HEADS)
    warm_start: Share = setting(0.0, WARM_START)
    balance: Balance = setting("uniform", BALANCE + " (further predictors: uniform)")

    @model_validator(mode="after")
    def check(self) -> Self:
        if any(size < 2 for size in self.sizes):
            raise ValueError(f"scales are cluster numbers of at least 2, such as 40,160; got '{self.scales}'.")
        clusters_teach = self.cluster_weight > 0 and (self.target_teaches or bool(self.sizes))
        if self.align_weight == 0 and not clusters_teach:
            raise ValueError(
                "Nothing would teach the encoder; set target_teaches to true, give scales, or weights above 0."
            )
        return self

    @property
    def sizes(self) -> list[int]:
        """`scales` as numbers."""
        try:
            return [int(word) for word in self.scales.replace(" ", "").split(",") if word]
        except ValueError:
            raise ValueError(f"scales are whole numbers, such as 40,160; got '{self.scales}'.") from None


class C2BIN(Method):
    """Runner and follower with a predictor between them, and linear cluster predictors on the runner's encoder."""

    name = "c2bin"
    title = PAPERS["c2bin"].title
    source = PAPERS["c2bin"].source
    representation = ("projector", "predictor")
    config: C2BINConfig

    def __init__(self, backbone: nn.Module, n_clusters: int, n_images: int, config: C2BINConfig) -> None:
        super().__init__(backbone, n_clusters, n_images, config)
        d, width = self.feature_dim, config.embedding_dim
        self.projector = mlp(d, config.hidden_dim, width, batch_norm=config.batch_norm)
        self.predictor = mlp(width, config.hidden_dim, width, batch_norm=config.batch_norm)
        self.cluster_heads = SubHeads.from_config(lambda: nn.Linear(d, n_clusters), n_clusters, config)
        self.scale_heads = nn.ModuleList(nn.Linear(d, size) for size in config.sizes)
        self.follower = Twin(self.runner(), config.twin_momentum)

    def forward(self, view_a: Tensor, view_b: Tensor, index: Tensor) -> dict[str, Tensor]:
        config, heads = self.config, self.cluster_heads
        h_a, h_b = self.backbone(view_a), self.backbone(view_b)
        align = alignment(self.predictor(self.projector(h_a)), self.follower(view_b))
        if config.symmetric:
            align = (align + alignment(self.predictor(self.projector(h_b)), self.follower(view_a))) / 2
        terms = {"align": config.align_weight * align}
        h = torch.cat([gather(h_a), gather(h_b)])  # (2n, d)
        scales = [self.cluster_terms(head(h).float().log_softmax(1)) for head in self.scale_heads]
        if heads.active:
            log_y = heads.logits(h if config.target_teaches else h.detach()).log_softmax(2)
            log_a, log_b = log_y.chunk(2, 1)  # (heads, n, k)
            entropy = (heads.imbalance(log_a) + heads.imbalance(log_b)) / 2  # (heads,)
            each = self.cluster_terms(log_y, entropy)  # (heads, 2)
            means = self.mean_over_heads({"cluster": each[:, 0], "entropy": each[:, 1]}, log_a)
            scales.append(torch.stack(list(means.values())))
        if scales:
            terms["cluster"], terms["entropy"] = torch.stack(scales).sum(0)
        return terms

    def cluster_terms(self, log_y: Tensor, entropy: Tensor | None = None) -> Tensor:
        """Contrast of clusters and marginal entropy of one predictor or several, weighted, (..., 2).

        `log_y`: (..., 2n, k), logarithms of the assignments of one view, then of the other. `entropy`: (...,), where
        it is not the published one, of both views' means.
        """
        config = self.config
        log_a, log_b = log_y.chunk(2, -2)
        clusters = contrast(
            log_a.exp().mT, log_b.exp().mT, config.temperature, negatives="other_view", symmetric=config.symmetric,
            include_positive=config.include_positive, normalize=config.normalize,
        )  # fmt: skip
        if entropy is None:
            entropy = (negative_marginal_entropy(log_a) + negative_marginal_entropy(log_b)) / 2
        return config.cluster_weight * torch.stack([clusters, config.entropy_weight * entropy], -1)

    def embed_features(self, h: Tensor) -> Tensor:
        return F.normalize(h.float(), dim=1)

    def runner(self) -> nn.Sequential:
        """Encoder and projector, which the follower follows."""
        return nn.Sequential(self.backbone, self.projector)

    def twins(self) -> list[tuple[Twin, nn.Module]]:
        return [(self.follower, self.runner())]


C2BIN.presets = {
    "default": Preset(
        C2BINConfig(cluster_heads=10, warm_start=0.5, twin_momentum=0.99, temperature=0.3),
        DEFAULT,
        "best we found on small images and CPUs: several heads, started half-way from the features",
    ),
    "paper": Preset(
        C2BINConfig(),
        Recipe(backbone="resnet34-pica", image_size=32, views="moco-v2", schedule="cosine", batch_size=256, epochs=100),
        "the published settings for CIFAR-10: ResNet-34, Adam 3e-4 to zero, 100 epochs",
    ),
}
