"""SCL's settings, and its joint tasks: each is one clustering of all images, at its own number of clusters."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import model_validator
from torch import Tensor, nn
from typing_extensions import Self

from ilk.analysis.kmeans import merge_and_split, squared_distance
from ilk.methods.records import WARM_START, Balance, Count, Number, Positive, Share, Weight, setting, settings
from ilk.methods.start import Encode, fit_heads, partitions
from ilk.networks.banks import KeyBanks


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


SMALL = {"uniform": 0.156, "estimated": 0.02, "off": 0.0}  # of the average size: what merge-and-split dissolves


class Task(nn.Module):
    """One clustering of all images: their labels, the banks of its clusters, and a linear classifier."""

    labels: Tensor
    moves: Tensor

    def __init__(self, clusters: int, n_images: int, config: SCLConfig) -> None:
        super().__init__()
        self.clusters, self.config = clusters, config
        self.classifier = nn.Linear(config.embedding_dim, clusters)
        self.banks = KeyBanks(clusters, self.bank_rows(n_images), config.embedding_dim)
        self.register_buffer("labels", torch.randint(clusters, (n_images,)))
        self.register_buffer("moves", torch.full((n_images,), config.first_moves))  # s

    def bank_rows(self, n_images: int) -> int:
        """The keys of one bank: K / (C - 1), K at most the number of images."""
        return max(1, min(self.config.queue, n_images) // (self.clusters - 1))

    def weights(self, index: Tensor) -> Tensor:
        """How much each image of the batch counts, (n,), in sum 1; all equally while none has moved."""
        moves = self.moves[index] + 1e-6
        return moves / moves.sum()

    def relabel(self, q: Tensor, labels: Tensor, generator: torch.Generator, *, first: bool = False) -> None:
        """Takes new labels for all images, balanced by merge-and-split, and counts which images moved.

        `q`: (n, d) embeddings. `labels`: (n,) as classified. `first`: the images are new, so none has moved.
        """
        config, least = self.config, self.config.min_cluster
        if least is None:
            least = round(SMALL[config.balance] * len(labels) / self.clusters)
            least = max(2, least) if config.balance != "off" else 1
        balanced = merge_and_split(q, labels, self.clusters, least, generator)
        self.moves += (balanced if config.count_moves == "after" else labels) != self.labels
        if first:
            self.moves.fill_(config.first_moves)
        self.labels.copy_(balanced)

    def begin(self, encode: Encode, h: Tensor, q: Tensor, generator: torch.Generator) -> None:
        """Starts labels from a partition of the features `h`, and the classifier and the banks from the labels."""
        _, candidates = partitions(encode, self.clusters, 10, generator)
        centres, parts = candidates[0].centres, F.normalize(h, dim=1).split(4096)
        self.labels.copy_(torch.cat([squared_distance(part, centres).argmin(1) for part in parts]))
        fit_heads(nn.ModuleList([self.classifier]), q, self.labels[None], generator)
        order = torch.randperm(len(q), generator=generator, device=q.device)
        self.banks.push(q[order], self.labels[order])

    def resize(self, n_images: int) -> None:
        """Makes room for other images, which have no labels yet."""
        self.labels = torch.zeros(n_images, dtype=torch.int64, device=self.labels.device)
        self.moves = torch.full_like(self.labels, self.config.first_moves)
        self.banks.resize(self.bank_rows(n_images))
