"""The loop: what a record says, what a seed fixes, and that an interrupt changes nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ilk.training.loop
from ilk import load_images
from ilk.methods import METHODS
from ilk.system.devices import make_fabric
from ilk.training.assign import assign
from ilk.training.checkpoints import save_checkpoint
from ilk.training.loop import TrainingDiverged, train
from ilk.training.optimizer import TrainConfig, learning_rate, make_optimizer
from ilk.training.pace import seconds_per_step

BATCH = {"batch_size": 16}  # 60 images: three steps an epoch, twelve images left over
CONFIG = TrainConfig(
    epochs=10, batch_size=4, optimizer="adam", learning_rate=2.0, weight_decay=0.0, momentum=0.9,
    schedule="constant", warmup=0, seed=0,
)  # fmt: skip


@pytest.fixture(scope="module")
def images(pictures: Callable[..., Any]) -> Any:
    return load_images(pictures(60, side=8)[0])


@pytest.fixture
def every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ilk.training.loop, "CHECKPOINT_EVERY", -1.0)


def work(training: Any, images: Any, fabric: Any, **options: Any) -> Generator[dict[str, Any], None, None]:
    return train(training.method, images, training.views, training.train, fabric, **options)


def lasting(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records without their times."""
    return [{k: v for k, v in one.items() if k not in ("seconds", "images_per_second")} for one in records]


def same_state(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture(scope="module")
def unbroken(images: Any, planned: Callable[..., Any], fabric: Any) -> tuple[Any, list[Any], Any]:
    """The method, records and assignments of five epochs; the cluster heads start in the third."""
    training = planned(images, epochs=5, settings=BATCH)
    records = list(work(training, images, fabric))
    assert [bool(one["message"]) for one in records] == [False, False, True, False, False]
    return training.method, records, assign(training.method, images, fabric)


class Interrupt:
    """Raises KeyboardInterrupt in a step, as Ctrl-C does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def __call__(self, done: int, total: int) -> None:
        if done == self.step:
            raise KeyboardInterrupt


def drain(records: Iterator[dict[str, Any]], into: list[dict[str, Any]]) -> None:
    for record in records:
        into.append(record)  # one by one: what came before an exception is kept


@pytest.mark.usefixtures("every_epoch")
@pytest.mark.parametrize("epoch", [2, 3, 4])  # before, at and after the start of the cluster heads
@pytest.mark.parametrize("how", ["dropped generator", "Ctrl-C within the epoch"])
def test_resume_after_an_interrupt_gives_the_weights_log_and_assignments_of_an_unbroken_run(
    tmp_path: Path, images: Any, planned: Callable[..., Any], fabric: Any, unbroken: Any, epoch: int, how: str
) -> None:
    file, before = tmp_path / "checkpoint.pt", []
    training = planned(images, epochs=5, settings=BATCH)
    if how == "dropped generator":
        records = work(training, images, fabric, checkpoint=file)
        before = [next(records) for _ in range(epoch)]
        records.close()
    else:
        records = work(training, images, fabric, checkpoint=file, on_step=Interrupt(3 * (epoch - 1) + 2))
        with pytest.raises(KeyboardInterrupt):
            drain(records, before)
        assert len(before) == epoch - 1
    resumed = planned(images, epochs=5, settings=BATCH)
    torch.manual_seed(123)  # the global generator must not matter
    after = list(work(resumed, images, fabric, checkpoint=file))
    method, records, found = unbroken
    assert [one["epoch"] for one in after] == list(range(len(before) + 1, 6))
    assert lasting(before + after) == lasting(records)
    assert same_state(resumed.method, method)
    again = assign(resumed.method, images, fabric)
    for name in ("cluster", "confidence", "second", "margin", "embedding"):
        np.testing.assert_array_equal(getattr(again, name), getattr(found, name))


@pytest.mark.usefixtures("every_epoch")
def test_resume_counts_the_seconds_spent_before(
    tmp_path: Path, images: Any, planned: Callable[..., Any], fabric: Any
) -> None:
    records = work(planned(images, settings=BATCH), images, fabric, checkpoint=tmp_path / "c.pt")
    first = [next(records), next(records)][-1]["seconds"]
    records.close()
    later = list(work(planned(images, settings=BATCH), images, fabric, checkpoint=tmp_path / "c.pt"))
    assert later[0]["seconds"] > first > 0


def test_a_finished_training_has_nothing_left_to_do_and_loads_its_weights(
    tmp_path: Path, images: Any, planned: Callable[..., Any], fabric: Any
) -> None:
    training, again = (planned(images, epochs=2, settings=BATCH) for _ in range(2))
    list(work(training, images, fabric, checkpoint=tmp_path / "c.pt"))
    assert list(work(again, images, fabric, checkpoint=tmp_path / "c.pt")) == []
    assert same_state(training.method, again.method)


def test_checkpoints_are_written_only_now_and_then_and_after_the_last_epoch(
    tmp_path: Path, images: Any, planned: Callable[..., Any], fabric: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ilk.training.loop, "CHECKPOINT_EVERY", 1e9)
    training = planned(images, epochs=3, settings=BATCH)
    there = [(tmp_path / "c.pt").exists() for _ in work(training, images, fabric, checkpoint=tmp_path / "c.pt")]
    assert there == [False, False, True]


@pytest.mark.usefixtures("every_epoch")
def test_a_kill_while_the_checkpoint_is_written_keeps_the_one_before(
    tmp_path: Path, images: Any, planned: Callable[..., Any], fabric: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "checkpoint.pt"
    records = work(planned(images, settings=BATCH), images, fabric, checkpoint=file)
    next(records)
    kept = file.read_bytes()

    def killed(state: object, stream: Any) -> None:
        stream.write(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        next(records)
    assert file.read_bytes() == kept
    assert list(tmp_path.iterdir()) == [file]


def test_one_seed_gives_one_result_and_another_seed_another(
    images: Any, planned: Callable[..., Any], fabric: Any
) -> None:
    runs = []
    for seed, noise in ((7, 1), (7, 2), (8, 1)):
        torch.manual_seed(noise)
        training = planned(images, epochs=2, seed=seed, settings=BATCH)
        runs.append((training.method, lasting(list(work(training, images, fabric)))))
    assert runs[0][1] == runs[1][1]
    assert same_state(runs[0][0], runs[1][0])
    assert runs[0][1] != runs[2][1]
    assert not same_state(runs[0][0], runs[2][0])


def test_training_leaves_the_global_random_state_alone(images: Any, planned: Callable[..., Any], fabric: Any) -> None:
    training = planned(images, epochs=2, settings=BATCH)
    state, numbers = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    list(work(training, images, fabric))
    assert torch.equal(torch.get_rng_state(), state)
    assert np.random.get_state()[1].tolist() == numbers  # noqa: NPY002


def test_a_record_says_everything_the_docstring_promises(unbroken: Any) -> None:
    _, records, _ = unbroken
    for number, record in enumerate(records, 1):
        assert set(record) == {
            "epoch", "epochs", "seconds", "images_per_second", "learning_rate", "loss", "terms",
            "effective_clusters", "confidence", "pairs", "message",
        }  # fmt: skip
        assert (record["epoch"], record["epochs"]) == (number, 5)
        assert record["loss"] == pytest.approx(sum(record["terms"].values()))
        assert record["images_per_second"] > 0
    early, late = records[0], records[-1]
    assert set(early["terms"]) == {"instance"} and early["effective_clusters"] is early["confidence"] is None
    assert set(late["terms"]) == {"instance", "cluster", "entropy"}
    assert 1 <= late["effective_clusters"] <= 2 and 0.5 <= late["confidence"] <= 1
    seconds = [one["seconds"] for one in records]
    assert seconds == sorted(seconds)


def seen_in(training: Any, images: Any, fabric: Any) -> list[list[int]]:
    """The rows that were used in each step of a training."""
    steps: list[list[int]] = []
    forward = training.method.forward

    def spy(view_a: Any, view_b: Any, index: Any) -> Any:
        assert len(view_a) == len(view_b) == len(index)
        steps.append(index.tolist())
        return forward(view_a, view_b, index)

    training.method.forward = spy
    list(work(training, images, fabric))
    return steps


def test_the_order_of_an_epoch_is_a_permutation_drawn_anew_each_epoch(
    pictures: Callable[..., Any], planned: Callable[..., Any], fabric: Any
) -> None:
    images = load_images(pictures(64, side=8)[0])
    steps = seen_in(planned(images, epochs=2, settings={**BATCH, "warm_start": 0.9}), images, fabric)
    first, second = list(chain(*steps[:4])), list(chain(*steps[4:]))
    assert sorted(first) == sorted(second) == list(range(64))
    assert first != second != list(range(64)) != first


def test_the_short_last_batch_is_left_out(images: Any, planned: Callable[..., Any], fabric: Any) -> None:
    steps = seen_in(planned(images, epochs=2, settings={**BATCH, "warm_start": 0.9}), images, fabric)
    assert [len(step) for step in steps] == [16] * 6
    assert len(set(chain(*steps[:3]))) == 48


def test_on_step_counts_all_steps_of_the_training(images: Any, planned: Callable[..., Any], fabric: Any) -> None:
    calls: list[tuple[int, int]] = []
    training = planned(images, epochs=2, settings={**BATCH, "warm_start": 0.9})
    list(work(training, images, fabric, on_step=lambda done, total: calls.append((done, total))))
    assert calls == [(i, 6) for i in range(1, 7)]


@pytest.mark.parametrize(
    ("schedule", "warmup", "step", "rate"),
    [
        ("constant", 0, 0, 2.0),
        ("constant", 0, 9, 2.0),
        ("constant", 4, 0, 0.5),
        ("constant", 4, 2, 1.5),
        ("constant", 4, 3, 2.0),
        ("cosine", 0, 0, 2.0),
        ("cosine", 0, 5, 1.0),
        ("cosine", 0, 10, 0.0),
        ("cosine", 10, 5, 0.6),
    ],
)
def test_learning_rate_is_what_one_gets_by_hand(schedule: str, warmup: int, step: int, rate: float) -> None:
    assert learning_rate(step, 10, CONFIG.replace(schedule=schedule, warmup=warmup)) == pytest.approx(rate, abs=1e-12)


def test_the_recorded_learning_rate_is_that_of_the_last_step(
    images: Any, planned: Callable[..., Any], fabric: Any
) -> None:
    asked = {**BATCH, "learning_rate": 0.001, "schedule": "cosine", "warmup": 2, "warm_start": 0.9}
    records = list(work(planned(images, epochs=2, settings=asked), images, fabric))
    expected = [0.001 * (0.5 + 0.5 * math.cos(math.pi * step / 6)) for step in (2, 5)]
    assert [one["learning_rate"] for one in records] == pytest.approx(expected)


def test_sgd_and_adamw_train_the_backbone_as_well(images: Any, planned: Callable[..., Any], fabric: Any) -> None:
    for optimizer in ("sgd", "adamw"):
        training = planned(images, epochs=1, settings={**BATCH, "optimizer": optimizer, "warm_start": 0})
        before = {name: value.clone() for name, value in training.method.state_dict().items()}
        (record,) = work(training, images, fabric)
        assert math.isfinite(record["loss"])
        changed = [name for name, value in training.method.state_dict().items() if not torch.equal(value, before[name])]
        assert any(name.startswith("backbone") for name in changed), optimizer


@pytest.mark.usefixtures("every_epoch")
def test_a_term_that_is_no_number_stops_with_its_name_and_epoch_and_the_last_good_checkpoint(
    tmp_path: Path, images: Any, planned: Callable[..., Any], fabric: Any
) -> None:
    training, calls = planned(images, epochs=4, settings={**BATCH, "warm_start": 0}), []
    forward = training.method.forward

    def broken(*inputs: Any) -> dict[str, Any]:
        calls.append(1)
        terms: dict[str, Any] = forward(*inputs)
        return terms | {"entropy": terms["entropy"] * math.nan} if len(calls) > 7 else terms  # in the third epoch

    training.method.forward = broken
    records = work(training, images, fabric, checkpoint=tmp_path / "c.pt")
    assert [next(records)["epoch"], next(records)["epoch"]] == [1, 2]
    kept = (tmp_path / "c.pt").read_bytes()
    with pytest.raises(TrainingDiverged, match="entropy term became nan in epoch 3"):
        next(records)
    assert (tmp_path / "c.pt").read_bytes() == kept
    good = torch.load(tmp_path / "c.pt", weights_only=True)
    assert good["epoch"] == 2
    assert all(value.isfinite().all() for value in good["method"].values() if value.is_floating_point())


def test_a_huge_learning_rate_ends_in_training_diverged(images: Any, planned: Callable[..., Any], fabric: Any) -> None:
    training = planned(images, epochs=3, settings={**BATCH, "warm_start": 0, "learning_rate": 1e30, "warmup": 0})
    with pytest.raises(TrainingDiverged, match=r"epoch \d.*lower learning rate"):
        list(work(training, images, fabric))


def test_training_runs_in_bf16_and_keeps_the_weights_in_float32(
    pictures: Callable[..., Any], planned: Callable[..., Any]
) -> None:
    images = load_images(pictures(16, side=8)[0])
    training = planned(images, epochs=1, settings={"batch_size": 16, "warm_start": 0})
    (record,) = work(training, images, make_fabric("cpu", "bf16"))
    assert math.isfinite(record["loss"])
    assert all(value.dtype == torch.float32 for value in training.method.parameters())


def test_training_from_the_memory_mapped_cache_equals_training_from_memory(
    tmp_path: Path, photo_folder: Callable[..., Path], planned: Callable[..., Any], fabric: Any
) -> None:
    mapped = load_images(photo_folder(tmp_path / "photos", 40))
    assert not mapped.in_memory()
    held = load_images(mapped[:].permute(0, 2, 3, 1).numpy())
    assert held.in_memory()
    plans = [planned(images, epochs=2, settings=BATCH) for images in (mapped, held)]
    logs = [
        lasting(list(work(training, images, fabric))) for training, images in zip(plans, (mapped, held), strict=True)
    ]
    assert logs[0] == logs[1]
    assert same_state(plans[0].method, plans[1].method)


def test_gray_images_are_trained_with_one_channel(
    pictures: Callable[..., Any], planned: Callable[..., Any], fabric: Any
) -> None:
    images = load_images(pictures(40, side=8, gray=True)[0])
    training = planned(images, epochs=1, settings={**BATCH, "warm_start": 0})
    assert next(training.method.backbone.parameters()).shape[1] == 1
    assert math.isfinite(next(work(training, images, fabric))["loss"])


def test_measuring_the_time_of_a_step_leaves_the_method_as_it_was(
    images: Any, planned: Callable[..., Any], fabric: Any
) -> None:
    training = planned(images, settings={**BATCH, "warm_start": 0})
    before = {name: value.clone() for name, value in training.method.state_dict().items()}
    assert seconds_per_step(training.method, images, training.views, training.train, fabric) > 0
    assert all(torch.equal(value, before[name]) for name, value in training.method.state_dict().items())


def test_a_damaged_checkpoint_is_named_in_a_sentence(
    tmp_path: Path, images: Any, planned: Callable[..., Any], fabric: Any
) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"no checkpoint at all")
    with pytest.raises(ValueError, match="checkpoint.pt"):
        next(work(planned(images, settings=BATCH), images, fabric, checkpoint=tmp_path / "checkpoint.pt"))


def test_a_divergence_before_the_first_checkpoint_does_not_claim_that_one_was_kept(
    tmp_path: Path, images: Any, planned: Callable[..., Any], fabric: Any
) -> None:
    training = planned(images, epochs=3, settings={**BATCH, "warm_start": 0, "learning_rate": 1e30, "warmup": 0})
    with pytest.raises(TrainingDiverged) as caught:
        list(work(training, images, fabric, checkpoint=tmp_path / "checkpoint.pt"))
    assert not (tmp_path / "checkpoint.pt").exists()
    assert "is kept" not in str(caught.value)


# weight decay, frozen backbones, several second views


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_biases_and_normalisation_weights_may_be_spared_the_decay(
    images: Any, planned: Callable[..., Any], optimizer: str
) -> None:
    method = planned(images).method
    settings = CONFIG.replace(optimizer=optimizer, weight_decay=0.1)
    (all_of_it,) = make_optimizer(method, settings).param_groups
    assert all_of_it["weight_decay"] == 0.1 and len(all_of_it["params"]) == len(list(method.parameters()))
    decay = {
        id(p): group["weight_decay"]
        for group in make_optimizer(method, settings.replace(decay_vectors=False)).param_groups
        for p in group["params"]
    }
    assert {decay[id(p)] for p in method.parameters() if p.dim() >= 2} == {0.1}
    assert {decay[id(p)] for p in method.parameters() if p.dim() == 1} == {0.0}


def test_what_is_not_trained_is_not_given_to_the_optimizer(images: Any, planned: Callable[..., Any]) -> None:
    method = planned(images, method="c2bin").method
    given = {id(p) for group in make_optimizer(method, CONFIG).param_groups for p in group["params"]}
    assert given == {id(p) for p in method.parameters()} - {id(p) for p in method.follower.parameters()}


@pytest.mark.parametrize("method", METHODS)
def test_a_frozen_backbone_goes_through_a_training_unchanged(
    images: Any, planned: Callable[..., Any], fabric: Any, method: str
) -> None:
    """Weights and running statistics; the heads learn."""
    training = planned(images, method=method, epochs=2, settings={**BATCH, "warm_start": 0.5})
    training.method.freeze_backbone()
    before = {name: value.clone() for name, value in training.method.state_dict().items()}
    list(work(training, images, fabric))
    changed = {name for name, value in training.method.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and not any(name.startswith("backbone.") for name in changed)


def test_each_image_gets_as_many_second_views_as_the_method_asks_for(
    images: Any, planned: Callable[..., Any], fabric: Any
) -> None:
    training = planned(images, method="dcdc", epochs=1, settings={**BATCH, "repeats": 3, "warm_start": 0})
    seen: list[tuple[int, int, int]] = []
    forward = training.method.forward

    def spy(view_a: Any, view_b: Any, index: Any) -> Any:
        seen.append((len(view_a), len(view_b), len(index)))
        return forward(view_a, view_b, index)

    training.method.forward = spy
    list(work(training, images, fabric))
    assert seen == [(16, 48, 16)] * 3


def test_heads_that_take_turns_do_so_epoch_by_epoch(images: Any, planned: Callable[..., Any], fabric: Any) -> None:
    training = planned(images, method="dcdc", preset="paper", epochs=4, settings=BATCH)
    terms = [set(record["terms"]) for record in work(training, images, fabric)]
    assert terms == [{"over_sample", "over_class"}, {"sample", "class"}] * 2


@pytest.mark.parametrize("method", METHODS)
def test_the_time_of_a_step_is_measured_with_more_images_than_are_looked_at(
    planned: Callable[..., Any], pictures: Callable[..., Any], fabric: Any, method: str
) -> None:
    """Some methods need the features of all images for their labels, and get them."""
    many = load_images(np.tile(pictures(60, side=8)[0], (18, 1, 1, 1)))
    training = planned(many, method=method, settings={**BATCH, "warm_start": 0.5})
    assert len(many) == 1080 and seconds_per_step(training.method, many, training.views, training.train, fabric) > 0


# images that are not to be clustered


@pytest.mark.parametrize(("method", "takes"), [("cc", [True] * 4), ("dcdc", [True, False] * 2), ("crlc", [False] * 4)])
def test_extra_images_pass_first_in_the_epochs_that_take_them_and_are_no_part_of_the_loss(
    images: Any, pictures: Callable[..., Any], planned: Callable[..., Any], fabric: Any, method: str, takes: list[bool]
) -> None:
    extra = load_images(pictures(40, side=8, start=500)[0])
    training = planned(images, method=method, epochs=4, settings={**BATCH, "warm_start": 0})
    passes: list[tuple[bool, int, list[int]]] = []
    forward = training.method.forward

    def spy(view_a: Any, view_b: Any, index: Any) -> Any:
        passes.append((index is None, len(view_a), [] if index is None else index.tolist()))
        return forward(view_a, view_b, index)

    training.method.forward = spy
    for record, taken in zip(work(training, images, fabric, extra=extra), takes, strict=True):
        assert [flag for flag, _, _ in passes] == [True] * (2 if taken else 0) + [False] * 3
        assert sum(size for flag, size, _ in passes if flag) == (32 if taken else 0)  # whole batches of the 40
        main = list(chain(*(index for _, _, index in passes)))
        assert len(set(main)) == 48 and max(main) < 60
        own = {name: value for name, value in record["terms"].items() if not name.startswith("extra_")}
        assert (len(own) < len(record["terms"])) == taken
        assert record["loss"] == pytest.approx(sum(own.values()))
        passes.clear()


@pytest.mark.usefixtures("every_epoch")
@pytest.mark.parametrize("method", ["cc", "dcdc"])
def test_a_training_with_extra_images_resumes_to_the_last_bit(
    tmp_path: Path, images: Any, pictures: Callable[..., Any], planned: Callable[..., Any], fabric: Any, method: str
) -> None:
    extra = load_images(pictures(40, side=8, start=500)[0])

    def plan() -> Any:
        return planned(images, method=method, epochs=3, settings={**BATCH, "warm_start": 0.5})

    unbroken, first, second = plan(), plan(), plan()
    records = list(work(unbroken, images, fabric, extra=extra))
    part = work(first, images, fabric, extra=extra, checkpoint=tmp_path / "c.pt")
    before = [next(part)]
    part.close()
    after = list(work(second, images, fabric, extra=extra, checkpoint=tmp_path / "c.pt"))
    assert lasting(before + after) == lasting(records) and same_state(second.method, unbroken.method)


def test_ctrl_c_while_a_checkpoint_is_written_is_ctrl_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # torch's writer ends in an error of its own then
    class Interrupted:
        def state_dict(self) -> dict[str, Any]:
            return {}

    def save(state: Any, file: Any) -> None:
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("unexpected pos 98624 vs 98520")

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path / "checkpoint.pt", Interrupted(), Interrupted(), 1, 0.0)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
