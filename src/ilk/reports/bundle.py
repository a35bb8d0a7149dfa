"""Joins ES modules into one script, for a page that must be one file and load nothing.

Each module becomes a function that is called once, after the modules it imports:

    const $lib_dom = (() => {          // lib/dom.js
    function el(tag) { ... }
    return { el };
    })();
    const $main = (() => {             // main.js
    const { el } = $lib_dom;
    ...
    })();

So modules keep their names to themselves and see of others only what they import, as in a browser. The forms that are
understood are `import { a, b as c } from "./file.js";` at the top of a module and `export` before a function, a
class or a constant; anything else is refused. Statements begin at the start of a line, which the formatter sees to.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable

# Blank lines, comments and imports at the top of a module.
BLANK = re.compile(r"\s+|//[^\n]*|/\*.*?\*/", re.DOTALL)
IMPORT = re.compile(r'import\s*\{([^{}]*)\}\s*from\s*"(\.{1,2}/[^"\n]+)";')
IMPORTED_NAME = re.compile(r"([A-Za-z_$][\w$]*)(?:\s+as\s+([A-Za-z_$][\w$]*))?")
EXPORT = re.compile(r"^export (?=(?:async )?function\*? ([\w$]+)|class ([\w$]+)|const ([\w$]+))", re.MULTILINE)
STATEMENT = re.compile(r"^(?:import\b|export\b).*", re.MULTILINE)
COMMENT = re.compile(r"^[ \t]*(?://[^\n]*|/\*(?:(?!\*/).)*\*/[ \t]*)\n", re.DOTALL | re.MULTILINE)
# A comment at the end of a line. What could end a string, a template or a regular expression must not follow.
REMARK = re.compile(r"(?<=[;,{(\[}]) // [^\"'`/\n]*$", re.MULTILINE)
TYPE = re.compile(r"/\*\* @type [^*\n]*\*/ ")  # of a parameter or an expression


def bundle(read: Callable[[str], str], entry: str) -> tuple[str, list[str]]:
    """The script that runs the module `entry`, and the paths of its modules, each after those it imports.

    `read`: the text of a module by its path, such as "lib/dom.js". The same modules make the same script, byte by
    byte. Raises ValueError for modules that import each other in a circle, a name that is not exported, and code in a
    form that is not understood.
    """
    texts: dict[str, str] = {}
    exports: dict[str, list[str]] = {}

    def add(path: str, importers: tuple[str, ...]) -> None:
        if path in importers:
            raise ValueError(f"Modules import each other in a circle: {' -> '.join([*importers, path])}.")
        if path in texts:
            return
        imports, body = split_imports(read(path), path)
        for source, _ in imports:
            add(source, (*importers, path))
        for source, names in imports:
            for name, _ in names:
                if name not in exports[source]:
                    raise ValueError(f"{path} imports '{name}', which {source} does not export.")
        exports[path] = exported_names(body, path)
        texts[path] = wrapped(path, imports, body, exports[path])

    add(entry, ())
    names = [variable(path) for path in texts]
    if len(set(names)) < len(names):
        raise ValueError(f"Two of the modules {', '.join(texts)} have the same name but for its punctuation.")
    return "".join(texts.values()), list(texts)


Import = tuple[str, list[tuple[str, str]]]


def split_imports(text: str, path: str) -> tuple[list[Import], str]:
    """What a module imports, as (path, [(name, local name), ...]), and the code after its imports."""
    imports: list[Import] = []
    at = 0
    while match := BLANK.match(text, at) or IMPORT.match(text, at):
        at = match.end()
        if match.re is IMPORT:
            source = posixpath.normpath(posixpath.join(posixpath.dirname(path), match[2]))
            imports.append((source, [local_name(part.strip(), path) for part in match[1].split(",") if part.strip()]))
    return imports, text[at:]


def local_name(part: str, path: str) -> tuple[str, str]:
    """The name that is imported and the name it has here, of `a` or `a as b`."""
    match = IMPORTED_NAME.fullmatch(part)
    if match is None:
        raise ValueError(f"{path} imports '{part}'; write a name, or 'name as other'.")
    return match[1], match[2] or match[1]


def exported_names(body: str, path: str) -> list[str]:
    """The names that a module exports. Raises ValueError for statements that the bundle would not keep."""
    kept = EXPORT.sub("", body)
    if (left := STATEMENT.search(kept)) is not None:
        raise ValueError(
            f"{path}: '{left[0]}' is not understood. Write import {{ name }} from \"./file.js\"; at the top, and "
            "export before a function, a class or a const."
        )
    for number, line in enumerate(body.splitlines(), 1):
        if line.count("`") % 2:
            raise ValueError(f"{path}: a template literal must end on its line: '{line.strip()}' (line {number}).")
    return [next(filter(None, match.groups())) for match in EXPORT.finditer(body)]


def wrapped(path: str, imports: list[Import], body: str, exports: list[str]) -> str:
    """A module as a constant that holds its exports, without indents and without most comments."""
    lines = [f"const {variable(path)} = (() => {{ // {path}"]
    for source, names in imports:
        pairs = ", ".join(name if name == local else f"{name}: {local}" for name, local in names)
        lines.append(f"const {{ {pairs} }} = {variable(source)};")
    lines += without_indents(TYPE.sub("", REMARK.sub("", COMMENT.sub("", EXPORT.sub("", body)))))
    lines.append(f"return {{ {', '.join(exports)} }};")
    lines.append("})();\n")
    return "\n".join(lines)


def small_style(text: str) -> list[str]:
    """The lines of a style sheet without indents and without the space after a property's colon."""
    return [re.sub(r"^([\w-]+): ", r"\1:", line) for line in without_indents(text)]


def without_indents(text: str) -> list[str]:
    """The lines of a script or a style sheet that are not blank; no string in it may go over several lines."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def variable(path: str) -> str:
    """The name of a module's constant; no name in the modules begins with `$`."""
    return "$" + re.sub(r"\W", "_", path.removesuffix(".js"))
