"""The plan that config.json holds: typed and frozen, equal to the file, refused in one sentence where it is wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ilk.runs.config import MANY_OBJECTS, MOST_PARTS, Plan, plan_from, read_plan
from ilk.runs.folder import Run
from places import STORED_RUNS

STORED = sorted(STORED_RUNS.glob("*/config.json"))


@pytest.fixture
def values() -> dict[str, Any]:
    """The contents of a stored config.json."""
    found: dict[str, Any] = json.loads(STORED[0].read_text())
    return found


@pytest.mark.parametrize("file", STORED, ids=lambda file: file.parent.name)
def test_a_stored_config_is_written_again_byte_by_byte(file: Path, tmp_path: Path) -> None:
    Run(tmp_path).write_config(read_plan(json.loads(file.read_text()), file))
    assert (tmp_path / "config.json").read_text() == file.read_text()


def test_there_are_stored_configs_of_every_method() -> None:
    assert {file.parent.name for file in STORED} == {"cc", "crlc", "scl", "dcdc", "c2bin"}


def test_a_plan_cannot_be_changed(values: dict[str, Any]) -> None:
    plan = plan_from(values)
    with pytest.raises(ValidationError, match="frozen"):
        plan.seed = 3  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        plan.train.epochs = 3  # type: ignore[misc]


def test_a_changed_copy_leaves_the_plan_as_it_was_and_is_checked(values: dict[str, Any]) -> None:
    plan = plan_from(values)
    other = plan.replace(seed=plan.seed + 1, train=plan.train.replace(epochs=99))
    assert (other.seed, other.train.epochs) == (plan.seed + 1, 99)
    assert plan == plan_from(values) != other
    assert other.replace(seed=plan.seed, train=plan.train) == plan
    with pytest.raises(ValueError, match=r"^train.epochs must be at least 1; got 0\.$"):
        plan.replace(train={**plan.train.as_dict(), "epochs": 0})


def test_settings_of_later_versions_are_kept_and_named(values: dict[str, Any]) -> None:
    values["telepathy"] = {"range": 3}
    values["train"]["lookahead"] = 5
    plan = plan_from(values)
    assert plan.unknown == ["telepathy"] and plan.train.unknown == ["lookahead"]
    assert plan.replace(seed=9).as_dict() == {**values, "seed": 9}


def test_what_older_versions_did_not_write_has_a_default_and_is_not_written(values: dict[str, Any]) -> None:
    for name in ("init", "source", "select", "precision", "notes"):
        values.pop(name, None)
    plan = plan_from(values)
    assert (plan.init, plan.source.fingerprint, plan.select, plan.precision, plan.notes) == (None, "", "last", None, [])
    assert plan.as_dict() == values


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"seed": -1}, "seed must be at least 0; got -1."),
        ({"n_clusters": True}, "n_clusters must be a whole number; got True."),
        ({"n_clusters": 10**400}, "n_clusters must be at most 100000; got 1000"),
        ({"select": "exec"}, "select must be "),
        ({"method": 7}, "method must be text; got 7."),
        ({"method": "cc\0"}, "method: it must be text without the character NUL; got 'cc\\x00'."),
        ({"freeze_backbone": 1}, "freeze_backbone must be true or false; got 1."),
        ({"notes": "text"}, "notes must be a list; got 'text'."),
        ({"images": {"n": 60, "channels": 3}}, "images.size is missing."),
        ({"front_end": {"mean": [0.5] * 7, "std": None, "sobel": False}}, "front_end.mean must be a list of 1 numbers"),
        ({"encoder": None, "features": {"views": 0, "neighbours": 5, "neighbour_share": 1}}, "encoder and features"),
        ({"known_labels": {"names": ["a"] * 5}}, "known_labels has 5 names for 4 clusters."),
        ({"method_config": {"embedding_dim": 10**12}}, "method_config.embedding_dim: it must be from 0 to 10,000,000"),
        ({"method_config": {"a": {"b": 1}}}, "method_config.a: it must be a number, a text, true, false or null"),
        ({"views": {"name": "x", "a": {"flip": [0] * 1001}, "b": {}}}, "views.a.flip: it must be a number"),
    ],
)
def test_a_wrong_value_is_one_sentence_with_its_name(
    values: dict[str, Any], change: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(sentence)) as caught:
        plan_from({**values, **change})
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


@pytest.mark.parametrize("name", MANY_OBJECTS)
def test_what_is_an_object_each_has_a_lower_bound_than_a_width(values: dict[str, Any], name: str) -> None:
    assert plan_from({**values, "method_config": {name: MOST_PARTS}}).method_config[name] == MOST_PARTS
    with pytest.raises(ValueError, match=rf"^method_config.{name} must be at most {MOST_PARTS}; got {MOST_PARTS + 1}"):
        plan_from({**values, "method_config": {name: MOST_PARTS + 1}})


def test_a_name_of_any_length_makes_a_short_sentence(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError) as caught:
        plan_from({**values, "method_config": {"x\n" * 50_000: {}}})
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_every_field_that_has_no_default_is_in_the_oldest_configs(values: dict[str, Any]) -> None:
    assert {name for name, field in Plan.model_fields.items() if field.is_required()} <= values.keys()
