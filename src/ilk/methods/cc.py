"""CC: rows of the batch are images, columns of the assignments are clusters, and both are contrasted.

Source: Li, Hu, Liu, Peng, Zhou, Peng. Contrastive Clustering. AAAI 2021 (arXiv 2009.09687).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ilk.distributed import gather
from ilk.heads import mlp
from ilk.kmeans import kmeans
from ilk.losses import negative_marginal_entropy, nt_xent
from ilk.methods.base import Encode, Method, Preset, Recipe, at_least


@dataclass(frozen=True, kw_only=True)
class CCConfig:
    """Settings of CC; the defaults are the paper's.

    `embedding_dim`: width of the instance head (section 4.2). `instance_temperature`,
    `cluster_temperature`: tau_I and tau_C (section 4.2). The three weights multiply the instance
    loss, the cluster loss and the entropy term; the paper adds them up (eq. 7).

    Ours, off in the paper: `cluster_heads` heads are trained side by side and the one with the lowest
    loss is used; with `warm_start` > 0 the cluster loss waits for that part of the training, and each
    head then starts from its own k-means of the features instead of from chance.
    """

    embedding_dim: int = 128
    instance_temperature: float = 0.5
    cluster_temperature: float = 1.0
    instance_weight: float = 1.0
    cluster_weight: float = 1.0
    entropy_weight: float = 1.0
    cluster_heads: int = 1
    warm_start: float = 0.0

    def __post_init__(self) -> None:
        for name in ("embedding_dim", "cluster_heads"):
            at_least(name, getattr(self, name), 1)
        for name in ("instance_temperature", "cluster_temperature"):
            at_least(name, getattr(self, name), 0, strict=True)
        for name in ("instance_weight", "cluster_weight", "entropy_weight"):
            at_least(name, getattr(self, name), 0)
        if not 0 <= self.warm_start < 1:
            raise ValueError(f"warm_start is a part of the training in [0, 1); got {self.warm_start}.")


class CC(Method):
    """Instance head and cluster head(s) on one backbone, trained together (Li et al. 2021, figure 2)."""

    name = "cc"
    title = "Contrastive Clustering"
    source = "Li et al., AAAI 2021"
    config: CCConfig
    started: Tensor
    head_loss: Tensor

    def __init__(self, backbone: nn.Module, n_clusters: int, n_images: int, config: CCConfig) -> None:
        super().__init__(backbone, n_clusters, n_images, config)
        d = int(backbone.feature_dim)  # type: ignore[arg-type]  # the contract of backbones
        self.instance_head = mlp(d, d, config.embedding_dim)
        self.cluster_heads = nn.ModuleList(mlp(d, d, n_clusters) for _ in range(config.cluster_heads))
        self.clustering = config.warm_start == 0  # `started` without a wait for the device
        self.register_buffer("started", torch.tensor(self.clustering))
        self.register_load_state_dict_post_hook(read_started)
        self.register_buffer("head_loss", torch.zeros(config.cluster_heads))  # running mean, lowest is used

    def forward(self, view_a: Tensor, view_b: Tensor, index: Tensor) -> dict[str, Tensor]:
        h_a, h_b = self.backbone(view_a), self.backbone(view_b)  # apart: each view has its own batch statistics
        z_a, z_b = gather(self.instance_head(h_a)), gather(self.instance_head(h_b))  # (n, d)
        terms = {"instance": self.config.instance_weight * nt_xent(z_a, z_b, self.config.instance_temperature)}
        if not self.clustering:
            self.observed = None
            return terms
        h_a, h_b = gather(h_a), gather(h_b)
        log_a = [head(h_a).float().log_softmax(1) for head in self.cluster_heads]  # (n, k) each
        log_b = [head(h_b).float().log_softmax(1) for head in self.cluster_heads]
        t = self.config.cluster_temperature
        contrast = torch.stack([nt_xent(a.exp().T, b.exp().T, t) for a, b in zip(log_a, log_b, strict=True)])
        entropy = torch.stack(
            [negative_marginal_entropy(a) + negative_marginal_entropy(b) for a, b in zip(log_a, log_b, strict=True)]
        )
        contrast, entropy = self.config.cluster_weight * contrast, self.config.entropy_weight * entropy
        self.follow(contrast.detach() + entropy.detach())
        self.observed = torch.stack(log_a).detach().index_select(0, self.head_loss.argmin().view(1))[0].exp()
        return terms | {"cluster": contrast.mean(), "entropy": entropy.mean()}

    @torch.no_grad()
    def follow(self, losses: Tensor) -> None:
        """Keeps a running mean of each head's loss over about the last hundred steps."""
        self.head_loss = torch.where(self.head_loss == 0, losses, self.head_loss.lerp(losses, 0.01))

    def best_head(self) -> int:
        return int(self.head_loss.argmin())

    def assign_features(self, h: Tensor) -> Tensor:
        logits: Tensor = self.cluster_heads[self.best_head()](h)
        return logits.float().softmax(1)

    def embed_features(self, h: Tensor) -> Tensor:
        z: Tensor = self.instance_head(h)
        return F.normalize(z.float(), dim=1)

    def start_epoch(self, epoch: int, epochs: int, encode: Encode, seed: int) -> str | None:
        """Starts the cluster heads from k-means partitions of the features, once, when their time has come."""
        if self.clustering or epoch < int(self.config.warm_start * epochs):
            return None
        features = encode(20_000)
        generator = torch.Generator(features.device).manual_seed(seed * 1_000_003 + epoch)
        partitions = kmeans(
            F.normalize(features, dim=1), self.n_clusters, generator=generator, restarts=self.config.cluster_heads
        )
        labels = torch.stack([partition.labels for partition in partitions])  # (heads, n)
        fit_heads(self.cluster_heads, features, labels, generator)
        self.clustering = True
        self.started.fill_(True)
        heads = "1 cluster head starts" if len(labels) == 1 else f"{len(labels)} cluster heads start"
        return f"{heads} from k-means of the features of {len(features):,} images"


def read_started(method: CC, _: object) -> None:
    method.clustering = bool(method.started)


def fit_heads(heads: nn.ModuleList, features: Tensor, labels: Tensor, generator: torch.Generator) -> None:
    """Teaches each head its row of `labels`, (heads, n), on fixed `features`, (n, d): 200 steps of Adam."""
    optimizer = torch.optim.Adam(heads.parameters(), lr=3e-3)
    for _ in range(200):
        rows = torch.randint(len(features), (256,), generator=generator, device=features.device)
        losses = [
            F.cross_entropy(head(features[rows]), target[rows]) for head, target in zip(heads, labels, strict=True)
        ]
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        optimizer.step()


CC.presets = {
    "default": Preset(
        CCConfig(cluster_heads=10, warm_start=0.5, entropy_weight=0.3),
        Recipe(learning_rate=2e-3, schedule="cosine", warmup=50, images_per_cluster=8),
        "best we found on small images and CPUs: several heads, started from k-means half-way",
    ),
    "paper": Preset(
        CCConfig(),
        Recipe(backbone="resnet34", image_size=224, views="cc", epochs=1000),
        "the published settings: ResNet-34 at 224 pixels, Adam 3e-4, 1,000 epochs (a GPU and days)",
    ),
}
