"""Commands that are stopped by Ctrl-C or killed, and how they go on."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from command import Command
from digits_grid import digits_jobs
from ilk.research.grid import ROWS, run_jobs
from ilk.system.files import read_json_lines
from places import HELPERS

# A shell that starts the tests in the background makes them, and so their children, ignore Ctrl-C.
HEARS_CTRL_C = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from ilk.cli import main
"""


def test_a_kill_is_survived_by_the_command_that_is_printed(call: Command, photos: Path, tmp_path: Path) -> None:
    """Ctrl-C in a process of its own, which saves after each epoch so that the test need not wait."""
    code = HEARS_CTRL_C + "import ilk.training.loop; ilk.training.loop.CHECKPOINT_EVERY = -1; main()"
    given = ["fit", str(photos), "--clusters", "2", "--out", "a run", "--set", "batch_size=32", "--set",
             "cluster_heads=2", "--device", "cpu", "--image-size", "8", "--epochs", "200"]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-c", code, *given], cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    log, end = tmp_path / "a run" / "log.jsonl", time.monotonic() + 180
    while time.monotonic() < end and process.poll() is None:
        if log.is_file() and len(log.read_text().splitlines()) >= 2:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=180)
    assert process.returncode == 130, err
    assert "Traceback" not in err and out == ""
    done = len(log.read_text().splitlines())
    assert 2 <= done < 200 and f"Stopped after {done} epochs" in err
    command = shlex.split(err.strip().splitlines()[-1])
    assert command[0] == "ilk" and "--resume" in command
    found = call(*command[1:])
    assert found.code == 0, found.err
    assert f"after {done} of 200 epochs" in found.err
    epochs = [json.loads(line)["epoch"] for line in log.read_text().splitlines()]
    assert epochs == list(range(1, 201))
    assert (tmp_path / "a run" / "assignments.csv").is_file()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT for a single process there")
def test_ctrl_c_says_the_command_to_go_on_with(tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["-c", HEARS_CTRL_C + "main()", "compare", "digits", "--methods", "kmeans,cc", "--seeds", "1",
             "--epochs", "500", "--images", "200", "--out", str(out)]  # fmt: skip
    child = subprocess.Popen(
        [sys.executable, *words], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env={**os.environ}
    )
    end = time.monotonic() + 120
    while not list(out.glob("runs/*/config.json")) and time.monotonic() < end:
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 130 and "Traceback" not in said
    assert "Go on with the same command:\n  ilk compare digits --methods kmeans,cc" in said
    assert [one["method"] for one in read_json_lines(out / "rows.jsonl")] == ["kmeans"]


SCRIPT = """
import sys
import torch
from ilk.research.grid import run_jobs
from digits_grid import digits_jobs
torch.set_num_threads(1)
run_jobs(digits_jobs(), sys.argv[1])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is not known there")
def test_a_grid_killed_in_a_training_goes_on_with_what_was_done_and_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    unbroken = run_jobs(digits_jobs(), tmp_path / "unbroken")
    folder, end = tmp_path / "killed", time.monotonic() + 120
    child = subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder)], cwd=HELPERS)
    while len(list(folder.glob("runs/*/config.json"))) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait(30)
    before = (folder / ROWS).read_bytes()
    assert before.count(b"\n") == 1 and len(list(folder.glob("runs/*/assignments.parquet"))) == 1
    rows = run_jobs(digits_jobs(), folder)
    assert (folder / ROWS).read_bytes().startswith(before)
    assert [row["seed"] for row in read_json_lines(folder / ROWS)] == [0, 1]
    assert [row["resumed"] for row in rows] == [False, True]
    for name in ("key", "accuracy", "nmi_arithmetic", "ari", "loss", "run"):
        assert [row[name] for row in rows] == [row[name] for row in unbroken]


def test_a_mistake_in_a_process_of_its_own_has_exit_code_2(tmp_path: Path) -> None:
    given = [sys.executable, "-m", "ilk", "fit", "photos", "--cluster", "3"]
    environment = {**os.environ, "COLUMNS": "200"}
    answer = subprocess.run(given, cwd=tmp_path, capture_output=True, text=True, timeout=120, env=environment)
    assert answer.returncode == 2 and answer.stdout == ""
    assert "Traceback" not in answer.stderr and "No such option: --cluster" in answer.stderr
