"""How an option is declared once, and read again by every face: the command line, Python, and files.

Nothing here loads torch, so that help is instant.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from pydantic import Field, ValidationError
from pydantic.fields import FieldInfo

from ilk.system.validation import sentence_of
from ilk.system.wording import flag

FIRST, TRAINING, EXPERT = "What most people need", "Training", "For experts"  # the panels of `ilk fit --help`
PANELS = (FIRST, TRAINING, EXPERT)
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Option:
    """An option as faces show it.

    `kind`: of its value on the command line: int, float, bool (a flag), str, Path, or list (may be repeated).
    `unset`: what happens without it, in words, where the default is None. `short`: its one-letter flag.
    """

    name: str
    kind: type
    default: Any
    help: str
    panel: str | None = EXPERT
    metavar: str | None = None
    unset: str | None = None
    short: str | None = None

    @property
    def flag(self) -> str:
        return flag(self.name)


def option(
    default: Any,
    help: str,
    *,
    panel: str = EXPERT,
    kind: Literal["file", "list"] | None = None,
    metavar: str | None = None,
    unset: str | None = None,
    short: str | None = None,
    **limits: Any,
) -> Any:
    """The default of a field of a pydantic dataclass, with its help and limits.

    `limits`: as `pydantic.Field` has them (`ge`, `gt`, ...). `kind`: where the annotation does not say it, "file" or
    "list" (of NAME=VALUE). The default `dict` is called for each new object.
    """
    shown: dict[str, Any] = {"panel": panel, "kind": kind, "metavar": metavar, "unset": unset, "short": short}
    given: dict[str, Any] = {"default_factory": dict} if default is dict else {"default": default}
    return Field(**given, description=help, json_schema_extra=shown, **limits)


def field_of(declared: type, name: str) -> Any:
    """The pydantic field of a declared option, to declare it again with the same help and limits."""
    found: FieldInfo = declared.__pydantic_fields__[name]  # type: ignore[attr-defined]  # of every pydantic dataclass
    return found


def options_of(declared: type) -> dict[str, Option]:
    """The options that a pydantic dataclass declares, by name."""
    return {
        field.name: read_option(field.name, field_of(declared, field.name))
        for field in fields(declared)
        if field_of(declared, field.name).description
    }


def read_option(name: str, field: FieldInfo) -> Option:
    shown = dict(field.json_schema_extra) if isinstance(field.json_schema_extra, dict) else {}
    named: dict[Any, type] = {"file": Path, "list": list}
    kind = named.get(shown.pop("kind", None)) or kind_of(field.annotation)
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    return Option(name=name, kind=kind, default=default, help=str(field.description), **shown)  # type: ignore[arg-type]  # as `option` wrote them


def kind_of(annotation: Any) -> type:
    """int, float or bool for an annotation such as `int | None`; str for any other, such as `int | str`."""
    parts = {part for part in get_args(annotation) or (annotation,) if part is not type(None)}
    if parts == {int, float}:
        return float
    return parts.pop() if len(parts) == 1 and parts <= {int, float, bool} else str


def one_sentence(*, name_of: Callable[[str], str] = flag) -> Callable[[type[T]], type[T]]:
    """A decorator of pydantic dataclasses: a refused value raises a ValueError of one sentence.

    `name_of`: how the sentence calls an option.
    """

    def decorate(declared: type[T]) -> type[T]:
        checked: Callable[..., None] = declared.__init__

        @functools.wraps(checked)
        def init(self: Any, *args: Any, **values: Any) -> None:
            try:
                checked(self, *args, **values)
            except ValidationError as error:
                known = [field.name for field in fields(declared)]  # type: ignore[arg-type]  # a dataclass
                raise ValueError(sentence_of(error, name_of, known)) from None

        declared.__init__ = init  # type: ignore[method-assign]
        return declared

    return decorate
