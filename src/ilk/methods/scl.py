"""SCL: an image is told apart from the images of *other* clusters only, whose keys wait in one bank a cluster.

Source: Huang, Gong. Deep Clustering by Semantic Contrastive Learning. BMVC 2022 (arXiv 2103.02662).
No code was published; where the paper is silent this follows MoCo, PICA and ODC, as it says it does.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import model_validator
from torch import Tensor, nn
from typing_extensions import Self

from ilk.analysis.kmeans import merge_and_split, squared_distance
from ilk.losses import bank_scores, semantic_contrast, soft_cross_entropy
from ilk.methods.base import Encode, Method
from ilk.methods.settings import (
    DEFAULT,
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
from ilk.methods.start import due, fit_heads, partitions
from ilk.networks.banks import KeyBanks, Twin
from ilk.networks.batch_norm import in_parts
from ilk.networks.heads import mlp
from ilk.system.processes import gather


@settings
class SCLConfig:
    """Settings of SCL; the defaults are the paper's, and our readings where it is silent."""

    embedding_dim: Count = setting(128, "width of the embedding")
    projection: Literal["mlp", "linear"] = setting("mlp", "head of the encoder; mlp: as MoCo v2")
    temperature: Positive = setting(0.1, "of all contrasts")
    twin_momentum: Share = setting(0.9, "how slowly the key encoder moves")
    queue: Count = setting(4096, "K, keys a query is contrasted with, at most the number of images")
    contrast_weight: Weight = setting(1.0, "alpha, weight of semantic contrast")
    cluster_weight: Weight = setting(1.0, "beta, weight of cluster discrimination")
    cd_to_features: bool = setting(False, "cluster discrimination teaches the encoder too, not the classifier alone")
    hard_weights: bool = setting(True, "images that moved between clusters weigh more")
    first_moves: Number = setting(0, "moves counted for each image at the start; 1 keeps all images in play")
    count_moves: Literal["after", "before"] = setting("after", "moves are counted after or before merge-and-split")
    under_clustering: bool = setting(True, "the joint task with C/2 clusters (left out if that is below 2)")
    instance_task: bool = setting(True, "the joint task with all banks as negatives (plain MoCo)")
    min_cluster: Number | None = setting(
        None, "smallest cluster that merge-and-split leaves alone; auto: 0.156 of the average size as in ODC, 0.02 with"
        " balance estimated and 1 image with off (both ours)",
    )  # fmt: skip
    balance: Balance = setting("uniform", "sizes of clusters that merge-and-split holds to, by min_cluster")
    batch_parts: Count = setting(1, "parts of the batch with BatchNorm statistics of their own, as in MoCo")
    symmetric: bool = setting(False, "queries from both views (not in the paper)")
    cross_cluster: bool = setting(True, "for ablations: negatives from other clusters only; false: from all banks")
    cluster_discrimination: bool = setting(True, "for ablations: false trains no classifier, the banks vote")
    target_teaches: bool = setting(True, "for ablations: whether the target clusters shape the features")
    warm_start: Share = setting(0.0, WARM_START + "; until then the instance task trains alone")

    @model_validator(mode="after")
    def check(self) -> Self:
        if not (self.target_teaches or self.under_clustering or self.instance_task):
            raise ValueError(
                "Nothing would teach the encoder; set target_teaches, under_clustering or instance_task to true."
            )
        return self


SMALL = {"uniform": 0.156, "estimated": 0.02, "off": 0.0}  # of the average size: where merge-and-split begins


class Task(nn.Module):
    """One clustering of all images: their labels, the banks of its clusters, and a linear classifier."""

    labels: Tensor
    moves: Tensor

    def __init__(self, clusters: int, n_images: int, config: SCLConfig) -> None:
        super().__init__()
        self.clusters = clusters
        self.classifier = nn.Linear(config.embedding_dim, clusters)
        self.banks = KeyBanks(clusters, bank_rows(clusters, n_images, config), config.embedding_dim)
        self.register_buffer("labels", torch.randint(clusters, (n_images,)))
        self.register_buffer("moves", torch.full((n_images,), config.first_moves))  # s

    def weights(self, index: Tensor) -> Tensor:
        """How much each image of the batch counts, (n,), in sum 1; all alike while none has moved."""
        moves = self.moves[index] + 1e-6
        return moves / moves.sum()

    def relabel(self, q: Tensor, labels: Tensor, config: SCLConfig, generator: torch.Generator) -> None:
        """Takes new labels for all images, balanced by merge-and-split, and counts who moved."""
        least = config.min_cluster
        if least is None:
            least = round(SMALL[config.balance] * len(labels) / self.clusters)
            least = max(2, least) if config.balance != "off" else 1
        balanced = merge_and_split(q, labels, self.clusters, least, generator)
        self.moves += (balanced if config.count_moves == "after" else labels) != self.labels
        self.labels.copy_(balanced)

    def begin(self, encode: Encode, h: Tensor, q: Tensor, generator: torch.Generator) -> None:
        """Starts labels from a partition of the features `h`, and the classifier and the banks from the labels."""
        _, found = partitions(encode, self.clusters, 10, generator)
        parts = F.normalize(h, dim=1).split(4096)
        self.labels.copy_(torch.cat([squared_distance(part, found[0].centres).argmin(1) for part in parts]))
        fit_heads(nn.ModuleList([self.classifier]), q, self.labels[None], generator)
        order = torch.randperm(len(q), generator=generator, device=q.device)
        self.banks.push(q[order], self.labels[order])


def bank_rows(clusters: int, n_images: int, config: SCLConfig) -> int:
    """The keys of one bank: K / (C - 1), K at most the number of images."""
    return max(1, min(config.queue, n_images) // (clusters - 1))


class SCL(Method):
    """An encoder, its momentum twin, and two or three joint tasks: target clusters, half as many, instances."""

    name = "scl"
    title = "Deep Clustering by Semantic Contrastive Learning"
    source = "Huang and Gong, BMVC 2022"
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
        self.register_load_state_dict_post_hook(read_started)
        self.waiting: tuple[Tensor, Tensor] | None = None  # keys and images of the step under way
        self.strange = False  # images came that have no labels yet

    @property
    def tasks(self) -> dict[str, Task]:
        return {"target": self.target} if self.under is None else {"target": self.target, "under": self.under}

    def forward(self, view_a: Tensor, view_b: Tensor, index: Tensor) -> dict[str, Tensor]:
        index = gather(index)
        pairs = [(view_a, view_b), (view_b, view_a)] if self.config.symmetric else [(view_a, view_b)]
        directions = [self.direction(own, other, index) for own, other in pairs]
        self.waiting = torch.cat([key for key, _, _ in directions]), index.repeat(len(pairs))
        self.observed = directions[0][1]
        terms = [found for _, _, found in directions]
        return {name: torch.stack([found[name] for found in terms]).mean() for name in terms[0]}

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
            found = scores.softmax(1)  # the banks' vote
            if config.cluster_discrimination:
                log_p = task.classifier(q if config.cd_to_features and teaches else q.detach()).float().log_softmax(1)
                terms[f"{name}_clusters"] = config.cluster_weight * soft_cross_entropy(log_p, found)
                found = log_p.exp()
            if name == "target":
                observed = found.detach()
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

    def resize(self, n_images: int) -> None:
        """Labels of the new images come from the classifier when the next epoch starts."""
        super().resize(n_images)
        self.strange = True
        for task in self.tasks.values():
            task.labels = torch.zeros(n_images, dtype=torch.int64, device=task.labels.device)
            task.moves = torch.full_like(task.labels, self.config.first_moves)
            task.banks.resize(bank_rows(task.clusters, n_images, self.config))

    def reset_twin(self) -> None:
        self.twin.reset(self.encoder())

    def project(self, h: Tensor) -> Tensor:
        q: Tensor = self.projection(h)
        return F.normalize(q.float(), dim=1)

    def after_step(self) -> None:
        """The twin follows; then the keys go into the banks of their clusters."""
        self.twin.follow(self.encoder())
        if self.waiting is not None:
            key, index = self.waiting
            for task in self.tasks.values():
                task.banks.push(key, task.labels[index])
            self.waiting = None

    def assign_features(self, h: Tensor) -> Tensor:
        return self.scores(self.target, self.project(h)).softmax(1)

    def embed_features(self, h: Tensor) -> Tensor:
        return self.project(h)

    @torch.no_grad()
    def start_epoch(self, epoch: int, epochs: int, encode: Encode, seed: int) -> str | None:
        """Renews the labels of all images, which the paper does at the end of each epoch."""
        if self.clustering:
            if epoch == 0 and not self.strange:
                return None
        elif not due(epoch, epochs, self.config.warm_start):
            return None
        h = encode(self.n_images)
        q = torch.cat([self.project(part) for part in h.split(4096)])
        generator = torch.Generator(q.device).manual_seed(seed * 1_000_003 + epoch)
        if self.clustering:
            for task in self.tasks.values():
                task.relabel(q, self.classified(task, q), self.config, generator)
                if self.strange:  # a first label is no move
                    task.moves.fill_(self.config.first_moves)
            self.strange = False
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
