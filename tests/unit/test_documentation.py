"""The documentation tells the truth: rooms, files, links, imports, commands and options that it names exist."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest
from typer.main import get_command

import ilk.estimator  # noqa: F401  # loads torch before the clock of the first test starts
from ilk.cli import app
from places import ROOT

PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "benchmarks/*.md")
    for path in ROOT.glob(pattern)
    if ".venv" not in path.parts
)
COMMANDS = get_command(app).commands  # type: ignore[attr-defined]  # a group, since there are several commands


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/how-it-works.md"])
def test_the_tree_names_every_room_of_the_package_and_no_other(page: str) -> None:
    tree = re.search(r"```\nsrc/ilk/\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    assert tree is not None
    rooms = re.findall(r"^(?:  \d \w+| {11}) +(\S+)", tree[1], re.MULTILINE)
    source = ROOT / "src" / "ilk"
    packages = {f"{path.name}/" for path in source.iterdir() if (path / "__init__.py").is_file()}
    modules = {path.name for path in source.glob("*.py") if path.name != "__init__.py"}
    assert sorted(rooms) == sorted(packages | modules)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_what_the_python_of_a_page_imports_exists(page: Path) -> None:
    for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ilk":
                module = importlib.import_module(node.module or "")
                for alias in node.names:
                    if not hasattr(module, alias.name):
                        importlib.import_module(f"{node.module}.{alias.name}")


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_and_paths_of_a_page_lead_to_files(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", text)
    local = [link for link in links if "://" not in link and not link.startswith("mailto:")]
    made = ("docs/reference/command-line.md",)  # written when the site is built
    missing = [link for link in local if not (page.parent / link).exists() and f"docs/{link}" not in made]
    paths = re.findall(r"`((?:src|tests|benchmarks|docs|examples|tools)/[\w./-]+)`", text)
    paths += re.findall(r"python ((?:benchmarks|examples)/[\w./-]+)", text)
    assert missing + [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_options_that_a_page_gives_to_a_command_exist(page: Path) -> None:
    unknown = []
    for command, words in re.findall(r"(?:^|[`\s])ilk ([a-z]+)( [^\n`#]*)?", page.read_text(encoding="utf-8")):
        if command in COMMANDS:
            known = {name for parameter in COMMANDS[command].params for name in parameter.opts} | {"--help"}
            unknown += [f"{command} {word}" for word in re.findall(r"--[a-z][a-z-]+", words) if word not in known]
    assert unknown == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120
