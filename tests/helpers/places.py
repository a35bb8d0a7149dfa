"""Where the tests find the repository's own files, whatever folder a test lies in."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
HELPERS = TESTS / "helpers"
ROOT = TESTS.parent
STORED_RUNS = TESTS / "training" / "runs_v1"
SHARED_DATA = ROOT.parent / "shared" / "data"  # data sets beside the checkout; without one, its tests are skipped
