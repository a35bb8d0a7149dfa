"""One process at a time works in a folder, and a dead one does not keep the others out."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

import workers
from ilk.pipeline.build import load_method
from ilk.runs.folder import Run
from ilk.system import lock
from ilk.system.lock import FILE, InUse, held, locked


def test_a_second_process_is_refused_with_a_sentence_and_a_dead_one_keeps_nobody_out(tmp_path: Path) -> None:
    folder, ready = tmp_path / "run", tmp_path / "ready"
    child = workers.started(workers.hold, folder, ready)
    end = time.monotonic() + 60
    while not ready.exists() and time.monotonic() < end:
        time.sleep(0.02)
    with (
        pytest.raises(InUse, match="process.*run'"),
        held(folder),
    ):
        raise AssertionError("two hold one lock")
    child.kill()
    assert workers.ended([child], 30) == [-9]
    assert (folder / FILE).exists()  # what a kill leaves is no lock
    with held(folder):
        pass
    assert not folder.joinpath(FILE).exists()


def test_of_several_processes_that_start_at_once_exactly_one_gets_the_folder(tmp_path: Path) -> None:
    for number in range(5):
        results, gate = tmp_path / f"results {number}", tmp_path / f"gate {number}"
        results.mkdir()
        folder = tmp_path / f"runs {number}" / "run"
        children = [workers.started(workers.race, folder, gate, results) for _ in range(4)]
        time.sleep(0.3)
        gate.touch()
        assert workers.ended(children, 60) == [0] * 4
        answers = sorted(file.read_text() for file in results.iterdir())
        assert answers.count("won") == 1 and set(answers) <= {"won", "InUse", "FileExistsError"}
        assert [file.name for file in folder.iterdir()] == ["config.json"]


def test_the_lock_leaves_no_trace_and_takes_an_empty_folder_away_again(tmp_path: Path) -> None:
    with held(tmp_path / "runs" / "a"):
        assert [file.name for file in (tmp_path / "runs" / "a").iterdir()] == [FILE]
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "own").mkdir()
    with held(tmp_path / "own"):
        pass
    assert list((tmp_path / "own").iterdir()) == []  # one that was there stays
    with held(tmp_path / "b"):
        (tmp_path / "b" / "result").touch()
    assert [file.name for file in (tmp_path / "b").iterdir()] == ["result"]


def test_who_waits_gets_the_lock_when_it_is_free(tmp_path: Path) -> None:
    child = workers.started(workers.hold, tmp_path / "run", tmp_path / "ready")
    while not (tmp_path / "ready").exists():
        time.sleep(0.02)
    child.kill()
    with held(tmp_path / "run", wait=True):
        assert (tmp_path / "run" / FILE).exists()


def test_a_link_in_the_place_of_the_lock_makes_no_file_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / FILE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="cannot be written to"), held(tmp_path / "run"):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_below_a_file_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(OSError, match="run' cannot be written to"),
        held(tmp_path / "file" / "run"),
    ):
        pass


def test_a_folder_that_never_comes_to_be_is_refused_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def vanish(self: Path, *_: object, **__: object) -> None:
        raise FileNotFoundError(2, "No such file or directory", str(self))

    monkeypatch.setattr(Path, "mkdir", vanish)  # as everything below /proc does
    start = time.monotonic()
    with (
        pytest.raises(OSError, match=r"run' cannot be written to \(No such file or directory\)"),
        held(tmp_path / "run"),
    ):
        pass
    assert time.monotonic() - start < 10


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no folder here refuses new ones")
@pytest.mark.parametrize("wait", [False, True])
def test_a_folder_in_proc_is_refused_with_a_sentence(wait: bool) -> None:
    with (
        pytest.raises(OSError, match="'/proc/x' cannot be written to"),
        held(Path("/proc/x"), wait=wait),
    ):
        pass


@pytest.mark.parametrize("code", ["ENOSYS", "ENOLCK", "EOPNOTSUPP"])
@pytest.mark.filterwarnings("ignore:flock not supported")
def test_a_file_system_without_locks_refuses_nothing(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def flock(*_: object) -> None:
        raise OSError(getattr(errno, code), "not here")

    monkeypatch.setattr(fcntl, "flock", flock)
    for _ in range(2):
        with held(tmp_path / "run"):
            (tmp_path / "run" / "result").touch()
        assert [file.name for file in (tmp_path / "run").iterdir()] == ["result"]


def test_waiting_is_told_once_and_only_when_it_lasts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "SAY_AFTER", 0.2)
    told: list[float] = []
    with locked(tmp_path / "file", waiting=lambda: told.append(time.monotonic())):
        pass
    assert told == []
    child = workers.started(workers.hold, tmp_path / "run", tmp_path / "ready")
    while not (tmp_path / "ready").exists():
        time.sleep(0.02)
    start = time.monotonic()

    def end() -> None:
        told.append(time.monotonic())
        child.kill()

    with held(tmp_path / "run", wait=True, waiting=end):
        assert len(told) == 1 and told[0] - start >= 0.2


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permissions do not bind the superuser")
def test_a_run_that_cannot_be_written_to_can_still_be_read(run: Run) -> None:
    run.folder.chmod(0o555)
    try:
        assert run.open().config.n_clusters == 2 and load_method(run).n_clusters == 2
        with pytest.raises(OSError, match="cannot be written to"), run.working():
            pass
    finally:
        run.folder.chmod(0o755)


def test_what_a_killed_process_left_is_swept_away_and_nothing_else(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    (run / "thumbnails").mkdir(parents=True)
    left = [run / "model.safetensors.123-456.tmp", run / "thumbnails" / "sheet-0.webp.1-2.tmp"]
    kept = [run / name for name in ("config.json", "notes.tmp", "log.jsonl", "thumbnails/sheet-0.webp")]
    for file in (*left, *kept):
        file.touch()
    with run.working():
        assert not any(file.exists() for file in left) and all(file.exists() for file in kept)
