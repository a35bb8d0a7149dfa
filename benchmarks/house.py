"""The plan of the house in numbers: rooms, imports between them, layers, circles, lines, public names.

    python benchmarks/house.py            # the files of the working tree
    python benchmarks/house.py 4e81f9b    # those of a revision, and those of the working tree beside them

A room is a module or package directly in src/ilk. An arrow is a pair of rooms, one of which imports the other. The
layers are the rooms of the longest chain of imports. A circle is a group of files that import each other, imports for
type checkers included.
"""

from __future__ import annotations

import argparse
import ast
import io
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = "src/ilk/"
STARTS = ("__init__", "__main__")  # files of the package that are no rooms

Graph = Mapping[str, set[str]]


def files_here() -> dict[str, str]:
    """{path: text} of the Python files in src and tests of the working tree."""
    paths = [path for part in ("src", "tests") for path in sorted((ROOT / part).rglob("*.py"))]
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def files_of(revision: str) -> dict[str, str]:
    """The same of a revision. Raises CalledProcessError where git knows none of that name."""
    packed = subprocess.run(
        ["git", "-C", str(ROOT), "archive", revision, "src", "tests"], check=True, capture_output=True
    )  # fmt: skip
    texts = {}
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        for member in archive.getmembers():
            stream = archive.extractfile(member) if member.name.endswith(".py") else None
            if stream is not None:
                texts[member.name] = stream.read().decode("utf-8")
    return texts


def module_of(path: str) -> str:
    """`ilk.views.domains` of its path; a package's own name for its `__init__`."""
    return path.removeprefix("src/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imports_of(path: str, text: str, modules: set[str]) -> set[str]:
    """The modules of ilk that a file imports, wherever the import stands."""
    own = module_of(path).split(".")
    package = own if path.endswith("/__init__.py") else own[:-1]
    names: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names |= {inner if (inner := f"{base}.{alias.name}") in modules else base for alias in node.names}
    return {name for name in names if name in modules and name != ".".join(own)}


def room_of(module: str) -> str:
    """The module or package directly in ilk: `views` of `ilk.views.domains`."""
    return module.split(".")[1] if "." in module else ""


def rooms_graph(imports: Graph) -> dict[str, set[str]]:
    """The rooms that each room imports."""
    graph: dict[str, set[str]] = {}
    for module, targets in imports.items():
        room = room_of(module)
        if room and room not in STARTS:
            graph.setdefault(room, set())
            graph[room] |= {other for other in map(room_of, targets) if other and other != room}
    return graph


def reachable(graph: Graph) -> dict[str, set[str]]:
    """Everything that can be reached from each node through one or more arrows."""
    reached: dict[str, set[str]] = {}
    for start in graph:
        waiting, seen = [start], set()
        while waiting:
            for other in graph.get(waiting.pop(), set()) - seen:
                seen.add(other)
                waiting.append(other)
        reached[start] = seen
    return reached


def circles_of(graph: Graph) -> list[list[str]]:
    """Groups of nodes, each of which reaches all others of its group."""
    reached = reachable(graph)
    groups = {
        tuple(sorted(other for other in seen if node in reached.get(other, ())))
        for node, seen in reached.items()
        if node in seen
    }
    return sorted(map(list, groups))


def layers_of(graph: Graph) -> int:
    """How many rooms the longest chain of imports has; rooms in a circle count as one."""
    reached = reachable(graph)
    height: dict[str, int] = {}

    def height_of(room: str) -> int:
        if room not in height:
            lower = [other for other in reached[room] if room not in reached.get(other, ())]
            height[room] = 1 + max(map(height_of, lower), default=0)
        return height[room]

    return max(map(height_of, graph), default=0)


def public_names(text: str) -> int:
    """How many names `__all__` of the package has."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and any(getattr(target, "id", "") == "__all__" for target in node.targets):
            return len(ast.literal_eval(node.value))
    return 0


def numbers(files: Mapping[str, str]) -> dict[str, int]:
    """What is printed, by name."""
    source = {path: text for path, text in files.items() if path.startswith(PACKAGE)}
    modules = {module_of(path) for path in source}
    imports = {module_of(path): imports_of(path, text, modules) for path, text in source.items()}
    inside = {module: targets - {"ilk"} for module, targets in imports.items()}
    graph = rooms_graph(inside)
    return {
        "rooms": len(graph),
        "arrows between rooms": sum(map(len, graph.values())),
        "layers": layers_of(graph),
        "circles of rooms": len(circles_of(graph)),
        "circles of files": len(circles_of(inside)),
        "files": len(source),
        "lines of src": sum(text.count("\n") for text in source.values()),
        "lines of tests": sum(text.count("\n") for path, text in files.items() if path.startswith("tests/")),
        "public names": public_names(source[f"{PACKAGE}__init__.py"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision", nargs="?", help="a commit, tag or branch to compare with")
    arguments = parser.parse_args()
    columns = {"now": numbers(files_here())}
    if arguments.revision:
        columns = {arguments.revision: numbers(files_of(arguments.revision)), **columns}
    print(f"{'':22}" + "".join(f"{name:>12}" for name in columns))
    for name in columns["now"]:
        print(f"{name:22}" + "".join(f"{column[name]:>12,}" for column in columns.values()))


if __name__ == "__main__":
    main()
