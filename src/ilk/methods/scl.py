"""SCL: an image is contrasted with images of *other* clusters only, whose keys are kept in one bank a cluster.

Source: Huang, Gong. Deep Clustering by Semantic Contrastive Learning. BMVC 2022 (arXiv 2103.02662).
No code was published; where the paper is silent this follows MoCo, PICA and ODC, as it says it does.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ilk.losses import bank_scores, semantic_contrast, soft_cross_entropy
from ilk.methods.base import Method
from ilk.methods.records import DEFAULT, Preset, Recipe
from ilk.methods.scl_tasks import SCLConfig, Task
from ilk.methods.start import Encode, due
from ilk.networks.banks import Twin
from ilk.networks.batch_norm import in_parts
from ilk.networks.heads import mlp
from ilk.runs.papers import PAPERS
from ilk.system.processes import gather


class SCL(Method):
    """An encoder, its momentum twin, and two or three joint tasks: target clusters, half as many, instances."""

    name = "scl"
    title = PAPERS["scl"].title
    source = PAPERS["scl"].source
    representation = ("projection",)
    config: SCLConfig
    started: Tensor

    def __init__(self, backbone: nn.Module, n_clusters: int, n_images: int, config: SCLConfig) -> None:
        super().__init__(backbone, n_clusters, n_images, config)
        d = self.feature_dim
        linear = config.projection == "linear"
        self.projection = nn.Linear(d, config.embedding_dim) if linear else mlp(d, d, config.embedding_dim)
        self.twin = Twin(self.encoder(), config.twin_momentum)
        self.target = Task(n_clusters, n_images, config)
        halved = config.under_clustering and n_clusters // 2 >= 2
        self.under = Task(n_clusters // 2, n_images, config) if halved else None
        if self.under is None and not (config.target_teaches or config.instance_task):
            raise ValueError(
                f"Nothing would teach the encoder: half of {n_clusters} clusters is less than two. Set target_teaches"
                " or instance_task to true."
            )
        self.clustering = config.warm_start == 0  # `started` without waiting for the device
        self.register_buffer("started", torch.tensor(self.clustering))
        self.register_load_state_dict_post_hook(read_started)  # type: ignore[no-untyped-call]  # torch has no type here
        self.waiting: tuple[Tensor, Tensor] | None = None  # keys and images of the step under way
        self.unlabelled = False  # the images are new and have no labels yet

    @property
    def tasks(self) -> dict[str, Task]:
        return {"target": self.target} if self.under is None else {"target": self.target, "under": self.under}

    def forward(self, view_a: Tensor, view_b: Tensor, index: Tensor) -> dict[str, Tensor]:
        index = gather(index)
        pairs = [(view_a, view_b), (view_b, view_a)] if self.config.symmetric else [(view_a, view_b)]
        directions = [self.direction(own, other, index) for own, other in pairs]
        self.waiting = torch.cat([key for key, _, _ in directions]), index.repeat(len(pairs))
        self.observed = directions[0][1]
        terms = [each for _, _, each in directions]
        return {name: torch.stack([each[name] for each in terms]).mean() for name in terms[0]}

    def direction(self, own: Tensor, other: Tensor, index: Tensor) -> tuple[Tensor, Tensor | None, dict[str, Tensor]]:
        """Queries from the view `own`, keys from the view `other`: the keys, (n, d), the assignments and the terms."""
        config, observed = self.config, None
        q = gather(self.project(self.in_parts(self.backbone, own)))  # (n, d), rows of length 1
        with torch.no_grad():
            key = gather(F.normalize(self.in_parts(self.twin, other, shuffled=True).float(), dim=1))
        terms: dict[str, Tensor] = {}
        for name, task in self.tasks.items():
            scores = bank_scores(q, task.banks.keys, config.temperature)  # (n, clusters), of the old banks
            if name == "target" and (config.instance_task or not self.clustering):
                loss = semantic_contrast(q, key, scores, None, config.temperature)
                terms["instance"] = config.contrast_weight * loss.mean()
            if not self.clustering:
                continue
            labels = task.labels[index] if config.cross_cluster else None
            teaches = name != "target" or config.target_teaches
            if teaches:
                loss = semantic_contrast(q, key, scores, labels, config.temperature)  # (n,)
                weights = task.weights(index) if config.hard_weights else torch.full_like(loss, 1 / len(loss))
                terms[f"{name}_contrast"] = config.contrast_weight * (weights * loss).sum()
            y = scores.softmax(1)  # the banks' vote
            if config.cluster_discrimination:
                log_p = task.classifier(q if config.cd_to_features and teaches else q.detach()).float().log_softmax(1)
                terms[f"{name}_clusters"] = config.cluster_weight * soft_cross_entropy(log_p, y)
                y = log_p.exp()
            if name == "target":
                observed = y.detach()
        return key, observed, terms

    def in_parts(self, network: nn.Module, x: Tensor, *, shuffled: bool = False) -> Tensor:
        """`network(x)`, in training by `batch_parts` parts (of at least 4 images), whose statistics are their own."""
        parts = min(self.config.batch_parts, len(x) // 4) if self.training else 1
        if parts < 2 or not shuffled:
            return in_parts(network, x, parts)
        order = torch.arange(len(x), device=x.device)
        order = torch.cat([order[start::parts] for start in range(parts)])
        return in_parts(network, x[order], parts)[order.argsort()]  # a key has other company than its query

    def encoder(self) -> nn.Sequential:
        """Backbone and projection, which the twin follows."""
        return nn.Sequential(self.backbone, self.projection)

    def project(self, h: Tensor) -> Tensor:
        q: Tensor = self.projection(h)
        return F.normalize(q.float(), dim=1)

    def twins(self) -> list[tuple[Twin, nn.Module]]:
        return [(self.twin, self.encoder())]

    def after_step(self) -> None:
        """The twin follows; then the keys go into the banks of their clusters."""
        super().after_step()
        if self.waiting is not None:
            key, index = self.waiting
            for task in self.tasks.values():
                task.banks.push(key, task.labels[index])
            self.waiting = None

    def resize(self, n_images: int) -> None:
        """The labels of the new images come from the classifier when the next epoch starts."""
        super().resize(n_images)
        self.unlabelled = True
        for task in self.tasks.values():
            task.resize(n_images)

    def assign_features(self, h: Tensor) -> Tensor:
        return self.scores(self.target, self.project(h)).softmax(1)

    def embed_features(self, h: Tensor) -> Tensor:
        return self.project(h)

    @torch.no_grad()
    def start_epoch(self, epoch: int, epochs: int, encode: Encode, seed: int) -> str | None:
        """Renews the labels of all images, as the paper does at the end of each epoch, or starts the clusters."""
        if self.clustering and epoch == 0 and not self.unlabelled:
            return None
        if not self.clustering and not due(epoch, epochs, self.config.warm_start):
            return None
        h = encode(self.n_images)
        q = torch.cat([self.project(part) for part in h.split(4096)])
        generator = torch.Generator(q.device).manual_seed(seed * 1_000_003 + epoch)
        if self.clustering:
            for task in self.tasks.values():
                task.relabel(q, self.classified(task, q), generator, first=self.unlabelled)
            self.unlabelled = False
            return None
        for task in self.tasks.values():
            with torch.enable_grad():
                task.begin(encode, h, q, generator)
        self.clustering = True
        self.started.fill_(True)
        return f"clusters start from a partition of the features of {len(h):,} images"

    def classified(self, task: Task, q: Tensor) -> Tensor:
        """The cluster of each image, (n,)."""
        return torch.cat([self.scores(task, part).argmax(1) for part in q.split(4096)])

    def scores(self, task: Task, q: Tensor) -> Tensor:
        """The logits of each cluster, (n, clusters): of the classifier, or of the banks' vote in that ablation."""
        if not self.config.cluster_discrimination:
            return bank_scores(q, task.banks.keys, self.config.temperature)
        logits: Tensor = task.classifier(q)
        return logits.float()


def read_started(method: SCL, _: object) -> None:
    """Takes over the loaded flag, so that no step waits for the device."""
    method.clustering = bool(method.started)


PAPER = Recipe(
    backbone="resnet34-pica", image_size=32, views="moco-cifar", front_end="normalize", optimizer="sgd",
    learning_rate=0.03, weight_decay=5e-4, schedule="cosine", batch_size=256, epochs=200,
)  # fmt: skip
SCL.presets = {
    "default": Preset(
        SCLConfig(warm_start=0.5, twin_momentum=0.99, first_moves=1, symmetric=True, batch_parts=4),
        DEFAULT,
        "best we found on small images and CPUs: instance task first, clusters started half-way from their features",
    ),
    "paper": Preset(
        SCLConfig(batch_parts=8),
        PAPER,
        "the published settings for CIFAR-10: ResNet-34, SGD 0.03 to zero, 200 epochs; clusters start at random",
    ),
}
