"""The published tables: every figure as it is printed, misprints named."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from ilk.research.published import (
    CLASSES,
    DATASETS,
    PROTOCOL,
    SCORES,
    PublishedTable,
    dataset_of,
    find_table,
    published_scores,
    published_tables,
    read_tables,
    tables_folder,
)
from places import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SIX = ("cifar10", "cifar20", "stl10", "imagenet10", "imagenet_dogs", "tiny_imagenet")
# NMI/ACC/ARI of the main tables, as the papers print them (CRLC's as SCL quotes them, Dogs in the right order)
MAIN = {
    "cc": ".705/.790/.637 | .431/.429/.266 | .764/.850/.726 | .859/.893/.822 | .445/.429/.274 | .340/.140/.071",
    "crlc": ".679/.799/.634 | .416/.425/.263 | .729/.818/.682 | .831/.854/.759 | .484/.461/.297",
    "scl": ".744/.813/.683 | .477/.482/.314 | .593/.638/.485 | .877/.930/.861 | .728/.763/.652 | .337/.172/.080",
    "dcdc": ".585/.699/.506 | .310/.349/.179 | .621/.734/.547 | .817/.879/.787 | .360/.365/.207 | .323/.164/.073",
    "c2bin": ".62/.72/.53 | .36/.35/.20 | .62/.73/.55",
}
# ablations: the table, the set and its column of accuracies (linear probe for C2BIN)
ABLATIONS = [
    ("cc/views", "cifar10", "acc", {"T(x)+T(x)": 0.790, "T(x)+x": 0.690, "x+x": 0.169}),
    ("cc/views", "imagenet10", "nmi", {"T(x)+T(x)": 0.859, "T(x)+x": 0.852, "x+x": 0.063}),
    ("cc/heads", "cifar10", "ari", {"both": 0.637, "instance only": 0.616, "cluster only": 0.499}),
    ("cc/heads", "imagenet10", "acc", {"both": 0.893, "instance only": 0.888, "cluster only": 0.892}),
    ("cc/backbones", "cifar10", "acc", {"ResNet-18": 0.736, "ResNet-34": 0.790, "ResNet-50": 0.747}),
    ("cc/backbones", "imagenet10", "acc", {"ResNet-18": 0.889, "ResNet-34": 0.893, "ResNet-50": 0.895}),
    ("scl/instance", "cifar20", "acc", {"moco-kmeans": 0.360, "pad": 0.288, "deepcluster": 0.189, "scl": 0.482}),
    ("dcdc/losses", "cifar10", "acc", {"sample only": 0.606, "class only": 0.458, "both": 0.699}),
    ("dcdc/losses", "tiny_imagenet", "acc", {"sample only": 0.098, "class only": 0.092, "both": 0.164}),
    ("dcdc/over-clustering", "stl10", "acc", {"with": 0.734, "without": 0.612}),
    ("dcdc/repeats", "cifar20", "acc", {"3 views": 0.349, "1 view": 0.328}),
    ("dcdc/batch", "cifar20", "acc", dict(zip(("100", "200", "300", "400", "500", "1000"),
                                              (0.296, 0.349, 0.342, 0.323, 0.325, 0.302), strict=True))),
    ("c2bin/alignment", "stl10", "linear", dict(zip(
        ("align only", "32", "128", "32-32-32", "128-128-128", "32-64-128"),
        (0.804, 0.784, 0.813, 0.793, 0.822, 0.840), strict=True))),
    ("c2bin/scales", "stl10", "linear", dict(zip(
        ("8", "16", "512", "8-8-8", "16-16-16", "512-512-512", "8-16-32", "16-32-64"),
        (0.7528, 0.7906, 0.8001, 0.7608, 0.8008, 0.8050, 0.8350, 0.8391), strict=True))),
]  # fmt: skip


def test_every_table_says_what_it_is_and_how_it_came_about() -> None:
    for ref, table in published_tables().items():
        assert table.citation and table.number and table.title and table.rows, ref
        assert set(table.protocol) == set(PROTOCOL), ref
        assert all(isinstance(text, str) and text for text in table.protocol.values()), ref
    assert len(published_tables()) > 20


def test_every_figure_is_in_range_of_a_known_set_and_stands_there_once() -> None:
    for ref, table in published_tables().items():
        for row in table.rows:
            scores = {name: row[name] for name in SCORES if name in row}
            assert scores, (ref, row)
            assert all(isinstance(value, float) and 0 < value < 1 for value in scores.values()), (ref, row)
            assert row["dataset"] in DATASETS, (ref, row)
            assert isinstance(row.get("cell", row.get("method")), str), (ref, row)
        places = [(row.get("cell", row.get("method")), row["dataset"]) for row in table.rows]
        assert len(places) == len(set(places)), ref


def test_the_adjusted_rand_index_is_the_lowest_of_the_three() -> None:
    """It is, in all tables; a line whose columns were exchanged would show."""
    rows = [(ref, row) for ref, table in published_tables().items() for row in table.rows if "ari" in row]
    assert len(rows) > 50
    for ref, row in rows:
        assert row["ari"] < min(row["acc"], row["nmi"]), (ref, row)


def test_the_figures_of_a_misprint_are_consistent() -> None:
    """The table has the corrected score; differences fit the digits; repeated digits are those of the other line."""
    misprints = [(table, slip) for table in published_tables().values() for slip in table.misprints]
    for table, slip in misprints:
        consistent(table, slip)
    assert misprints


def consistent(table: PublishedTable, slip: dict[str, Any]) -> None:
    where = (table.ref, slip)
    assert slip["why"] and slip["column"] in SCORES, where
    own = table.scores_of(slip["cell"]).get(slip["dataset"])
    if "same_as" in slip:
        assert own is None, where
        assert slip["printed"] == table.scores_of(slip["same_as"])[slip["dataset"]][slip["column"]], where
        return
    assert own is not None and slip["printed"] != slip["read"], where
    if "against" in slip:
        other = table.scores_of(slip["against"])[slip["dataset"]]
        assert own[slip["column"]] - other[slip["column"]] == pytest.approx(slip["read"], abs=1e-9), where
    else:
        assert own[slip["column"]] == slip["read"], where


def test_the_known_misprints_are_all_there() -> None:
    named = {(ref, slip["cell"], slip["dataset"]) for ref, one in published_tables().items() for slip in one.misprints}
    assert named == {
        ("crlc/main", "crlc", "imagenet_dogs"), ("scl/quoted", "dccs", "stl10"), ("scl/quoted", "dccs", "imagenet10"),
        ("c2bin/alignment", "32", "stl10"), ("c2bin/alignment", "32-32-32", "stl10"),
    }  # fmt: skip


def test_main_tables_have_the_printed_figures() -> None:
    for method, text in MAIN.items():
        lines = [[float(value) for value in line.split("/")] for line in text.split("|")]
        rows = find_table(f"{method}/main").rows
        scores = {row["dataset"]: [row["nmi"], row["acc"], row["ari"]] for row in rows}
        assert scores == dict(zip(SIX, lines, strict=False)), method


def test_ablations_have_the_printed_figures() -> None:
    for ref, dataset, column, expected in ABLATIONS:
        rows = [row for row in find_table(ref).rows if row["dataset"] == dataset]
        assert {row.get("cell", row.get("method")): row[column] for row in rows} == expected, (ref, dataset, column)


def test_figures_are_found_by_the_name_of_the_source() -> None:
    for source in ("cifar10", "CIFAR-10", "/data/cifar10.npz", "sets.py:cifar10", "data/cifar_10/"):
        (figure,) = published_scores("cc", source)
        assert (figure["acc"], figure["nmi"], figure["ari"]) == (0.790, 0.705, 0.637), source
        assert "AAAI 2021" in figure["source"] and "224 pixels" in figure["protocol"], source
        assert "Uncertain: " in figure["note"], source


def test_both_mean_and_best_are_found_and_say_which_they_are() -> None:
    assert [(one["acc"], "best of 5" in one["protocol"]) for one in published_scores("c2bin", "stl10")] == [
        (0.73, False), (0.75, True)]  # fmt: skip


def test_a_score_that_is_not_reported_is_none() -> None:
    (found,) = published_scores("kmeans", "cifar10")
    assert (found["acc"], found["nmi"], found["ari"]) == (0.229, None, None)


def test_nothing_is_found_where_nothing_is_published() -> None:
    for method, source in (("cc", "digits"), ("cc", "my-photos"), ("nothing", "cifar10")):
        assert published_scores(method, source) == [], (method, source)


def test_sets_are_known_by_their_other_names() -> None:
    names = ["CIFAR-100", "ImageNet-Dogs", "tiny-imagenet", "stl10.npz", "holiday"]
    assert [dataset_of(name) for name in names] == ["cifar20", "imagenet_dogs", "tiny_imagenet", "stl10", None]


def test_digits_that_are_apart_are_not_read_as_one_number() -> None:
    for name in ("data/cifar10-0.npz", "imagenet-10-0", "cifar1-0", "cifar--10", "imagenet-1-00", "unknown", "stl-1-0"):
        assert dataset_of(name) is None, name


def test_one_separator_may_stand_between_the_parts_of_a_name_or_not() -> None:
    names = ["cifar-100-20", "imagenet-dog15", "ImageNet_Dogs", "tinyimagenet", "imagenet-100"]
    expected = ["cifar20", "imagenet_dogs", "imagenet_dogs", "tiny_imagenet", "imagenet100"]
    assert [dataset_of(name) for name in names] == expected


def test_figures_of_another_number_of_classes_are_none() -> None:
    assert set(CLASSES) == set(DATASETS) - {"unknown"}
    assert published_scores("cc", "cifar100", classes=20) == published_scores("cc", "cifar100") != []
    assert published_scores("cc", "cifar100", classes=100) == []


def test_an_unknown_table_suggests_the_nearest() -> None:
    with pytest.raises(ValueError, match="'cc/view'.*'cc/views'"):
        find_table("cc/view")


TABLE = """
source = "A, 2020"
[[tables]]
id = "main"
number = "1"
title = "t"
columns = ["method", "dataset", "acc"]
rows = [["a", "cifar10", 0.5]]
[tables.protocol]
split = "a"
resolution = "b"
selection = "c"
backbone = "d"
epochs = "e"
trials = "f"
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('title = "t"', "", "x.toml'.*'main'.*title"),
        ('trials = "f"', "", "x.toml'.*'main'.*trials"),
        ('"acc"]', '"accuracy"]', "'main'.*'accuracy'.*cell, method"),
        ("0.5]]", "]]", "'main'.*\\['a', 'cifar10'\\].*3 values"),
        ("[[tables]]", "[[tables]", "x.toml'.*TOML"),
    ],
)
def test_a_table_that_is_wrong_is_refused_with_its_name(tmp_path: Path, old: str, new: str, message: str) -> None:
    file = tmp_path / "x.toml"
    file.write_text(TABLE)
    assert read_tables(file)[0].scores_of("a") == {"cifar10": {"acc": 0.5}}
    file.write_text(TABLE.replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        read_tables(file)


def test_the_tables_are_packed_where_an_installed_ilk_looks_for_them() -> None:
    built = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"]
    assert built["wheel"]["force-include"] == {"benchmarks/published": "ilk/research/published_tables"}
    assert {"/benchmarks", "/benchmarks/published"} & set(built["sdist"]["include"])
    assert tables_folder() == ROOT / "benchmarks" / "published"
