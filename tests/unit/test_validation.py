"""A refused value becomes one sentence, in the words of the face that gave it."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ilk.system.validation import sentence_of, shown
from ilk.system.wording import argument, flag, python_words


class Asked(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    size: int = Field(1, ge=1, le=9)
    minutes: float = Field(1, gt=0, lt=5, allow_inf_nan=False)
    part: Literal["heads", "all"] = "all"
    deep: bool = False
    text: str = ""
    settings: dict[str, Any] = {}
    cells: list[int] = []
    ratio: int | float = 1
    word: str = Field("x", min_length=1)

    @field_validator("text")
    @classmethod
    def short(cls, value: str) -> str:
        if len(value) > 3:
            raise ValueError("A sentence of its own.")
        return value


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"size": 0}, "--size must be at least 1; got 0."),
        ({"size": 10}, "--size must be at most 9; got 10."),
        ({"size": "3"}, "--size must be a whole number; got '3'."),
        ({"size": True}, "--size must be a whole number; got True."),
        ({"minutes": 0}, "--minutes must be more than 0; got 0."),
        ({"minutes": 5}, "--minutes must be less than 5; got 5."),
        ({"minutes": float("nan")}, "--minutes must be a finite number; got nan."),
        ({"minutes": "x"}, "--minutes must be a number; got 'x'."),
        ({"part": "head"}, "--part must be heads or all; got 'head'. Did you mean 'heads'?"),
        ({"deep": 1}, "--deep must be true or false; got 1."),
        ({"text": 3}, "--text must be text; got 3."),
        ({"text": "long"}, "A sentence of its own."),
        ({"settings": 3}, "--settings must be names with values; got 3."),
        ({"cells": 3}, "--cells must be a list; got 3."),
        ({"ratio": "x"}, "--ratio must be a number; got 'x'."),
        ({"word": ""}, "--word must not be empty."),
        ({"sise": 3}, "There is no --sise. Did you mean '--size'? Known: --size, --minutes."),
    ],
)
def test_a_refused_value_becomes_a_sentence_with_name_right_value_and_value(
    given: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        Asked(**given)
    assert sentence_of(caught.value, "--{}".format, ["size", "minutes"]) == sentence


def test_a_missing_name_is_said() -> None:
    class Needed(BaseModel):
        title: str

    with pytest.raises(ValidationError) as caught:
        Needed()  # type: ignore[call-arg]
    assert sentence_of(caught.value, str) == "title is missing."


@pytest.mark.parametrize("value", ["x" * 900, "a\nb", list(range(900)), {"a": "b" * 900}, b"\0" * 90, object(), 1e300])
def test_a_value_is_shown_in_at_most_a_line(value: Any) -> None:
    assert len(shown(value)) <= 60 and "\n" not in shown(value)


@pytest.mark.parametrize(
    ("name", "words"),
    [("image_size", "--image-size"), ("n_clusters", "--clusters"), ("settings", "--set"), ("seed", "--seed")],
)
def test_a_flag_and_an_argument_are_the_same_name_in_two_spellings(name: str, words: str) -> None:
    assert flag(name) == words and python_words(words) == argument(name)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Choose another --out, or leave --init out.", "Choose another `out`, or leave `init` out."),
        ("Use --device cpu or auto.", 'Use `device="cpu"` or auto.'),
        ("Use --feature-views 4 or --neighbours 10.", "Use `feature_views=4` or `neighbours=10`."),
        ("or use --set batch_size=40.", 'or use `settings={"batch_size": 40}`.'),
        ("(and --set front_end=...).", '(and `settings={"front_end": ...}`).'),
        ("--train heads needs an encoder.", '`train="heads"` needs an encoder.'),
        ("Give --clusters K.", "Give `n_clusters` K."),
        ("Make one with: ilk fit SOURCE --clusters K", "Make one with: ilk fit SOURCE --clusters K"),
        (
            "Go on with: ilk fit ... --out a run --resume. Or --epochs 3",
            "Go on with: ilk fit ... --out a run --resume. Or `epochs=3`",
        ),
        ("torchrun --nproc-per-node 2 -m ilk fit ... (or --device cpu)",
         'torchrun --nproc-per-node 2 -m ilk fit ... (or `device="cpu"`)'),
        ("a--b, 'x - y', 3--4: nothing", "a--b, 'x - y', 3--4: nothing"),
    ],
)  # fmt: skip
def test_options_of_the_command_line_become_arguments_and_commands_stay(text: str, words: str) -> None:
    assert python_words(text) == words


def test_an_argument_may_have_another_name_where_it_is_read() -> None:
    assert python_words("--seed must be at least 0.", {"seed": "random_state"}) == "`random_state` must be at least 0."
