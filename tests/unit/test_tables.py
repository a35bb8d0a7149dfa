"""Means, spreads and what is written, against values worked by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ilk.research.score_tables import (
    arrow_column,
    collapsed,
    escaped,
    latex,
    markdown,
    mean_and_sd,
    spread,
    summary,
    write_rows,
)


def row(method: str, accuracy: float, used: float = 9.0, **more: Any) -> dict[str, Any]:
    scores = {"accuracy": accuracy, "nmi_arithmetic": 0.5, "nmi_geometric": 0.5, "ari": -0.25}
    used_of = {"effective_clusters": used, "n_clusters": 10, "training_seconds": 2.0, "error": None}
    return {"method": method, "settings": {"a": 1}, **scores, **used_of, **more}


def test_the_spread_is_that_of_a_sample() -> None:
    mean, sd = mean_and_sd([0.2, 0.4, 0.9])
    assert mean == pytest.approx(0.5)
    assert sd == pytest.approx(0.13**0.5)  # (0.09 + 0.01 + 0.16) / 2
    assert mean_and_sd([0.7]) == (0.7, None)


def test_a_group_has_mean_spread_values_and_what_went_wrong() -> None:
    failed = {"method": "cc", "settings": {"a": 1}, "error": "no"}
    rows = [row("cc", 0.5, used=4.9), row("scl", 0.9), row("cc", 0.7), failed]
    cc, scl = summary(rows, ["method", "settings"])
    assert (cc["method"], cc["settings"], cc["seeds"], cc["failed"], cc["collapsed"]) == ("cc", {"a": 1}, 2, 1, 1)
    assert cc["accuracy"] == pytest.approx(0.6) and cc["accuracy_sd"] == pytest.approx(0.02**0.5)
    assert cc["accuracy_each"] == [0.5, 0.7] and cc["training_seconds"] == 2
    assert (scl["seeds"], scl["accuracy"], scl["accuracy_sd"], scl["failed"]) == (1, 0.9, None, 0)


def test_a_group_of_failures_has_no_mean() -> None:
    (group,) = summary([{"method": "cc", "error": "no"}], ["method"])
    assert (group["seeds"], group["failed"], group["accuracy"], group["accuracy_sd"]) == (0, 1, None, None)


def test_groups_tell_settings_apart_and_keep_their_order() -> None:
    rows = [row("b", 0.1), row("a", 0.2), row("b", 0.3) | {"settings": {"a": 2}}]
    found = [(one["method"], one["settings"]["a"], one["accuracy"]) for one in summary(rows, ["method", "settings"])]
    assert found == [("b", 1, 0.1), ("a", 1, 0.2), ("b", 2, 0.3)]


@pytest.mark.parametrize(("used", "k", "is_so"), [(4.99, 10, True), (5.0, 10, False), (1.05, 2, True), (1.2, 2, False)])
def test_half_of_the_clusters_or_a_single_one_is_a_collapse(used: float, k: int, is_so: bool) -> None:
    assert collapsed({"effective_clusters": used, "n_clusters": k}) is is_so


@pytest.mark.parametrize(
    ("mean", "sd", "text"),
    [(0.9114, 0.0678, "0.911 +- 0.068"), (0.5, None, "0.500"), (None, None, "-"), (float("nan"), 0.1, "-"),
     (-0.0301, 0.0, "-0.030 +- 0.000")],
)  # fmt: skip
def test_cells_read_as_in_papers(mean: float | None, sd: float | None, text: str) -> None:
    assert spread(mean, sd) == text


def test_markdown_keeps_its_columns_whatever_is_in_a_cell() -> None:
    assert markdown(["a", "b"], [["x|y", "1\n2"], ["\\", 3]]) == (
        "| a | b |\n| --- | --- |\n| x\\|y | 1 2 |\n| \\\\ | 3 |"
    )


def test_latex_is_escaped_and_has_the_rules_of_booktabs() -> None:
    text = latex(["set", "ACC_1"], [["50% & more", "0.911 +- 0.068"]], caption="a_b", label="tab:x")
    assert text == (
        "% needs \\usepackage{booktabs}\n\\begin{table}\n  \\centering\n  \\caption{a\\_b}\n  \\label{tab:x}\n"
        "  \\begin{tabular}{lc}\n    \\toprule\n    set & ACC\\_1 \\\\\n    \\midrule\n"
        "    50\\% \\& more & 0.911 $\\pm$ 0.068 \\\\\n    \\bottomrule\n  \\end{tabular}\n\\end{table}\n"
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("&%$#_{}", r"\&\%\$\#\_\{\}"), ("~^\\", r"\textasciitilde{}\textasciicircum{}\textbackslash{}"),
        ("a<b>c|d", r"a\textless{}b\textgreater{}c\textbar{}d"), ("nmf +- kmeans", "nmf +- kmeans"), ("±", r"$\pm$"),
    ],
)  # fmt: skip
def test_every_letter_that_means_something_to_latex_is_escaped(text: str, shown: str) -> None:
    assert escaped(text) == shown


def test_rows_of_different_fields_and_kinds_come_back_from_parquet(tmp_path: Path) -> None:
    rows = [
        {"seed": 0, "loss": 1, "settings": {"a": 1}, "views": None, "ok": True, "mixed": 1},
        {"seed": 1, "loss": 0.5, "settings": {}, "error": "no", "mixed": "x"},
    ]
    write_rows(tmp_path / "rows.parquet", rows)
    table = pq.read_table(tmp_path / "rows.parquet")
    assert table["seed"].to_pylist() == [0, 1] and str(table["seed"].type) == "int64"
    assert table["loss"].to_pylist() == [1.0, 0.5] and table["ok"].to_pylist() == [True, None]
    assert [json.loads(text) for text in table["settings"].to_pylist()] == [{"a": 1}, {}]
    assert table["views"].to_pylist() == [None, None] and str(table["views"].type) == "string"
    assert table["error"].to_pylist() == [None, "no"] and table["mixed"].to_pylist() == ["1", "x"]


def test_truth_is_no_number() -> None:
    assert str(arrow_column([True, 1]).type) == "string" and str(arrow_column([True, None]).type) == "bool"
