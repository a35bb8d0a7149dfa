"""What is loaded, and when: each in a process of its own."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ilk.runs.folder import Run
from places import ROOT


@pytest.mark.parametrize("name", ["ilk", "ilk.cli"])
def test_importing_loads_no_torch(name: str) -> None:
    heavy = ("torch", "lightning_fabric", "sklearn", "scipy", "pyarrow")
    code = f"import sys, {name}; print([m for m in {heavy} if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert answer.stdout.strip() == "[]"


def test_importing_the_package_does_not_import_pyarrow():
    code = "import sys, ilk.images; assert 'pyarrow' not in sys.modules and 'torch' in sys.modules"
    environment = {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()


def test_importing_the_encoders_loads_no_transformers() -> None:
    code = "import sys, ilk.networks.pretrained, ilk.pipeline.encoders; print('transformers' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert answer.stdout.strip() == "False"


def test_help_loads_neither_torch_nor_numpy(tmp_path: Path) -> None:
    code = (
        "import sys, contextlib\nfrom ilk.cli import main\nsys.argv = ['ilk', '--help']\n"
        "with contextlib.suppress(SystemExit):\n    main()\n"
        "print(sorted({'torch', 'numpy', 'sklearn', 'PIL', 'pyarrow'} & set(sys.modules)), file=sys.stderr)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert found.stderr.strip() == "[]"
    assert "Usage: ilk" in found.stdout


def test_help_answers_in_less_than_three_tenths_of_a_second(tmp_path: Path) -> None:
    """Processor time, best of five: other work on the machine does not count."""
    program = shutil.which("ilk", path=str(Path(sys.executable).parent))
    given = [program, "--help"] if program else [sys.executable, "-m", "ilk", "--help"]
    times = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(given, check=True, capture_output=True, cwd=tmp_path, env={**os.environ, "COLUMNS": "100"})
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    assert min(times) < 0.3


def test_the_report_command_loads_no_torch(run: Run) -> None:
    code = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "lightning_fabric", "safetensors"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
from ilk.cli import main
main()
"""
    for words, expected in ((["report", str(run)], 0), (["report", str(run / "nowhere")], 2)):
        answer = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=120)
        assert answer.returncode == expected, answer.stderr
