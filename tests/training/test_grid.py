"""Every job is done once: what a kill, a failure or a second command leaves of the others."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.cluster import KMeans

import ilk.research.grid.job
import ilk.research.grid.train_jobs
from ilk.analysis.metrics import score
from ilk.evaluation import long_tailed
from ilk.research.grid import ROWS, Job, RowFile, run_jobs, task_of
from ilk.research.grid.grid_progress import GridProgress
from ilk.research.grid.task import chosen_images
from ilk.research.labelled import Labelled, folder_split, open_labelled, short_name
from ilk.runs.folder import Run
from ilk.runs.tables import read_embeddings, read_table
from ilk.system.files import read_json, read_json_lines
from ilk.system.lock import InUse, held
from ilk.system.progress import Watch
from ilk.system.wording import flag
from places import SHARED_DATA

SETTINGS = {"batch_size": 32, "cluster_heads": 2}


@pytest.fixture
def npz(tmp_path: Path, pictures: Callable[..., Any]) -> str:
    """60 images of two classes; the first 20 of each are for training."""
    x, y = pictures(60)
    is_test = np.arange(60) % 30 >= 20
    np.savez(tmp_path / "kinds.npz", x=x, y=y, is_test=is_test)
    return str(tmp_path / "kinds.npz")


def tiny(source: str, **asked: Any) -> Job:
    asked = {"method": "cc", "epochs": 2, "views": "object", "backbone": "small", "settings": SETTINGS, **asked}
    return Job(source=source, **asked)


class Told(Watch):
    def __init__(self) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []
        self.bar: list[tuple[int, int]] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.warned.append(text)

    def progress(self, done: int, total: int, what: str) -> None:
        self.bar.append((done, total))


# what tells jobs apart


@pytest.mark.parametrize(
    "change",
    [
        {"source": "other"}, {"method": "scl"}, {"seed": 1}, {"preset": "paper"}, {"settings": {"batch_size": 16}},
        {"views": "photo"}, {"backbone": "resnet18"}, {"image_size": 16}, {"balance": "off"}, {"epochs": 3},
        {"epochs": None, "minutes": 1.0}, {"n_clusters": 3}, {"images": 50}, {"imbalance": 10.0}, {"split": "train"},
        {"on": "runs/x"}, {"select": "min_loss"},
    ],
)  # fmt: skip
def test_whatever_changes_the_training_changes_the_key(change: dict[str, Any]) -> None:
    job = tiny("kinds.npz")
    assert dataclasses.replace(job, **change).key != job.key


def test_every_field_but_the_read_out_is_in_the_key_of_a_training() -> None:
    """Fails when a field is added, so that the new field is considered here."""
    tested = {
        "source", "method", "seed", "preset", "settings", "views", "backbone", "image_size", "balance", "epochs",
        "minutes", "n_clusters", "images", "imbalance", "split", "on", "select",
    }  # fmt: skip
    assert {one.name for one in dataclasses.fields(Job)} - tested == {"read_out"}


def test_read_out_and_the_way_settings_are_written_do_not_change_the_key() -> None:
    job = tiny("kinds.npz", settings={"batch_size": 32, "cluster_heads": 2})
    assert dataclasses.replace(job, read_out="kmeans").key == job.key
    assert dataclasses.replace(job, settings={"cluster_heads": "2", "batch_size": "32"}).key == job.key


def test_a_version_with_other_settings_behind_a_preset_has_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    from ilk.methods.cc import CC

    before = tiny("kinds.npz").key
    config, recipe, about = CC.presets["default"]
    changed = dataclasses.replace(config, entropy_weight=config.entropy_weight + 0.1)
    monkeypatch.setitem(CC.presets, "default", type(CC.presets["default"])(changed, recipe, about))
    assert tiny("kinds.npz").key != before


def test_settings_that_only_trainings_have_do_not_change_the_key_of_a_baseline() -> None:
    job = Job(source="kinds.npz", method="kmeans")
    assert dataclasses.replace(job, epochs=3, preset="paper", select="min_loss", views="photo").key == job.key
    assert dataclasses.replace(job, image_size=8).key != job.key
    assert dataclasses.replace(job, on="runs/x").key != job.key


@pytest.mark.parametrize("wrong", [{"split": "val"}, {"read_out": "svm"}, {"images": 1}])
def test_a_job_that_makes_no_sense_is_refused_in_a_sentence(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{flag(next(iter(wrong)))} must be"):
        Job(source="digits", method="cc", **wrong)


@pytest.mark.parametrize("wrong", [{"n_clusters": 0}, {"n_clusters": 1}, {"imbalance": 0.5}, {"on": ""}])
def test_numbers_that_mean_nothing_do_not_stand_for_the_number_of_classes(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{flag(next(iter(wrong)))} must (be at least|not be empty)"):
        Job(source="digits", method="kmeans", **wrong)


def test_numbers_and_paths_that_are_written_otherwise_do_not_change_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job = tiny("a/kinds.npz", settings={"learning_rate": 0.001}, imbalance=10)
    for alike in ({"settings": {"learning_rate": "1e-3"}}, {"source": "./a/kinds.npz"}, {"imbalance": 10.0},
                  {"source": str(tmp_path / "a" / "kinds.npz")}):  # fmt: skip
        assert dataclasses.replace(job, **alike).key == job.key
    on = Job(source="digits", method="kmeans", on="runs/a")
    assert dataclasses.replace(on, on="./runs/a").key == on.key


def test_new_contents_of_a_run_or_of_weights_that_are_built_on_change_the_key(tmp_path: Path) -> None:
    weights, run = tmp_path / "net.safetensors", tmp_path / "run"
    run.mkdir()
    jobs = [
        Job(source="digits", method="kmeans", on=str(run)), tiny("x.npz", backbone=f"run:{run}"),
        tiny("x.npz", backbone=f"weights:{weights}:small@32"), tiny("x.npz", backbone=f"weights:{weights}"),
    ]  # fmt: skip
    keys = []
    for text in ("first", "second one"):
        for file in (weights, run / "model.safetensors", run / "embeddings.npy"):
            file.write_text(text)
        keys.append([job.key for job in jobs])
    assert all(before != after for before, after in zip(*keys, strict=True)) and len(set(keys[0])) == 4


def test_a_version_with_another_recipe_behind_the_name_of_views_has_another_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ilk.views import DOMAINS

    before = tiny("kinds.npz").key
    object_ = DOMAINS["object"]
    monkeypatch.setitem(DOMAINS.own, "object", object_._replace(recipe=DOMAINS["drawing"].recipe))
    assert tiny("kinds.npz").key != before


# sources


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("data/usps.npz", "usps"), ("sets.py:cifar10", "cifar10"), ("/a b/my photos/", "my-photos"),
        ("digits", "digits"),
        ("x.tar.gz", "x"), ("..data/a.b.zip", "a.b"),
    ],
)  # fmt: skip
def test_short_names_name_folders(source: str, name: str) -> None:
    assert short_name(source) == name


def test_a_folder_with_train_and_test_has_a_split_and_its_classes_below(
    tmp_path: Path, photo_folder: Callable[..., Path]
) -> None:
    photo_folder(tmp_path / "set" / "train", n=8)
    photo_folder(tmp_path / "set" / "test", n=4, start=8)
    found = open_labelled(str(tmp_path / "set"))
    assert found.names == ["disc", "stripes"]
    assert np.bincount(found.codes[found.rows("train")]).tolist() == [4, 4]
    assert np.bincount(found.codes[found.rows("test")]).tolist() == [2, 2]
    assert len(found.rows("train+test")) == 12
    source, labels = found.given(found.rows("test"))
    assert [Path(path).parts[-3] for path in source] == ["test"] * 4 and labels == ["disc"] * 2 + ["stripes"] * 2


@pytest.mark.parametrize(
    ("ids", "is_test"),
    [
        (["train/a/1.png", "test/a/1.png"], [False, True]),
        (["train/1.png", "test/1.png"], None),  # those are two classes
        (["train/a/1.png", "other/a/1.png"], None),
        (["train/a/1.png"], None),
    ],
)
def test_only_train_and_test_with_classes_in_them_are_a_split(ids: list[str], is_test: list[bool] | None) -> None:
    found = folder_split(ids)
    assert (None if found is None else found.tolist()) == is_test


@pytest.mark.parametrize(
    "names", [("train", "val"), ("train", "val", "test"), ("Train", "Test"), ("TRAIN", "Valid"), ("train", "test", "")]
)
def test_folders_named_as_splits_are_never_taken_for_classes(
    tmp_path: Path, photo_folder: Callable[..., Path], names: tuple[str, ...]
) -> None:
    for number, name in enumerate(names):
        if name:
            photo_folder(tmp_path / "set" / name, n=4, start=4 * number)
        else:
            Image.new("RGB", (8, 8)).save(tmp_path / "set" / "stray.png")
    with pytest.raises(ValueError, match=r"are splits, not classes.*--labels FILE"):
        open_labelled(str(tmp_path / "set"))


def test_a_damaged_split_of_an_npz_is_a_sentence(tmp_path: Path, pictures: Callable[..., Any]) -> None:
    x, y = pictures(4)
    np.savez(tmp_path / "a.npz", x=x, y=y, split=np.arange(4) % 2)
    data = bytearray((tmp_path / "a.npz").read_bytes())
    with zipfile.ZipFile(tmp_path / "a.npz") as packed:
        start = packed.getinfo("split.npy").header_offset
    end = data.index(b"PK\x01\x02", start)
    data[end - 4] ^= 1
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(ValueError, match="is damaged"):
        open_labelled(str(tmp_path / "a.npz"))


def test_the_split_of_an_npz_is_read_in_every_form(tmp_path: Path, pictures: Callable[..., Any]) -> None:
    x, y = pictures(4)
    for values in ([0, 1, 0, 1], [False, True, False, True], ["train", "test", "train", "test"]):
        np.savez(tmp_path / "a.npz", x=x, y=y, split=np.array(values))
        assert open_labelled(str(tmp_path / "a.npz")).rows("test").tolist() == [1, 3]
    np.savez(tmp_path / "a.npz", x=x, y=y, split=np.array([0, 1, 2, 0]))
    with pytest.raises(ValueError, match="'train' and 'test'"):
        open_labelled(str(tmp_path / "a.npz"))


def test_a_python_file_gives_sets_by_name(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(
        "import numpy as np\nfrom types import SimpleNamespace\n"
        "def load(name):\n"
        "    if name != 'a': raise KeyError(name)\n"
        "    x = np.arange(4 * 64, dtype=np.uint8).reshape(4, 8, 8)\n"
        "    return SimpleNamespace(images=x, labels=[0, 1, 1, 0], is_test=[0, 0, 1, 1])\n"
    )
    found = open_labelled(f"{file}:a")
    assert found.codes.tolist() == [0, 1, 1, 0] and found.rows("test").tolist() == [2, 3]
    with pytest.raises(ValueError, match=r"load\('b'\) of .* failed"):
        open_labelled(f"{file}:b")
    with pytest.raises(FileNotFoundError, match="There is no file"):
        open_labelled(f"{tmp_path / 'none.py'}:a")


def test_a_source_without_labels_is_refused_before_anything_is_trained(
    tmp_path: Path, npz: str, pictures: Callable[..., Any]
) -> None:
    np.savez(tmp_path / "bare.npz", x=pictures(6)[0])
    (tmp_path / "flat").mkdir()
    Image.fromarray(pictures(1)[0][0]).save(tmp_path / "flat" / "a.png")
    for source in ("bare.npz", "flat"):
        with pytest.raises(ValueError, match="has no labels to score with"):
            run_jobs([tiny(npz), tiny(str(tmp_path / source))], tmp_path / "out")
    with pytest.raises(ValueError, match="--labels none"):
        run_jobs([tiny(npz)], tmp_path / "out", labels="none")
    assert not (tmp_path / "out").exists()


def test_labels_of_a_table_are_taken_before_those_of_the_source(tmp_path: Path, npz: str) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("id,label\n" + "".join(f"{i:06},{'abc'[i % 3]}\n" for i in range(60)))
    found = open_labelled(npz, labels=str(table))
    assert found.names == ["a", "b", "c"] and found.codes.tolist() == [0, 1, 2] * 20


# which images


def labelled(codes: list[int], is_test: list[bool] | None = None) -> Labelled:
    from ilk import load_images

    images = load_images(np.zeros((len(codes), 8, 8), dtype=np.uint8), labels=codes)
    return Labelled("x", images, None if is_test is None else np.array(is_test))


def test_the_part_of_images_is_the_same_for_every_seed_and_the_long_tail_is_not() -> None:
    data = labelled([0] * 50 + [1] * 50)
    rows = [chosen_images(Job(source="x", method="cc", images=30, seed=seed), data)[0].tolist() for seed in (0, 1)]
    assert rows[0] == rows[1] == sorted(np.random.default_rng(0).permutation(100)[:30].tolist())
    tails = [chosen_images(Job(source="x", method="cc", imbalance=5, seed=seed), data)[0] for seed in (0, 1)]
    assert tails[0].tolist() != tails[1].tolist()
    assert tails[1].tolist() == long_tailed(data.codes, 5, 1).tolist()
    assert sorted(np.bincount(data.codes[tails[0]]).tolist()) == [10, 50]


def test_the_number_of_clusters_is_the_number_of_classes_that_occur_unless_it_is_given() -> None:
    data = labelled([0, 0, 1, 2], [False, False, False, True])
    assert chosen_images(Job(source="x", method="cc"), data)[1] == 3
    assert chosen_images(Job(source="x", method="cc", split="train"), data)[1] == 2
    assert chosen_images(Job(source="x", method="cc", n_clusters=7), data)[1] == 7
    assert chosen_images(Job(source="x", method="cc", images=100), data)[0].tolist() == [0, 1, 2, 3]


def test_a_split_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="'x' has no split"):
        chosen_images(Job(source="x", method="cc", split="test"), labelled([0, 1]))


# running


def test_a_row_holds_the_scores_of_its_run_and_is_not_made_twice(
    tmp_path: Path, npz: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [
        tiny(npz, split="train"), tiny(npz, split="train", read_out="kmeans"), Job(source=npz, method="kmeans", seed=3),
        tiny(npz, split="train"),
    ]  # fmt: skip
    rows = run_jobs(jobs, tmp_path / "out")
    assert len((tmp_path / "out" / ROWS).read_text().splitlines()) == 3 and rows[3] == rows[0]
    run = Run(tmp_path / "out" / rows[0]["run"])
    table = read_table(run / "assignments.parquet")
    y = np.array([0] * 20 + [1] * 20)
    found = score(y, table["cluster"].to_numpy())
    for name in ("accuracy", "nmi_arithmetic", "nmi_geometric", "ari"):
        assert rows[0][name] == pytest.approx(found[name])
    assert rows[0]["loss"] == run.log()[-1]["loss"] and rows[0]["training_seconds"] == run.log()[-1]["seconds"]
    assert (rows[0]["n_images"], rows[0]["n_clusters"], rows[0]["epochs"]) == (40, 2, 2)
    assert rows[0]["split"] == "train" and not (run / "report.html").exists()
    clusters = KMeans(2, n_init=10, random_state=0).fit_predict(
        np.asarray(read_embeddings(run / "embeddings.npy", 40), dtype=np.float32)
    )
    assert rows[1]["accuracy"] == pytest.approx(score(y, clusters)["accuracy"])
    assert rows[1]["run"] == rows[0]["run"] and len(list((tmp_path / "out" / "runs").iterdir())) == 1
    x = np.load(npz)["x"].transpose(0, 3, 1, 2).reshape(60, -1).astype(np.float32) / 255
    expected = KMeans(2, n_init=10, random_state=3).fit_predict(x)
    assert rows[2]["ari"] == pytest.approx(score(np.load(npz)["y"], expected)["ari"]) and rows[2]["run"] is None

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("a finished job was done again")

    monkeypatch.setattr(ilk.research.grid.train_jobs, "run_task", never)
    assert run_jobs(jobs, tmp_path / "out") == rows


def test_a_baseline_on_a_run_clusters_the_embeddings_of_its_images(tmp_path: Path, npz: str) -> None:
    run = str(tmp_path / "out" / run_jobs([tiny(npz)], tmp_path / "out")[0]["run"])
    embeddings = np.asarray(read_embeddings(Path(run) / "embeddings.npy", 60), dtype=np.float32)
    jobs = [Job(source=npz, method="kmeans", on=run), Job(source=npz, method="kmeans", on=run, split="test")]
    jobs += [Job(source="digits", method="kmeans", on=run), tiny(npz, on=run)]
    whole, test, other, trained = run_jobs(jobs, tmp_path / "out")
    y, is_test = np.load(npz)["y"], np.load(npz)["is_test"]
    clusters = KMeans(2, n_init=10, random_state=0).fit_predict(embeddings)
    assert whole["accuracy"] == pytest.approx(score(y, clusters)["accuracy"])
    clusters = KMeans(2, n_init=10, random_state=0).fit_predict(embeddings[is_test])
    assert test["accuracy"] == pytest.approx(score(y[is_test], clusters)["accuracy"]) and test["n_images"] == 20
    assert "60 images and 1,797" in other["error"]
    assert "only baselines take the embeddings" in trained["error"]


def test_a_job_that_fails_is_a_row_that_says_why_and_the_others_go_on(tmp_path: Path, npz: str) -> None:
    told = Told()
    wrong = tiny(npz, settings={"no_such": 1})
    diverging = tiny(npz, settings={**SETTINGS, "learning_rate": 1e30})
    refused = Job(source=npz, method="kmeans", n_clusters=100)
    rows = run_jobs([wrong, diverging, refused, Job(source=npz, method="kmeans")], tmp_path, watch=told)
    assert rows[0]["error"].startswith("There is no setting 'no_such'") and rows[0]["run"] is None
    assert "not a number" in rows[1]["error"] or "finite" in rows[1]["error"]
    assert rows[2]["error"] == "100 clusters need at least 100 images; there are 60."
    assert rows[3]["error"] is None and rows[3]["accuracy"] > 0.5
    assert told.warned[-1] == "3 of 4 jobs failed; the same command tries them, and only them, again"
    assert sum(text.startswith("cc on kinds, seed 0 failed: ") for text in told.warned) == 2
    again = Told()
    run_jobs([refused, Job(source=npz, method="kmeans")], tmp_path, watch=again)
    assert again.said[0] == "1 of 1: kmeans on kinds, seed 0"


@pytest.mark.parametrize("tail", [b'{"key": "abc", "accu', b"\xff\xfe", b"{"])
def test_a_torn_last_line_is_taken_away_and_the_rest_is_kept(tmp_path: Path, npz: str, tail: bytes) -> None:
    job = Job(source=npz, method="kmeans")
    (first,) = run_jobs([job], tmp_path)
    before = (tmp_path / ROWS).read_bytes()
    with open(tmp_path / ROWS, "ab") as file:
        file.write(tail)
    rows = run_jobs([job, dataclasses.replace(job, seed=1)], tmp_path)
    after = (tmp_path / ROWS).read_bytes()
    assert rows[0] == first and after.startswith(before) and after.count(b"\n") == 2
    assert [row["seed"] for row in read_json_lines(tmp_path / ROWS)] == [0, 1]


def test_a_whole_line_that_lacks_only_its_end_is_kept(tmp_path: Path, npz: str) -> None:
    job = Job(source=npz, method="kmeans")
    run_jobs([job], tmp_path)
    file = tmp_path / ROWS
    file.write_bytes(file.read_bytes().rstrip(b"\n"))
    rows = RowFile(file)
    assert rows.has(task_of(job, open_labelled(npz))) and file.read_bytes().endswith(b"}\n")


def test_two_commands_do_not_work_in_one_folder_at_once(tmp_path: Path, npz: str) -> None:
    with held(tmp_path / "out"), pytest.raises(InUse, match="Another process is at work"):
        run_jobs([Job(source=npz, method="kmeans")], tmp_path / "out")


def test_several_processes_are_refused(tmp_path: Path, npz: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="without torchrun"):
        run_jobs([Job(source=npz, method="kmeans")], tmp_path / "out")


def test_other_labels_are_another_row(tmp_path: Path, npz: str) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("id,label\n" + "".join(f"{i:06},{i % 2}\n" for i in range(60)))
    job = Job(source=npz, method="kmeans")
    own, other = (run_jobs([job], tmp_path / "out", labels=labels)[0] for labels in (None, str(table)))
    assert own["accuracy"] > 0.9 > 0.6 > other["accuracy"] and other["labels"] == str(table)
    assert run_jobs([job], tmp_path / "out")[0] == own


def test_corrected_labels_in_the_same_file_are_scored_anew_from_the_same_run(tmp_path: Path, npz: str) -> None:
    table, rows = tmp_path / "labels.csv", []
    for change in (0, 7):
        table.write_text("id,label\n" + "".join(f"{i:06},{(i + (i < change)) % 2}\n" for i in range(60)))
        rows.append(run_jobs([tiny(npz, epochs=1)], tmp_path / "out", labels=str(table))[0])
    before, after = rows
    assert before["run"] == after["run"] and before["scored"] != after["scored"]
    assert before["accuracy"] != after["accuracy"]


def test_labels_that_shape_a_training_make_a_run_of_their_own(tmp_path: Path, npz: str) -> None:
    sets = []
    for name, period in (("two", 2), ("other", 2), ("four", 4)):
        file = tmp_path / f"{name}.csv"
        file.write_text("id,label\n" + "".join(f"{i:06},{(i + (name == 'other')) % period}\n" for i in range(60)))
        sets.append(open_labelled(npz, labels=str(file)))
    two, other, four = sets

    def keys(*labelled: Labelled, **asked: Any) -> set[str]:
        return {task_of(tiny(npz, **asked), one).key for one in labelled}

    assert len(keys(two, four)) == 2  # other numbers of clusters
    assert len(keys(two, other)) == 1  # for scores alone
    assert len(keys(two, other, select="oracle_acc")) == 2 and len(keys(two, other, imbalance=2)) == 2
    assert len(keys(two, four, n_clusters=5)) == 1


def test_changed_images_under_the_same_name_are_trained_on_anew(tmp_path: Path, pictures: Callable[..., Any]) -> None:
    x, y = pictures(30)
    found = []
    for shift in (0, 40):
        np.savez(tmp_path / "a.npz", x=np.roll(x, shift), y=y)
        found.append(task_of(tiny(str(tmp_path / "a.npz")), open_labelled(str(tmp_path / "a.npz"))).key)
    assert found[0] != found[1]


def test_a_run_of_as_many_other_images_is_not_taken_for_the_source(
    tmp_path: Path, npz: str, pictures: Callable[..., Any]
) -> None:
    run = tmp_path / "out" / run_jobs([tiny(npz, epochs=1)], tmp_path / "out")[0]["run"]
    np.savez(tmp_path / "turned.npz", x=pictures(60)[0][::-1], y=(np.arange(60) % 3).astype(int))
    (row,) = run_jobs([Job(source=str(tmp_path / "turned.npz"), method="kmeans", on=str(run))], tmp_path / "b")
    assert "are not those of" in row["error"]
    table = tmp_path / "labels.csv"
    table.write_text("id,label\n" + "".join(f"{i:06},{i % 3}\n" for i in range(60)))
    (row,) = run_jobs([Job(source=npz, method="kmeans", on=str(run))], tmp_path / "c", labels=str(table))
    assert row["error"] is None  # the same images with other labels


def test_rows_that_are_none_are_left_aside_with_a_warning(tmp_path: Path, npz: str) -> None:
    job, told = Job(source=npz, method="kmeans"), Told()
    (first,) = run_jobs([job], tmp_path / "out")
    odd = ['{"key": [1]}', '{"key": "a", "read_out": {}}', "{}", json.dumps({**first, "accuracy": None})]
    (tmp_path / "out" / ROWS).write_text("".join(line + "\n" for line in odd))
    (again,) = run_jobs([job], tmp_path / "out", watch=told)
    assert again["accuracy"] == first["accuracy"] and told.warned[0].startswith("4 rows of ")


def test_a_tail_that_the_images_do_not_allow_is_recorded_and_said(tmp_path: Path, pictures: Callable[..., Any]) -> None:
    x, y = pictures(40)
    np.savez(tmp_path / "a.npz", x=x, y=y)
    told = Told()
    jobs = [Job(source=str(tmp_path / "a.npz"), method="kmeans", imbalance=ratio) for ratio in (5, 1000)]
    whole, short = run_jobs(jobs, tmp_path / "out", watch=told)
    assert whole["imbalance_reached"] == 5 and short["imbalance_reached"] == 20
    assert [text for text in told.warned if "20 times" in text and "not 1000" in text] == told.warned


def test_one_bar_runs_over_all_jobs_and_the_time_left_is_that_of_like_jobs(npz: str) -> None:
    told = Told()
    slow, fast = tiny(npz), Job(source=npz, method="kmeans")
    watch = GridProgress(
        told, [slow, fast, dataclasses.replace(slow, source="other"), dataclasses.replace(fast, seed=1)]
    )
    watch.begin(slow)
    watch.progress(1, 2, "training")
    watch.progress(1, 1, "decoding")
    watch.end(slow, {"seconds": 40.0, "error": None, "accuracy": 0.5})
    watch.begin(fast)
    watch.end(fast, {"seconds": 2.0, "error": "no"})
    assert told.bar[0] == (500, 4000) and told.bar[-1][0] / told.bar[-1][1] == 0.5
    assert told.said[1] == "  accuracy 0.500 after 40 s; about 2 min left"
    assert told.said[3] == "  failed after 2 s; about 42 s left"


def test_folders_and_archives_are_trained_on_in_whole_and_in_part(tmp_path: Path, photos: Path) -> None:
    """The three unreadable files are not counted anywhere."""
    archive = str(tmp_path / "photos.zip")
    with zipfile.ZipFile(archive, "w") as packed:
        for file in sorted(photos.rglob("*.*")):
            packed.write(file, file.relative_to(photos).as_posix())
    told = Told()
    jobs = [tiny(source, images=images, epochs=1) for source in (str(photos), archive) for images in (None, 20)]
    jobs.append(Job(source=str(photos), method="kmeans", images=20))
    rows = run_jobs(jobs, tmp_path / "out", watch=told)
    assert [row["error"] for row in rows] == [None] * 5
    assert [row["n_images"] for row in rows] == [60, 20, 60, 20, 20]
    assert sum("3 files cannot be read" in text for text in told.warned) == 2
    ids = [read_table(tmp_path / "out" / row["run"] / "assignments.parquet") for row in rows[:4]]
    assert ids[0]["id"].to_pylist() == ids[2]["id"].to_pylist()
    assert ids[1]["id"].to_pylist() == ids[3]["id"].to_pylist()
    for table in ids:
        assert [name.split("/")[0] for name in table["id"].to_pylist()] == table["label"].to_pylist()
    assert rows[0]["accuracy"] == rows[2]["accuracy"] and rows[1]["accuracy"] == rows[3]["accuracy"]


def test_a_selection_by_labels_is_handed_on_and_is_another_run(tmp_path: Path, npz: str) -> None:
    last, oracle = run_jobs([tiny(npz, select=how) for how in ("last", "oracle_acc")], tmp_path)
    assert last["run"] != oracle["run"] and oracle["select"] == "oracle_acc" and oracle["error"] is None
    assert oracle["accuracy"] >= last["accuracy"] and not (tmp_path / last["run"] / "selection.json").exists()
    said = read_json(tmp_path / oracle["run"] / "selection.json")
    assert (said["by"], said["used_labels"], said["epochs"]) == ("oracle_acc", True, 2) and said["epoch"] in (1, 2)


def test_the_published_split_of_real_images_is_the_one_that_is_trained_on(tmp_path: Path) -> None:
    if not (SHARED_DATA / "sets.py").is_file():
        pytest.skip("the shared image sets are not here")
    found = open_labelled(f"{SHARED_DATA / 'sets.py'}:usps")
    assert [len(found.rows(split)) for split in ("train", "test", "train+test")] == [7291, 2007, 9298]
    rows, k = chosen_images(Job(source="x", method="kmeans", split="test", images=500), found)
    assert k == 10 and len(rows) == 500 and found.is_test is not None and found.is_test[rows].all()
    job = Job(source=found.source, method="pca+kmeans", split="test")
    (row,) = run_jobs([job], tmp_path)
    assert row["n_images"] == 2007 and 0.55 < row["accuracy"] < 0.8
