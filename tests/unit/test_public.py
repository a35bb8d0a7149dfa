"""Documentation, examples and benchmarks import public names: of `ilk.__all__`, or of `__all__` of public modules."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import ilk
from places import ROOT

# docs/api-policy.md lists them too
PUBLIC_MODULES = (
    "ilk.analysis.calibration", "ilk.analysis.duplicates", "ilk.analysis.hierarchy", "ilk.analysis.kmeans",
    "ilk.analysis.metrics", "ilk.analysis.neighbours", "ilk.evaluation", "ilk.images", "ilk.losses", "ilk.methods",
    "ilk.research.grid", "ilk.research.labelled", "ilk.research.published", "ilk.research.score_tables", "ilk.runs",
    "ilk.views",
)  # fmt: skip
VERBS = ("evaluate", "fit", "load_images", "load_model", "predict", "report")


def python_of(file: Path) -> Iterator[tuple[str, str]]:
    """(where, code) of a Python file, or of each Python block of a Markdown file."""
    text = file.read_text(encoding="utf-8")
    name = str(file.relative_to(ROOT))
    if file.suffix == ".py":
        yield name, text
        return
    for number, block in enumerate(re.findall(r"^```(?:python|py)\n(.*?)^```", text, re.S | re.M), 1):
        yield f"{name}, block {number}", block


def imported(code: str) -> set[tuple[str, str]]:
    """(module, name) of everything that the code imports from ilk, and names used as `ilk.name`."""
    pairs: set[tuple[str, str]] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ilk":
            pairs |= {(str(node.module), alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            pairs |= {(alias.name, "") for alias in node.names if alias.name.startswith("ilk.")}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ilk":
            pairs.add(("ilk", node.attr))
    return pairs


def is_public(module: str, name: str) -> bool:
    if module == "ilk":
        return name in (*ilk.__all__, "__version__") or f"ilk.{name}" in PUBLIC_MODULES
    if f"{module}.{name}" in PUBLIC_MODULES:
        return True
    return module in PUBLIC_MODULES and (not name or name in importlib.import_module(module).__all__)


def files() -> list[Path]:
    found = [*ROOT.glob("examples/*.py"), *ROOT.glob("benchmarks/*.py"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    return sorted([*found, *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")])


def test_docs_examples_and_benchmarks_import_public_names_alone() -> None:
    private, seen = [], 0
    for file in files():
        for where, code in python_of(file):
            pairs = imported(code)
            seen += len(pairs)
            private += [f"{where}: {module} {name}" for module, name in sorted(pairs) if not is_public(module, name)]
    assert private == []
    assert seen > 50


def test_a_private_import_would_be_found() -> None:
    code = "import ilk\nimport ilk.training.loop\nfrom ilk.pipeline.plan import Plan\nfrom ilk import Run\nilk.system\n"
    assert [pair for pair in sorted(imported(code)) if not is_public(*pair)] == [
        ("ilk", "system"), ("ilk.pipeline.plan", "Plan"), ("ilk.training.loop", ""),
    ]  # fmt: skip


def test_every_public_name_exists_and_every_public_module_is_documented() -> None:
    assert sorted(ilk.__all__) == sorted(set(ilk.__all__))
    for name in ilk.__all__:
        assert getattr(ilk, name) is not None, name
    policy = (ROOT / "docs" / "api-policy.md").read_text(encoding="utf-8")
    for name in PUBLIC_MODULES:
        module = importlib.import_module(name)
        missing = [member for member in module.__all__ if not hasattr(module, member)]
        assert not missing, (name, missing)
        assert f"`{name}`" in policy, name


def test_public_functions_say_what_they_take_return_and_raise() -> None:
    for name in VERBS:
        function = getattr(ilk, name)
        assert inspect.isfunction(function), name
        text = inspect.getdoc(function) or ""
        assert len(text) > 200 and "Raises" in text, name
        undocumented = [
            parameter
            for parameter in inspect.signature(function).parameters
            if f"`{parameter}`" not in text
        ]  # fmt: skip
        assert not [parameter for parameter in undocumented if parameter not in ("run", "watch")], (name, undocumented)
