"""Exporting ONNX sends nothing: onnxruntime's telemetry is on unless it is turned off before its import."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import ilk
from ilk.runs.folder import Run

QUIET = """
import socket, sys
def refused(*arguments):
    print("CONNECTS", arguments)
    raise OSError("no network in this test")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refused
from ilk.cli import main
sys.argv = ["ilk", "export", sys.argv[1], "--onnx", sys.argv[2]]
main()
"""


def test_onnxruntime_sends_nothing_and_leaves_nothing_in_the_home_folder(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    home = tmp_path / "home"
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "ORT_", "ILK_"))}
    environment = {**kept, "HOME": str(home), "PYTHONPATH": str(Path(ilk.__file__).parents[1])}
    told = subprocess.run(
        [sys.executable, "-c", QUIET, str(run), str(tmp_path / "model.onnx")], env=environment, text=True,
        capture_output=True, timeout=300, check=True,
    )  # fmt: skip
    assert "CONNECTS" not in told.stdout and (tmp_path / "model.onnx").is_file()
    assert [str(file) for file in home.rglob("*") if file.is_file()] == []
