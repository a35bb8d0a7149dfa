"""A method of your own: contrast of images, and a softmax head that agrees on both views.

ilk fit FOLDER --clusters 10 --method examples/own_method.py:Toy
ilk predict RUN OTHER_FOLDER --method examples/own_method.py:Toy
"""

import torch.nn.functional as F
from torch import Tensor, nn

from ilk.losses import negative_marginal_entropy, nt_xent
from ilk.methods import Method, Positive, Preset, Recipe, Weight, setting, settings


@settings
class ToyConfig:
    temperature: Positive = setting(0.5, "of the contrast of images")
    entropy_weight: Weight = setting(2.0, "weight of the entropy term, which keeps clusters from emptying")


class Toy(Method):
    name = "toy"
    title = "Contrast of images and agreement of a softmax head"
    source = "an example of ilk, 2026"

    def __init__(self, backbone: nn.Module, n_clusters: int, n_images: int, config: ToyConfig) -> None:
        super().__init__(backbone, n_clusters, n_images, config)
        self.head = nn.Linear(self.feature_dim, n_clusters)

    def forward(self, view_a: Tensor, view_b: Tensor, index: Tensor) -> dict[str, Tensor]:
        h_a, h_b = self.backbone(view_a), self.backbone(view_b)
        log_a, log_b = self.head(h_a).float().log_softmax(1), self.head(h_b).float().log_softmax(1)  # (b, k)
        self.observed = log_a.detach().exp()  # the log counts clusters with it
        entropy = negative_marginal_entropy(log_a) + negative_marginal_entropy(log_b)
        return {
            "instance": nt_xent(h_a, h_b, self.config.temperature),
            "agreement": -(log_a + log_b).logsumexp(1).mean(),
            "entropy": self.config.entropy_weight * entropy,
        }

    def assign_features(self, h: Tensor) -> Tensor:
        return self.head(h).float().softmax(1)

    def embed_features(self, h: Tensor) -> Tensor:
        return F.normalize(h.float(), dim=1)


Toy.presets = {"default": Preset(ToyConfig(), Recipe(learning_rate=3e-3, schedule="cosine"), "for small images")}
