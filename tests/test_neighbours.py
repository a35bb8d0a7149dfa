"""Who is near whom, against a comparison of all with all."""

from __future__ import annotations

import numpy as np
import pytest

from ilk import neighbours
from ilk.neighbours import near_rows


def clustered(n: int, d: int = 16, kinds: int = 20, seed: int = 0) -> np.ndarray:
    """Rows around `kinds` centres, of very different lengths."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(kinds, d))
    found = centres[random.integers(0, kinds, n)] + 0.4 * random.normal(size=(n, d))
    return (found * random.uniform(0.01, 100, (n, 1))).astype(np.float32)


def cosines(z: np.ndarray) -> np.ndarray:
    unit = z.astype(np.float64) / np.linalg.norm(z.astype(np.float64), axis=1, keepdims=True)
    found: np.ndarray = unit @ unit.T
    np.fill_diagonal(found, -2)
    return found


@pytest.mark.parametrize("cells", [1 << 22, 1000])  # in one piece, and in many
def test_the_nearest_are_those_of_a_comparison_of_all_with_all(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "CELLS", cells)
    z = clustered(300)
    found = near_rows(z, 7)
    assert found.shape == (300, 7) and found.dtype == np.int64
    np.testing.assert_array_equal(found, np.argsort(-cosines(z), axis=1)[:, :7])


def test_beyond_the_exact_limit_nearly_all_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "EXACT", 500)
    z = clustered(3000)
    found = near_rows(z, 10)
    exact = np.argsort(-cosines(z), axis=1)[:, :10]
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found.tolist(), exact.tolist(), strict=True)])
    assert recall >= 0.95
    assert (found != np.arange(3000)[:, None]).all()
    assert all(len(set(row)) == 10 for row in found.tolist())
    near = np.take_along_axis(cosines(z), found, 1)
    assert (np.diff(near, axis=1) <= 1e-6).all()  # nearest first
    np.testing.assert_array_equal(found, near_rows(z, 10))


def test_cells_that_hold_too_few_rows_are_added_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "EXACT", 50)
    monkeypatch.setattr(neighbours, "PROBES", 1)
    z = clustered(120)
    found = near_rows(z, 100)
    assert found.shape == (120, 100)
    assert all(len(set(row)) == 100 and i not in row for i, row in enumerate(found.tolist()))


@pytest.mark.parametrize("exact", [20_000, 50])
def test_rows_that_are_all_the_same_have_other_rows_as_neighbours(exact: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "EXACT", exact)
    found = near_rows(np.ones((200, 4), np.float16), 3)
    assert all(len(set(row)) == 3 and i not in row for i, row in enumerate(found.tolist()))
    assert found.min() >= 0 and found.max() < 200


def test_the_nearest_of_a_duplicate_is_its_twin() -> None:
    z = clustered(40)
    found = near_rows(np.concatenate([z, z]), 1)[:, 0]
    np.testing.assert_array_equal(found, (np.arange(80) + 40) % 80)


def test_all_others_may_be_asked_for() -> None:
    found = near_rows(clustered(6), 5)
    assert [sorted({*row, i}) for i, row in enumerate(found.tolist())] == [list(range(6))] * 6


@pytest.mark.parametrize("m", [0, -1, 6, 100])
def test_as_many_as_there_are_not_is_refused(m: int) -> None:
    with pytest.raises(ValueError, match=f"Of 6 rows each has 5 others; {m} nearest ones"):
        near_rows(clustered(6), m)


@pytest.mark.parametrize("exact", [20_000, 100])
def test_progress_ends_with_all_rows(exact: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "EXACT", exact)
    monkeypatch.setattr(neighbours, "CELLS", 5000)
    said: list[tuple[int, int]] = []
    near_rows(clustered(250), 2, progress=lambda done, total: said.append((done, total)))
    assert len(said) > 1 and said[-1] == (250, 250) and said == sorted(said)
