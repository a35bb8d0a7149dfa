"""One sentence about a value that pydantic refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ilk.system.text import did_you_mean

if TYPE_CHECKING:  # pydantic takes a tenth of a second to load, and only raisers of its errors need it
    from pydantic import ValidationError

UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
SHOWN = 60  # characters of a refused value that a sentence repeats
KINDS = {
    "int": "a whole number", "float": "a number", "finite": "a finite number", "bool": "true or false",
    "string": "text", "dict": "names with values", "mapping": "names with values", "list": "a list", "tuple": "a list",
}  # fmt: skip
LIMITS = {
    "greater_than": ("more than", "gt"), "greater_than_equal": ("at least", "ge"), "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}  # fmt: skip


def sentence_of(
    error: ValidationError, name_of: Callable[[str], str], known: Iterable[str] = (), *, unknown: str = "There is no"
) -> str:
    """A sentence about the first mistake: the name, what would be right, and the value.

    `name_of`: how the reader calls a field. `known`: the names to suggest where a name is unknown; `unknown`: how
    the sentence about it begins. A sentence that a validator of ours raised stays as it is.
    """
    errors = error.errors(include_url=False)
    first = next((each for each in errors if each["type"] in UNKNOWN), errors[0])  # a misspelt name is also missing
    kind, context = first["type"], first.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    place = [str(part) for part in first["loc"]]
    union = len(place) > 1 and place[-1] in ("int", "float")  # pydantic adds which member of `int | float` refused
    name = name_of(".".join(place[:-1] if union else place) or "value")
    if kind == "missing":
        return f"{name} is missing."
    if kind in UNKNOWN:
        names = [name_of(other) for other in known]
        listed = f" Known: {', '.join(names)}." if names else ""
        return f"{unknown} {name}.{did_you_mean(name, names)}{listed}"
    value, hint = first["input"], ""
    if kind in LIMITS:
        words, limit = LIMITS[kind]
        bound = context[limit]
        right = f"{words} {int(bound) if bound == int(bound) else bound}"
    elif kind == "literal_error":
        right = str(context["expected"]).replace("'", "")
        hint = did_you_mean(str(value), right.replace(" or ", ", ").split(", "))
    elif kind == "string_too_short":
        return f"{name} must not be empty."
    else:
        right = "a number" if union else KINDS.get(kind.partition("_")[0], "")
    if not right:
        return f"{name}: {first['msg']}; got {shown(value)}."
    return f"{name} must be {right}; got {shown(value)}.{hint}"


def shown(value: Any) -> str:
    """`value` as Python writes it, at most `SHOWN` characters in one line; of an array or a module its type alone."""
    if not isinstance(value, (str, bytes, int, float, list, tuple, dict, set, type(None))):
        return f"a {type(value).__name__}"
    text = " ".join(repr(value).split())
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
