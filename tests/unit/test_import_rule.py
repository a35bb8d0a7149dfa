"""A module imports only from lower layers, so that each can be read, tested and borrowed without those above."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import ilk

ROOT = Path(ilk.__file__).parent
LAYERS = [
    "losses sampling system",  # ground: numpy or torch alone
    "views images networks analysis runs",  # parts
    "methods reports",  # ideas
    "training evaluation",  # work
    "pipeline",
    "estimator verbs research",  # faces
    "cli",
    "__main__",  # starts the command line and nothing else
]
LAYER = {room: number for number, rooms in enumerate(LAYERS, 1) for room in rooms.split()}
MODULES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")
SHARED_BY_METHODS = ("base", "records", "start", "subheads", "scl_tasks")


def module_name(path: Path) -> str:
    """`ilk.views.domains` of its file; a package's own name for its `__init__`."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(name: str) -> str:
    """The module or package below `ilk`: `views` of `ilk.views.domains`."""
    return name.split(".")[1]


def imports(tree: ast.AST, package: str) -> set[str]:
    """The modules of ilk that the code imports, wherever it stands but under `if TYPE_CHECKING`."""
    found: set[str] = set()
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.add(inner if is_module(inner) else base)
        waiting += ast.iter_child_nodes(node)
    return {name for name in found if name.startswith("ilk.")}


def is_module(name: str) -> bool:
    path = ROOT.parent.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def imports_of(path: Path) -> set[str]:
    name = module_name(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return imports(ast.parse(path.read_text(encoding="utf-8")), package)


def broken(path: Path) -> list[str]:
    """The imports that the rule forbids, as sentences."""
    own, found = module_name(path), []
    for other in sorted(imports_of(path)):
        if part_of(other) == part_of(own):
            mine, theirs = own.split(".")[2:], other.split(".")[2:]
            paper = mine and mine[0] != "registry"
            if part_of(own) == "methods" and paper and theirs and theirs[0] not in SHARED_BY_METHODS:
                found.append(f"{own} imports another method, {other}")
        elif LAYER[part_of(other)] >= LAYER[part_of(own)]:
            found.append(f"{own} (layer {LAYER[part_of(own)]}) imports {other} (layer {LAYER[part_of(other)]})")
    return found


def test_every_module_has_a_layer() -> None:
    assert {part_of(module_name(path)) for path in MODULES} == set(LAYER)


def test_modules_import_only_from_lower_layers() -> None:
    assert [sentence for path in MODULES for sentence in broken(path)] == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circles({module_name(path): imports_of(path) for path in MODULES}) == []


def circles(imported: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules, each of which reaches all others of its group through imports."""
    reached: dict[str, set[str]] = {}
    for start in imported:
        waiting, seen = [start], set()
        while waiting:
            for other in imported.get(waiting.pop(), set()) - seen:
                seen.add(other)
                waiting.append(other)
        reached[start] = seen
    groups = {
        tuple(sorted(a for a in seen if name in reached.get(a, ()))) for name, seen in reached.items() if name in seen
    }
    return sorted(map(list, groups))


def test_a_circle_would_be_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]


def test_the_walk_sees_imports_in_functions_and_not_those_for_type_checkers() -> None:
    code = """
from __future__ import annotations
from typing import TYPE_CHECKING
import ilk.training.loop
from ilk.system import files
from . import domains
from ..losses import nt_xent
if TYPE_CHECKING:
    from ilk.cli import main
else:
    import ilk.networks.heads
def f():
    from ilk.views.operations import hue
"""
    expected = {
        "ilk.training.loop",
        "ilk.system.files",
        "ilk.views.domains",
        "ilk.losses",
        "ilk.networks.heads",
        "ilk.views.operations",
    }
    assert imports(ast.parse(code), "ilk.views") == expected


def test_the_rule_would_catch_a_breach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "ilk"
    for name, code in {
        "losses": "import ilk.sampling", "training": "from ilk.views import plain", "sampling": "",
        "views/a": "from ilk.views.b import c", "views/b": "def f():\n    import ilk.training",
        "methods/cc": "from ilk.methods.scl import SCL", "methods/scl": "from ilk.methods.base import Method",
        "methods/base": "",
    }.items():  # fmt: skip
        (root / f"{name}.py").parent.mkdir(parents=True, exist_ok=True)
        (root / f"{name}.py").write_text(code)
    monkeypatch.setattr(f"{__name__}.ROOT", root)
    found = [sentence for path in sorted(root.rglob("*.py")) for sentence in broken(path)]
    assert found == [
        "ilk.losses (layer 1) imports ilk.sampling (layer 1)",
        "ilk.methods.cc imports another method, ilk.methods.scl",
        "ilk.views.b (layer 2) imports ilk.training (layer 4)",
    ]
