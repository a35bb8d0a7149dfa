"""CRLC: two views of an image get the same embedding and, with high confidence, the same cluster.

Source: Do, Tran, Venkatesh. Clustering by Maximizing Mutual Information Across Views. ICCV 2021.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ilk.losses import (
    bank_contrast,
    cluster_contrast,
    logit_clamp,
    nt_xent,
    probability_contrast,
)
from ilk.methods.base import Method
from ilk.methods.records import (
    BALANCE,
    DEFAULT,
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
from ilk.methods.start import Encode
from ilk.methods.subheads import SubHeads
from ilk.networks.banks import RowBank
from ilk.networks.heads import kaiming, mlp
from ilk.runs.papers import PAPERS
from ilk.system.processes import gather


@settings
class CRLCConfig:
    """Settings of CRLC; the defaults are the paper's, those of the released code in the preset `released`."""

    embedding_dim: Count = setting(128, "width of the representation head")
    feature_temperature: Positive = setting(0.1, "of the contrast of embeddings (L_FC)")
    cluster_heads: Count = setting(10, "S, independent cluster heads")
    critic: Literal["log_dot", "dot", "neg_l2", "neg_jsd"] = setting("log_dot", "score of two assignments")
    smoothing: Share = setting(0.01, "gamma, share of the uniform distribution mixed into assignments")
    framework: Literal["in_batch", "memory_bank"] = setting("in_batch", "where negatives are: SimCLR form or eq. 10")
    bank_momentum: Share = setting(0.5, "alpha, how slowly the rows of the memory bank move")
    bank_negatives: Count = setting(4096, "rows of the bank a step, drawn uniformly (the number is ours)")
    cluster_weight: Weight = setting(1.0, "weight of the contrast of assignments (L_PC)")
    entropy_weight: Weight = setting(1.0, "lambda_1, of the marginal entropy, averaged over both views")
    feature_weight: Weight = setting(10.0, "lambda_2, of the contrast of embeddings")
    clamp_weight: Weight = setting(0.0, "pulls back logits beyond clamp_bound (released code only)")
    clamp_bound: Positive = setting(25.0, "largest logit that is left alone")
    supervised_weight: Weight = setting(1.0, "weight of the cross entropy on known labels")
    consistency_weight: Weight = setting(0.0, "for ablations: minus log of p_a . p_b of an image, no negatives")
    column_weight: Weight = setting(0.0, "for ablations: the contrast of clusters of CC")
    warm_start: Share = setting(0.0, WARM_START)
    balance: Balance = setting("uniform", BALANCE)


class CRLC(Method):
    """Representation head and S cluster heads on one backbone, both trained by contrasting images."""

    name = "crlc"
    title = PAPERS["crlc"].title
    source = PAPERS["crlc"].source
    representation = ("feature_head",)
    uses_known = True
    config: CRLCConfig
    known: Tensor
    steps: Tensor

    def __init__(self, backbone: nn.Module, n_clusters: int, n_images: int, config: CRLCConfig) -> None:
        super().__init__(backbone, n_clusters, n_images, config)
        d = self.feature_dim
        self.feature_head = kaiming(mlp(d, d, config.embedding_dim))
        self.cluster_heads = SubHeads.from_config(lambda: kaiming(mlp(d, d, n_clusters)), n_clusters, config)
        self.register_buffer("known", torch.full((n_images,), -1))  # the cluster of an image, -1 where it is unknown
        self.semi_supervised = False
        if config.framework == "memory_bank":
            self.bank = RowBank(config.cluster_heads, n_images, n_clusters, config.bank_momentum)
            self.register_buffer("steps", torch.zeros((), dtype=torch.int64))  # seeds the draw of negatives
            self.step = 0
        self.register_load_state_dict_post_hook(read_state)  # type: ignore[no-untyped-call]  # torch has no type here

    def forward(self, view_a: Tensor, view_b: Tensor, index: Tensor) -> dict[str, Tensor]:
        config, heads = self.config, self.cluster_heads
        h_a, h_b = self.backbone(view_a), self.backbone(view_b)
        z_a, z_b = gather(self.feature_head(h_a)), gather(self.feature_head(h_b))  # (n, d)
        feature = {"feature": config.feature_weight * nt_xent(z_a, z_b, config.feature_temperature)}
        if not heads.active:
            return feature
        logits = heads.logits(torch.cat([gather(h_a), gather(h_b)]))  # (heads, 2n, k)
        log_a, log_b = logits.log_softmax(2).chunk(2, 1)  # (heads, n, k)
        index = gather(index)
        each = {  # the terms by which heads are compared, (heads,)
            "cluster": config.cluster_weight * self.probability_term(log_a, log_b, index),
            "entropy": config.entropy_weight * (heads.imbalance(log_a) + heads.imbalance(log_b)) / 2,
        }
        if config.consistency_weight:
            each["consistency"] = -config.consistency_weight * (log_a + log_b).logsumexp(2).mean(1)
        if config.column_weight:
            each["column"] = config.column_weight * cluster_contrast(log_a.exp(), log_b.exp(), 1.0)
        terms = feature | self.mean_over_heads(each, log_a)
        if config.clamp_weight:
            terms["clamp"] = config.clamp_weight * logit_clamp(logits, config.clamp_bound).mean()
        if self.semi_supervised:
            terms["known"] = config.supervised_weight * known_term(log_a, log_b, self.known[index])
        return terms

    def probability_term(self, log_a: Tensor, log_b: Tensor, index: Tensor) -> Tensor:
        """L_PC of each head, (heads,), in the batch or against the memory bank.

        Departure: in its second form the paper has one view a step; here both are contrasted with the bank, and a
        row of the bank moves towards their mean.
        """
        config = self.config
        if config.framework == "in_batch":
            return probability_contrast(log_a, log_b, config.critic, config.smoothing)
        generator = torch.Generator().manual_seed(self.step)
        drawn = torch.randint(self.n_images, (config.bank_negatives,), generator=generator).to(index.device)
        own, negatives = self.bank.rows[:, index].repeat(1, 2, 1), self.bank.rows[:, drawn]
        loss = bank_contrast(torch.cat([log_a, log_b], 1), own, negatives, config.critic, config.smoothing)
        if self.training:
            self.bank.move(index, (log_a.detach().exp() + log_b.detach().exp()) / 2)
            self.step += 1
            self.steps += 1
        return loss

    def embed_features(self, h: Tensor) -> Tensor:
        z: Tensor = self.feature_head(h)
        return F.normalize(z.float(), dim=1)

    def start_epoch(self, epoch: int, epochs: int, encode: Encode, seed: int) -> str | None:
        """Starts the cluster heads from partitions, renamed to agree with the known labels."""
        known = self.known if self.semi_supervised else None
        return self.cluster_heads.start_when_due(encode, epoch=epoch, epochs=epochs, seed=seed, known=known)

    def know(self, codes: Tensor) -> None:
        self.known.copy_(codes)
        self.semi_supervised = bool((codes >= 0).any())

    def resize(self, n_images: int) -> None:
        super().resize(n_images)
        self.known = torch.full((n_images,), -1, device=self.known.device)
        self.semi_supervised = False
        if self.config.framework == "memory_bank":
            self.bank.resize(n_images)


def known_term(log_a: Tensor, log_b: Tensor, codes: Tensor) -> Tensor:
    """Cross entropy with the known clusters, averaged over both views and all heads; 0 where the batch has none.

    `log_a`, `log_b`: (heads, n, k). `codes`: (n,), a cluster or -1.
    """
    rows = codes >= 0
    target = codes.clamp_min(0).expand(len(log_a), -1)
    cross_entropy = -(log_a + log_b).gather(2, target[:, :, None])[:, :, 0] / 2  # (heads, n)
    return (cross_entropy * rows).sum() / (rows.sum().clamp_min(1) * len(log_a))


def read_state(method: CRLC, _: object) -> None:
    """Takes over from loaded buffers what is also kept outside them, so that no step waits for the device."""
    method.semi_supervised = bool((method.known >= 0).any())
    if method.config.framework == "memory_bank":
        method.step = int(method.steps)


PAPER = Recipe(
    backbone="resnet34-cifar", image_size=32, views="crlc", front_end="normalize", optimizer="sgd", learning_rate=0.1,
    weight_decay=5e-4, decay_vectors=False, batch_size=512, epochs=2000,
)  # fmt: skip
CRLC.presets = {
    "default": Preset(
        CRLCConfig(warm_start=0.5, clamp_weight=0.01),
        DEFAULT,
        "best we found on small images and CPUs: heads, started half-way from the features",
    ),
    "paper": Preset(
        CRLCConfig(), PAPER, "the published settings for CIFAR-10: ResNet-34, SGD 0.1, 2,000 epochs (a GPU and days)"
    ),
    "released": Preset(
        CRLCConfig(entropy_weight=2.0, clamp_weight=0.01),
        PAPER,
        "the authors' code: entropy weight 2, logits pulled back beyond 25",
    ),
    "memory-bank": Preset(
        CRLCConfig(framework="memory_bank"),
        PAPER,
        "the paper's second form: contrast with a memory bank instead of the batch",
    ),
}
