"""Settings records: fields with a type, a range, a default and a line of help, declared once.

    @settings
    class MyConfig:
        temperature: Positive = setting(0.5, "of the contrast")

Values out of range raise ValueError with one sentence. Records are frozen dataclasses, so `dataclasses.asdict`
and `dataclasses.replace` work; replaced values are checked too.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import pydantic.dataclasses
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import dataclass_transform

from ilk.system.text import did_you_mean
from ilk.system.validation import sentence_of

T = TypeVar("T")

Count = Annotated[int, Field(ge=1)]
Number = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Balance = Literal["uniform", "estimated", "off"]

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False, coerce_numbers_to_str=True)
BALANCE = "sizes that the entropy term pulls clusters towards: equal, those of a running mean, or none"
HEADS = "cluster heads trained side by side, of which one is used in the end (not in the paper)"
WARM_START = "part of the training before clusters start from partitions of the features (not in the paper)"


def setting(default: Any, help: str) -> Any:
    """The default of a field, with one line of help for `ilk methods`."""
    return Field(default, description=help)


@dataclass_transform(kw_only_default=True, frozen_default=True)
def settings(record: type[T]) -> type[T]:
    """Makes the class a frozen, keyword-only dataclass that checks types and ranges."""
    made: Any = pydantic.dataclasses.dataclass(record, frozen=True, kw_only=True, config=STRICT)
    build = made.__init__

    @functools.wraps(build)
    def __init__(self: Any, **values: Any) -> None:
        try:
            build(self, **values)
        except ValidationError as error:
            raise ValueError(sentence_of(error, str)) from None

    made.__init__ = __init__
    result: type[T] = made
    return result


@settings
class Recipe:
    """How a method is trained; None and "auto" are decided when the images and the machine are known."""

    backbone: str = setting("auto", "the network; auto: by image size and machine")
    image_size: Count | None = setting(None, "side in pixels; auto: that of the images, limited on a CPU")
    views: str = setting("auto", "the random changes; auto: by what the images look like")
    optimizer: Literal["adam", "adamw", "sgd"] = setting("adam", "the optimiser")
    learning_rate: Positive = setting(3e-4, "the learning rate after warm-up")
    weight_decay: Weight = setting(0.0, "the weight decay")
    momentum: Weight = setting(0.9, "the momentum of sgd")
    decay_vectors: bool = setting(True, "weight decay for biases and normalisation weights too")
    front_end: Literal["none", "normalize", "sobel", "normalize-sobel"] = setting(
        "none", "first step of the backbone: normalize by mean and standard deviation, sobel: edges for colours"
    )
    schedule: Literal["constant", "cosine"] = setting("constant", "of the learning rate; cosine ends at zero")
    warmup: Number = setting(0, "steps in which the learning rate rises from zero")
    batch_size: Annotated[int, Field(ge=2)] | None = setting(None, "images a step; auto: 128 on a CPU, 256 on a GPU")
    images_per_cluster: Number = setting(0, "the batch grows until it has so many images a cluster")
    epochs: Count | None = setting(None, "passes over the images; auto: as many as make `steps` steps")
    steps: Count = setting(3000, "updates to aim at where epochs are open; more where the automatic batch is small")
    min_epochs: Count = setting(10, "least epochs where they are open")
    max_epochs: Count = setting(1000, "most epochs where they are open")


class Preset(NamedTuple):
    config: Any  # the method's own settings record
    recipe: Recipe
    about: str  # one line for `ilk methods`


class Setting(NamedTuple):
    """What is declared of one field."""

    name: str
    type: str  # JSON's word: integer, number, boolean or string
    range: str  # "at least 1", "uniform, estimated or off", or ""
    help: str
    optional: bool  # whether it may be None


def declared(record: type) -> dict[str, Setting]:
    """The fields of a settings record by name. Any dataclass of plain fields will do."""
    fields = {}
    for name, whole in TypeAdapter(record).json_schema().get("properties", {}).items():
        parts = [part for part in whole.get("anyOf", [whole]) if part.get("type") != "null"]
        part = parts[0] if parts else whole
        optional = "anyOf" in whole and len(parts) < len(whole["anyOf"])
        fields[name] = Setting(name, part.get("type", ""), range_of(part), whole.get("description", ""), optional)
    return fields


def range_of(schema: Mapping[str, Any]) -> str:
    """The limits or the choices of a field, in words."""
    if "enum" in schema:
        *others, last = schema["enum"]
        return f"{', '.join(others)} or {last}"
    words = {"minimum": "at least", "exclusiveMinimum": "more than", "maximum": "at most", "exclusiveMaximum": "below"}
    return ", ".join(f"{word} {schema[key]:g}" for key, word in words.items() if key in schema)


def override(preset: Preset, changes: Mapping[str, Any]) -> Preset:
    """`preset` with some settings of its config or recipe replaced; text is converted to the field's type.

    Raises ValueError for an unknown name (suggesting the nearest) or a value of the wrong type or range.
    """
    recipe, config = declared(type(preset.recipe)), declared(type(preset.config))
    for name in changes:
        if name not in recipe and name not in config:
            known = sorted([*recipe, *config])
            raise ValueError(f"There is no setting '{name}'.{did_you_mean(name, known)} Known: {', '.join(known)}.")
    return preset._replace(
        recipe=changed(preset.recipe, {name: value for name, value in changes.items() if name in recipe}),
        config=changed(preset.config, {name: value for name, value in changes.items() if name in config}),
    )


def changed(record: T, changes: Mapping[str, Any]) -> T:
    """`record` with `changes`, which may be text. Raises ValueError, a sentence."""
    if not changes:
        return record
    fields = declared(type(record))
    values = {name: from_text(value, fields[name]) for name, value in changes.items()}
    try:
        return TypeAdapter(type(record)).validate_python({**asdict(record), **values})  # type: ignore[call-overload]
    except ValidationError as error:
        raise ValueError(sentence_of(error, str)) from None


def from_text(value: Any, field: Setting) -> Any:
    """The text as a number where the field is one, None for "none" and "auto" where it may be None; else `value`."""
    if not isinstance(value, str):
        return value
    if field.optional and value.lower() in ("none", "auto"):
        return None
    if field.type in ("integer", "number"):
        try:
            number = float(value)
        except ValueError:
            return value
        return int(number) if field.type == "integer" and number.is_integer() else number
    return value


def read_settings(record: type[T], values: Mapping[str, Any]) -> T:
    """The record with the `values` of a config.json, where nothing is converted. Raises ValueError, a sentence."""
    try:
        return TypeAdapter(record).validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        raise ValueError(sentence_of(error, str)) from None


def describe(preset: Preset) -> dict[str, Any]:
    """Config and recipe of a preset as plain values, for JSON."""
    return {"config": asdict(preset.config), "recipe": asdict(preset.recipe)}


# How the default presets train. The batch is small on a CPU because more steps there are worth more than better ones.
DEFAULT = Recipe(learning_rate=3e-3, schedule="cosine", warmup=50, images_per_cluster=8)
