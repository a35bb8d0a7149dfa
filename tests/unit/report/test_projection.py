"""The map and the neighbours: right, the same every time, and never all pairs in memory."""

from __future__ import annotations

import sys
import tracemalloc
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA

from ilk.reports import neighbours
from ilk.reports.neighbours import nearest, unit_rows
from ilk.reports.payload import collect
from ilk.reports.projection import find_map, principal, read_moments, title_of, whole_numbers

Written = Callable[..., Path]


def cloud(n: int, d: int = 6, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(n, d)) * np.arange(d, 0, -1)).astype(np.float32)


def test_the_map_is_the_first_two_principal_components() -> None:
    z = cloud(300)
    xy, share = principal(z)
    reference = PCA(2).fit(z)
    expected = reference.transform(z)
    for axis in (0, 1):
        sign = np.sign(xy[:, axis] @ expected[:, axis])
        assert np.allclose(xy[:, axis], sign * expected[:, axis], atol=1e-3)
    assert share == pytest.approx(reference.explained_variance_ratio_.sum(), abs=1e-4)


def test_a_map_of_many_rows_comes_from_a_sample_and_has_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    z = cloud(5000)
    whole, _ = principal(z)
    monkeypatch.setattr("ilk.reports.projection.FIT_ON", 1000)
    monkeypatch.setattr("ilk.reports.projection.CHUNK", 77)
    part, _ = principal(z)
    assert part.shape == (5000, 2)
    for axis in (0, 1):
        assert abs(np.corrcoef(whole[:, axis], part[:, axis])[0, 1]) > 0.99


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_map_of_one_direction_or_one_image_is_finite(n: int) -> None:
    for z in (np.ones((n, 4), np.float32), cloud(n, 1), cloud(n, 4)):
        xy, share = principal(z)
        whole, step = whole_numbers(xy)
        assert np.isfinite(xy).all() and 0 <= share <= 1 + 1e-6 and whole.shape == (n, 2) and step >= 0


def test_coordinates_become_whole_numbers_on_one_scale_for_both_axes() -> None:
    xy = np.array([[0, 0], [10, 5], [5, 2.5]], dtype=np.float32)
    whole, step = whole_numbers(xy)
    assert whole[:, 0].tolist() == [0, 65535, 32768] and step == pytest.approx(10 / 65535)
    assert (whole[1] - whole[0])[1] * step == pytest.approx(5, rel=1e-3)
    assert whole[2, 1] == 32768


def test_a_rebuilt_report_has_the_same_map_until_the_embeddings_change(run_folder: Path) -> None:
    first = collect(run_folder)
    saved = dict(np.load(run_folder / "map.npz"))
    np.savez(run_folder / "map.npz", **{**saved, "xy": saved["xy"][:, ::-1]})  # as if it had been drawn otherwise
    again = collect(run_folder)
    assert again["images"]["x"] == first["images"]["y"] and again["images"]["y"] == first["images"]["x"]
    embedding = np.load(run_folder / "embeddings.npy")
    np.save(run_folder / "embeddings.npy", embedding[:, ::-1])
    assert collect(run_folder)["images"]["x"] != again["images"]["x"]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 damaged", b"\x93NUMPY"])
def test_a_damaged_map_is_made_again(run_folder: Path, content: bytes) -> None:
    first = collect(run_folder)
    (run_folder / "map.npz").write_bytes(content)
    assert collect(run_folder)["images"] == first["images"]
    assert (run_folder / "map.npz").read_bytes()[:2] == b"PK"


@pytest.fixture
def fake_umap(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Stands in for umap-learn: puts the images on a line; says how it was called."""
    asked: dict[str, Any] = {"times": 0}

    class UMAP:
        def __init__(self, **settings: Any) -> None:
            asked.update(settings)

        def fit_transform(self, z: np.ndarray) -> np.ndarray:
            asked["times"] += 1
            return np.stack([np.arange(len(z)), np.zeros(len(z))], axis=1)

    monkeypatch.setitem(sys.modules, "umap", types.SimpleNamespace(UMAP=UMAP, __version__="9"))
    return asked


def test_umap_is_used_when_asked_for_seeded_and_kept_from_then_on(run_folder: Path, fake_umap: dict[str, Any]) -> None:
    assert collect(run_folder)["map"]["method"] == "PCA" and fake_umap["times"] == 0  # never unasked: it is slow
    payload = collect(run_folder, layout="umap")
    assert payload["map"]["method"] == "UMAP" and "UMAP 9" in payload["map"]["note"]
    assert fake_umap["random_state"] == 0 and fake_umap["metric"] == "cosine" and fake_umap["n_neighbors"] == 15
    assert payload["images"]["x"] == sorted(payload["images"]["x"]) and set(payload["images"]["y"]) == {32768}
    again = collect(run_folder)
    assert again["map"] == payload["map"] and fake_umap["times"] == 1
    assert collect(run_folder, layout="pca")["map"]["method"] == "PCA"


def test_a_report_of_more_images_than_the_saved_umap_has_falls_back_and_does_not_destroy_it(
    run_folder: Path, fake_umap: dict[str, Any]
) -> None:
    assert collect(run_folder, 20, layout="umap")["map"]["method"] == "UMAP"
    assert collect(run_folder)["map"]["method"] == "PCA"
    assert collect(run_folder, 20)["map"]["method"] == "UMAP" and fake_umap["times"] == 1


@pytest.mark.parametrize(("layout", "module"), [("umap", "umap"), ("tsne", "openTSNE")])
def test_a_map_that_is_not_installed_or_unknown_gives_a_sentence(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, layout: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=r"pip install 'ilk\[map\]'"):
        collect(run_folder, layout=layout)
    with pytest.raises(ValueError, match="'lle'.*pca, umap, tsne"):
        collect(run_folder, layout="lle")


def test_too_few_images_for_umap_give_a_sentence(tmp_path: Path, written_run: Written, fake_umap: Any) -> None:
    with pytest.raises(ValueError, match="UMAP.*10 images.* 3"):
        find_map(tmp_path, cloud(3), np.arange(3), "umap")


def test_moments_are_turned_onto_the_last_one(tmp_path: Path) -> None:
    z = cloud(50).astype(np.float16)
    turned = z[:, [1, 0, 2, 3, 4, 5]] * np.float16(-1)
    np.savez(
        tmp_path / "m.npz", rows=np.arange(50), epochs=np.array([4, 0]), embedding=np.stack([z, turned]),
        cluster=np.zeros((2, 50), np.int32),
    )  # fmt: skip
    found = read_moments(tmp_path / "m.npz", 4, 50)
    assert found is not None
    first, last = found["moments"]
    assert (first["epoch"], last["epoch"]) == (0, 4)
    assert np.allclose(first["xy"] - first["xy"].mean(0), last["xy"] - last["xy"].mean(0), atol=0.05)
    assert read_moments(tmp_path / "none.npz", 4, 50) is None
    with pytest.raises(ValueError, match=r"m.npz'.*damaged"):
        read_moments(tmp_path / "m.npz", 4, 49)


def test_moments_say_when_they_were() -> None:
    assert [title_of(epoch, 9) for epoch in (0, 3, 9)] == [
        "before training",
        "after epoch 3 of 9",
        "at the end, epoch 9",
    ]


def slow_nearest(z: np.ndarray, ranks: list[int]) -> list[list[int]]:
    found = []
    for i in range(len(z)):
        others = sorted((j for j in range(len(z)) if j != i), key=lambda j: (-float(np.float32(z[i] @ z[j])), j))
        found.append([others[rank - 1] for rank in ranks])
    return found


@pytest.mark.parametrize(("n", "ranks"), [(2, [1]), (11, [1, 2, 10]), (40, [1, 2, 10]), (130, [1, 2, 10, 50, 100])])
@pytest.mark.parametrize("cells", [1, 500, 1 << 22])
def test_neighbours_equal_those_found_one_by_one(
    monkeypatch: pytest.MonkeyPatch, n: int, ranks: list[int], cells: int
) -> None:
    monkeypatch.setattr(neighbours, "CELLS", cells)
    z = unit_rows(cloud(n))
    index, cosine = nearest(z, ranks)
    assert index.tolist() == slow_nearest(z, ranks)
    for i in range(n):
        assert np.allclose(cosine[i], z[index[i]] @ z[i], atol=1e-6)


def test_no_image_is_its_own_neighbour_even_among_copies_of_it() -> None:
    index, cosine = nearest(unit_rows(np.ones((20, 3))), [1, 2, 10])
    assert (index != np.arange(20)[:, None]).all() and np.allclose(cosine, 1)
    assert all(len(set(row)) == 3 for row in index.tolist())


def test_neighbours_of_many_images_never_hold_all_pairs() -> None:
    z = unit_rows(cloud(12_000, 8))
    tracemalloc.start()
    nearest(z, [1, 100])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 150e6  # bytes; all pairs as float32 are 576e6


def test_rows_of_zeros_have_no_direction_and_no_nan() -> None:
    assert np.isfinite(unit_rows(np.zeros((3, 4)))).all()
