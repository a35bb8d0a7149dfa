"""Nobody has to know how many clusters there are: the number is found, said, kept, and can be changed later."""

from __future__ import annotations

import csv
import itertools
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from torch import Tensor, nn

from ilk import Clusterer
from ilk.networks.features import Features
from ilk.pipeline.begin import feasible_range, find_number
from ilk.pipeline.fitting import fit
from ilk.pipeline.predicting import predict
from ilk.pipeline.request import Request
from ilk.runs.folder import Run
from ilk.runs.tables import read_table
from ilk.system.progress import Watch

KINDS = 4


def pictures(n: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """Gray images of 8 x 8 pixels with one bright quarter each, and the number of that quarter."""
    random = np.random.default_rng(0)
    kind = np.arange(n) % KINDS
    images = random.integers(0, 60, (n, 8, 8))
    for row, quarter in enumerate(kind):
        y, x = divmod(int(quarter), 2)
        images[row, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4] += 150
    return images.astype(np.uint8), kind


class Pixels(nn.Module):
    """An encoder without weights, whose features are the pixels."""

    feature_dim, image_size = 64, 8

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1).flatten(1)


class Told(Watch):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def asked(clusters: str, **more: object) -> Request:
    return Request(n_clusters=clusters, backbone=Pixels(), train="heads", feature_views=0, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("auto") / "run"
    return fit(asked("auto", epochs=3), pictures()[0], Run(folder), report=False)


def test_the_number_is_found_and_written_down(run: Run) -> None:
    number = run.config.number
    assert run.config.n_clusters == number.chosen == KINDS
    assert number.asked == "auto"
    assert number.range[0] <= KINDS <= number.range[1]
    assert number.sure in ("low", "medium", "high")
    clusters = read_table(run / "assignments.parquet")["cluster"].to_numpy()
    assert len(np.unique(clusters)) == KINDS


def test_the_curve_has_a_row_for_each_number_and_one_is_chosen(run: Run) -> None:
    rows = list(csv.DictReader((run / "k_curve.csv").open()))
    assert [int(row["k"]) for row in rows] == list(range(2, 2 + len(rows)))
    assert [int(row["k"]) for row in rows if row["chosen"] == "True"] == [KINDS]


def test_every_level_of_the_tree_is_kept_and_levels_are_nested(run: Run) -> None:
    table = pq.read_table(run / "hierarchy.parquet").to_pydict()
    assert table["id"] == read_table(run / "assignments.parquet")["id"].to_pylist()
    levels = [np.array(table[name]) for name in table if name.startswith("k")]
    for coarse, fine in itertools.pairwise(levels):
        parents = {(int(b), int(a)) for a, b in zip(coarse, fine, strict=True)}
        assert len(parents) == len({child for child, _ in parents})
    kind = pictures()[1]
    at = np.array(table[f"k{KINDS}"])
    assert all(len(set(at[kind == one])) == 1 for one in range(KINDS))


def test_a_range_bounds_the_number(tmp_path: Path) -> None:
    watch = Told()
    found = fit(asked("6-9", epochs=2), pictures()[0], Run(tmp_path / "run"), report=False, watch=watch)
    assert 6 <= found.config.n_clusters <= 9
    assert any("clusters" in text for text in watch.said)


def test_without_an_encoder_a_representation_is_learnt_first(tmp_path: Path) -> None:
    images, watch = pictures(80)[0], Told()
    request = Request(n_clusters="2-8", epochs=2, settings={"batch_size": 32, "cluster_heads": 2})
    found = fit(request, images, Run(tmp_path / "run"), report=False, watch=watch)
    assert (tmp_path / "run" / "representation" / "model.safetensors").is_file()
    assert found.config.encoder.spec == "run:representation"
    assert any("representation" in text for text in watch.said)
    moved = tmp_path / "elsewhere"
    found.folder.rename(moved)
    predict(Run(moved), images, tmp_path / "again", report=False)
    both = [read_table(folder / "assignments.parquet")["cluster"].to_numpy() for folder in (moved, tmp_path / "again")]
    np.testing.assert_array_equal(*both)


def test_the_estimator_finds_the_number_too_and_keeps_what_it_needs(tmp_path: Path) -> None:
    images = pictures(80)[0]
    clusterer = Clusterer(
        "2-8", epochs=2, random_state=0, settings={"batch_size": 32, "cluster_heads": 2}
    ).fit(images)  # fmt: skip
    assert clusterer.n_clusters == "2-8"
    assert 2 <= clusterer.n_clusters_ <= 8
    assert clusterer.predict_proba(images[:5]).shape == (5, clusterer.n_clusters_)
    clusterer.save(tmp_path / "run")
    loaded = Clusterer.load(tmp_path / "run")
    np.testing.assert_array_equal(loaded.predict(images), clusterer.labels_)
    assert (tmp_path / "run" / "hierarchy.parquet").is_file()
    thawed = pickle.loads(pickle.dumps(clusterer))
    np.testing.assert_array_equal(thawed.predict(images), clusterer.labels_)
    shutil.rmtree(clusterer._home)  # as in another process, where the temporary folder is gone
    with pytest.warns(UserWarning, match="no duplicates.csv"):
        thawed.save(tmp_path / "thawed")
    assert (tmp_path / "thawed" / "hierarchy.parquet").is_file()
    for folder in (tmp_path / "run", tmp_path / "thawed"):
        again = Clusterer.load(folder)
        np.testing.assert_array_equal(again.predict(images), clusterer.labels_)
        again.save(tmp_path / f"{folder.name}-again")
        assert (tmp_path / f"{folder.name}-again" / "k_curve.csv").is_file()
        assert (tmp_path / f"{folder.name}-again" / "representation" / "config.json").is_file()


@pytest.mark.parametrize("wrong", ["many", "5-", "-5", "9-3", "1-4", "1", 1, 0, True, 2.5])
def test_a_wrong_number_is_a_sentence(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"whole number of at least 2, auto, or a range such as 5-60"):
        Request(n_clusters=wrong)  # type: ignore[arg-type]


def test_a_number_as_text_is_a_number() -> None:
    assert Request(n_clusters="12").k == 12


def test_known_labels_need_a_number() -> None:
    with pytest.raises(ValueError, match="Give --clusters K"):
        Request(n_clusters="auto", method="crlc", known_labels={"a": "b"})


def test_too_few_images_to_find_a_number_are_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 20 images"):
        fit(Request(n_clusters="auto"), pictures(12)[0], Run(tmp_path / "run"))


def test_a_range_out_of_reach_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    images = pictures(30)[0]
    assert feasible_range(Request(n_clusters="2-60"), len(images)) == (2, 3)
    assert feasible_range(Request(n_clusters="auto"), len(images)) == (2, None)
    with pytest.raises(ValueError, match="--clusters 5-60 asks .* at least 5 clusters, and 30 images allow at most 3"):
        fit(Request(n_clusters="5-60"), images, Run(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_range_partly_out_of_reach_is_cut_and_said() -> None:
    said: list[str] = []

    class Listener(Watch):
        def say(self, text: str) -> None:
            said.append(text)

    rows = np.random.default_rng(0).normal(size=(40, 1, 8)).astype(np.float16)
    hierarchy = find_number(Request(n_clusters="2-60"), Features(rows), Listener())
    assert 2 <= hierarchy.chosen <= 4 and list(hierarchy.range) <= [2, 4]
    assert said[0] == "choosing from 2 to 4 clusters: 40 images allow no more, ten images each"


def test_a_search_goes_on_only_as_the_one_it_was(tmp_path: Path, run: Run) -> None:
    with pytest.raises(ValueError, match="it cannot go on as"):
        fit(asked("3-7"), pictures()[0], run, resume=True, report=False)
    assert json.loads((run / "config.json").read_text())["number"]["chosen"] == KINDS
