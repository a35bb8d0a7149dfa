"""Features in the place of images: which rows become views, and the geometry that heads are trained in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ilk.networks.features import Chained, FeatureBackbone, Features, FeatureViews


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def rows() -> np.ndarray:
    """Of 6 images, the plain row and two views, 4 wide; the number says image and row: 10 * image + row."""
    found = np.zeros((6, 3, 4), dtype=np.float16)
    found += (10 * np.arange(6)[:, None] + np.arange(3))[:, :, None]
    return found


NEAR = np.array([[1, 2], [0, 2], [3, 1], [4, 5], [5, 3], [4, 0]])


def numbers(x: Tensor) -> list[int]:
    return [int(value) for value in x.flatten(0, -2)[:, 0]]


def test_an_index_gives_the_plain_row_then_the_views_then_the_plain_rows_of_the_neighbours(rows: np.ndarray) -> None:
    features = Features(rows, NEAR)
    assert numbers(features[torch.tensor([5, 0])]) == [50, 51, 52, 40, 0, 0, 1, 2, 10, 20]
    assert features[torch.tensor([5, 0])].shape == (2, 5, 4)
    assert (len(features), features.views, features.neighbours, features.dim) == (6, 2, 2, 4)
    assert numbers(Features(rows)[torch.tensor([1])]) == [10, 11, 12] and Features(rows).neighbours == 0


@pytest.mark.parametrize("index", [slice(None), slice(1, 4), [3, 3], np.array([0, 2]), torch.tensor([2])])
def test_every_kind_of_index_gives_the_rows_that_numbers_give_one_by_one(rows: np.ndarray, index: Any) -> None:
    features = Features(rows, NEAR)
    chosen = np.atleast_1d(np.arange(6)[index])
    assert torch.equal(features[index], torch.stack([features[int(i)] for i in chosen]))


def test_bytes_are_those_of_everything_at_once(rows: np.ndarray) -> None:
    features = Features(rows, NEAR)
    assert features.nbytes == features[:].numel() * 2


def test_plain_features_are_the_first_row_of_each(rows: np.ndarray) -> None:
    assert [int(row[0]) for row in Features(rows).plain()] == [0, 10, 20, 30, 40, 50]


def test_what_an_index_gives_is_a_copy_even_of_a_file(tmp_path: Path, rows: np.ndarray) -> None:
    np.save(tmp_path / "rows.npy", rows)
    kept = np.load(tmp_path / "rows.npy", mmap_mode="r")
    found = Features(kept, NEAR)[:2]
    found += 1
    assert kept[0, 0, 0] == 0


@pytest.mark.parametrize("shape", [(4, 3), (4, 0, 3), (4, 1, 0), (4, 1, 2, 3)])
def test_rows_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(images, 1 \+ views, features\)"):
        Features(np.zeros(shape))


def test_neighbours_of_other_images_are_refused(rows: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"\(5, 2\).* 6"):
        Features(rows, NEAR[:5])


@pytest.mark.parametrize("own", [2, 3, 5])
def test_the_second_view_is_another_own_row_and_every_one_comes(own: int) -> None:
    rows = torch.arange(own).float()[None, :, None].expand(3000, own, 1)
    a, b = FeatureViews(own, 0, 0.5)(rows, seeded())
    assert (a != b).all()
    pairs = torch.bincount((a * own + b).long().flatten(), minlength=own * own).view(own, own)
    expected = 3000 / (own * (own - 1))
    assert (pairs.diagonal() == 0).all()
    others = pairs[~torch.eye(own, dtype=torch.bool)]
    assert (others - expected).abs().max() < 5 * expected**0.5  # five standard deviations


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_second_view_is_a_neighbour_as_often_as_the_share_says(share: float) -> None:
    rows = torch.tensor([0.0, 0, 0, 1, 2])[None, :, None].expand(8000, 5, 1)  # three own rows, two neighbours
    a, b = FeatureViews(3, 2, share)(rows, seeded())
    assert (a == 0).all()  # the first view is always the image itself
    assert float((b > 0).float().mean()) == pytest.approx(share, abs=0.02)
    if share:
        assert float((b[b > 0] == 1).float().mean()) == pytest.approx(0.5, abs=0.03)


def test_without_random_views_the_second_view_is_always_a_neighbour() -> None:
    rows = torch.tensor([0.0, 1, 2])[None, :, None].expand(50, 3, 1)
    a, b = FeatureViews(1, 2, 0.1)(rows, seeded())
    assert (a == 0).all() and (b > 0).all()


def test_without_neighbours_no_share_of_them_is_taken() -> None:
    assert FeatureViews(3, 0, 0.5).share == 0


def test_repeats_give_each_image_several_second_views_all_images_first() -> None:
    rows = (100 * torch.arange(7)[:, None] + torch.arange(4)).float()[:, :, None]  # two own rows, two neighbours
    a, b = FeatureViews(2, 2, 0.5)(rows, seeded(), repeats=3)
    assert a.shape == (7, 1) and b.shape == (21, 1)
    assert (b.view(3, 7) // 100 == torch.arange(7)).all()
    assert (b.view(3, 7) != a.view(7)).all()
    assert len({tuple(part) for part in (b.view(3, 7) % 100).tolist()}) > 1


def test_the_generator_decides_the_views() -> None:
    rows = torch.rand(20, 6, 3, dtype=torch.float64).half()
    views = FeatureViews(3, 3, 0.5)
    one, two, other = (views(rows, seeded(seed)) for seed in (4, 4, 5))
    assert all(torch.equal(x, y) for x, y in zip(one, two, strict=True))
    assert not torch.equal(one[1], other[1])
    assert one[0].dtype == one[1].dtype == torch.float32


@pytest.fixture
def cloud() -> np.ndarray:
    """200 features of 12 numbers around a common offset, of very different lengths, as encoders give them."""
    random = np.random.default_rng(0)
    found = random.normal(size=(200, 12)) * np.linspace(3, 0.1, 12) + 2
    return (found * random.uniform(0.1, 10, (200, 1))).astype(np.float16)


def fitted(features: np.ndarray, dim: int) -> FeatureBackbone:
    backbone = FeatureBackbone(features.shape[1], dim)
    backbone.fit(features)
    return backbone


def centred(features: np.ndarray) -> Tensor:
    x = F.normalize(torch.from_numpy(features.astype(np.float64)), dim=1)
    return x - x.mean(0)


def test_all_directions_together_keep_the_angles_between_images(cloud: np.ndarray) -> None:
    h = fitted(cloud, 12)(torch.from_numpy(cloud)).double()
    expected = F.normalize(centred(cloud), dim=1)
    found = F.normalize(h, dim=1)
    torch.testing.assert_close(found @ found.T, expected @ expected.T, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dim", [12, 5])
def test_columns_are_centred_uncorrelated_and_of_mean_variance_one(cloud: np.ndarray, dim: int) -> None:
    h = fitted(cloud, dim)(torch.from_numpy(cloud)).double()
    assert h.mean(0).abs().max() < 1e-5
    covariance = h.T @ h / len(h)
    assert float(covariance.diagonal().mean()) == pytest.approx(1, abs=1e-5)
    assert (covariance - covariance.diagonal().diag()).abs().max() < 1e-5
    assert (covariance.diagonal().diff() < 0).all()  # the widest first, and no whitening


def test_fewer_directions_are_those_of_the_largest_variance(cloud: np.ndarray) -> None:
    x = centred(cloud)
    values = torch.linalg.svdvals(x) ** 2 / len(x)
    h = fitted(cloud, 5)(torch.from_numpy(cloud)).double()
    scale = values[:5].mean()
    torch.testing.assert_close((h * h).mean(0) * scale, values[:5], rtol=1e-4, atol=1e-8)


def test_each_direction_has_the_sign_that_makes_its_largest_entry_positive(cloud: np.ndarray) -> None:
    directions = fitted(cloud, 12).directions
    assert (directions.gather(0, directions.abs().argmax(0, keepdim=True)) > 0).all()
    shuffled = fitted(np.ascontiguousarray(cloud[::-1]), 12).directions
    torch.testing.assert_close(directions, shuffled, rtol=1e-3, atol=1e-3)


def test_the_length_of_a_row_does_not_matter(cloud: np.ndarray) -> None:
    backbone, x = fitted(cloud, 6), torch.from_numpy(cloud).float()
    torch.testing.assert_close(backbone(x), backbone(3 * x), rtol=1e-5, atol=1e-5)


def test_fewer_images_than_directions_are_enough() -> None:
    features = np.random.default_rng(0).normal(size=(5, 9)).astype(np.float32)
    h = fitted(features, 9)(torch.from_numpy(features))
    assert h.isfinite().all() and float(h.square().mean()) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("value", [0.0, 1.0, 37.5])
def test_features_that_are_all_the_same_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="features are the same"):
        fitted(np.full((30, 8), value, dtype=np.float16), 8)


def test_features_that_differ_in_length_only_are_refused() -> None:
    with pytest.raises(ValueError, match="features are the same"):
        fitted(np.arange(1, 31, dtype=np.float16)[:, None] * np.ones((1, 8), np.float16), 8)


def test_mean_and_directions_are_kept_in_the_state_and_nothing_is_trained(cloud: np.ndarray) -> None:
    backbone, other = fitted(cloud, 6), FeatureBackbone(12, 6)
    other.load_state_dict(backbone.state_dict())
    x = torch.from_numpy(cloud)
    assert torch.equal(other(x), backbone(x))
    assert list(backbone.parameters()) == [] and backbone.feature_dim == 6


def test_a_chain_is_the_encoder_then_the_directions(cloud: np.ndarray) -> None:
    encoder, backbone = nn.Flatten(), fitted(cloud, 6)
    chained = Chained(encoder, backbone)
    x = torch.rand(4, 3, 2, 2)
    assert chained.feature_dim == 6
    assert torch.equal(chained(x), backbone(x.flatten(1)))


def test_a_chain_shows_the_encoder_few_images_at_once(cloud: np.ndarray) -> None:
    seen: list[int] = []

    class Watched(nn.Flatten):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(len(x))
            return super().forward(x)

    x = torch.rand(70, 3, 2, 2)
    backbone = fitted(cloud, 6)
    torch.testing.assert_close(Chained(Watched(), backbone)(x), backbone(x.flatten(1)))
    assert seen == [32, 32, 6]
