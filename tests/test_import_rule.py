"""A module imports only from lower layers, so that each can be read, tested and borrowed without those above."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ilk

ROOT = Path(ilk.__file__).parent
LAYERS = [
    "losses metrics files schema watch options lock ranks allocator convolution",
    "images views backbones heads kmeans memory distributed batches features weights pretrained parts",
    "hierarchy duplicates neighbours",
    "methods",
    "runs results snapshots checkpoints",
    "train predict evaluate initial known export onnx_export sheet report encode calibrate baselines tables published",
    "request encoders cc_import given pace",
    "plan labelled",
    "frozen",
    "prepare confidence selection",
    "workflow",
    "grid",
    "display estimator reporting compare study bench",
    "cli",
    "__main__",  # starts the command line and nothing else
]
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names.split()}
MODULES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")
SHARED_BY_METHODS = ("base", "start", "subheads")


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
            if part_of(own) == "methods" and mine and theirs and theirs[0] not in SHARED_BY_METHODS:
                found.append(f"{own} imports another method, {other}")
        elif LAYER[part_of(other)] >= LAYER[part_of(own)]:
            found.append(f"{own} (layer {LAYER[part_of(own)]}) imports {other} (layer {LAYER[part_of(other)]})")
    return found


def test_every_module_has_a_layer() -> None:
    assert {part_of(module_name(path)) for path in MODULES} == set(LAYER)


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_module_imports_only_from_lower_layers(path: Path) -> None:
    assert broken(path) == []


def test_the_walk_sees_imports_in_functions_and_not_those_for_type_checkers() -> None:
    code = """
from __future__ import annotations
from typing import TYPE_CHECKING
import ilk.train
from ilk import files
from . import domains
from ..losses import nt_xent
if TYPE_CHECKING:
    from ilk.cli import main
else:
    import ilk.heads
def f():
    from ilk.views.operations import hue
"""
    expected = {"ilk.train", "ilk.files", "ilk.views.domains", "ilk.losses", "ilk.heads", "ilk.views.operations"}
    assert imports(ast.parse(code), "ilk.views") == expected


def test_the_rule_would_catch_a_breach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "ilk"
    for name, code in {
        "losses": "import ilk.files", "train": "from ilk.views import plain", "views/a": "from ilk.views.b import c",
        "views/b": "def f():\n    import ilk.train", "methods/cc": "from ilk.methods.scl import SCL",
        "methods/scl": "from ilk.methods.base import Method", "methods/base": "", "files": "",
    }.items():  # fmt: skip
        (root / f"{name}.py").parent.mkdir(parents=True, exist_ok=True)
        (root / f"{name}.py").write_text(code)
    monkeypatch.setattr(f"{__name__}.ROOT", root)
    found = [sentence for path in sorted(root.rglob("*.py")) for sentence in broken(path)]
    assert found == [
        "ilk.losses (layer 0) imports ilk.files (layer 0)",
        "ilk.methods.cc imports another method, ilk.methods.scl",
        "ilk.views.b (layer 1) imports ilk.train (layer 5)",
    ]


@pytest.mark.parametrize("name", ["ilk", "ilk.cli"])
def test_importing_loads_no_torch(name: str) -> None:
    heavy = ("torch", "lightning_fabric", "sklearn", "scipy", "pyarrow")
    code = f"import sys, {name}; print([m for m in {heavy} if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert answer.stdout.strip() == "[]"
