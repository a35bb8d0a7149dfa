"""The public functions in a process of their own."""

from __future__ import annotations

import subprocess
import sys

VERBS = ("evaluate", "fit", "load_images", "load_model", "predict", "report")


def test_a_verb_stays_a_function_when_all_rooms_are_imported() -> None:
    """A room of the same name would replace the function as soon as it is imported."""
    code = "; ".join(["import ilk", *(f"ilk.{name}" for name in VERBS), "import ilk.cli.runs, ilk.cli.evaluate",
                      f"print(all(callable(getattr(ilk, name)) for name in {VERBS}))"])  # fmt: skip
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert answer.stdout.strip() == "True"
