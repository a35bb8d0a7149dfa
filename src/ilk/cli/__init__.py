"""The command line: words in, calls out. Nothing is decided here, and torch is loaded only when it is needed.

Each module registers its commands when it is imported; `ilk --help` shows them in this order.
"""

# isort: off
from ilk.cli import fit, runs, evaluate, compare, study, bench, first
from ilk.cli.app import app, main

__all__ = ["app", "bench", "compare", "evaluate", "first", "fit", "main", "runs", "study"]
