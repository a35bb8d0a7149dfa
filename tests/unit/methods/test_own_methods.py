"""Methods of the user's own by file, by module and as a class."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from ilk.methods import CC, METHODS, Method, Preset, Recipe, get_method, method_of_run, setting, settings, use_method

CODE = """
from ilk.methods import Method, Preset, Recipe, settings

@settings
class Config:
    pass

class Own(Method):
    name, title, source = {name!r}, "Own", "2026"
    presets = {{"default": Preset(Config(), Recipe(), "all")}}
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """`write(name, more, file)`: a file with a method `Own` of that name, and more code."""

    def make(name: str = "own-test", more: str = "", file: str = "own.py") -> Path:
        (tmp_path / file).write_text(CODE.format(name=name) + more)
        return tmp_path / file

    return make


@settings
class Config:
    width: int = setting(3, "a width")


class Mine(Method):
    name, title, source = "mine-test", "Mine", "2026"
    presets = {"default": Preset(Config(), Recipe(), "all")}  # noqa: RUF012


def test_a_class_in_a_file_is_used_by_its_name(write: Callable[..., Path]) -> None:
    file = write()
    assert use_method(f"{file}:Own") == "own-test"
    kind = get_method("own-test")
    assert kind.title == "Own" and "own-test" not in list(METHODS)
    origin = METHODS.origin("own-test")
    assert origin is not None and origin["file"] == str(file) and origin["class"] == "Own"
    use_method(f"{file}:Own")
    assert get_method("own-test") is kind  # the file is not run again while it is the same


def test_a_changed_file_is_run_again(write: Callable[..., Path]) -> None:
    use_method(f"{write()}:Own")
    before = get_method("own-test")
    changed = write(more="Own.title = 'Changed'")
    use_method(f"{changed}:Own")
    assert get_method("own-test") is not before and get_method("own-test").title == "Changed"


def test_classes_and_modules_are_used_by_their_name(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert use_method(Mine) == "mine-test" and get_method("mine-test") is Mine
    assert METHODS.origin("mine-test") == {"module": __name__, "class": "Mine"}
    monkeypatch.syspath_prepend(write("in-module", file="a_module_of_mine.py").parent)
    assert use_method("a_module_of_mine:Own") == "in-module"
    assert METHODS.origin("in-module") == {"module": "a_module_of_mine", "class": "Own"}


def test_names_and_classes_of_ilk_stay_what_they_are() -> None:
    assert use_method("cc") == "cc" and use_method(CC) == "cc" and use_method("no such") == "no such"
    assert use_method("ilk.methods:CC") == "cc" and METHODS.origin("cc") is None


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("nowhere.py:Own", "nowhere.py'"),
        ("no_module:Own", "no_module'.*ModuleNotFoundError"),
        ("{file}:Owm", "'Owm'.*Did you mean 'Own'.*Own"),
        ("{file}:Config", "'Config'.*ilk.Method"),
        ("{file}:Nameless", "Nameless.*name and title and source and presets"),
        ("{file}:Bare", 'Bare must have a Preset called "default"'),
        ("{file}:Taken", "already.*'scl'"),
        ("{file}:Odd", "Odd.*letters, digits.*'a/b'"),
        ("{broken}:Own", r"broken.py', line 12.*ZeroDivisionError: division by zero"),
        ("{typo}:Own", r"typo.py', line 12.*SyntaxError"),
        ("{leaves}:Own", "leaves.py', line 12.*SystemExit: 3"),
    ],
)
def test_what_is_no_method_is_refused_in_a_sentence(method: str, message: str, write: Callable[..., Path]) -> None:
    more = (
        "\nclass Nameless(Method):\n    pass\n\nclass Bare(Own):\n    presets = {}\n"
        "\nclass Taken(Own):\n    name = 'scl'\n\nclass Odd(Own):\n    name = 'a/b'\n"
    )
    places = {
        "file": write(more=more),
        "broken": write(more="def f():\n    1 / 0\nf()\n", file="broken.py"),
        "typo": write(more="\nclass :\n", file="typo.py"),
        "leaves": write(more="\nimport sys; sys.exit(3)", file="leaves.py"),
    }
    with pytest.raises(ValueError, match=message):
        use_method(method.format(**places))
    assert not [name for name in sys.modules if name.startswith(("ilk_own_broken", "ilk_own_typo", "ilk_own_leaves"))]


def test_a_file_without_a_class_is_told_how_to_name_one() -> None:
    with pytest.raises(ValueError, match="Write own.py:CLASS"):
        get_method("own.py")


# a run names its method


def test_code_that_only_a_run_names_is_not_executed(tmp_path: Path) -> None:
    trap = tmp_path / "trap.py"
    trap.write_text(f"open({str(tmp_path / 'sprung')!r}, 'w').close()\n")
    for origin in ({"file": str(trap), "class": "Own", "hash": "0"}, {"module": "antigravity", "class": "Own"}):
        with pytest.raises(ValueError, match=r"not executed unless you name it too: --method .*:Own .*Clusterer.load"):
            method_of_run("trap-test", origin)
    assert not (tmp_path / "sprung").exists() and "antigravity" not in sys.modules


def test_a_package_that_is_not_installed_is_named() -> None:
    with pytest.raises(ValueError, match="ilk-gone.*not installed"):
        method_of_run("gone-test", {"package": "ilk-gone", "version": "1"})


def test_the_methods_of_ilk_need_no_origin() -> None:
    assert method_of_run("cc", None) is CC
    with pytest.raises(ValueError, match="Unknown method 'cq'"):
        method_of_run("cq", None)


def test_a_named_method_opens_the_run_and_a_change_of_its_code_is_told(write: Callable[..., Path]) -> None:
    use_method(f"{write('reopened')}:Own")
    origin = METHODS.origin("reopened")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert method_of_run("reopened", origin) is get_method("reopened")
    changed = write("reopened", more="# changed")
    use_method(f"{changed}:Own")
    with pytest.warns(UserWarning, match="'reopened' has changed"):
        method_of_run("reopened", origin)
