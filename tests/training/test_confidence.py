"""The confidence of a run is calibrated, kept beside the model, and used for new images; earlier runs have none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ilk import Clusterer
from ilk.analysis.calibration import Calibration
from ilk.pipeline.fitting import fit
from ilk.pipeline.predicting import predict
from ilk.pipeline.request import Request
from ilk.runs.folder import Run
from ilk.runs.tables import read_table
from ilk.system.progress import Watch
from ilk.training.assign import Assignments
from ilk.training.confidence import FILE, calibrated, read_calibration


def pictures(n: int = 120) -> np.ndarray:
    """Images of two classes, and some that show both."""
    random = np.random.default_rng(0)
    images = random.integers(0, 90, (n, 8, 8))
    images[: n // 2, :4] += 120
    images[n // 3 :, 4:] += 120
    return images.astype(np.uint8)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("confidence") / "run"
    request = Request(n_clusters=2, epochs=4, settings={"batch_size": 40, "cluster_heads": 2}, views="none")
    return fit(request, pictures(), Run(folder), report=False, labels=np.arange(120) < 60)


def test_the_table_has_the_calibrated_confidence_and_who_is_uncertain(run: Run) -> None:
    table, calibration = read_table(run / "assignments.parquet"), read_calibration(run)
    assert len(calibration.temperature) == 2
    confidence = table["confidence"].to_numpy()
    assert confidence.mean() == pytest.approx(calibration.agreement, abs=0.02)
    assert (table["uncertain"].to_numpy()[confidence < calibration.sure]).all()
    assert 0 <= json.loads((run / "scores.json").read_text())["labels"]["calibration_error"] <= 1


def test_new_images_get_the_confidence_that_the_same_images_had(run: Run, tmp_path: Path) -> None:
    predict(run, pictures(), tmp_path / "p", report=False)
    tables = [read_table(folder / "assignments.parquet") for folder in (run.folder, tmp_path / "p")]
    for name in ("confidence", "margin"):
        np.testing.assert_array_equal(*(table[name].to_numpy() for table in tables))


def test_a_run_of_an_earlier_version_has_the_models_own_confidence(run: Run, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(run.folder, old)
    (old / FILE).unlink()
    assert read_calibration(Run(old)) == Calibration()
    predict(Run(old), pictures(), tmp_path / "p", report=False)
    raw, better = (read_table(folder / "assignments.parquet") for folder in (tmp_path / "p", run.folder))
    assert raw["cluster"].equals(better["cluster"])
    assert not raw["confidence"].equals(better["confidence"])


@pytest.mark.parametrize(
    "text", ["", "[1]", '{"temperature": [0, 1]}', '{"temperature": ["a", 1]}', '{"sure": 7}', '{"temperature": [1]}']
)
def test_a_damaged_calibration_is_a_sentence(run: Run, tmp_path: Path, text: str) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(run.folder, damaged)
    (damaged / FILE).write_text(text)
    with pytest.raises(ValueError, match="calibration.json"):
        predict(Run(damaged), pictures(), tmp_path / "p", report=False)


def test_the_estimator_keeps_its_calibration(tmp_path: Path) -> None:
    settings = {"batch_size": 40, "cluster_heads": 2}
    clusterer = Clusterer(2, epochs=3, settings=settings, views="none").fit(pictures())
    np.testing.assert_allclose(clusterer.predict_proba(pictures()).max(1), clusterer.confidence_, atol=1e-6)
    clusterer.save(tmp_path / "run")
    loaded = Clusterer.load(tmp_path / "run")
    np.testing.assert_allclose(loaded.predict_proba(pictures()), clusterer.predict_proba(pictures()), atol=1e-6)


class Warned(Watch):
    text = ""

    def warn(self, text: str) -> None:
        self.text = text


def test_a_calibration_that_fails_costs_no_results() -> None:
    probability = np.full((30, 2), np.nan, dtype=np.float32)
    ones = np.ones(30, dtype=np.float32)
    found = Assignments(np.zeros(30, int), ones, np.ones(30, int), ones, np.ones((30, 3)), probability=probability)
    watch = Warned()
    better, calibration = calibrated(found, None, 0, watch)
    assert calibration == Calibration()
    assert "could not be calibrated" in watch.text
    np.testing.assert_array_equal(better.confidence, ones)
