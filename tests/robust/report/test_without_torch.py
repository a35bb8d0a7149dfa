"""Reports are made in a process without torch, years after the training."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from made_trees import SENTENCE, with_number


def test_a_report_needs_neither_torch_nor_the_images(run_folder: Path) -> None:
    code = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "lightning_fabric", "safetensors", "ilk.images"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
from ilk.reports import write_report
print(write_report(sys.argv[1]).stat().st_size > 10_000, "torch" in sys.modules)
"""
    answer = subprocess.run(
        [sys.executable, "-c", code, str(run_folder)], capture_output=True, text=True, check=True, timeout=120
    )
    assert answer.stdout.split() == ["True", "False"]


def test_the_payload_is_made_without_torch(run_folder: Path) -> None:
    code = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "lightning_fabric", "safetensors"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
from ilk.reports.payload import collect
print(len(collect(sys.argv[1])["sprites"]["sheets"]), "torch" in sys.modules)
"""
    answer = subprocess.run(
        [sys.executable, "-c", code, str(run_folder)], capture_output=True, text=True, check=True, timeout=120
    )
    assert answer.stdout.split() == ["1", "False"]


def test_reading_the_levels_loads_no_torch(run_folder: Path) -> None:
    with_number(run_folder)
    code = "import sys; from ilk.reports import write_report; write_report(sys.argv[1]); print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code, str(run_folder)], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False" and SENTENCE in (run_folder / "report.html").read_text()
