"""The methods by name: those of ilk, of installed packages, and of the user's own."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
import sys
import traceback
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from ilk.methods.base import Method
from ilk.methods.c2bin import C2BIN
from ilk.methods.cc import CC
from ilk.methods.crlc import CRLC
from ilk.methods.dcdc import DCDC
from ilk.methods.records import Preset
from ilk.methods.scl import SCL
from ilk.system.plugins import Registry
from ilk.system.text import did_you_mean, in_short
from ilk.system.validation import shown


def checked(name: str, kind: Any) -> type[Method]:
    """`kind` if it is a complete method called `name`. Raises ValueError, a sentence."""
    if not (isinstance(kind, type) and issubclass(kind, Method)):
        raise ValueError(f"{getattr(kind, '__name__', kind)!r} is not a subclass of ilk.Method.")
    missing = [attribute for attribute in ("name", "title", "source", "presets") if not hasattr(kind, attribute)]
    if missing:
        raise ValueError(f"The method {kind.__name__} lacks {' and '.join(missing)}; see ilk.Method.")
    if not isinstance(kind.presets, Mapping) or not isinstance(kind.presets.get("default"), Preset):
        raise ValueError(f'The presets of {kind.__name__} must have a Preset called "default".')
    if not (isinstance(kind.name, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,40}", kind.name)):
        raise ValueError(f"The name of {kind.__name__} must be letters, digits, - and _; got {shown(kind.name)}.")
    if kind.name != name:
        raise ValueError(f"The method {kind.__name__} has the name '{kind.name}', not '{name}'.")
    return kind


METHODS: Registry[type[Method]] = Registry(
    "method", "ilk.methods", {"cc": CC, "crlc": CRLC, "scl": SCL, "dcdc": DCDC, "c2bin": C2BIN}, checked
)


def get_method(name: str) -> type[Method]:
    """The method called `name`. Raises ValueError with the nearest name."""
    if name.endswith(".py"):
        raise ValueError(f"'{name}' does not say which class is the method. Write {name}:CLASS.")
    return METHODS.find(name)


def get_preset(method: str, preset: str) -> Preset:
    """The preset of a method. Raises ValueError with the known names."""
    presets = get_method(method).presets
    if preset not in presets:
        hint = did_you_mean(preset, presets)
        raise ValueError(f"Method '{method}' has no preset '{preset}'.{hint} Known: {', '.join(presets)}.")
    return presets[preset]


def use_method(method: str | type[Method]) -> str:
    """The name of a method. One of your own is made known in this process by its name.

    `method`: a name, which is returned as it is; a class; or a class as text, FILE.py:CLASS or MODULE:CLASS, whose
    file or module is run. Raises ValueError, a sentence, where it cannot be used.
    """
    if isinstance(method, str):
        place, colon, class_name = method.rpartition(":")
        if not colon:
            return method
        path = Path(place).expanduser().resolve()
        from_file = place.endswith(".py") or path.is_file()
        module = module_of_file(path) if from_file else imported(place)
        kind = class_of(module, class_name, place)
        origin = {"file": str(path), "hash": hash_of(path)} if from_file else {"module": place}
        name = checked(getattr(kind, "name", ""), kind).name
        origin["class"] = class_name
    else:
        name = checked(getattr(method, "name", ""), method).name
        if METHODS.own.get(name) is method:
            return name
        kind, origin = method, {"module": method.__module__, "class": method.__qualname__}
    if not (name in METHODS and METHODS[name] is kind):
        METHODS.give(name, kind, origin)
    return name


def method_of_run(name: str, origin: Mapping[str, Any] | None) -> type[Method]:
    """The method that a run was trained with, by what its config.json says: `method` and `method_from`.

    Code that only the run names is never executed: a method of the user's own must be known already, by `use_method`.
    Raises ValueError, a sentence, where it is not known.
    """
    if origin is None or name in METHODS:
        kind, now = get_method(name), METHODS.origin(name) or {}
        if origin is not None and "hash" in origin and origin["hash"] != now.get("hash", origin["hash"]):
            warnings.warn(f"The code of the method '{name}' has changed since this run was trained.", stacklevel=2)
        return kind
    if "package" in origin:
        raise ValueError(
            f"This run was trained with the method '{name}' of the package {origin['package']}, which is not installed."
        )
    place = f"{origin.get('file') or origin.get('module')}:{origin.get('class')}"
    raise ValueError(
        f"This run was trained with the method '{name}' of {place}, which is not a part of ilk. Code that a run names"
        f" is not executed unless you name it too: --method {place} (in Python: Clusterer.load(folder, method=...))."
    )


def module_of_file(path: Path) -> ModuleType:
    """The module that a Python file makes; the same one as long as the file stays the same. Raises ValueError."""
    if not path.is_file():
        raise ValueError(f"There is no file '{path}'.")
    name = f"ilk_own_{path.stem}_{hash_of(path)}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"'{path}' is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses and pickle look for the names of the file
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
        where = f", line {line}" if line else ""
        raise ValueError(f"'{path}'{where} cannot be run: {type(error).__name__}: {in_short(error)}") from error
    return module


def imported(name: str) -> ModuleType:
    """The module called `name`. Raises ValueError where it cannot be imported."""
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise ValueError(
            f"The module '{name}' cannot be imported ({type(error).__name__}: {in_short(error)}). For a file write"
            " FILE.py:CLASS."
        ) from error


def class_of(module: ModuleType, name: str, place: str) -> Any:
    """The class called `name` in a module. Raises ValueError with the methods that are there."""
    if hasattr(module, name):
        return getattr(module, name)
    there = [key for key, value in vars(module).items() if isinstance(value, type) and issubclass(value, Method)]
    known = [key for key in there if getattr(module, key) is not Method]
    listed = f" Methods there: {', '.join(known)}." if known else ""
    raise ValueError(f"'{place}' has no class '{name}'.{did_you_mean(name, known)}{listed}")


def hash_of(path: Path) -> str:
    """A hash of a file's content, 16 digits."""
    return hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()
