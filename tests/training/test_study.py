"""Studies: read from TOML, trained once, judged by the spread over seeds, written for people."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import ilk.research.study.train_cells
from command import Command
from ilk.pipeline.build import load_method
from ilk.research import published
from ilk.research.grid import Job
from ilk.research.study import find_study, seconds_of, studies, wanted
from ilk.research.study.definition import SHIPPED, Study, job_of, read_study, views_of
from ilk.research.study.pages import anchor, by_seed, conclusions_of, here, printed_columns, printed_order, study_page
from ilk.research.study.train_cells import Options, nearest_neighbours, run_studies, run_study
from ilk.research.study.verdicts import FAILS, HOLDS, OPEN, difference, differences, verdict
from ilk.runs.folder import Run
from ilk.runs.tables import read_embeddings, read_table
from ilk.system.progress import Watch
from made_studies import ablation, made
from places import ROOT

OWN = """
title = "Mine"
question = "Does it matter?"
method = "cc"
views = "T+T"
backbone = "small"
epochs = 1
why = "As small as can be."

[settings]
batch_size = 32
cluster_heads = 1

[[cells]]
name = "both"
about = "as it is"

[[cells]]
name = "one"
about = "the second view is plain"
views = "T+x"

[[cells]]
name = "read otherwise"
read_out = "kmeans"

[[conclusions]]
claim = "Both are better"
order = '"both" > "one"'
"""


@pytest.fixture
def own(tmp_path: Path) -> Callable[..., Path]:
    """`own(old=new)`: a file with `OWN`, in which a text is replaced."""

    def make(old: str = "", new: str = "") -> Path:
        assert old in OWN
        file = tmp_path / "mine.toml"
        file.write_text(OWN.replace(old, new, 1) if old else OWN)
        return file

    return make


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, pictures: Callable[..., Any]) -> str:
    images, kinds = pictures(60)
    file = tmp_path_factory.mktemp("data") / "kinds.npz"
    np.savez(file, x=images, y=kinds)
    return str(file)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, source: str) -> tuple[Path, Study, list[dict[str, Any]]]:
    """The folder, study and rows of `OWN` with five nearest neighbours as its score, two seeds; do not change it."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "mine.toml").write_text(OWN.replace('method = "cc"', 'method = "cc"\nscore = "knn5"'))
    study = find_study(str(folder / "mine.toml"))
    options = Options(source=source, seeds=2, cache_dir=tmp_path_factory.mktemp("cache"))
    return folder / "out", study, run_study(study, folder / "out", options)


# the studies that ilk brings


@pytest.mark.parametrize("name", studies())
def test_every_study_can_be_trained_and_says_what_it_asks(name: str) -> None:
    """Its settings are known to its methods: `find_study` would refuse it."""
    study = find_study(name)
    assert study.question.endswith("?") and study.why and study.title and study.paper and study.rank < 99
    assert len(study.cells) > 1 and study.conclusions


def test_ranks_are_all_different() -> None:
    ranks = [study.rank for study in studies().values()]
    assert ranks == sorted(set(ranks)) and len(ranks) == len(list(SHIPPED.glob("*.toml")))


@pytest.mark.parametrize("name", studies())
def test_a_published_conclusion_is_what_the_papers_own_figures_say(name: str) -> None:
    """On the first set that the table has, for the cells that have their line in it."""
    study = studies()[name]
    for column, conclusion in product(printed_columns(study), study.conclusions):
        cells = [study.printed(study.cell(cell)) for cell in conclusion.order]
        sets = [one for one in cells[0] if all(column in cell.get(one, {}) for cell in cells)]
        for one in sets[:1]:
            values = [cell[one][column] for cell in cells]
            assert values == sorted(values, reverse=True) and len(set(values)) == len(values), conclusion


def test_the_studies_of_a_method_share_the_training_of_their_first_cell() -> None:
    """The most costly thing to get wrong: a recipe that differs in one file."""
    base = {
        "cc": ["cc-views/T+T", "cc-heads/both"],
        "crlc": ["crlc-critics/log_dot", "crlc-weights/paper", "crlc-heads/3 heads", "crlc-smoothing/0.01"],
        "scl": ["scl-discrimination/both", "scl-tasks/joint", "scl-hard-weights/weights"],
        "dcdc": ["dcdc-losses/both", "dcdc-over-clustering/with", "dcdc-repeats/3 views", "dcdc-batch/100"],
    }
    for places in base.values():
        cells = [studies()[name].cell(cell) for name, cell in (place.split("/") for place in places)]
        assert len({job_of(Job, cell.training).key for cell in cells}) == 1


def test_every_table_of_ablations_of_the_five_methods_has_its_study() -> None:
    used = {study.published for study in studies().values()}
    assert {"cc/views", "cc/heads", "cc/backbones", "dcdc/losses", "dcdc/over-clustering", "dcdc/repeats", "dcdc/batch",
            "c2bin/alignment", "c2bin/scales"} <= used  # fmt: skip


def test_shared_trainings_are_counted_once() -> None:
    views, heads = studies()["cc-views"], studies()["cc-heads"]
    assert seconds_of([views], 2)[0] == 6 and seconds_of([views, heads], 2)[0] == 2 * (3 + 3 - 1)


def test_the_page_about_studies_names_every_one_and_its_example_is_one(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")
    assert [name for name in studies() if f"`{name}`" not in text] == []
    (tmp_path / "example.toml").write_text(re.findall(r"```toml\n(.*?)```", text, re.DOTALL)[0])
    assert read_study(tmp_path / "example.toml").conclusions[0].order == ("half-way", "at once")


def test_the_two_halves_of_the_script_are_all_studies() -> None:
    text = (ROOT / "benchmarks" / "studies.sh").read_text(encoding="utf-8")
    halves = [match.split(",") for match in re.findall(r"^(?:first|second)=(.*)$", text, re.MULTILINE)]
    assert sorted([*halves[0], *halves[1]]) == sorted(studies())


# what is read


@pytest.mark.parametrize(
    ("text", "expected"),
    [("T+T", "photo"), ("T+x", "photo+none"), ("x+T", "none+photo"), ("x+x", "none"), ("T", "photo"), ("cc", "cc"),
     ("drawing+none", "drawing+none")],
)  # fmt: skip
def test_t_is_what_suits_the_images_and_x_the_plain_image(text: str, expected: str) -> None:
    assert views_of(text, "photo") == expected


def test_a_cell_has_the_settings_of_its_study_and_its_own(own: Callable[..., Path]) -> None:
    study = read_study(own('views = "T+x"', 'views = "T+x"\nsettings = { batch_size = 16, entropy_weight = 2 }'))
    assert dict(study.cell("both").training["settings"]) == {"batch_size": 32, "cluster_heads": 1}
    found = study.cell("one").training
    assert found["settings"] == {"batch_size": 16, "cluster_heads": 1, "entropy_weight": 2} and found["views"] == "T+x"
    assert study.name == "mine" and study.conclusions[0].order == ("both", "one")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("question", "qestion", "mine.toml': There is no key qestion. Did you mean 'question'\\? Known: title, "),
        ('title = "Mine"\n', "", "mine.toml': title is missing"),
        ("epochs = 1", 'epochs = "1"', "mine.toml': epochs must be a whole number; got '1'"),
        ("epochs = 1", "epochs = 1\nimbalance = 0.5", "mine.toml': imbalance must be at least 1; got 0.5"),
        ('name = "one"', 'name = "one"\nas_many_as = "bot"', "cell 'one': as_many_as names .*Did you mean 'both'"),
        ("epochs = 1", "epochs = true", "mine.toml': epochs must be a whole number; got True"),
        ('why = "As', 'score = "f1"\nwhy = "As', "mine.toml': score must be accuracy, nmi, ari or knn5; got 'f1'"),
        ('why = "As', 'published = "cc/view"\nwhy = "As', "key 'published': There is no published table 'cc/view'"),
        (
            'about = "as it is"',
            'abut = "as it is"',
            "mine.toml', cell 'both': There is no key abut. Did you mean 'about'\\?",
        ),
        ('name = "one"', 'name = "both"', "two cells are called 'both'"),
        ('name = "one"', 'name = "a,b"', "cell 'a,b': a name is words without commas"),
        ('method = "cc"', 'method = "ccc"', "cell 'both': Unknown method 'ccc'. Did you mean 'cc'"),
        ("cluster_heads = 1", "cluster_head = 1", "cell 'both': There is no setting 'cluster_head'. Did you mean"),
        ('views = "T+x"', 'views = "T+y"', "cell 'one': Unknown views 'T'"),
        ('read_out = "kmeans"', 'read_out = "means"', "cell 'read otherwise': read_out must be heads or kmeans; got"),
        ('> "one"', '> "on"', "'Both are better': order names the cell 'on'. Did you mean 'one'\\? Known: both"),
        (' > "one"', "", "order must be cells from best to worst"),
        ("claim =", "says =", "conclusion '\\?': There is no key says"),
        ("epochs = 1", "epochs = 0", "mine.toml': epochs must be at least 1; got 0"),
        ("epochs = 1", "epochs = 1\nimages = 1", "mine.toml': images must be at least 2; got 1"),
        ("epochs = 1", "epochs = 1\nminutes = 1", "mine.toml': There is no key minutes"),
        ("epochs = 1", "epochs = 1\nimbalance = 'x'", "mine.toml': imbalance must be a number; got 'x'"),
        ("epochs = 1", "epochs = 1\nbalance = 'even'", "mine.toml': balance must be uniform, estimated or off; got"),
        ('method = "cc"\n', "", "mine.toml': method is missing"),
        ("[[cells]]", "[[cells]", "mine.toml' is not valid TOML"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_file_is_one_sentence_that_names_it(
    own: Callable[..., Path], old: str, new: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read_study(own(old, new))
    assert "\n" not in str(caught.value)


def test_a_line_that_the_published_table_does_not_have_is_refused(own: Callable[..., Path]) -> None:
    file = own('about = "as it is"', 'published = "T+T"')
    file.write_text(file.read_text().replace("epochs = 1", 'epochs = 1\npublished = "cc/views"'))
    with pytest.raises(ValueError, match="cell 'both': the table cc/views has no line 'T\\+T'.*Known: T\\(x\\)"):
        read_study(file)


def test_studies_are_found_by_name_by_file_and_all_together(own: Callable[..., Path]) -> None:
    assert [study.name for study in wanted("all")] == list(studies())
    assert [study.name for study in wanted(f"cc-heads, {own()},cc-heads")] == ["cc-heads", "mine"]
    with pytest.raises(ValueError, match="There is no study 'cc-head'. Did you mean 'cc-heads'"):
        wanted("cc-head")
    with pytest.raises(FileNotFoundError, match="There is no file 'other.toml'"):
        wanted("other.toml")


def test_some_cells_keep_the_conclusions_about_them(own: Callable[..., Path]) -> None:
    (study,) = wanted(str(own()), "read otherwise,both")
    assert [cell.name for cell in study.cells] == ["both", "read otherwise"] and not study.conclusions
    assert len(wanted("crlc-critics", "log_dot,dot")[0].conclusions) == 1
    with pytest.raises(ValueError, match="Study 'mine' has no cell 'bath'. Did you mean 'both'"):
        wanted(str(own()), "bath")
    with pytest.raises(ValueError, match="Cells belong to one study"):
        wanted("all", "both")


# the judgement


@pytest.mark.parametrize(
    ("gains", "expected"),
    [([0.1, 0.2, 0.3], HOLDS), ([-0.1, -0.2, -0.3], FAILS), ([0.1, -0.1, 0.2], OPEN), ([0.3], OPEN), ([], OPEN),
     ([0.0, 0.0], OPEN), ([0.1, 0.1], HOLDS)],
)  # fmt: skip
def test_an_order_is_told_by_the_spread_over_seeds(gains: list[float], expected: str) -> None:
    worse = {seed: 0.5 + 0.05 * seed for seed in range(len(gains))}
    better = {seed: worse[seed] + gain for seed, gain in enumerate(gains)}
    assert difference(better, worse).verdict == expected


def test_the_interval_is_students_by_hand() -> None:
    """Differences 0.1, 0.2, 0.3: mean 0.2, standard error 0.1 / sqrt 3, and 2.920 of t with 2 degrees of freedom."""
    found = difference({0: 0.6, 1: 0.7, 2: 0.8, 3: 0.9}, {2: 0.5, 1: 0.5, 0: 0.5})
    assert found.mean == pytest.approx(0.2) and found.n == 3
    assert found.half == pytest.approx(2.919986 * 0.1 / math.sqrt(3), abs=1e-6)
    assert found.text == "+0.200 +- 0.169 (n = 3)"


def test_pairs_are_of_the_same_seed() -> None:
    """Far apart between the seeds, alike within: the spread of the seeds is no spread of the difference."""
    assert difference({0: 0.9, 1: 0.5, 2: 0.2}, {0: 0.85, 1: 0.46, 2: 0.14}).verdict == HOLDS


def test_an_order_of_three_fails_with_one_pair_and_holds_with_both() -> None:
    high, middle, low = ({seed: base + 0.01 * seed for seed in range(3)} for base in (0.9, 0.5, 0.1))
    scores = {"a": high, "b": middle, "c": low, "d": {}}
    assert verdict(differences(("a", "b", "c"), scores)) == HOLDS
    assert verdict(differences(("a", "c", "b"), scores)) == FAILS
    assert verdict(differences(("a", "b", "d"), scores)) == OPEN
    assert differences(("a", "d"), scores)[0].text == "no seed done"


# a study that is run


def test_every_cell_and_seed_has_a_row_and_shares_its_training(ran: tuple[Path, Study, list[dict[str, Any]]]) -> None:
    _, _, rows = ran
    assert [(row["seed"], row["cell"]) for row in rows] == [
        (seed, cell) for seed in (0, 1) for cell in ("both", "one", "read otherwise")]  # fmt: skip
    assert all(row["error"] is None for row in rows)
    assert len({row["run"] for row in rows}) == 4 and rows[0]["run"] == rows[2]["run"]


def test_every_run_is_an_ordinary_one_that_opens_with_its_views(
    ran: tuple[Path, Study, list[dict[str, Any]]],
) -> None:
    folder, _, rows = ran
    one = Run(folder / rows[1]["run"]).open()
    first, plus, second = one.config.views.name.partition("+")
    assert plus and second == "none" and rows[0]["views"] == first
    assert one.config.views.b != one.config.views.a
    assert load_method(one).n_clusters == 2


def test_neighbours_are_counted_as_by_a_loop(ran: tuple[Path, Study, list[dict[str, Any]]]) -> None:
    folder, _, rows = ran
    table = read_table(folder / rows[0]["run"] / "assignments.parquet")
    x = np.asarray(read_embeddings(folder / rows[0]["run"] / "embeddings.npy", len(table)), dtype=np.float64)
    labels, right = table["label"].to_pylist(), 0
    for i in range(len(x)):
        others = sorted((j for j in range(len(x)) if j != i), key=lambda j: float(((x[i] - x[j]) ** 2).sum()))[:5]
        votes = [labels[j] for j in others]
        right += max(sorted(set(votes)), key=votes.count) == labels[i]
    assert rows[0]["knn5"] == nearest_neighbours(folder / rows[0]["run"]) == pytest.approx(right / len(x))


def test_what_is_written_has_the_rows_the_verdict_and_the_command(
    ran: tuple[Path, Study, list[dict[str, Any]]], source: str
) -> None:
    folder, study, rows = ran
    stem = Options(source=source, seeds=2).setting(folder).stem(study)
    assert re.fullmatch("mine-kinds-[0-9a-f]{6}", stem)
    text = (folder / f"{stem}.md").read_text()
    assert text.startswith("# Mine\n\nDoes it matter?\n\nHere: ") and "As small as can be." in text
    header = next(line for line in text.splitlines() if line.startswith("| cell"))
    assert header == "| cell | what it is | ACC | NMI | ARI | 5-NN | effective clusters |"
    values = [row["knn5"] for row in rows if row["cell"] == "both"]
    mean = f"{np.mean(values):.3f} +- {np.std(values, ddof=1):.3f}"
    line = next(line for line in text.splitlines() if line.startswith("| both | as it is |"))
    assert line.split(" | ")[5] == mean
    (told,) = conclusions_of(study, rows)
    assert f"| Both are better (expected, not quoted) | both > one | no digits | **{told['verdict']}** |" in text
    assert f"`ilk study {folder.parent}/mine.toml --source {source} --seeds 2 --out {folder}`" in text
    assert f"({stem}.png)" in text
    assert "\\toprule" in (folder / f"{stem}.tex").read_text()
    table = pq.read_table(folder / f"{stem}.parquet")
    assert table["accuracy"].to_pylist() == [row["accuracy"] for row in rows]
    assert (folder / f"{stem}.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_done_is_not_done_again(ran: tuple[Path, Study, list[dict[str, Any]]], source: str) -> None:
    folder, study, rows = ran
    before = {file: file.stat().st_mtime_ns for file in (folder / "runs").rglob("*.safetensors")}
    assert run_study(study, folder, Options(source=source, seeds=2)) == rows
    assert len(before) == 4 and all(file.stat().st_mtime_ns == time for file, time in before.items())
    assert len((folder / "rows.jsonl").read_text().splitlines()) == 6


# several studies, of made rows


def page_of(folder: Path, study: str) -> str:
    (file,) = folder.glob(f"{study}-*.md")
    return file.read_text()


def test_all_studies_stand_on_one_page_with_what_holds_on_top(
    tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ilk.research.study.train_cells, "run_jobs", made(ablation))
    chosen = wanted("cc-views,cc-heads")
    run_studies(chosen, tmp_path, Options(source=source, seeds=3))
    (file,) = tmp_path.glob("STUDIES-kinds-*.md")
    text = file.read_text()
    assert (
        "**What the papers conclude**: of 4, 1 hold on" in text
        and "expected, and no paper" not in text
        and text.count("\n## ") == 2
    )
    assert "| T+T > T+x | **holds** | +0.200 +- 0.000 (n = 3) |" in text
    for target in re.findall(r"\]\(#([^)]+)\)", text):
        assert any(anchor(line[3:]) == target for line in text.splitlines() if line.startswith("## "))
    assert "ACC 0.790, NMI 0.705, ARI 0.637" in text and "CIFAR-10: 0.790, 0.690" in text
    assert "224 pixels; ResNet-34; 1000 epochs; last" in text and "Compare orders, not digits." in text


def test_a_stop_keeps_the_pages_of_the_seeds_that_are_done(
    tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stops(jobs: Sequence[Job], folder: Path, **asked: Any) -> list[dict[str, Any]]:
        if jobs[0].seed == 2:
            raise KeyboardInterrupt
        return made(ablation)(jobs, folder, **asked)

    monkeypatch.setattr(ilk.research.study.train_cells, "run_jobs", stops)
    with pytest.raises(KeyboardInterrupt):
        run_studies(wanted("cc-views"), tmp_path, Options(source=source, seeds=3))
    text = page_of(tmp_path, "cc-views")
    assert ", 2 seeds, " in text and "(n = 2)" in text


def test_a_training_that_failed_is_named_and_left_out_of_its_pairs(
    tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(job: Job) -> float | None:
        return None if job.seed == 1 and "+" in (job.views or "") else ablation(job)

    monkeypatch.setattr(ilk.research.study.train_cells, "run_jobs", made(fails))
    (study,) = wanted("cc-views")
    rows = run_study(study, tmp_path, Options(source=source, seeds=3))
    assert by_seed(study, rows)["T+x"].keys() == {0, 2}
    text = page_of(tmp_path, "cc-views")
    assert "Failed: T+x, seed 1: It diverged." in text and "9.5 (1 failed)" in text and "(n = 2)" in text


def test_without_matplotlib_all_but_the_plot_is_written(
    tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: list[str] = []
    watch = Watch()
    watch.warn = warned.append  # type: ignore[method-assign]
    monkeypatch.setattr(ilk.research.study.train_cells, "run_jobs", made(ablation))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    run_study(wanted("cc-views")[0], tmp_path, Options(source=source, seeds=1), watch)
    assert {file.suffix for file in tmp_path.iterdir()} == {".md", ".tex", ".parquet"}
    assert ".png)" not in page_of(tmp_path, "cc-views")
    assert len(warned) == 1 and "pip install 'ilk[figures]'" in warned[0]


def test_a_misprint_of_the_published_table_is_told_with_it() -> None:
    text = study_page(
        studies()["c2bin-alignment"],
        [],
        ilk.research.study.train_cells.StudySetting("x", "photo", 1, {}),
        drawn=False,
        level=1,
    )
    assert "Misprint: The printed difference" in text and published.find_table("c2bin/alignment").citation in text


def test_what_is_asked_takes_the_place_of_what_the_study_says(
    tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Job] = []
    monkeypatch.setattr(ilk.research.study.train_cells, "run_jobs", made(lambda job: seen.append(job) or 0.5))  # type: ignore[func-returns-value]
    run_study(wanted("cc-views")[0], tmp_path, Options(source=source, seeds=1, epochs=7, images=50))
    assert {(job.source, job.epochs, job.images, job.seed) for job in seen} == {(source, 7, 50, 0)}
    assert "--epochs 7 --images 50" in page_of(tmp_path, "cc-views")


@pytest.fixture
def digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, list[dict[str, Any]]]]:
    """`digits("cc-views", cells=None, seeds=3)`: a run of studies on the digits that trains nothing, in `tmp_path`."""
    monkeypatch.setattr(ilk.research.study.train_cells, "run_jobs", made(ablation))
    monkeypatch.setattr(ilk.research.study.train_cells, "nearest_neighbours", lambda run: 0.5)

    def run(names: str, cells: str | None = None, **options: Any) -> dict[str, list[dict[str, Any]]]:
        return run_studies(wanted(names, cells), tmp_path, Options(**options))

    return run


@pytest.mark.parametrize("part", [{"cells": "T+T,T+x"}, {"seeds": 2}, {"epochs": 1}, {"images": 90}])
def test_a_part_of_a_study_is_written_beside_its_page_and_never_over_it(
    tmp_path: Path, digits: Callable[..., Any], part: dict[str, Any]
) -> None:
    digits("cc-views", seeds=3)
    whole = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert {"cc-views.md", "cc-views.tex", "cc-views.parquet"} <= set(whole)
    digits("cc-views", **{"seeds": 3, **part})
    assert all((tmp_path / name).read_bytes() == kept for name, kept in whole.items())
    assert len(list(tmp_path.glob("cc-views-*.md"))) == 1


def test_a_page_grows_with_the_seeds_and_a_stop_does_not_shrink_it(
    tmp_path: Path, digits: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    digits("cc-views", seeds=2)
    digits("cc-views", seeds=3)
    assert [file.name for file in tmp_path.glob("*.md")] == ["cc-views.md"]
    assert "3 seeds" in (tmp_path / "cc-views.md").read_text()

    def stops(jobs: Sequence[Job], folder: Path, **asked: Any) -> list[dict[str, Any]]:
        if jobs[0].seed == 1:
            raise KeyboardInterrupt
        return made(ablation)(jobs, folder, **asked)

    monkeypatch.setattr(ilk.research.study.train_cells, "run_jobs", stops)
    with pytest.raises(KeyboardInterrupt):
        digits("cc-views", seeds=3)
    assert "3 seeds" in (tmp_path / "cc-views.md").read_text()


def test_run_it_again_is_the_whole_command_quoted_for_a_shell(
    tmp_path: Path, own: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ilk.research.study.train_cells, "run_jobs", made(ablation))
    file = own().rename(tmp_path / "my own.toml")
    run_studies(wanted(str(file), "both,read otherwise"), tmp_path / "out", Options(seeds=1))
    words = f"'{file}' --seeds 1 --cells 'both,read otherwise' --out {tmp_path / 'out'}"
    assert f"Run it again: `ilk study {words}`" in page_of(tmp_path / "out", "my own")


def test_two_files_of_one_name_are_refused(own: Callable[..., Path], tmp_path: Path) -> None:
    other = tmp_path / "other" / "mine.toml"
    other.parent.mkdir()
    other.write_text(OWN)
    with pytest.raises(ValueError, match="Two of these studies are called 'mine'"):
        wanted(f"{own()},{other}")


def test_an_even_draw_has_as_many_images_as_the_long_tail_of_any_source(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Job] = []
    monkeypatch.setattr(ilk.research.study.train_cells, "run_jobs", made(lambda job: seen.append(job) or 0.5))  # type: ignore[func-returns-value]
    run_studies(wanted("imbalance", "cc even,cc 10:1"), tmp_path, Options(source=source, seeds=1))
    even, tail = seen
    assert even.images == 33 and tail.images is None and tail.imbalance == 10  # of 30 and 30: 30 and 3
    seen.clear()
    run_studies(wanted("imbalance", "cc even"), tmp_path, Options(seeds=1))
    assert [job.images for job in seen] == [700]
    seen.clear()
    run_studies(wanted("dcdc-batch"), tmp_path, Options(source=source, seeds=1))
    assert [job.settings["batch_size"] for job in seen] == [10, 20, 40, 100]  # two classes


def test_sizes_that_follow_the_source_leave_the_trainings_on_digits_as_the_file_has_them(
    digits: Callable[..., Any],
) -> None:
    for name in ("imbalance", "dcdc-batch"):
        study = studies()[name]
        keys = [job_of(Job, cell.training, domain="drawing").key for cell in study.cells]
        assert [row["key"] for row in digits(name, seeds=1)[name]] == keys


def test_a_page_says_that_labels_chose_where_they_did() -> None:
    row = {"cell": "a", "seed": 0, "error": None, "n_images": 9, "epochs": 3}
    setting = Options().setting(Path("x"))
    assert "read at the last, 1 seed, " in here([row], setting) and "choose nothing" in here([row], setting)
    said = here([row, {**row, "cell": "b", "select": "oracle_acc"}], setting)
    assert "read at the last or that of the best accuracy by labels" in said
    assert "Labels score, and chose the epoch of b" in said and "choose nothing" not in said


def test_orders_of_neighbours_are_read_off_the_linear_probe_where_that_is_what_is_printed() -> None:
    study = studies()["c2bin-scales"]
    told = printed_order(study, study.conclusions[0])
    assert told == "STL-10 (linear probe): 0.835, 0.761"


# the command line


@pytest.fixture
def call(call: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """`call("cc-views")`: what `ilk study cc-views` does in an empty folder."""
    monkeypatch.setenv("COLUMNS", "160")
    return partial(call, "study")


def test_without_a_name_all_studies_are_listed(call: Command) -> None:
    code, out, err = call()
    assert code == 0 and not err
    for study in studies().values():
        assert f"\n{study.name} " in out
    trainings, _ = seconds_of(list(studies().values()), 3)
    assert f"all: {trainings} trainings with 3 seeds" in out


def test_the_command_writes_and_prints_what_was_found(
    call: Command, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ilk.research.study.train_cells, "run_jobs", made(ablation))
    code, out, _ = call("cc-views", "--source", source, "--out", "here")
    assert code == 0 and "holds: Changing both views is better than changing one (Table 3)" in out
    assert "0.810 +- 0.010" in out and "ACC 0.790" in out
    (file,) = Path("here").glob("cc-views-kinds-*.parquet")
    assert f"{file.with_suffix('.md')}" in out and pq.read_metadata(file).num_rows == 9


def test_ctrl_c_says_how_to_go_on(call: Command, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(ilk.research.study.train_cells, "run_jobs", stop)
    code, _, err = call("cc-views", "--source", source)
    assert code == 130 and f"Go on with the same command:\n  ilk study cc-views --source {source}" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cc-view"], "There is no study 'cc-view'. Did you mean 'cc-views'"),
        (["cc-views", "--seeds", "0"], "seeds must be at least 1; got 0."),
        (["cc-views", "--cells", "T+y"], "Study 'cc-views' has no cell 'T+y'. Did you mean"),
        (["cc-views", "--source", "nowhere"], "nowhere"),
        (["mine.toml"], "There is no file 'mine.toml'"),
    ],
)
def test_a_mistake_is_one_sentence(call: Command, words: list[str], message: str) -> None:
    code, _, err = call(*words)
    assert code == 2 and message in err and "Traceback" not in err
    assert len(err.strip().splitlines()) == 1
