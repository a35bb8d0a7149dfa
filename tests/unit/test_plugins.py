"""The registry of what ilk has, what is installed and what a person gives."""

from __future__ import annotations

import sys
import warnings
from importlib import metadata
from typing import Any

import pytest

from ilk.system.plugins import Registry


def checked(name: str, thing: Any) -> int:
    if not isinstance(thing, int):
        raise ValueError("not a number")
    return thing


@pytest.fixture
def numbers(monkeypatch: pytest.MonkeyPatch) -> Registry[int]:
    """A registry of numbers, for which a package offers `sys:maxsize` as "most"."""
    entry = metadata.EntryPoint("most", "sys:maxsize", "numbers")
    monkeypatch.setattr(metadata, "entry_points", lambda group: [entry] if group == "numbers" else [])
    return Registry("number", "numbers", {"one": 1, "two": 2}, checked)


def test_a_registry_is_a_mapping_of_what_ilk_has_and_what_is_installed(numbers: Registry[int]) -> None:
    assert dict(numbers) == {"one": 1, "two": 2, "most": sys.maxsize} and len(numbers) == 3
    assert "most" in numbers and "three" not in numbers
    with pytest.raises(KeyError):
        numbers["three"]


def test_what_a_person_gives_is_found_and_not_listed(numbers: Registry[int]) -> None:
    numbers.give("three", 3, {"module": "mine"})
    assert numbers.find("three") == 3 and numbers.origin("three") == {"module": "mine"}
    assert list(numbers) == ["one", "two", "most"]
    numbers.give("three", 33, {"module": "mine"})  # a changed version of the same
    assert numbers["three"] == 33


@pytest.mark.parametrize("name", ["one", "most"])
def test_a_name_that_is_taken_cannot_be_given(numbers: Registry[int], name: str) -> None:
    with pytest.raises(ValueError, match=f"already has a number called '{name}'"):
        numbers.give(name, 5, {})


def test_an_unknown_name_suggests_the_nearest(numbers: Registry[int]) -> None:
    with pytest.raises(ValueError, match=r"Unknown number 'tow'\. Did you mean 'two'\? Known: one, two, most"):
        numbers.find("tow")


def test_what_cannot_be_loaded_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = metadata.EntryPoint("path", "os:path", "numbers")
    monkeypatch.setattr(metadata, "entry_points", lambda group: [entry])
    numbers = Registry("number", "numbers", {"one": 1}, checked)
    with pytest.warns(UserWarning, match="'path' of the package unknown cannot be used .not a number."):
        assert list(numbers) == ["one"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(numbers) == ["one"]
