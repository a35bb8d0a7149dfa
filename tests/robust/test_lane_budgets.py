"""The hooks at work, in a pytest of its own: a unit test that takes too long fails though all it asserts holds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from places import HELPERS

TESTS = """
import time
def test_quick(): pass
def test_busy():
    end = time.process_time() + 0.3
    while time.process_time() < end: pass
def test_asleep(): time.sleep(0.3)
"""


def test_a_busy_unit_test_fails_and_the_times_are_kept(tmp_path: Path) -> None:
    (tmp_path / "tests" / "unit").mkdir(parents=True)
    (tmp_path / "tests" / "unit" / "test_it.py").write_text(TESTS)
    (tmp_path / "tests" / "conftest.py").write_text(
        "from lane_budgets import pytest_runtest_call, pytest_runtest_makereport\n"
    )
    answer = subprocess.run(
        [sys.executable, "-m", "pytest", "--junitxml", "times.xml", "-p", "no:cacheprovider", "-rf", "tests"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(HELPERS), "ILK_TEST_SLOWDOWN": "0.2"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert answer.returncode == 1 and "1 failed, 2 passed" in answer.stdout, answer.stdout
    assert "test_busy" in answer.stdout and "the unit lane allows 1 s" in answer.stdout
    assert (tmp_path / "times.xml").read_text().count('name="cpu_seconds"') == 3
