"""Hardly any images, or images that are all alike: a training works or says what is wrong, and no table holds NaN."""

from __future__ import annotations

import gc
import os
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ilk import Clusterer
from ilk.methods import METHODS
from ilk.pipeline.build import load_method
from ilk.runs.folder import Run
from ilk.runs.tables import read_table


@pytest.fixture
def fitted(clusterer: Callable[..., Any]) -> Callable[..., Any]:
    """`fitted(images, method)`: a Clusterer trained for two epochs; warnings of collapsed clusters are expected."""

    def fit(images: np.ndarray, method: str, **asked: Any) -> Clusterer:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            found: Clusterer = clusterer(method=method, **{"epochs": 2, "precision": "float32", **asked}).fit(images)
        return found

    return fit


def sound(found: Clusterer, n: int, k: int) -> bool:
    """Whether all that a training leaves behind is in range and finite."""
    assert found.labels_.shape == (n,) and 0 <= found.labels_.min() <= found.labels_.max() < k
    assert np.isfinite(found.confidence_).all() and found.confidence_.min() >= 0 and found.confidence_.max() <= 1 + 1e-5
    assert np.isfinite(found.embedding_.astype(np.float32)).all()
    assert all(torch.isfinite(one).all() for one in found.method_.state_dict().values() if one.is_floating_point())
    for record in found.history_:
        assert np.isfinite([record["loss"], *record["terms"].values()]).all(), record
    return True


@pytest.mark.parametrize("method", METHODS)
def test_a_single_image_is_too_few_in_a_sentence(method: str, pictures: Any, fitted: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="2 clusters.*2 images.* 1\\b"):
        fitted(pictures(2)[0][:1], method)


@pytest.mark.parametrize("n", [2, 3, 7])
@pytest.mark.parametrize("method", METHODS)
def test_a_handful_of_images_is_clustered(method: str, n: int, pictures: Any, fitted: Callable[..., Any]) -> None:
    found = fitted(pictures(n)[0], method)
    assert sound(found, n, 2) and len(found.history_) == 2


@pytest.mark.parametrize("method", METHODS)
def test_as_many_clusters_as_images_are_possible(method: str, pictures: Any, fitted: Callable[..., Any]) -> None:
    assert sound(fitted(pictures(7)[0], method, n_clusters=7), 7, 7)


ALIKE = {
    "identical": lambda some: np.repeat(some[:1], len(some), 0),
    "black": np.zeros_like,
    "white": lambda some: np.full_like(some, 255),
    "one pixel": lambda some: np.ascontiguousarray(some[:, :1, :1]),
}


@pytest.mark.parametrize("kind", ALIKE)
@pytest.mark.parametrize("method", METHODS)
def test_images_that_are_all_alike_are_clustered_or_refused(
    method: str, kind: str, pictures: Any, fitted: Callable[..., Any]
) -> None:
    assert sound(fitted(ALIKE[kind](pictures(12)[0]), method), 12, 2)


@pytest.mark.parametrize("method", METHODS)
def test_the_tables_of_identical_images_hold_no_nan(
    method: str, pictures: Any, fitted: Callable[..., Any], tmp_path: Path
) -> None:
    found = fitted(np.zeros_like(pictures(7)[0]), method)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found.save(tmp_path / "run")
    table = read_table(tmp_path / "run" / "assignments.parquet")
    for name in ("confidence", "margin"):
        assert np.isfinite(table[name].to_numpy()).all()
    assert "nan" not in (tmp_path / "run" / "clusters.csv").read_text().lower()
    for name in ("config.json", "log.jsonl", "scores.json"):
        text = (tmp_path / "run" / name).read_text()
        assert "NaN" not in text and "Infinity" not in text, name
    assert load_method(Run(tmp_path / "run").open()).n_clusters == 2


# ---- several at a time


@pytest.mark.parametrize("method", METHODS)
def test_two_trainings_in_two_threads_end_as_each_does_alone(
    method: str, pictures: Any, clusterer: Callable[..., Any]
) -> None:
    images = [pictures(24, start=start)[0] for start in (0, 500)]

    def train(number: int) -> dict[str, torch.Tensor]:
        found = clusterer(method=method, epochs=2, random_state=number, precision="float32").fit(images[number])
        return {**found.method_.state_dict(), "labels": torch.from_numpy(found.labels_)}

    warnings.simplefilter("ignore", UserWarning)
    alone = [train(number) for number in (0, 1)]
    together: dict[int, Any] = {}
    start = threading.Barrier(2)

    def work(number: int) -> None:
        start.wait()
        together[number] = train(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in (0, 1):
        differing = [name for name, one in alone[number].items() if not torch.equal(one, together[number][name])]
        assert differing == []


@pytest.mark.slow
def test_fifty_trainings_in_one_process_leave_nothing_behind(
    pictures: Any, fitted: Callable[..., Any], tmp_path: Path
) -> None:
    """Memory, threads and open files after 50 trainings, in turn by each method, are those after the first ten."""
    images, methods = pictures(40)[0], list(METHODS)
    seen = []
    for number in range(60):
        found = fitted(images, methods[number % len(methods)])
        if number % 10 == 0:
            found.save(tmp_path / str(number))
        del found
        gc.collect()
        if number in (9, 59):
            seen.append((resident(), threading.active_count(), len(os.listdir("/proc/self/fd"))))
    (memory, threads, files), (memory_after, threads_after, files_after) = seen
    print(
        f"\n{memory:.0f} -> {memory_after:.0f} MB, {threads} -> {threads_after} threads, {files} -> {files_after} files"
    )
    assert memory_after - memory < 40  # MB; a single kept training would be 3, fifty 150
    assert threads_after <= threads and files_after <= files


def resident() -> float:
    """Memory of this process in MB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
