"""Retrieval: average precision by hand and by loops, and the picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ilk.evaluation import retrieval
from ilk.evaluation.retrieval import chosen_queries, picture_rows, rank_gallery, retrieval_scores
from ilk.evaluation.retrieval_picture import RIGHT, WRONG, Line, write_retrieval


def at_angles(*degrees: float) -> np.ndarray:
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def test_average_precision_by_hand() -> None:
    """Right, wrong, right, right: (1/1 + 2/3 + 3/4) / 3."""
    found = rank_gallery(
        at_angles(0), at_angles(40, 10, 30, 20), np.array([7]), np.array([7, 7, 7, 3]), ranks=(1, 2, 4, 10)
    )
    assert found.near.tolist() == [[1, 3, 2, 0]]
    assert found.average_precision[0] == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert {k: float(v[0]) for k, v in found.precision.items()} == {1: 1.0, 2: 0.5, 4: 0.75}


def slow_ap(query: np.ndarray, gallery: np.ndarray, code: int, codes: list[int], own: int) -> float:
    rows = [j for j in range(len(gallery)) if j != own]
    unit = [x.astype(np.float64) / np.linalg.norm(x) for x in gallery]
    rows.sort(key=lambda j: -float(unit[j] @ query))
    hits, total = 0, 0.0
    for rank, j in enumerate(rows, 1):
        if codes[j] == code:
            hits += 1
            total += hits / rank
    return total / hits


@pytest.mark.parametrize("cells", [1 << 23, 100, 1])
def test_average_precision_is_that_of_loops(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "CELLS", cells)
    monkeypatch.setattr(retrieval, "FLOATS", 6 * 7)
    random = np.random.default_rng(0)
    z, codes = random.normal(size=(50, 6)).astype(np.float16), random.integers(0, 3, 50)
    found = rank_gallery(z, z, codes, codes, own=np.arange(50))
    expected = [slow_ap(z[i].astype(np.float64), z, codes[i], codes.tolist(), i) for i in range(50)]
    np.testing.assert_allclose(found.average_precision, expected, atol=1e-6)
    assert (found.near != np.arange(50)[:, None]).all()
    first = codes[found.near[:, 0]] == codes
    np.testing.assert_array_equal(found.precision[1], first)
    scores = retrieval_scores(found, resamples=100)
    assert scores["mean_average_precision"]["value"] == pytest.approx(np.mean(expected), abs=1e-6)
    assert scores["precision"]["1"]["value"] == pytest.approx(first.mean())


def test_similarities_are_never_all_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "CELLS", 2000)
    z = np.random.default_rng(0).normal(size=(400, 4))
    sizes: list[int] = []
    similar = retrieval.similarities

    def watched(query: np.ndarray, gallery: np.ndarray) -> object:
        sizes.append(len(query) * len(gallery))
        return similar(query, gallery)

    monkeypatch.setattr(retrieval, "similarities", watched)
    rank_gallery(z, z, np.zeros(400, int), np.zeros(400, int), own=np.arange(400))
    assert max(sizes) == 2000 and sum(sizes) == 160_000


def test_queries_without_a_partner_are_left_out_and_counted() -> None:
    codes = np.array([0, 0, 1, -1, -1])
    found = rank_gallery(at_angles(0, 1, 2, 3, 4), at_angles(0, 1, 2, 3, 4), codes, codes, own=np.arange(5))
    assert np.isnan(found.average_precision).tolist() == [False, False, True, True, True]
    scores = retrieval_scores(found, resamples=10)
    assert (scores["queries"], scores["without_partner"]) == (2, 3)


def test_retrieval_that_cannot_be_scored_says_so() -> None:
    found = rank_gallery(at_angles(0), at_angles(1, 2), np.array([0]), np.array([1, 1]))
    with pytest.raises(ValueError, match="query.*label"):
        retrieval_scores(found)


def test_ranks_beyond_the_gallery_are_left_out() -> None:
    z, codes = np.random.default_rng(0).normal(size=(11, 3)), np.zeros(11, int)
    assert list(rank_gallery(z, z, codes, codes, own=np.arange(11)).precision) == [1, 2, 10]
    assert list(rank_gallery(z, z[:10], codes, codes[:10], own=np.arange(11) - 1).precision) == [1, 2]


def test_a_sample_of_queries_is_seeded_in_order_and_without_repeats() -> None:
    some = chosen_queries(1000, 100, 5)
    assert len(set(some.tolist())) == 100 and (np.diff(some) > 0).all()
    np.testing.assert_array_equal(some, chosen_queries(1000, 100, 5))
    assert (some != chosen_queries(1000, 100, 6)).any()
    assert chosen_queries(7, 100, 0).tolist() == list(range(7))


def test_the_picture_shows_queries_of_every_kind_and_then_the_worst() -> None:
    random = np.random.default_rng(1)
    z, codes = random.normal(size=(60, 3)), np.repeat(np.arange(6), 10)
    found = rank_gallery(z, z, codes, codes, own=np.arange(60))
    even, worst = picture_rows(found, codes, 6)
    assert sorted(codes[even].tolist()) == [0, 1, 2, 3, 4, 5]
    assert not set(even.tolist()) & set(worst.tolist())
    rest = [ap for row, ap in enumerate(found.average_precision) if row not in even]
    assert found.average_precision[worst].tolist() == sorted(rest)[:6]


def test_without_labels_the_worst_query_is_the_loneliest() -> None:
    z, none = at_angles(0, 1, 2, 90, 91, 180), np.full(6, -1)
    found = rank_gallery(z, z, none, none, own=np.arange(6))
    even, worst = picture_rows(found, none, 2)
    assert even.tolist() == [0, 5]
    assert worst[0] in (3, 4, 1, 2) and len(worst) == 2
    assert picture_rows(found, none, 1)[1].tolist() == [5]


def test_frames_say_right_and_wrong(tmp_path: Path) -> None:
    white = Image.new("RGB", (16, 16), (255, 255, 255))
    write_retrieval(tmp_path / "a.png", [("two", [Line(("cat", "x" * 99), white, [white, white], [True, False])])])
    colours = {colour for _, colour in Image.open(tmp_path / "a.png").getcolors(1 << 16)}
    assert {RIGHT, WRONG} <= colours
    write_retrieval(tmp_path / "b.png", [("two", [Line(("cat",), white, [white, white], None)]), ("none", [])])
    colours = {colour for _, colour in Image.open(tmp_path / "b.png").getcolors(1 << 16)}
    assert not {RIGHT, WRONG} & colours
    with pytest.raises(ValueError, match="no query"):
        write_retrieval(tmp_path / "c.png", [("none", [])])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.png", "b.png"]
