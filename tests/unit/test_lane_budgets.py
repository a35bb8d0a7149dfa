"""A test that is too slow for its lane fails, and a slow machine gets more time."""

from __future__ import annotations

from pathlib import Path

import pytest

import lane_budgets
from lane_budgets import complaint, lane_of, slowdown
from places import TESTS


def test_the_lane_is_the_folder_below_tests() -> None:
    assert lane_of(Path(__file__)) == "unit"
    assert lane_of(TESTS / "training" / "methods" / "test_contract.py") == "training"
    assert lane_of(TESTS / "conftest.py") is None
    assert lane_of(Path("/elsewhere/test_it.py")) is None


def test_every_test_is_in_a_lane() -> None:
    lanes = {lane_of(file) for file in TESTS.rglob("test_*.py")}
    assert lanes == {"unit", "training", "robust"}


@pytest.mark.parametrize(("lane", "seconds"), [("unit", 1.1), ("training", 5.1)])
def test_a_slow_test_is_a_sentence_with_its_time_and_the_limit(
    monkeypatch: pytest.MonkeyPatch, lane: str, seconds: float
) -> None:
    monkeypatch.setenv("ILK_TEST_SLOWDOWN", "1")
    sentence = complaint(lane, seconds)
    assert sentence is not None and f"{seconds} s" in sentence and f"{lane} lane allows" in sentence
    assert complaint(lane, seconds - 0.2) is None
    monkeypatch.setenv("ILK_TEST_SLOWDOWN", "1.5")
    assert complaint(lane, seconds) is None and complaint(lane, 2 * seconds) is not None


def test_robust_tests_may_take_any_time() -> None:
    assert complaint("robust", 1000.0) is None


def test_a_slow_machine_is_noticed_and_a_fast_one_gets_no_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ILK_TEST_SLOWDOWN", raising=False)
    clock = iter(range(100))
    monkeypatch.setattr(lane_budgets, "loop", lambda: None)
    monkeypatch.setattr(lane_budgets.time, "process_time", lambda: next(clock) * 3 * lane_budgets.LOOP_SECONDS)
    assert slowdown() == pytest.approx(3)
    monkeypatch.setattr(lane_budgets.time, "process_time", lambda: 0.0)
    assert slowdown() == 1.0
