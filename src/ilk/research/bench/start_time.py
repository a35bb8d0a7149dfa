"""How long `import ilk` and `ilk --help` take in a new process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

from ilk.research.bench.timing import Case, Conditions

PART = "start"
COMMANDS = {
    "python alone": ["-c", "pass"],
    "import ilk": ["-c", "import ilk"],
    "ilk --help": ["-m", "ilk", "--help"],
}


def groups(conditions: Conditions) -> Iterator[list[Case]]:
    yield [Case(name=name, work=started(words), unit="s") for name, words in COMMANDS.items()]


def started(words: list[str]) -> Callable[[], object]:
    return lambda: subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL, timeout=60)
