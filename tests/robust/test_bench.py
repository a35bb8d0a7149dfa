"""`ilk bench`: what is timed is what is meant, figures are compared rightly, and a step waits for nothing."""

from __future__ import annotations

import itertools
import json
import mmap
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ilk.cli.bench  # noqa: F401  # registers the command
from command import Command
from ilk.images import load_images
from ilk.methods import METHODS
from ilk.research.bench import memory, other_libraries, parts, prediction_speed, record, step_speed, timing
from ilk.research.bench.drawn_photos import photo_like, write_folder
from ilk.research.bench.goals import Goal, judge_goals
from ilk.research.bench.timing import Case, Conditions, Measurement, measure_cases
from ilk.system.devices import make_fabric
from ilk.system.progress import Watch
from ilk.views import get_views


@pytest.fixture
def conditions(tmp_path: Path) -> Conditions:
    return Conditions(
        device="cpu", precision="float32", cores=1, repeats=3, quick=True, seed=0, folder=tmp_path / "photos",
        scratch=tmp_path, watch=Watch(),
    )  # fmt: skip


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that only a test case advances: `clock[0] += seconds`."""
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    return now


def line(name: str, values: list[float], unit: str = "images/s", part: str = "views", **more: Any) -> Measurement:
    return Measurement(part=part, name=name, unit=unit, values=values, more=more)


def test_cases_have_turns_and_a_value_is_so_many_a_second(conditions: Conditions, clock: list[float]) -> None:
    calls: list[str] = []

    def work(name: str, seconds: float) -> Callable[[], None]:
        def done() -> None:
            calls.append(name)
            clock[0] += seconds

        return done

    found = measure_cases(
        "views",
        [Case(name="a", work=work("a", 1.0), count=10), Case(name="b", work=work("b", 4.0), count=2, unit="s")],
        conditions,
    )
    assert [one.values for one in found] == [[10.0] * 3, [4.0] * 3]
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab"  # each warmed up, then turn by turn, none always first


def test_a_short_case_is_repeated_until_the_clock_can_tell(conditions: Conditions, clock: list[float]) -> None:
    calls = itertools.count()

    def work() -> None:
        next(calls)
        clock[0] += 0.001

    [found] = measure_cases("views", [Case(name="a", work=work, count=1)], conditions)
    assert found.median == pytest.approx(1000) and next(calls) == 2 + 3 * 50  # 50 ms a repeat where it is quick


def test_the_failure_of_a_peer_is_a_remark_and_one_of_ours_an_error(conditions: Conditions) -> None:
    def broken() -> None:
        raise RuntimeError("no such kernel\nand more")

    closed: list[str] = []
    cases = [
        Case(name="ours", work=lambda: None),
        Case(name="theirs", work=broken, peer=True, close=lambda: closed.append("theirs")),
        Case(name="absent", work=None, note="not installed", peer=True),
    ]
    ours, theirs, absent = measure_cases("views", cases, conditions)
    assert len(ours.values) == 3 and theirs.values == absent.values == []
    assert theirs.note == "failed: RuntimeError: no such kernel" and absent.note == "not installed"
    assert closed == ["theirs"]
    with pytest.raises(RuntimeError):
        measure_cases("views", [Case(name="ours", work=broken)], conditions)


def test_threads_are_as_before_after_a_case(conditions: Conditions) -> None:
    seen: list[int] = []
    before = torch.get_num_threads()
    measure_cases("views", [Case(name="a", work=lambda: seen.append(torch.get_num_threads()), threads=2)], conditions)
    assert set(seen) == {2} and torch.get_num_threads() == before


def test_a_ratio_is_the_median_of_pairs_and_reached_from_its_limit_on() -> None:
    lines = [
        line("ilk, 32 px, one core", [20.0, 40.0, 66.0]),
        line("torchvision, 32 px, one core", [1.0, 2.0, 2.0]),
        line("kornia, 32 px, one core", [4.0, 4.0, 20.0]),
        line("ilk, 224 px, one core", [1.0]),
        line("torchvision, 224 px, one core", []),
    ]
    one, two, three = judge_goals(lines, ["views"])
    assert (one.value, one.spread, one.reached) == (20.0, (20.0, 33.0), True)
    assert (two.value, two.reached) == (5.0, False)
    assert (three.value, three.reached) == (None, None)


def test_goals_below_a_limit_and_those_of_parts_that_were_not_measured() -> None:
    lines = [
        line("import ilk", [0.1, 0.2, 0.16], "s", "start"),
        line("ilk --help", [0.2], "s", "start"),
        line("ilk cc, x", [8.0], part="train", waits={"_local_scalar_dense": 1.0}),
        line("plain cc, x", [2.0], part="train"),
        line("a, without the page cache", [5e6], "bytes", "memory", images=10_000),
        line("b, without the page cache", [5e6 + 200 * 190_000], "bytes", "memory", images=200_000),
    ]
    found = {one.text: one for one in judge_goals(lines, ["start", "train", "memory"])}
    assert [one.reached for one in found.values()] == [True, False, False, True, True]
    assert found["ilk cc, x : plain float32 loop"].value == 4.0
    assert found["import ilk, seconds"].value == 0.16
    assert [one.value for one in judge_goals(lines, ["memory"])] == [200.0]


@pytest.mark.parametrize(
    ("now", "before", "unit", "expected"),
    [
        ([10.0, 12.0], [5.0, 6.0], "images/s", (2.0, "better")),
        ([5.0, 6.0], [10.0, 12.0], "images/s", (0.5, "worse")),
        ([5.0, 6.0], [10.0, 12.0], "s", (2.0, "better")),
        ([9.0, 11.0], [10.0, 12.0], "images/s", (10 / 11, "")),
    ],
)
def test_a_change_is_marked_only_beyond_the_spread(
    now: list[float], before: list[float], unit: str, expected: tuple[float, str]
) -> None:
    found = record.change_since(line("a", now, unit), [line("b", [1.0], unit), line("a", before, unit)])
    assert found is not None and found[0] == pytest.approx(expected[0]) and found[1] == expected[1]
    assert record.change_since(line("c", now, unit), [line("a", before, unit)]) is None


def test_a_measurement_is_read_back_and_another_file_is_refused(tmp_path: Path) -> None:
    lines = [line("a", [1.0, 2.0], waits={"nonzero": 36.0}), line("b", [])]
    about = {"device": "cpu", "machine": {"processor": "one"}, "quick": False}
    goals = [Goal("views", "a : b", 2, True, 3.0, (2.5, 3.5))]
    file = tmp_path / "one.json"
    file.write_text(json.dumps(record.as_values(about, lines, goals)))
    found, again = record.read_record(file)
    assert again == lines and found["goals"][0]["reached"] is True
    assert record.differing_conditions(found, {**found, "machine": {"processor": "two"}}) == [
        "the earlier measurement had processor two, this one has one"
    ]
    file.write_text('{"epoch": 1}')
    with pytest.raises(ValueError, match="was not written by this version of ilk bench"):
        record.read_record(file)


def test_drawn_pictures_are_a_function_of_the_seed_and_as_smooth_as_photographs(tmp_path: Path) -> None:
    one, same, other = photo_like(4, 64, 1), photo_like(4, 64, 1), photo_like(4, 64, 2)
    assert np.array_equal(one, same) and not np.array_equal(one, other)
    x = one.astype(float)
    assert 30 < x.std() < 80 and np.abs(np.diff(x, axis=2)).mean() < 0.5 * x.std()
    files = sorted(write_folder(tmp_path / "jpegs", 3, seed=1).rglob("*.jpg"))
    assert len(files) == 3 and Image.open(files[0]).size == (500, 375)
    assert 15_000 < files[0].stat().st_size < 250_000  # as a camera's JPEG of this size


@pytest.mark.parametrize("method", METHODS)
def test_no_step_waits_for_a_number_from_the_device(method: str) -> None:
    """The loop and every method; what torch's optimisers read of their own counters, on the CPU, is no wait."""
    images = load_images(photo_like(96, 16), image_size=16)
    shape = step_speed.Shape(method, "small", 16, 3, 32)
    _, loop = step_speed.begin(shape, images, make_fabric("cpu", "float32"))
    step_speed.one_pass(loop, 1)  # what happens in the first step alone is not what costs
    assert step_speed.count_waits(loop).get("_local_scalar_dense", 0) == 0


@pytest.mark.parametrize("n", [32, 96])
def test_a_step_that_waits_is_seen_and_no_end_of_a_pass(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    images = load_images(photo_like(n, 16), image_size=16)
    _, loop = step_speed.begin(step_speed.Shape("cc", "small", 16, 3, 32), images, make_fabric("cpu", "float32"))
    step_speed.one_pass(loop, 1)
    before = step_speed.count_waits(loop)
    assert "_local_scalar_dense" not in before
    step = loop.method.after_step
    monkeypatch.setattr(loop.method, "after_step", lambda: (loop.method.observed.sum().item(), step()))
    assert step_speed.count_waits(loop) == {**before, "_local_scalar_dense": 1.0}


def test_the_shares_of_a_step_are_those_of_its_parts_and_the_loop_is_as_before(conditions: Conditions) -> None:
    images = load_images(photo_like(64, 16), image_size=16)
    _, loop = step_speed.begin(step_speed.Shape("cc", "small", 16, 3, 32), images, make_fabric("cpu", "float32"))
    kept = loop.views, loop.model, loop.fabric, loop.optimizer
    found = step_speed.shares(loop, conditions)
    assert list(found) == ["views", "forward", "backward", "step", "other"]
    assert sum(found.values()) == pytest.approx(1, abs=0.003) and min(found.values()) >= 0
    assert found["forward"] > 0 and found["backward"] > 0 and found["step"] > 0
    assert (loop.views, loop.model, loop.fabric, loop.optimizer) == kept


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="only Linux tells a process's own memory apart")
def test_the_memory_of_a_training_does_not_grow_with_its_images(tmp_path: Path) -> None:
    """Training on 614 MB of pixels needs memory for the ids and paths only, apart from the page cache."""
    found = {}
    for n in (2_000, 200_000):
        file = tmp_path / f"{n}.npy"
        np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=(n, 3, 32, 32))  # sparse
        found[n] = memory.peaks(file, "cpu", batch=64, steps=4)["anonymous"]
    assert found[200_000] - found[2_000] < 198_000 * 400  # the pixels alone are 3,072 each


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="only Linux tells a process's own memory apart")
def test_memory_is_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    cache = memory.write_cache(tmp_path / "cache.npy", 1_100, seed=0)
    pixels = np.load(cache, mmap_mode="r")
    assert pixels.shape == (1_100, 3, 32, 32) and pixels[1_050].any()
    block = np.ones(900_000_000, dtype=np.uint8)  # in this process, and so not in that
    found = memory.in_own_process(cache, "cpu", batch=32, steps=1)
    assert 50e6 < found["anonymous"] < len(block) and found["device"] is None


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="only Linux tells a process's own memory apart")
def test_peaks_of_memory_are_seen_while_they_last() -> None:
    before = memory.anonymous()
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS  # not from the allocator, which may have that much at hand
    with memory.Peak() as peak, mmap.mmap(-1, 40_000_000, flags=private) as block:
        for start in range(0, len(block), 4096):
            block[start] = 1
        peak.over.wait(0.05)
    assert peak.bytes > before + 35e6


def test_the_memory_on_the_device_is_of_a_pass_of_ilks_own_before_the_plain_loop_is_there(
    conditions: Conditions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that holds 7 bytes at the peak of ilk's pass, and 1,000 from when the plain loop is there."""
    told: list[str] = []
    held = [7]

    def plain(*_: Any, **__: Any) -> Any:
        told.append("plain")
        held[0] = 1000
        raise other_libraries.Missing("not installed")

    real = step_speed.one_pass
    monkeypatch.setattr(step_speed, "one_pass", lambda *given: (told.append("pass"), real(*given)))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: told.append(f"wait {device}"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: told.append(f"reset {device}"))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: held[0])
    monkeypatch.setattr(other_libraries, "PlainTraining", plain)
    shape = step_speed.Shape("cc", "small", 16, 3, 32)
    found = step_speed.cases(
        replace(conditions, device="cuda:1"), shape, True, make_fabric("cpu", "float32"), "GPU", cores=1
    )
    assert told == ["pass", "wait cuda:1", "reset cuda:1", "pass", "wait cuda:1", "plain"]
    assert found[0].after is not None and found[0].after()["device_bytes"] == 7


def test_another_gpu_is_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"Model {device[-1]}")
    assert record.machine("cpu")["gpu"] is None
    one, two = ({"device": "cuda", "machine": record.machine(f"cuda:{number}")} for number in (1, 2))
    assert record.differing_conditions(one, two) == ["the earlier measurement had gpu Model 2, this one has Model 1"]


def test_images_are_assigned_in_the_precision_that_was_asked_for(
    conditions: Conditions, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Seen(Exception):
        pass

    def plan(request: Any, *_: Any) -> Any:
        raise Seen(request.precision)

    monkeypatch.setattr(prediction_speed, "new_training", plan)
    with pytest.raises(Seen, match="bf16"):
        next(prediction_speed.groups(replace(conditions, precision="bf16")))


def test_absent_libraries_are_said_to_be_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.transforms", None)
    with pytest.raises(other_libraries.Missing, match=r"not installed \(pip install torchvision\)"):
        other_libraries.torchvision_views(get_views("cc")[0], 32)


def test_the_plain_loop_trains_the_same_method_on_views_of_single_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for torchvision, which ilk does not depend on: the loop around it is ours."""
    seen: list[tuple[int, int]] = []

    def views(recipe: Any, size: int) -> Callable[[Image.Image], torch.Tensor]:
        def change(picture: Image.Image) -> torch.Tensor:
            seen.append(picture.size)
            return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1) / 255

        return change

    monkeypatch.setattr(other_libraries, "torchvision_views", views)
    pixels = photo_like(64, 16)
    shape = step_speed.Shape("cc", "small", 16, 3, 32)
    plan, _ = step_speed.begin(shape, load_images(pixels, image_size=16), make_fabric("cpu", "float32"))
    plain = other_libraries.PlainTraining(plan.method, pixels, get_views("cc")[0], batch=32, workers=0, device="cpu")
    before = [p.detach().clone() for p in plain.method.parameters()]
    ours = [p.detach().clone() for p in plan.method.parameters()]
    plain()
    assert seen == [(16, 16)] * 128  # two views of each picture
    assert any(not torch.equal(a, b) for a, b in zip(before, plain.method.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(ours, plan.method.parameters(), strict=True))
    assert all(p.is_contiguous() and p.dtype == torch.float32 for p in plain.method.parameters())


@pytest.fixture
def call(call: Command) -> Command:
    """`call("--quick")`: what `ilk bench --quick` does in an empty folder."""
    return partial(call, "bench")


def test_the_command_measures_writes_and_compares(call: Command, tmp_path: Path) -> None:
    first = call("start", "--quick", "--repeats", "2", "--device", "cpu", "--out", "one.json", "--quiet")
    assert first.code == 0 and "import ilk" in first.out and "Written to one.json" in first.out
    written = json.loads((tmp_path / "one.json").read_text())
    assert written["parts"] == ["start"] and [len(one["values"]) for one in written["lines"]] == [2, 2, 2]
    assert {goal["text"] for goal in written["goals"]} == {"import ilk, seconds", "ilk --help, seconds"}
    second = call("start", "--quick", "--repeats", "1", "--device", "cpu", "--against", "one.json", "--seed", "1")
    assert second.code == 0 and "than before" in second.out
    assert "the earlier measurement had seed 0, this one has 1" in second.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["view"], "Unknown part 'view'. Did you mean 'views'?"),
        (["start", "--repeats", "0"], "repeats must be at least 1"),
        (["start", "--images", "nowhere"], "There is no folder 'nowhere'"),
        (["start", "--against", "nothing.json"], "There is no file 'nothing.json'"),
        (["start", "--out", "there.json"], "'there.json' exists already"),
        (["start", "--device", "cudx"], "Unknown device 'cudx'"),
    ],
)
def test_a_mistake_is_one_sentence(call: Command, tmp_path: Path, words: list[str], said: str) -> None:
    (tmp_path / "there.json").write_text("kept")
    found = call(*words)
    assert found.code == 2 and said in found.err and found.err.count("\n") == 1
    assert (tmp_path / "there.json").read_text() == "kept"


def test_what_was_measured_before_ctrl_c_is_shown_and_written(
    call: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def stopped(conditions: Conditions) -> Any:
        yield [Case(name="the first", work=lambda: None)]
        raise KeyboardInterrupt

    monkeypatch.setitem(parts.TIMED, "views", stopped)
    found = call("start", "views", "train", "--quick", "--repeats", "1", "--device", "cpu", "--out", "some.json")
    assert found.code == 130 and "the first" in found.out
    assert found.err.endswith("ilk bench views train\n")
    written = json.loads((tmp_path / "some.json").read_text())
    assert written["parts"] == ["start"] and written["lines"][-1]["name"] == "the first"


def test_decoding_and_views_give_lines_for_ours_where_nothing_else_is_installed(
    conditions: Conditions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> Any:
        raise other_libraries.Missing(f"not installed (pip install {name.split('.')[0]})")

    monkeypatch.setattr(other_libraries, "import_or_missing", absent)
    monkeypatch.setattr("ilk.research.bench.view_speed.SIZES", {32: "cc"})
    monkeypatch.setattr("ilk.research.bench.decoding_speed.SIZES", (16,))
    write_folder(conditions.folder, 4)
    for part, peer in (("decode", "torchvision ImageFolder"), ("views", "kornia")):
        lines = [one for found in parts.measured(part, conditions) for one in found]
        assert all(one.values for one in lines if one.name.startswith("ilk"))
        assert [one.values for one in lines if one.name.startswith(peer)] == [[]]
        assert all("not installed" in one.note for one in lines if not one.values)


def test_bench_is_a_command(call: Command) -> None:
    found = call("--help")
    assert found.code == 0 and "--against" in found.out
    assert all(part in found.out for part in parts.PARTS)
