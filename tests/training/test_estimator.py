"""scikit-learn's contract, and what `Clusterer` adds to it."""

from __future__ import annotations

import copy
import json
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted
from torch import nn

from ilk import Clusterer, ViewRecipe, load_images
from ilk.analysis.metrics import accuracy
from ilk.evaluation import score_run
from ilk.runs.folder import Run


class Mine(nn.Module):
    """A backbone of a user's own."""

    feature_dim = 16

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.body(x).mean((2, 3))
        return features


@pytest.fixture(scope="module")
def X(pictures: Callable[..., Any]) -> np.ndarray:
    return pictures(60)[0]


@pytest.fixture(scope="module")
def fitted(clusterer: Callable[..., Any], X: np.ndarray) -> Clusterer:
    """Fitted once; a test that changes it takes a copy."""
    return clusterer().fit(X)


def test_parameters_are_kept_as_given_and_can_be_read_and_set() -> None:
    views, backbone, settings = ViewRecipe(flip=0.5), Mine(), {"batch_size": 32}
    given = Clusterer(7, views=views, backbone=backbone, settings=settings, epochs=3, random_state=None)
    found = given.get_params()
    assert found["views"] is views and found["backbone"] is backbone and found["settings"] is settings
    assert (found["n_clusters"], found["epochs"], found["random_state"]) == (7, 3, None)
    assert given.set_params(n_clusters=9, epochs=None) is given
    assert (given.n_clusters, given.epochs) == (9, None)
    with pytest.raises(ValueError, match="Invalid parameter 'clusters'"):
        given.set_params(clusters=3)


def test_nothing_is_checked_before_fit(X: np.ndarray) -> None:
    wrong = Clusterer(1, method="ccc", epochs=-1)
    with pytest.raises(ValueError, match="number of clusters"):
        wrong.fit(X)


def test_a_clone_has_the_parameters_and_no_results(fitted: Clusterer) -> None:
    twin = clone(fitted)
    assert twin.get_params() == fitted.get_params()
    assert not hasattr(twin, "labels_") and not hasattr(twin, "method_")
    assert clone(Clusterer(3, backbone=Mine())).backbone.feature_dim == 16


def test_a_clone_keeps_what_to_start_from(trained: Path) -> None:
    given = Clusterer(3, init=trained, freeze_backbone=True)
    twin = clone(given)
    assert twin.init == trained and twin.freeze_backbone is True
    with pytest.raises(ValueError, match="`freeze_backbone` .* `init`"):
        clone(given).set_params(init=None).fit(np.zeros((4, 8, 8), np.uint8))


def test_fit_predict_passes_extra_images_on(fitted: Clusterer, X: np.ndarray, clusterer: Callable[..., Any]) -> None:
    found = clusterer()
    assert len(found.fit_predict(X, extra=X[:20])) == 60
    assert "extra_instance" in found.history_[0]["terms"]
    assert not np.array_equal(found.embedding_, fitted.embedding_)


def test_the_repr_shows_what_differs_from_the_defaults() -> None:
    assert repr(Clusterer(4, epochs=2)) == "Clusterer(epochs=2, n_clusters=4)"


@pytest.mark.parametrize("name", ["predict", "predict_proba", "transform"])
def test_an_unfitted_clusterer_says_so(name: str, X: np.ndarray) -> None:
    with pytest.raises(NotFittedError, match="Call fit"):
        getattr(Clusterer(2), name)(X)


def test_an_unfitted_clusterer_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(NotFittedError, match="Call fit"):
        Clusterer(2).save(tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(NotFittedError):
        check_is_fitted(Clusterer(2))


def test_fit_returns_itself_and_sets_the_promised_attributes(fitted: Clusterer, X: np.ndarray) -> None:
    check_is_fitted(fitted)
    assert fitted.labels_.shape == (60,) and fitted.labels_.dtype == np.int64
    assert set(fitted.labels_) <= {0, 1}
    assert fitted.confidence_.shape == (60,) and (fitted.confidence_ >= 0.5).all() and (fitted.confidence_ <= 1).all()
    assert fitted.ids_ == [f"{i:06d}" for i in range(60)]
    assert fitted.embedding_.dtype == np.float16 and len(fitted.embedding_) == 60
    assert [record["epoch"] for record in fitted.history_] == [1, 2, 3] and fitted.n_iter_ == 3
    assert fitted.bad_files_ == [] and isinstance(fitted.notes_, list)
    twin = clone(fitted)
    assert twin.fit(X) is twin


def test_predictions_on_the_training_images_are_the_labels(fitted: Clusterer, X: np.ndarray) -> None:
    np.testing.assert_array_equal(fitted.predict(X), fitted.labels_)
    np.testing.assert_allclose(fitted.predict_proba(X).max(1), fitted.confidence_, atol=1e-6)
    np.testing.assert_allclose(fitted.transform(X), fitted.embedding_, atol=2e-3)


def test_fit_predict_and_fit_transform_equal_fit_and_then_the_rest(
    fitted: Clusterer, X: np.ndarray, clusterer: Callable[..., Any]
) -> None:
    np.testing.assert_array_equal(clusterer().fit_predict(X), fitted.labels_)
    np.testing.assert_allclose(clusterer().fit_transform(X), fitted.transform(X), atol=1e-5)


def test_probabilities_sum_to_one_and_their_largest_is_the_prediction(fitted: Clusterer, X: np.ndarray) -> None:
    p = fitted.predict_proba(X[5:40])
    assert p.shape == (35, 2)
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-5)
    np.testing.assert_array_equal(p.argmax(1), fitted.predict(X[5:40]))


def test_embeddings_have_rows_of_length_one(fitted: Clusterer, X: np.ndarray) -> None:
    z = fitted.transform(X[:7])
    assert z.shape == (7, 128) and z.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, atol=2e-3)


def test_one_random_state_gives_one_result(fitted: Clusterer, X: np.ndarray, clusterer: Callable[..., Any]) -> None:
    np.random.seed(5)  # noqa: NPY002  # neither global generator may matter
    torch.manual_seed(5)
    again = clusterer(random_state=0).fit(X)
    np.testing.assert_array_equal(again.labels_, fitted.labels_)
    np.testing.assert_array_equal(again.embedding_, fitted.embedding_)
    other = clusterer(random_state=1).fit(X)
    assert not np.array_equal(other.embedding_, fitted.embedding_)


def test_a_random_state_object_gives_what_its_copy_gives(X: np.ndarray, clusterer: Callable[..., Any]) -> None:
    one, two = (clusterer(epochs=1, random_state=np.random.RandomState(3)).fit(X) for _ in range(2))
    np.testing.assert_array_equal(one.embedding_, two.embedding_)


def test_predicting_draws_nothing_from_a_random_state_object(X: np.ndarray, clusterer: Callable[..., Any]) -> None:
    random = np.random.RandomState(3)
    found = clusterer(epochs=1, random_state=random).fit(X)
    before = random.get_state()[2]
    found.predict(X[:4])
    assert random.get_state()[2] == before


def test_y_is_ignored(fitted: Clusterer, X: np.ndarray, clusterer: Callable[..., Any]) -> None:
    steered = clusterer().fit(X, np.random.default_rng(0).integers(0, 9, 60))
    np.testing.assert_array_equal(steered.embedding_, fitted.embedding_)


def test_fitting_again_starts_anew(fitted: Clusterer, X: np.ndarray, clusterer: Callable[..., Any]) -> None:
    twice = clusterer().fit(X[:40]).fit(X)
    np.testing.assert_array_equal(twice.embedding_, fitted.embedding_)
    assert twice.n_iter_ == 3


def test_n_clusters_may_be_a_numpy_integer(X: np.ndarray, clusterer: Callable[..., Any]) -> None:
    found = clusterer(np.int64(3), epochs=1).fit(X)
    assert found.predict_proba(X).shape == (60, 3)


def test_pickling_an_unfitted_clusterer_keeps_its_parameters() -> None:
    given = Clusterer(4, epochs=2, views=ViewRecipe(flip=0.1), settings={"cluster_heads": 2})
    assert pickle.loads(pickle.dumps(given)).get_params() == given.get_params()


def test_pickling_a_fitted_clusterer_keeps_its_predictions_and_not_the_images(fitted: Clusterer, X: np.ndarray) -> None:
    found = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(found.predict_proba(X), fitted.predict_proba(X))
    np.testing.assert_array_equal(found.labels_, fitted.labels_)
    assert found.history_ == fitted.history_
    assert "_images" not in fitted.__getstate__()


def test_pickling_leaves_the_original_able_to_save_its_tables(tmp_path: Path, fitted: Clusterer, X: np.ndarray) -> None:
    pickle.dumps(fitted)
    fitted.save(tmp_path / "run")
    assert Run(tmp_path / "run").finished


def test_partial_fit_before_fit_is_fit(fitted: Clusterer, X: np.ndarray, clusterer: Callable[..., Any]) -> None:
    np.testing.assert_array_equal(clusterer().partial_fit(X).embedding_, fitted.embedding_)


def test_partial_fit_goes_on_with_the_clusters_there_are(
    pictures: Callable[..., Any], clusterer: Callable[..., Any]
) -> None:
    X, kinds = pictures(60)
    found = clusterer(epochs=10, settings={"batch_size": 32, "cluster_heads": 2, "learning_rate": 1e-3, "warmup": 0})
    before = found.fit(X).labels_
    assert accuracy(kinds, before) > 0.9  # the images are easy
    assert found.partial_fit(X, epochs=2) is found
    assert (found.labels_ == before).mean() > 0.8
    assert [record["epoch"] for record in found.history_] == list(range(1, 13)) and found.n_iter_ == 12
    new, kinds = pictures(40, start=100)
    found.partial_fit(new)
    assert len(found.labels_) == len(found.ids_) == len(found.embedding_) == 40
    assert found.n_iter_ == 13
    assert (found.predict(X) == before).mean() > 0.8
    assert accuracy(kinds, found.labels_) > 0.9


def test_partial_fit_changes_the_model(fitted: Clusterer, X: np.ndarray) -> None:
    found = copy.deepcopy(fitted)
    found.partial_fit(X)
    assert not np.array_equal(found.embedding_, fitted.embedding_)


def test_partial_fit_with_fewer_images_than_clusters_is_refused(fitted: Clusterer, X: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"at least as many images as clusters \(2\); got 1"):
        copy.deepcopy(fitted).partial_fit(X[:1])


def test_saving_after_partial_fit_describes_the_new_images(
    tmp_path: Path, pictures: Callable[..., Any], fitted: Clusterer
) -> None:
    found = copy.deepcopy(fitted).partial_fit(pictures(40, start=100)[0])
    found.save(tmp_path / "run")
    config = Run(tmp_path / "run").config
    assert config.images.n == 40
    assert "40 images" in config.source.name


def test_save_and_load_keep_everything(tmp_path: Path, fitted: Clusterer, X: np.ndarray) -> None:
    folder = tmp_path / "a run"
    fitted.save(folder)
    run = Run(folder).open()
    assert run.finished and [record["epoch"] for record in run.log()] == [1, 2, 3]
    found = Clusterer.load(folder)
    np.testing.assert_array_equal(found.predict_proba(X), fitted.predict_proba(X))
    np.testing.assert_array_equal(found.labels_, fitted.labels_)
    np.testing.assert_array_equal(found.embedding_, fitted.embedding_)
    np.testing.assert_allclose(found.confidence_, fitted.confidence_)
    assert (found.ids_, found.history_, found.n_iter_) == (fitted.ids_, fitted.history_, 3)
    assert found.labels_.dtype == np.int64
    check_is_fitted(found)
    with pytest.raises(FileExistsError, match="not empty"):
        fitted.save(folder)


def test_a_run_of_the_command_line_can_be_loaded(trained: Path, photos: Path) -> None:
    found = Clusterer.load(trained)
    np.testing.assert_array_equal(found.predict(photos), found.labels_)
    assert found.ids_[0] == "disc/00.png"


def test_a_loaded_clusterer_fits_again_as_the_first_did(tmp_path: Path, fitted: Clusterer, X: np.ndarray) -> None:
    fitted.save(tmp_path / "run")
    again = Clusterer.load(tmp_path / "run", device="cpu").fit(X)
    np.testing.assert_array_equal(again.embedding_, fitted.embedding_)


MADE_OF_IMAGES = {"clusters.png", "duplicates.csv", "flags.csv", "thumbnails/index.json", "thumbnails/sheet-0.webp"}


def contents(folder: Path) -> dict[str, bytes]:
    """The content of every file of a run but its report, which names the folder."""
    files = (file for file in folder.rglob("*") if file.is_file() and file.name not in ("report.html", ".lock"))
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def test_a_loaded_clusterer_is_saved_with_every_file_of_its_run(tmp_path: Path, fitted: Clusterer) -> None:
    fitted.save(tmp_path / "one")
    loaded = Clusterer.load(tmp_path / "one")
    for number, clusterer in enumerate((loaded, pickle.loads(pickle.dumps(loaded)), copy.deepcopy(loaded))):
        clusterer.save(tmp_path / str(number))
        assert contents(tmp_path / str(number)) == contents(tmp_path / "one")
        assert (tmp_path / str(number) / "report.html").is_file()
    assert contents(tmp_path / "one").keys() >= {*MADE_OF_IMAGES, "moments.npz", "assignments.csv", "scores.json"}
    assert loaded.bad_files_ == []


def test_what_was_added_to_a_run_is_saved_with_it(tmp_path: Path, fitted: Clusterer, X: np.ndarray) -> None:
    fitted.save(tmp_path / "one")
    (tmp_path / "labels.csv").write_text("id,label\n" + "".join(f"{i:06d},{i % 2}\n" for i in range(len(X))))
    score_run(Run(tmp_path / "one"), tmp_path / "labels.csv")
    Clusterer.load(tmp_path / "one").save(tmp_path / "two")
    assert (tmp_path / "two" / "scores.json").read_bytes() == (tmp_path / "one" / "scores.json").read_bytes()


def test_a_pickled_clusterer_is_saved_with_all_tables_and_says_what_needs_the_images(
    tmp_path: Path, fitted: Clusterer
) -> None:
    fitted.save(tmp_path / "one")
    with pytest.warns(UserWarning, match="no duplicates.csv, flags.csv, clusters.png, thumbnails"):
        pickle.loads(pickle.dumps(fitted)).save(tmp_path / "two")
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert one.keys() - two.keys() == MADE_OF_IMAGES
    assert all(data == one[name] for name, data in two.items())
    assert Run(tmp_path / "two").finished and (tmp_path / "two" / "report.html").is_file()


def test_a_loaded_clusterer_whose_run_is_gone_is_saved_with_its_tables(tmp_path: Path, fitted: Clusterer) -> None:
    fitted.save(tmp_path / "one")
    loaded, one = Clusterer.load(tmp_path / "one"), contents(tmp_path / "one")
    (tmp_path / "one").rename(tmp_path / "moved")
    with pytest.warns(UserWarning, match="gone or has changed.*no duplicates.csv.*moments.npz"):
        loaded.save(tmp_path / "two")
    two = contents(tmp_path / "two")
    assert one.keys() - two.keys() == {*MADE_OF_IMAGES, "moments.npz"}
    assert all(data == one[name] for name, data in two.items())


def test_training_on_after_loading_saves_the_results_of_the_new_images(
    tmp_path: Path, fitted: Clusterer, pictures: Callable[..., Any]
) -> None:
    fitted.save(tmp_path / "one")
    Clusterer.load(tmp_path / "one").partial_fit(pictures(40, start=100)[0]).save(tmp_path / "two")
    saved = Clusterer.load(tmp_path / "two")
    assert len(saved.labels_) == len(np.load(tmp_path / "two" / "embeddings.npy")) == 40
    assert json.loads((tmp_path / "two" / "thumbnails" / "index.json").read_text())["n"] == 40


def test_a_backbone_of_your_own_is_copied_saved_and_asked_for(
    tmp_path: Path, X: np.ndarray, clusterer: Callable[..., Any]
) -> None:
    mine = Mine()
    before = copy.deepcopy(mine.state_dict())
    found = clusterer(backbone=mine).fit(X)
    assert found.backbone is mine and mine.training
    assert all(torch.equal(value, before[name]) for name, value in mine.state_dict().items())
    assert isinstance(found.method_.backbone, Mine)
    found.save(tmp_path / "run")
    with pytest.raises(ValueError, match=r"backbone of your own \(Mine\)"):
        Clusterer.load(tmp_path / "run")
    fresh = Mine()
    before = copy.deepcopy(fresh.state_dict())
    again = Clusterer.load(tmp_path / "run", backbone=fresh)
    np.testing.assert_array_equal(again.predict_proba(X), found.predict_proba(X))
    assert all(torch.equal(value, before[name]) for name, value in fresh.state_dict().items())
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(found)).predict(X), found.labels_)


def test_a_wrong_backbone_for_a_saved_run_is_refused(
    tmp_path: Path, X: np.ndarray, clusterer: Callable[..., Any]
) -> None:
    clusterer(backbone=Mine(), epochs=1).fit(X).save(tmp_path / "run")
    other = Mine()
    other.body = nn.Sequential(nn.Conv2d(3, 16, 5))
    with pytest.raises(ValueError, match="does not fit"):
        Clusterer.load(tmp_path / "run", backbone=other)


def test_fitting_is_silent(X: np.ndarray, clusterer: Callable[..., Any], capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clusterer().fit(X).predict(X)
    assert capfd.readouterr() == ("", "")


def test_verbose_prints_what_was_found_and_every_epoch(
    X: np.ndarray, clusterer: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    clusterer(verbose=True).fit(X)
    out = capsys.readouterr().out
    assert "array (60 images): colour, used at 12 x 12 pixels" in out
    assert out.count("images/s") == 3 and "epoch 3/3" in out


def test_files_that_cannot_be_read_become_a_warning(photos: Path, clusterer: Callable[..., Any]) -> None:
    with pytest.warns(UserWarning, match="3 files could not be read"):
        found = clusterer(epochs=1).fit(photos)
    assert len(found.bad_files_) == 3 and len(found.labels_) == 60


class Pairs(torch.utils.data.Dataset[Any]):
    def __init__(self, X: np.ndarray) -> None:
        self.X = X

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, i: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.X[i]), i % 2


@pytest.mark.parametrize("form", ["tensor", "floats", "Dataset", "Images", "folder", "list of paths"])
def test_every_form_of_the_same_images_gives_the_same_clusters(
    tmp_path: Path, X: np.ndarray, fitted: Clusterer, clusterer: Callable[..., Any], form: str
) -> None:
    paths = [tmp_path / f"{i:02}.png" for i in range(60)]
    if form in ("folder", "list of paths"):
        for image, path in zip(X, paths, strict=True):
            Image.fromarray(image).save(path)
    given: Any = {
        "tensor": torch.from_numpy(X).permute(0, 3, 1, 2),
        "floats": X / 255,
        "Dataset": Pairs(X),
        "Images": load_images(X),
        "folder": tmp_path,
        "list of paths": [str(path) for path in paths],
    }[form]
    found = clusterer().fit(given)
    np.testing.assert_array_equal(found.embedding_, fitted.embedding_)
    np.testing.assert_array_equal(found.predict(given), fitted.labels_)
    if form in ("folder", "list of paths"):
        assert found.ids_ == [path.name for path in paths]


def test_gray_and_colour_are_converted_for_a_fitted_model(fitted: Clusterer, X: np.ndarray) -> None:
    assert fitted.predict(X[:, :, :, 0]).shape == (60,)


def test_images_of_another_size_are_resized_for_a_fitted_model(fitted: Clusterer, pictures: Callable[..., Any]) -> None:
    assert fitted.predict(pictures(6, side=20)[0]).shape == (6,)


def test_it_is_the_last_step_of_a_pipeline(fitted: Clusterer, X: np.ndarray, clusterer: Callable[..., Any]) -> None:
    from sklearn.preprocessing import FunctionTransformer

    pipeline = Pipeline([("same", FunctionTransformer()), ("cluster", clusterer())])
    np.testing.assert_array_equal(pipeline.fit_predict(X), fitted.labels_)
    np.testing.assert_array_equal(pipeline.predict(X[:9]), fitted.predict(X[:9]))
    assert clone(pipeline).set_params(cluster__n_clusters=5).named_steps["cluster"].n_clusters == 5


def test_a_parameter_grid_can_be_searched(X: np.ndarray, clusterer: Callable[..., Any]) -> None:
    from sklearn.model_selection import GridSearchCV

    def confidence(estimator: Clusterer, X: Any, y: Any = None) -> float:
        return float(estimator.predict_proba(X).max(1).mean())

    search = GridSearchCV(clusterer(epochs=1), {"n_clusters": [2, 3]}, scoring=confidence, cv=2, error_score="raise")
    assert search.fit(X).best_params_["n_clusters"] in (2, 3)
