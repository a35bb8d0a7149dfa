"""Modules become one script: each sees only what it imports, and what would not work in the script is refused."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ilk.reports.bundle import bundle
from ilk.reports.page import ENTRY, read

NODE = shutil.which("node")


def bundle_of(modules: dict[str, str], entry: str = "main.js") -> str:
    return bundle(modules.__getitem__, entry)[0]


def test_a_module_is_wrapped_and_takes_what_it_imports_from_others() -> None:
    modules = {
        "main.js": '// Starts.\nimport { twice as double, NAME } from "./lib/math.js";\n\nlog(double(2), NAME);\n',
        "lib/math.js": "// Sums.\n\nexport const NAME = 1;\n\n/** @param {number} x */\nexport function twice(x) {\n"
        "  // The sum.\n  return x + x; // not 2 * x\n}\n",
    }
    script, order = bundle(modules.__getitem__, "main.js")
    assert order == ["lib/math.js", "main.js"]
    assert script == (
        "const $lib_math = (() => { // lib/math.js\n"
        "const NAME = 1;\nfunction twice(x) {\nreturn x + x;\n}\n"
        "return { NAME, twice };\n})();\n"
        "const $main = (() => { // main.js\n"
        "const { twice: double, NAME } = $lib_math;\n"
        "log(double(2), NAME);\n"
        "return {  };\n})();\n"
    )


MODULES = {
    "main.js": """// Comment with import { nothing } from "./nowhere.js";
/* export const neither = 1; */
import {
  count,
  add,
} from "./a/count.js";
import { Shape, walk, later } from "./b.js";

const text = "import { x } from './x.js'; export const y = 1;";
add();
const shape = new Shape(3);
const count2 = [...walk(2)].length;
later().then((word) => console.log(JSON.stringify([count(), shape.side, count2, text.length, word, typeof state])));
""",
    "a/count.js": """import { start } from "../b.js";

let state = start;
export function add() {
  state += 1;
}
export function count() {
  return state;
}
""",
    "b.js": """export const start = 40;
const state = "hidden";
export class Shape {
  constructor(side) {
    this.side = /** @type {number} */ (side); /* kept */
    /** @type {number} */ this.other = 1; /* a comment at the end */
  }
}
export function* walk(n) {
  /* several
     lines */
  for (let i = 0; i < n; i++) yield i;
}
export async function later() {
  const parts = [state, "; // no comment"]; // a comment
  const slashes = /; \\/\\/ none/.test("; // none"); // a comment that "quotes"
  return `${parts.join("")}${slashes};  // none`;
}
""",
}


@pytest.mark.skipif(NODE is None, reason="no node found")
def test_the_script_does_what_the_modules_do(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"type": "module"}')
    for name, text in {**MODULES, "bundle.js": bundle_of(MODULES)}.items():
        (tmp_path / "a").mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert NODE is not None
    said = [
        subprocess.run([NODE, tmp_path / name], capture_output=True, text=True, check=True, timeout=60).stdout
        for name in ("main.js", "bundle.js")
    ]
    assert said[0] == said[1] == '[41,3,2,47,"hidden; // no commenttrue;  // none","undefined"]\n'


def test_a_module_that_two_import_runs_once_and_before_both() -> None:
    modules = {
        "main.js": 'import { a } from "./a.js";\nimport { b } from "./b.js";\na(b);\n',
        "a.js": 'import { shared } from "./c.js";\nexport const a = shared;\n',
        "b.js": 'import { shared } from "./c.js";\nexport const b = shared;\n',
        "c.js": "export const shared = Math.abs;\n",
    }
    script, order = bundle(modules.__getitem__, "main.js")
    assert order == ["c.js", "a.js", "b.js", "main.js"]
    assert script.count("Math.abs") == 1


def test_modules_that_import_each_other_are_refused() -> None:
    modules = {
        "main.js": 'import { a } from "./a.js";\na();\n',
        "a.js": 'import { b } from "./b.js";\nexport function a() {}\nb();\n',
        "b.js": 'import { a } from "./a.js";\nexport function b() {}\na();\n',
    }
    with pytest.raises(ValueError, match=r"main\.js -> a\.js -> b\.js -> a\.js"):
        bundle_of(modules)


@pytest.mark.parametrize(
    "statement",
    [
        "export default 3;", "export { a };", 'export * from "./a.js";', "export let a = 1;", "export var a = 1;",
        "export const { a } = b;", 'import a from "./a.js";', 'import * as a from "./a.js";', 'import "./a.js";',
        'import { a } from "a";', 'const x = 1;\nimport { a } from "./a.js";', 'import("./a.js");',
    ],
)  # fmt: skip
def test_a_form_that_is_not_understood_is_refused(statement: str) -> None:
    with pytest.raises(ValueError, match=r"main\.js.*not understood"):
        bundle_of({"main.js": statement + "\n", "a.js": "export const a = 1;\n"})


def test_a_name_that_is_not_exported_is_refused() -> None:
    with pytest.raises(ValueError, match=r"main\.js imports 'b'.*a\.js"):
        bundle_of({"main.js": 'import { a, b } from "./a.js";\n', "a.js": "export const a = 1;\nconst b = 2;\n"})


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="'a as b as c'"):
        bundle_of({"main.js": 'import { a as b as c } from "./a.js";\n', "a.js": "export const a = 1;\n"})


def test_a_template_of_several_lines_is_refused() -> None:
    with pytest.raises(ValueError, match="line 2"):
        bundle_of({"main.js": "const a = 1;\nconst b = `\nexport const c = 2;\n`;\n"})


def test_two_paths_that_make_one_name_are_refused() -> None:
    modules = {
        "main.js": 'import { a } from "./x/y.js";\nimport { b } from "./x_y.js";\na(b);\n',
        "x/y.js": "export const a = 1;\n",
        "x_y.js": "export const b = 1;\n",
    }
    with pytest.raises(ValueError, match="the same name"):
        bundle_of(modules)


def test_no_name_of_the_page_begins_as_those_of_the_bundle_do() -> None:
    _, modules = bundle(read, ENTRY)
    assert {name: re.findall(r"\$\w+", read(name)) for name in modules} == {name: [] for name in modules}
