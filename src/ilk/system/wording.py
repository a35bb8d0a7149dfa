"""What the command line and Python call the same option.

Messages below the faces write options as the command line does (`--image-size`). Where Python asked,
`python_words` turns them into arguments (`image_size`), so that every message is written once.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
RENAMED = {"n_clusters": "clusters", "settings": "set", "layout": "map"}  # the flags that are not the argument's name
ARGUMENTS = {flag: name for name, flag in RENAMED.items()}
VALUES = "all|heads|auto|cpu|cuda|mps|float32|bf16|folders|none|small|drawing|random"  # that messages name
COMMAND = re.compile(r"\b(?:ilk [a-z]+|torchrun) .*?(?=(?<!\.)\.(?: |$)|[;,)] | \(or |$)")  # up to the sentence's end
OPTION = re.compile(
    rf"(?<![\w-])--([a-z][a-z-]*)(?:[ =](\d+(?:\.\d+)?|[a-z_]+=(?:\.\.\.|[^\s,;)]*[^\s,;).])|(?:{VALUES})\b))?"
)


def flag(name: str) -> str:
    """`--image-size` for `image_size`."""
    return "--" + RENAMED.get(name, name).replace("_", "-")


def argument(name: str) -> str:
    """`image_size` in backticks, so that names such as `train` read as names."""
    return f"`{name}`"


def python_words(text: str, renamed: Mapping[str, str] | None = None) -> str:
    """`text` with the options of the command line as Python's arguments; commands to type stay as they are.

    `renamed`: arguments that have another name where this is read, such as `seed`, a `random_state`.
    """

    def replaced(match: re.Match[str]) -> str:
        name = ARGUMENTS.get(match[1], match[1].replace("-", "_"))
        name, value = (renamed or {}).get(name, name), match[2]
        if value is None:
            return argument(name)
        if name == "settings":
            setting, _, text = value.partition("=")
            return argument(f'settings={{"{setting}": {text}}}')
        return argument(f"{name}={value}" if value[0].isdigit() else f'{name}="{value}"')

    parts, end = [], 0
    for command in COMMAND.finditer(text):
        parts += [OPTION.sub(replaced, text[end : command.start()]), command[0]]
        end = command.end()
    return "".join([*parts, OPTION.sub(replaced, text[end:])])


def in_python_words(renamed: Mapping[str, str] | None = None) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """A decorator of functions that Python programs call: messages of errors name arguments instead of flags.

    `renamed`: as for `python_words`.
    """

    def decorate(work: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(work)
        def worded(*args: P.args, **values: P.kwargs) -> T:
            try:
                return work(*args, **values)
            except (ValueError, TypeError, OSError, RuntimeError) as error:
                if len(error.args) == 1 and isinstance(error.args[0], str):
                    error.args = (python_words(error.args[0], renamed),)
                raise

        return worded

    return decorate
