"""Train a backbone of your own: any module with an integer `feature_dim` that maps (b, c, h, w) to (b, feature_dim).

python examples/own_backbone.py [EPOCHS]
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from ilk import Clusterer, ViewRecipe


class Tiny(nn.Module):
    feature_dim = 64

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 32, 3, stride=2), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 64, 3, stride=2), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).mean((2, 3))


def squares_and_stripes(n: int) -> np.ndarray:
    """Random 16 x 16 pictures of three classes on noise: a square, horizontal stripes, vertical stripes."""
    random = np.random.default_rng(0)
    images = random.integers(0, 60, (n, 16, 16, 3), dtype=np.uint8)
    for i, image in enumerate(images):
        if i % 3 == 0:
            image[4:12, 4:12] += 180
        elif i % 3 == 1:
            image[::4] += 180
        else:
            image[:, ::4] += 180
    return images


views = ViewRecipe(crop_scale=(0.6, 1.0), brightness=0.3, contrast=0.3)  # no rotation: it would confuse the two stripes
clusterer = Clusterer(
    n_clusters=3,
    backbone=Tiny(),
    views=views,
    epochs=int(sys.argv[1]) if len(sys.argv) > 1 else 20,
    settings={"batch_size": 64},
)
labels = clusterer.fit_predict(squares_and_stripes(300))
print("cluster of the first nine pictures:", labels[:9])

with tempfile.TemporaryDirectory() as folder:
    clusterer.save(Path(folder) / "run")
    loaded = Clusterer.load(Path(folder) / "run", backbone=Tiny())  # a run does not hold the code of your backbone
    print("the same after loading:", bool((loaded.predict(squares_and_stripes(300)) == labels).all()))
