"""The examples run as they stand."""

import subprocess
import sys

import pytest

from places import ROOT

EXAMPLES = ROOT / "examples"


@pytest.mark.parametrize(
    ("name", "epochs", "expected"),
    [("digits.py", "2", "on 297 new images"), ("own_backbone.py", "8", "the same after loading: True")],
)
def test_an_example_runs_and_prints_what_it_promises(name, epochs, expected):
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, epochs], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout
