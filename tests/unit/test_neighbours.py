"""Who is near whom, against a comparison of all with all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ilk.analysis import neighbours
from ilk.analysis.neighbours import near_rows, nearest_rows


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
    with pytest.raises(ValueError, match=f"6 rows.* 5 .*{m}"):
        near_rows(clustered(6), m)


@pytest.mark.parametrize("exact", [20_000, 100])
def test_progress_ends_with_all_rows(exact: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "EXACT", exact)
    monkeypatch.setattr(neighbours, "CELLS", 5000)
    said: list[tuple[int, int]] = []
    near_rows(clustered(250), 2, progress=lambda done, total: said.append((done, total)))
    assert len(said) > 1 and said[-1] == (250, 250) and said == sorted(said)


# nearest rows of a reference


def by_loops(query: np.ndarray, reference: np.ndarray, m: int, own: np.ndarray | None = None) -> np.ndarray:
    """The same by comparing each with each, one at a time, in float64."""
    found = []
    for i, q in enumerate(query.astype(np.float64)):
        ranked = []
        for j, r in enumerate(reference.astype(np.float64)):
            if own is None or own[i] != j:
                ranked.append((-float(q @ r) / (np.linalg.norm(q) * np.linalg.norm(r)), j))
        found.append([j for _, j in sorted(ranked)[:m]])
    return np.array(found)


def cosines_at(query: np.ndarray, reference: np.ndarray, index: np.ndarray) -> np.ndarray:
    unit = [
        x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True) for x in (query, reference)
    ]
    found: np.ndarray = np.einsum("qd,qmd->qm", unit[0], unit[1][index])
    return found


@pytest.mark.parametrize(("floats", "cells"), [(1 << 22, 1 << 22), (16 * 30, 200), (1, 1)])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_nearest_rows_are_those_of_loops(kind: type, floats: int, cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "FLOATS", floats)
    monkeypatch.setattr(neighbours, "CELLS", cells)
    query, reference = clustered(23, seed=1).astype(kind), clustered(200).astype(kind)
    index, cosine = nearest_rows(query, reference, 9)
    assert index.shape == cosine.shape == (23, 9) and index.dtype == np.int64
    np.testing.assert_array_equal(index, by_loops(query, reference, 9))
    np.testing.assert_allclose(cosine, cosines_at(query, reference, index), atol=2e-6)


def test_a_query_that_is_a_row_of_the_reference_is_left_out() -> None:
    z = clustered(80)
    own = np.arange(80)
    own[::3] = -1
    index, _ = nearest_rows(z, z, 5, own=own)
    np.testing.assert_array_equal(index, by_loops(z, z, 5, own))
    assert (index[::3, 0] == np.arange(0, 80, 3)).all()
    assert (index[own >= 0] != own[own >= 0, None]).all()


def test_equal_rows_come_in_their_order() -> None:
    reference = np.tile(np.eye(4, dtype=np.float16), (5, 1))
    index, cosine = nearest_rows(np.eye(4), reference, 5)
    assert index.tolist() == [[row + 4 * i for i in range(5)] for row in range(4)]
    assert (cosine == 1).all()


def test_a_row_of_zeros_is_at_a_right_angle_to_all() -> None:
    index, cosine = nearest_rows(np.array([[1.0, 0.0]]), np.array([[-1.0, 0.0], [0.0, 0.0], [2.0, 0.0]]), 3)
    assert index.tolist() == [[2, 1, 0]] and cosine.tolist() == [[1, 0, -1]]


def test_a_memory_map_is_never_held_whole_as_floats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """20,000 rows of 32 are read in blocks of 4,096 numbers and compared 8,192 cells at a time."""
    monkeypatch.setattr(neighbours, "FLOATS", 4096)
    monkeypatch.setattr(neighbours, "CELLS", 8192)
    reference = np.lib.format.open_memmap(tmp_path / "z.npy", "w+", np.float16, (20_000, 32))
    reference[:] = np.random.default_rng(0).normal(size=reference.shape)
    query = np.random.default_rng(1).normal(size=(300, 32)).astype(np.float16)
    floats, cells = [], []
    unit, search = neighbours.unit_floats, neighbours.torch_search

    def watched_unit(rows: np.ndarray, what: str) -> torch.Tensor:
        floats.append(rows.size)
        return unit(rows, what)

    def watched_search(q: torch.Tensor, block: torch.Tensor, m: int) -> tuple[torch.Tensor, torch.Tensor]:
        cells.append(len(q) * len(block))
        return search(q, block, m)

    monkeypatch.setattr(neighbours, "unit_floats", watched_unit)
    monkeypatch.setattr(neighbours, "torch_search", watched_search)
    index, _ = nearest_rows(query, np.load(tmp_path / "z.npy", mmap_mode="r"), 4)
    assert max(floats) <= 4096 and max(cells) <= 8192
    unit_q, unit_r = unit(query, "query"), unit(np.asarray(reference), "reference")
    np.testing.assert_array_equal(index, (unit_q @ unit_r.T).topk(4, dim=1).indices.numpy())


def test_progress_of_nearest_rows_counts_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "FLOATS", 16 * 40)
    said: list[tuple[int, int]] = []
    nearest_rows(clustered(3), clustered(100), 2, progress=lambda done, total: said.append((done, total)))
    assert said == [(40, 100), (80, 100), (100, 100)]


@pytest.mark.parametrize(
    ("query", "reference", "m", "own", "message"),
    [
        (np.ones((2, 3)), np.ones((4, 5)), 1, None, r"\(2, 3\).*\(4, 5\)"),
        (np.ones(3), np.ones((4, 3)), 1, None, "rows of the same width"),
        (np.ones((2, 3)), np.ones((4, 3)), 5, None, "4 reference rows.* 5 "),
        (np.ones((2, 3)), np.ones((4, 3)), 4, np.array([0, 1]), "3 reference rows.* 4 "),
        (np.ones((2, 3)), np.ones((4, 3)), 0, None, r"\b0 "),
        (np.ones((2, 3)), np.ones((4, 3)), 1, np.array([0]), "2 queries"),
        (np.ones((2, 3)), np.full((4, 3), np.nan), 1, None, "reference.*not finite"),
        (np.full((2, 3), np.inf), np.ones((4, 3)), 1, None, "query.*not finite"),
    ],
)
def test_rows_that_cannot_be_compared_are_refused(
    query: np.ndarray, reference: np.ndarray, m: int, own: np.ndarray | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        nearest_rows(query, reference, m, own=own)


def test_faiss_finds_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss", reason="faiss is not installed")
    monkeypatch.setattr(neighbours, "FLOATS", 16 * 70)
    monkeypatch.setattr(neighbours, "FAISS_FROM", 0)
    called: list[int] = []
    search = neighbours.faiss_search
    monkeypatch.setattr(neighbours, "faiss_search", lambda q, b, m: called.append(len(b)) or search(q, b, m))
    query, reference = clustered(23, seed=1).astype(np.float16), clustered(200).astype(np.float16)
    own = np.arange(23)
    index, cosine = nearest_rows(query, reference, 9, own=own)
    assert called == [70, 70, 60]
    monkeypatch.setattr(neighbours, "has_faiss", lambda: False)
    plain, expected = nearest_rows(query, reference, 9, own=own)
    np.testing.assert_array_equal(index, plain)
    np.testing.assert_allclose(cosine, expected, atol=1e-6)
