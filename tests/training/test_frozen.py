"""Heads on a frozen encoder, from what is asked to what can be predicted; and encoders that are trained on."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.base import clone
from torch import Tensor, nn

from ilk import Clusterer, cli
from ilk.analysis.metrics import accuracy
from ilk.images import load_images
from ilk.methods import METHODS, get_preset
from ilk.pipeline.build import load_method
from ilk.pipeline.choose_encoder import encoder_for, images_decide, named_encoder
from ilk.pipeline.encoders import find_encoder
from ilk.pipeline.fitting import fit
from ilk.pipeline.predicting import predict
from ilk.pipeline.request import Request
from ilk.pipeline.trained import load_model
from ilk.runs.folder import Run
from ilk.runs.tables import read_table
from ilk.system.progress import Watch
from ilk.training.assign import assign
from tiny_hub import into_cache


class Means(nn.Module):
    """Mean and spread of each channel, and a weight to change."""

    feature_dim = 6

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(6))
        self.register_buffer("side", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.side.fill_(x.shape[-1]) if not torch.is_inference(self.side) else None
        return torch.cat([x.mean((2, 3)), x.std((2, 3))], 1) * self.scale


class Said(Watch):
    """Keeps all that is said, and what is counted."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.text, self.warned, self.work, self.stop_after = "", "", set[str](), stop_after

    def say(self, text: str) -> None:
        self.text += text + "\n"

    def warn(self, text: str) -> None:
        self.warned += text + "\n"

    def progress(self, done: int, total: int, what: str) -> None:
        self.work.add(what)

    def epoch(self, record: dict[str, Any]) -> None:
        if record["epoch"] == self.stop_after:
            raise Stopped


class Stopped(Exception):
    pass


def scenes(n: int, side: int = 16, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """n uint8 images that look like photographs, half cold and half warm, and their kinds."""
    random = np.random.default_rng(seed)
    kinds = (np.arange(n) >= n // 2).astype(np.int64)
    coarse = random.random((n, 4, 4, 3)).repeat(side // 4, 1).repeat(side // 4, 2)
    tint = np.where(kinds[:, None], [[60, 80, 140]], [[150, 110, 60]])[:, None, None]
    images = tint + 90 * (coarse - 0.5) + random.normal(0, 30, (n, side, side, 3))
    return images.clip(0, 255).astype(np.uint8), kinds


pytestmark = pytest.mark.usefixtures("hub_cache")


@pytest.fixture(scope="module")
def X() -> np.ndarray:
    return scenes(60)[0]


@pytest.fixture(scope="session")
def weights(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """`weights:FILE:small@12`, the backbone of the finished run; do not change the file."""
    file = tmp_path_factory.mktemp("weights") / "mine.safetensors"
    model = load_file(trained / "model.safetensors")
    save_file({name: tensor for name, tensor in model.items() if name.startswith("backbone.")}, file)
    return f"weights:{file}:small@12"


def asked(backbone: Any, method: str = "cc", **changes: Any) -> Request:
    """A request that trains on 60 images in a moment."""
    preset = get_preset(method, "default")
    settings = {"batch_size": 32, "cluster_heads": 2, **changes.pop("settings", {})}
    settings = {name: value for name, value in settings.items() if any(hasattr(part, name) for part in preset[:2])}
    return Request(
        method=method, backbone=backbone, settings=settings,
        **{"n_clusters": 2, "epochs": 3, "device": "cpu", "precision": "float32", "feature_views": 2, "neighbours": 5,
           **changes},
    )  # fmt: skip


@pytest.fixture
def trial(tmp_path: Path, X: np.ndarray) -> Callable[..., Run]:
    """`trial(request, name="run", **arguments)`: a fitted run on the scenes, without a report."""

    def make(request: Request, name: str = "run", source: Any = None, **arguments: Any) -> Run:
        return fit(request, X if source is None else source, Run(tmp_path / name), report=False, **arguments)

    return make


@pytest.fixture(scope="module")
def one_run(trained: Path, X: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of one epoch on a frozen encoder; do not change it, `frozen_run` is a copy."""
    place = tmp_path_factory.mktemp("frozen")
    request = asked(f"run:{trained}", epochs=1)
    return fit(request, X, Run(place / "run"), report=False, cache_dir=place / "cache").folder


@pytest.fixture
def frozen_run(one_run: Path, tmp_path: Path) -> Run:
    return Run(shutil.copytree(one_run, tmp_path / "frozen run"))


def clusters(run: Run) -> np.ndarray:
    found: np.ndarray = read_table(run / "assignments.parquet")["cluster"].to_numpy()
    return found


def predicted(run: Run, source: Any, module: nn.Module | None = None) -> np.ndarray:
    """The clusters that `run` predicts for `source`, computed from the images."""
    from ilk.system.devices import make_fabric

    images = load_images(source, image_size=run.config.images.size, channels=run.config.images.channels)
    return assign(load_model(run, module=module), images, make_fabric("cpu", "float32")).cluster


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_heads_and_predicts_the_training_images_as_it_left_them(
    method: str, trained: Path, trial: Callable[..., Run], X: np.ndarray, tmp_path: Path
) -> None:
    run = trial(asked(f"run:{trained}", method))
    config = run.config
    assert config.encoder.spec == config.backbone == f"run:{trained.resolve()}"
    assert config.features.as_dict() == {"dim": 128, "views": 2, "neighbours": 5, "neighbour_share": 0.5}
    assert accuracy(scenes(60)[1], clusters(run)) > 0.9  # the images are easy
    predict(run, X, tmp_path / "again", device="cpu", report=False)
    np.testing.assert_array_equal(clusters(Run(tmp_path / "again")), clusters(run))
    new, kinds = scenes(40, seed=1)
    assert accuracy(kinds, predicted(run, new)) > 0.9


@pytest.mark.parametrize("kind", ["hf", "run", "weights"])
def test_every_kind_of_encoder_is_named_so_that_it_is_found_again(
    kind: str, request: pytest.FixtureRequest, trained: Path, weights: str, trial: Callable[..., Run], X: np.ndarray
) -> None:
    spec = {"run": f"run:{trained}", "weights": weights}.get(kind) or f"hf:{request.getfixturevalue('tiny_dino')}"
    run = trial(asked(spec, epochs=1))
    assert run.config.encoder.spec.startswith(f"{kind}:") and run.finished
    assert run.config.images.size == {"hf": 16, "run": 12, "weights": 12}[kind]
    np.testing.assert_array_equal(predicted(run, X), clusters(run))


def test_large_images_are_used_at_the_size_of_the_encoder(trained: Path, trial: Callable[..., Run]) -> None:
    run = trial(asked(f"run:{trained}", epochs=1), source=scenes(40, side=40)[0])
    assert run.config.images.size == 12


def test_gray_images_become_what_the_encoder_takes(trained: Path, trial: Callable[..., Run], X: np.ndarray) -> None:
    gray = X.mean(3).astype(np.uint8)
    run = trial(asked(f"run:{trained}", epochs=1), source=gray)
    assert run.config.images.channels == 3
    np.testing.assert_array_equal(predicted(run, gray), clusters(run))


def test_a_module_is_frozen_if_heads_are_asked_for_and_needed_again(trial: Callable[..., Run], X: np.ndarray) -> None:
    run = trial(asked(Means(), train="heads", epochs=1))
    assert run.config.encoder.spec == "custom:Means"
    np.testing.assert_array_equal(predicted(run, X, Means()), clusters(run))
    with pytest.raises(ValueError, match=r"encoder of your own \(Means\). Pass it in Python"):
        load_model(run)


def test_a_module_sees_the_size_that_was_asked_for(trial: Callable[..., Run], X: np.ndarray) -> None:
    run = trial(asked(Means(), train="heads", epochs=1, image_size=8))
    assert run.config.encoder.image_size == run.config.images.size == 8
    np.testing.assert_array_equal(predicted(run, X, Means()), clusters(run))
    knowing = Means()
    knowing.image_size = 12
    run = trial(asked(knowing, "cc", train="heads", epochs=1, image_size=8), "knowing")
    assert run.config.encoder.image_size == 12


def test_only_the_heads_are_trained(trained: Path, trial: Callable[..., Run]) -> None:
    short, long = (load_method(trial(asked(f"run:{trained}", epochs=n), str(n))).state_dict() for n in (1, 3))
    same = {name for name in short if torch.equal(short[name], long[name])}
    assert {name for name in same if name.startswith("backbone.")} == {"backbone.mean", "backbone.directions"}
    assert not any(name.startswith("instance_head.") and name.endswith("weight") for name in same)
    assert not any("stem" in name for name in short)  # the encoder is not in the file of the heads


def test_the_default_preset_is_one_for_features_and_what_is_asked_stands(frozen_run: Run) -> None:
    config = frozen_run.config
    assert config.method_config["cluster_heads"] == 2 and config.train.batch_size == 32
    assert config.method_config["warm_start"] == 0.001 and config.train.learning_rate == 1e-3


@pytest.mark.parametrize("method", ["cc", "scl"])
def test_the_paper_preset_trains_heads_too(method: str, trained: Path, trial: Callable[..., Run]) -> None:
    run = trial(asked(f"run:{trained}", method, preset="paper", epochs=2))
    paper = get_preset(method, "paper")
    assert run.config.method_config["warm_start"] == 0
    assert run.config.train.learning_rate == paper.recipe.learning_rate
    assert run.config.front_end is None and run.finished


@pytest.mark.parametrize(("views", "neighbours"), [(0, 5), (3, 0)])
def test_views_alone_or_neighbours_alone_are_enough(
    views: int, neighbours: int, trained: Path, trial: Callable[..., Run]
) -> None:
    run = trial(asked(f"run:{trained}", feature_views=views, neighbours=neighbours))
    share = 1.0 if neighbours else 0.0
    assert run.config.features.as_dict() == {
        "dim": 128,
        "views": views,
        "neighbours": neighbours,
        "neighbour_share": share,
    }
    assert accuracy(scenes(60)[1], clusters(run)) > 0.9


def test_neither_views_nor_neighbours_are_refused(trained: Path, trial: Callable[..., Run]) -> None:
    with pytest.raises(ValueError, match="--feature-views 4 or --neighbours 10"):
        trial(asked(f"run:{trained}", feature_views=0, neighbours=0))


def test_few_images_have_fewer_neighbours(trained: Path, trial: Callable[..., Run]) -> None:
    run = trial(asked(f"run:{trained}", neighbours=10, epochs=1), source=scenes(6)[0])
    assert run.config.features.neighbours == 5 and run.finished


def test_images_that_the_encoder_cannot_tell_apart_are_refused(trained: Path, trial: Callable[..., Run]) -> None:
    with pytest.raises(ValueError, match="All features are the same"):
        trial(asked(f"run:{trained}"), source=np.full((40, 12, 12, 3), 90, np.uint8))


def test_minutes_are_measured_on_features(trained: Path, trial: Callable[..., Run]) -> None:
    run = trial(asked(f"run:{trained}", epochs=None, minutes=0.002))
    assert run.finished and any("minutes" in note for note in run.config.notes)


def test_known_labels_steer_heads(trained: Path, trial: Callable[..., Run]) -> None:
    known = {"000000": "cold", "000001": "cold", "000058": "warm", "000059": "warm"}
    run = trial(asked(f"run:{trained}", "crlc", known_labels=known))
    assert [clusters(run)[i] for i in (0, 1, 58, 59)] == [0, 0, 1, 1]


@pytest.mark.parametrize(("method", "epoch"), [("cc", 2), ("scl", 2), ("c2bin", 1)])  # heads, banks, a twin
def test_a_stopped_training_goes_on_to_the_weights_of_an_unbroken_one(
    method: str, epoch: int, trained: Path, trial: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, cache_dir: Path
) -> None:
    monkeypatch.setattr("ilk.training.loop.CHECKPOINT_EVERY", 0.0 if epoch == 2 else 1e9)  # else it begins again
    request = asked(f"run:{trained}", method)
    whole = trial(request, "whole")
    with pytest.raises(Stopped):
        trial(request, "broken", watch=Said(stop_after=epoch))
    watch = Said()
    if epoch == 2:
        shutil.rmtree(cache_dir)  # the features are then computed again
    broken = trial(request, "broken", resume=True, watch=watch)
    assert ("encoding (3 x)" in watch.work) == (epoch == 2)
    one, two = load_method(whole).state_dict(), load_method(broken).state_dict()
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    np.testing.assert_array_equal(clusters(whole), clusters(broken))
    assert [record["epoch"] for record in broken.log()] == [1, 2, 3]


def test_a_module_is_given_again_to_go_on(trial: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ilk.training.loop.CHECKPOINT_EVERY", 0.0)
    with pytest.raises(Stopped):
        trial(asked(Means(), train="heads"), watch=Said(stop_after=1))
    with pytest.raises(ValueError, match="encoder of your own"):
        trial(asked(None), resume=True)
    assert trial(asked(Means(), train="heads"), resume=True).finished


def test_a_finished_run_is_left_alone_even_without_its_encoder(weights: str, tmp_path: Path, X: np.ndarray) -> None:
    file = Path(shutil.copy(weights.split(":")[1], tmp_path / "mine.safetensors"))
    run = fit(asked(f"weights:{file}:small@12", epochs=1), X, Run(tmp_path / "run"), report=False)
    file.unlink()
    watch = Said()
    fit(asked(f"weights:{file}:small@12", epochs=1), X, run, resume=True, report=False, watch=watch)
    assert "is finished" in watch.text
    with pytest.raises(FileNotFoundError, match="mine.safetensors"):
        predict(run, X, tmp_path / "out", device="cpu")


def test_other_weights_under_the_same_name_are_refused(
    weights: str, tmp_path: Path, X: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ilk.training.loop.CHECKPOINT_EVERY", 0.0)
    file = Path(shutil.copy(weights.split(":")[1], tmp_path / "mine.safetensors"))
    request = asked(f"weights:{file}:small@12")
    done = fit(request, X, Run(tmp_path / "done"), report=False)
    with pytest.raises(Stopped):
        fit(request, X, Run(tmp_path / "broken"), report=False, watch=Said(stop_after=1))
    tensors = load_file(file)
    tensors["backbone.stem.0.weight"][0, 0, 0, 0] += 1e-3
    save_file(tensors, file)
    with pytest.raises(ValueError, match="has other weights than when this run was trained"):
        predict(done, X, tmp_path / "out", device="cpu")
    with pytest.raises(ValueError, match="has other weights than when this run was trained"):
        fit(request, X, Run(tmp_path / "broken"), resume=True, report=False)
    assert not (tmp_path / "out").exists()


def test_an_untrained_backbone_cannot_be_frozen(trial: Callable[..., Run], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'small' starts from chance. Give --backbone a pretrained one"):
        trial(asked("small", train="heads"))
    with pytest.raises(ValueError, match="--train heads needs a pretrained encoder and there is none at hand"):
        trial(asked(None, train="heads", offline=True))
    assert not (tmp_path / "run").exists()


def test_extra_images_are_refused_where_only_heads_learn(trained: Path, trial: Callable[..., Run]) -> None:
    with pytest.raises(ValueError, match=r"\(--extra\) teach a backbone.*--train all"):
        trial(asked(f"run:{trained}"), extra=scenes(20, seed=3)[0])


def test_train_is_heads_or_all() -> None:
    with pytest.raises(ValueError, match="train must be heads or all; got 'head'"):
        Request(n_clusters=2, train="head")


def test_heads_start_from_those_of_an_earlier_run_on_the_same_encoder(
    frozen_run: Run, trained: Path, trial: Callable[..., Run]
) -> None:
    source = scenes(40, seed=4)[0]
    run = trial(asked(f"run:{trained}", init=frozen_run.folder), source=source)
    begun = load_method(frozen_run).state_dict()
    assert torch.equal(load_method(run).state_dict()["backbone.directions"], begun["backbone.directions"])
    assert run.config.init.parts == ["backbone", "instance_head"]
    np.testing.assert_array_equal(predicted(run, source), clusters(run))


def test_the_encoder_of_a_run_that_is_started_from_need_not_be_named(
    frozen_run: Run, trained: Path, trial: Callable[..., Run]
) -> None:
    run = trial(asked(None, init=frozen_run.folder, epochs=1))
    assert run.config.encoder == frozen_run.config.encoder and run.config.init is not None


@pytest.mark.parametrize("value", [0, 129, 10**9, 2.5, None])
def test_a_config_with_other_directions_is_refused_without_taking_memory(value: Any, frozen_run: Run) -> None:
    run = frozen_run
    config = json.loads((run / "config.json").read_text())
    config["features"]["dim"] = value
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"features\.dim"):
        load_method(run)


def test_a_config_with_huge_features_is_refused_without_taking_memory(frozen_run: Run) -> None:
    run = frozen_run
    config = json.loads((run / "config.json").read_text())
    config["encoder"]["feature_dim"] = config["features"]["dim"] = 10**6
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"takes [\d,]+ GB|damaged"):
        load_method(run)


def test_training_all_changes_the_encoder_and_keeps_it(tiny_dino: Path, trial: Callable[..., Run]) -> None:
    X = scenes(40)[0]
    request = asked(f"hf:{tiny_dino}", train="all", epochs=1)
    run = trial(request, source=X)
    assert run.config.encoder is None and run.config.backbone == f"hf:{tiny_dino}"
    before, after = find_encoder(f"hf:{tiny_dino}").state_dict(), load_model(run).backbone.state_dict()
    changed = [not torch.equal(tensor, after[name]) for name, tensor in before.items() if name.endswith("proj.weight")]
    assert changed and all(changed)
    np.testing.assert_array_equal(predicted(run, X), clusters(run))
    further = trial(asked(None, init=run.folder, epochs=1), "further", source=X)
    assert further.config.encoder is None and further.config.init.parts[0] == "backbone"
    heads = trial(asked(f"run:{run}", epochs=1), "heads", source=X)  # the encoder of one is that of the next
    np.testing.assert_array_equal(predicted(heads, X), clusters(heads))


def test_training_all_goes_on_after_a_stop(
    tiny_dino: Path, trial: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ilk.training.loop.CHECKPOINT_EVERY", 0.0)
    X, request = scenes(32)[0], asked(f"hf:{tiny_dino}", train="all", epochs=2)
    whole = trial(request, "whole", source=X)
    with pytest.raises(Stopped):
        trial(request, "broken", source=X, watch=Said(stop_after=1))
    broken = trial(request, "broken", source=X, resume=True)
    one, two = load_file(whole / "model.safetensors"), load_file(broken / "model.safetensors")
    assert all(torch.equal(one[name], two[name]) for name in one)


def choose_encoder(request: Request, images: Any, watch: Any) -> Any:
    """The encoder of the request, or the one chosen for the images if the request leaves it open."""
    named = named_encoder(request, watch)
    return encoder_for(images, request, watch) if named is None and images_decide(request) else named


def open_request(**changes: Any) -> Request:
    """A request that leaves the choice of the backbone open."""
    return Request(**{"n_clusters": 2, "epochs": 1, "device": "cpu", "precision": "float32", "feature_views": 1,
                      "minutes": None, **changes})  # fmt: skip


def test_photographs_get_the_encoder_of_the_local_cache(
    tiny_dino: Path, hub_cache: Path, trial: Callable[..., Run], X: np.ndarray
) -> None:
    into_cache(tiny_dino, hub_cache, "facebook/dinov2-small")
    watch = Said()
    run = trial(open_request(), watch=watch)
    assert run.config.encoder.spec == "hf:facebook/dinov2-small"
    assert "encoder 'dinov2-small', found in the local cache" in watch.text and "encoding (2 x)" in watch.work
    np.testing.assert_array_equal(predicted(run, X), clusters(run))


def test_gray_and_tiny_images_get_a_backbone_of_their_own(tiny_dino: Path, hub_cache: Path, X: np.ndarray) -> None:
    into_cache(tiny_dino, hub_cache, "facebook/dinov2-small")
    tiny = X[:, :12, :12]
    watch = Said()
    assert choose_encoder(open_request(), load_images(tiny), watch) is None
    assert watch.text == ""
    assert choose_encoder(open_request(backbone="auto"), load_images(tiny), watch) is None
    assert "12 pixels" in watch.text
    assert choose_encoder(open_request(), load_images(X.mean(3).astype(np.uint8)), watch) is None  # gray
    assert choose_encoder(open_request(), load_images(X), watch) is not None


def test_objects_on_plain_ground_get_the_encoder_too(tiny_dino: Path, hub_cache: Path) -> None:
    into_cache(tiny_dino, hub_cache, "facebook/dinov2-small")
    flat = np.zeros((20, 32, 32, 3), np.uint8)
    flat[:, 8:18, 8:18] = np.random.default_rng(0).integers(100, 255, (20, 1, 1, 3))
    assert choose_encoder(open_request(), load_images(flat), Said()) is not None


@pytest.mark.parametrize(
    "changes",
    [{"backbone": "small"}, {"preset": "paper"}, {"settings": {"batch_size": 8}}, {"image_size": 16}, {"train": "all"}],
    ids=lambda changes: next(iter(changes)),
)
def test_who_says_how_to_train_is_not_given_an_encoder(
    changes: dict[str, Any], tiny_dino: Path, hub_cache: Path, X: np.ndarray
) -> None:
    into_cache(tiny_dino, hub_cache, "facebook/dinov2-small")
    assert choose_encoder(open_request(**changes), load_images(X), Said()) is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"preset": "paper"}, "--preset paper"),
        ({"settings": {"batch_size": 8}}, "--set"),
        ({"image_size": 16}, "--image-size"),
    ],
)
def test_an_option_that_keeps_the_encoder_away_is_named(changes: dict[str, Any], said: str, X: np.ndarray) -> None:
    watch = Said()
    assert choose_encoder(open_request(**changes), load_images(X), watch) is None
    assert "no pretrained encoder" in watch.text and said in watch.text and "--train heads" in watch.text


def test_extra_images_ask_for_a_backbone_that_learns(
    tiny_dino: Path, hub_cache: Path, trial: Callable[..., Run], tmp_path: Path
) -> None:
    into_cache(tiny_dino, hub_cache, "facebook/dinov2-small")
    with pytest.raises(Stopped):
        trial(open_request(epochs=2), source=scenes(24)[0], extra=scenes(16, seed=2)[0], watch=Said(stop_after=1))
    config = Run(tmp_path / "run").config
    assert config.encoder is None and config.extra.n == 16


def test_photographs_without_network_or_cache_are_trained_from_scratch_without_a_wait(
    trial: Callable[..., Run], tmp_path: Path
) -> None:
    watch = Said()
    for offline in (True, False):  # nothing is asked of the network either way
        began = time.monotonic()
        assert choose_encoder(open_request(offline=offline), load_images(scenes(40)[0]), watch) is None
        assert time.monotonic() - began < 2
    assert "no pretrained encoder" in watch.text and "local cache" in watch.text
    watch = Said(stop_after=1)
    with pytest.raises(Stopped):
        trial(open_request(offline=True, epochs=2), source=scenes(24)[0], watch=watch)
    config = Run(tmp_path / "run").config
    assert config.encoder is None and config.backbone == "small" and "no pretrained encoder" in watch.text


def ilk(monkeypatch: pytest.MonkeyPatch, *words: Any) -> int:
    monkeypatch.setattr(sys, "argv", ["ilk", *map(str, words)])
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_the_command_line_trains_heads_predicts_and_exports(
    tmp_path: Path, trained: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ["fit", photos, "-k", 2, "--out", out, "--backbone", f"run:{trained}", "--epochs", 1, "--device", "cpu",
             "--feature-views", 1, "--neighbours", 3, "--no-report", "--quiet"]  # fmt: skip
    assert ilk(monkeypatch, *words) == 0
    assert Run(out).config.features.views == 1 and Run(out).config.features.neighbours == 3
    assert ilk(monkeypatch, "predict", out, photos, "--device", "cpu", "--no-report", "--quiet") == 0
    (again,) = (out / "predictions").iterdir()
    np.testing.assert_array_equal(clusters(Run(again)), clusters(Run(out)))
    capsys.readouterr()
    assert ilk(monkeypatch, *words[:4], "--out", tmp_path / "other", "--backbone", "small", "--train", "heads") == 2
    assert "Error: --train heads needs an encoder that has learnt something" in capsys.readouterr().err


def test_the_model_from_images_to_clusters_goes_into_one_onnx_file(
    tiny_dino: Path, trial: Callable[..., Run], tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime", reason="the extra ilk[onnx] is not installed")
    pytest.importorskip("onnxscript", reason="the extra ilk[onnx] is not installed")
    from ilk.pipeline.onnx import export_onnx

    model = load_model(trial(asked(f"hf:{tiny_dino}", epochs=1)))
    assert export_onnx(model, tmp_path / "model.onnx", channels=3, size=16) < 1e-4
    assert (tmp_path / "model.onnx").stat().st_size > 10_000


def estimator(backbone: Any, **changes: Any) -> Clusterer:
    settings = {"batch_size": 32, "cluster_heads": 2}
    return Clusterer(
        2, **{"backbone": backbone, "epochs": 3, "settings": settings, "device": "cpu", "precision": "float32",
              "feature_views": 2, "neighbours": 5, **changes},
    )  # fmt: skip


@pytest.fixture(scope="module")
def fitted(trained: Path, X: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Clusterer:
    """Fitted once on a frozen encoder; a test that changes it takes a copy."""
    return estimator(f"run:{trained}", cache_dir=tmp_path_factory.mktemp("fitted")).fit(X)


def test_the_estimator_has_the_parameters_of_the_mode() -> None:
    given = {"train": "heads", "feature_views": 7, "neighbours": 3, "balance": "off", "offline": True}
    found = Clusterer(3, **given)
    assert {name: found.get_params()[name] for name in given} == given
    assert clone(found).get_params() == found.get_params()
    assert all(name in (Clusterer.__doc__ or "") for name in given)
    defaults = Clusterer().get_params()
    assert [defaults[name] for name in given] == [None, None, 10, None, False]


def test_the_estimator_hands_the_parameters_on(trained: Path, X: np.ndarray) -> None:
    with pytest.raises(ValueError, match="`train` must be heads or all; got 'some'"):
        Clusterer(2, train="some").fit(X)
    with pytest.raises(ValueError, match="`feature_views` must be at least 0; got -1"):
        Clusterer(2, feature_views=-1).fit(X)
    with pytest.raises(ValueError, match="there is none at hand"):
        Clusterer(2, train="heads", offline=True).fit(X)
    found = estimator(f"run:{trained}", balance="off", epochs=1).fit(X)
    assert found.config_.method_config["balance"] == "off"
    assert found.config_.features.views == 2 and found.config_.features.neighbours == 5


def test_the_estimator_equals_the_command_line(
    fitted: Clusterer, trained: Path, trial: Callable[..., Run], X: np.ndarray
) -> None:
    run = trial(asked(f"run:{trained}"))
    np.testing.assert_array_equal(fitted.labels_, clusters(run))
    one, two = fitted.method_.state_dict(), load_method(run).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in two)


def test_predictions_on_the_training_images_are_the_labels(fitted: Clusterer, X: np.ndarray) -> None:
    np.testing.assert_array_equal(fitted.predict(X), fitted.labels_)
    p = fitted.predict_proba(X)
    assert p.shape == (60, 2)
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(p.max(1), fitted.confidence_, atol=5e-3)  # features are kept as float16
    np.testing.assert_allclose(fitted.transform(X), fitted.embedding_, atol=2e-2)
    assert accuracy(scenes(60)[1], fitted.labels_) > 0.9


@pytest.mark.parametrize(
    "way", [copy.deepcopy, lambda found: pickle.loads(pickle.dumps(found))], ids=["copy", "pickle"]
)
def test_a_copy_predicts_the_same(way: Callable[[Any], Any], fitted: Clusterer, X: np.ndarray) -> None:
    found = way(fitted)
    np.testing.assert_array_equal(found.predict_proba(X), fitted.predict_proba(X))
    assert not hasattr(clone(fitted), "labels_")
    assert clone(fitted).get_params() == fitted.get_params()


def test_save_and_load_keep_everything(tmp_path: Path, fitted: Clusterer, X: np.ndarray) -> None:
    fitted.save(tmp_path / "run")
    np.testing.assert_array_equal(predicted(Run(tmp_path / "run"), X), fitted.labels_)
    found = Clusterer.load(tmp_path / "run", device="cpu").set_params(precision="float32")
    np.testing.assert_array_equal(found.predict_proba(X), fitted.predict_proba(X))
    np.testing.assert_array_equal(found.labels_, fitted.labels_)
    assert (found.train, found.feature_views, found.neighbours) == ("heads", 2, 5)
    again = clone(found).fit(X)
    np.testing.assert_array_equal(again.labels_, fitted.labels_)
    found.save(tmp_path / "copy")
    np.testing.assert_array_equal(Clusterer.load(tmp_path / "copy").predict(X), fitted.labels_)


def test_a_run_of_the_command_line_can_be_loaded(frozen_run: Run, X: np.ndarray) -> None:
    run = frozen_run
    found = Clusterer.load(run.folder, device="cpu")
    np.testing.assert_array_equal(found.labels_, clusters(run))
    np.testing.assert_array_equal(found.predict(X), clusters(run))


def test_a_module_is_copied_frozen_and_given_again_to_load(tmp_path: Path, X: np.ndarray) -> None:
    module = Means()
    found = estimator(module, train="heads").fit(X)
    assert module.training and float(module.side) == 0  # a copy was used
    np.testing.assert_array_equal(found.predict(X), found.labels_)
    found.save(tmp_path / "run")
    with pytest.raises(ValueError, match="encoder of your own"):
        Clusterer.load(tmp_path / "run")
    again = Clusterer.load(tmp_path / "run", backbone=Means())
    np.testing.assert_array_equal(again.predict(X), found.labels_)
    other = Means()
    other.scale.data *= 2
    with pytest.raises(ValueError, match="other weights"):
        Clusterer.load(tmp_path / "run", backbone=other)


def test_partial_fit_trains_the_heads_on_with_new_images(fitted: Clusterer, X: np.ndarray) -> None:
    found = copy.deepcopy(fitted)
    new, kinds = scenes(40, seed=5)
    assert found.partial_fit(new, epochs=2) is found
    assert len(found.labels_) == 40 and found.n_iter_ == 5
    assert accuracy(kinds, found.labels_) > 0.9
    np.testing.assert_array_equal(found.predict(new), found.labels_)
    assert (found.predict(X) == fitted.labels_).mean() > 0.9  # the clusters mean what they meant
    before, after = fitted.method_.state_dict(), found.method_.state_dict()
    assert torch.equal(before["backbone.directions"], after["backbone.directions"])
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_partial_fit_of_a_loaded_run_works_and_can_be_saved(tmp_path: Path, fitted: Clusterer) -> None:
    fitted.save(tmp_path / "run")
    found = Clusterer.load(tmp_path / "run", device="cpu")
    new = scenes(30, seed=5)[0]
    found.partial_fit(new).save(tmp_path / "more")
    config = Run(tmp_path / "more").config
    assert config.images.n == 30 and config.features.views == 2
    np.testing.assert_array_equal(Clusterer.load(tmp_path / "more").predict(new), found.labels_)


@pytest.mark.parametrize("method", ["scl", "crlc"])  # which remember something of every image
def test_partial_fit_of_methods_that_remember_images(method: str, trained: Path, X: np.ndarray) -> None:
    settings = {"batch_size": 32} if method == "scl" else {"batch_size": 32, "cluster_heads": 2}
    found = estimator(f"run:{trained}", method=method, settings=settings, epochs=1).fit(X)
    found.partial_fit(scenes(70, seed=5)[0])
    assert found.labels_.shape == (70,)


def test_an_encoder_that_is_trained_on_is_saved_and_loaded(tiny_dino: Path, tmp_path: Path) -> None:
    X = scenes(24)[0]
    found = estimator(f"hf:{tiny_dino}", train="all", epochs=1).fit(X)
    found.save(tmp_path / "run")
    again = Clusterer.load(tmp_path / "run", device="cpu").set_params(precision="float32")
    assert again.train == "all"
    np.testing.assert_allclose(again.predict_proba(X), found.predict_proba(X), atol=1e-6)
    again.partial_fit(X)
    assert again.n_iter_ == 2
