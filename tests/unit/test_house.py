"""The plan of the house stays small, and its numbers are counted right."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest

from places import ROOT


@pytest.fixture(scope="module")
def house() -> ModuleType:
    spec = importlib.util.spec_from_file_location("house", ROOT / "benchmarks" / "house.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_house_has_few_rooms_and_arrows_and_no_circle(house: ModuleType) -> None:
    """Circles count imports for type checkers too."""
    numbers = house.numbers(house.files_here())
    assert numbers["circles of files"] == numbers["circles of rooms"] == 0
    assert numbers["rooms"] <= 22 and numbers["arrows between rooms"] <= 110 and numbers["layers"] <= 7


def test_rooms_arrows_layers_and_circles_of_a_small_house_are_counted(house: ModuleType) -> None:
    files = {
        "src/ilk/__init__.py": '__all__ = ["a", "b"]\n',
        "src/ilk/__main__.py": "from ilk.top import x\n",
        "src/ilk/ground.py": "import numpy\n",
        "src/ilk/middle/__init__.py": "",
        "src/ilk/middle/one.py": "from ilk.ground import x\nfrom . import two\n",
        "src/ilk/middle/two.py": "if TYPE_CHECKING:\n    from .one import y\n",
        "src/ilk/top.py": "def f():\n    import ilk.middle.one\n    from ilk import ground\n",
        "tests/test_a.py": "1\n2\n3\n",
    }
    assert house.numbers(files) == {
        "rooms": 3, "arrows between rooms": 3, "layers": 3, "circles of rooms": 0, "circles of files": 1, "files": 7,
        "lines of src": 10, "lines of tests": 3, "public names": 2,
    }  # fmt: skip
