"""The command line from end to end: files, words and exit codes."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ilk
from command import Command, Outcome

TINY = ["--epochs", "3", "--set", "batch_size=32", "--set", "cluster_heads=2", "--device", "cpu"]
COMMANDS = ["fit", "predict", "score", "report", "export", "import", "evaluate", "compare", "study", "bench", "methods",
            "demo"]  # fmt: skip


def rows_of(file: Path) -> list[dict[str, str]]:
    with open(file, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def words(text: str) -> str:
    """The text of a box that the terminal's width broke into lines, without its frame."""
    return " ".join(re.sub("[│╭╮╰╯─]", " ", text).split())


def refused(found: Outcome, sentence: str) -> bool:
    """Whether a mistake was answered by a sentence on stderr, exit code 2, nothing on stdout, and no traceback."""
    assert found.code == 2, found
    assert found.out == ""
    assert "Traceback" not in found.err
    assert re.search(sentence, words(found.err)), found.err
    return True


# ---- the life of a run


def test_fit_makes_a_run_whose_files_agree_and_says_what_to_do_next(call: Command, photos: Path) -> None:
    found = call("fit", photos, "--clusters", 2, "--out", "a run", "--labels", "folders", *TINY)
    assert found.code == 0, found.err
    run = Path("a run")
    ids = [row["id"] for row in rows_of(run / "assignments.csv")]
    assert len(ids) == 60 and ids == sorted(ids)
    assert sum(int(row["size"]) for row in rows_of(run / "clusters.csv")) == 60
    assert len(rows_of(run / "bad_files.csv")) == 3
    assert len(np.load(run / "embeddings.npy")) == 60
    assert len((run / "log.jsonl").read_text().splitlines()) == 3
    config = json.loads((run / "config.json").read_text())
    assert config["command"][:3] == ["ilk", "fit", str(photos)]
    assert config["train"]["epochs"] == 3
    for expected in (
        "60 images",
        "3 files could not be read",
        "run folder: a run",
        "epoch 3/3",
        "views '",
        "backbone '",
    ):
        assert expected in found.err, expected
    for expected in ("most typical", "accuracy", "clusters.png", "bad_files.csv' (3 files", "Next:"):
        assert expected.replace("'", "") in found.out.replace("'", ""), expected
    assert "Traceback" not in found.err


def test_the_commands_that_fit_proposes_can_be_typed_as_they_are(
    call: Command, photos: Path, photo_folder: Callable[..., Path], tmp_path: Path
) -> None:
    found = call("fit", photos, "-k", 2, "--out", "a run", *TINY)
    photo_folder(tmp_path / "MORE_IMAGES", 10)
    proposed = [
        shlex.split(re.split(r"\s{3,}", line.strip())[0]) for line in found.out.splitlines() if "  ilk " in line
    ]
    assert [line[1] for line in proposed] == ["export", "predict", "score"]
    for line in proposed:
        found = call(*line[1:])
        assert found.code == 0, (line, found.err)
    assert len(list(Path("sorted").glob("cluster-*/*.png"))) == 60
    assert len(rows_of(Path("a run/predictions/MORE_IMAGES/assignments.csv"))) == 10
    assert json.loads(Path("a run/scores.json").read_text())["labels"]["images"] == 60


def test_without_out_runs_are_numbered_below_runs(call: Command, photos: Path) -> None:
    for _ in range(2):
        assert call("fit", photos, "-k", 2, "--quiet", *TINY[2:], "--epochs", 1).code == 0
    assert sorted(file.name for file in Path("runs").iterdir()) == ["my photos", "my photos-2"]


def test_quiet_prints_results_and_warnings_only(call: Command, photos: Path, photo_folder: Callable[..., Path]) -> None:
    found = call("fit", photos, "-k", 2, "--out", "run", "--quiet", *TINY)
    assert found.code == 0
    assert [line.split(":")[0] for line in found.err.splitlines()] == ["Warning"]  # of the files that cannot be read
    assert "most typical" in found.out
    found = call("predict", "run", photo_folder(Path("more"), 8), "-q")
    assert found.code == 0 and found.err == ""


def test_plain_lines_and_no_escapes_where_there_is_no_terminal(call: Command, photos: Path) -> None:
    found = call("fit", photos, "-k", 2, "--out", "run", *TINY)
    assert "\x1b" not in found.out + found.err and "\r" not in found.out + found.err


def test_predict_sorts_another_folder_and_leaves_the_run_alone(
    call: Command, run: ilk.Run, photo_folder: Callable[..., Path], tmp_path: Path
) -> None:
    before = {file: file.read_bytes() for file in run.folder.rglob("*") if file.is_file()}
    photo_folder(tmp_path / "more photos", 20, start=300)
    found = call("predict", run, "more photos", "--out", "sorted photos", "--labels", "folders")
    assert found.code == 0, found.err
    assert len(rows_of(Path("sorted photos/assignments.csv"))) == 20
    assert "against the labels of 20 images (2 kinds)" in found.out
    assert {file: file.read_bytes() for file in run.folder.rglob("*") if file.is_file()} == before
    assert refused(call("predict", run, "more photos", "--out", "sorted photos"), "not empty")
    assert call("score", "sorted photos").code == 0


def test_score_prints_and_writes_the_scores(call: Command, run: ilk.Run, photos: Path) -> None:
    (run / "scores.json").unlink()
    found = call("score", run, "--labels", "folders")
    assert found.code == 0, found.err
    scores = json.loads((run / "scores.json").read_text())
    assert f"accuracy {scores['labels']['accuracy']:.3f}" in found.out
    assert f"NMI {scores['labels']['nmi_arithmetic']:.3f}" in found.out
    assert "scores.json" in found.out
    found = call("score", run, "--labels", "none")
    assert found.code == 0 and "no labels known for these 60 images" in found.out


def test_export_puts_files_into_folders_and_takes_them_away_again(call: Command, run: ilk.Run, photos: Path) -> None:
    before = {file: file.read_bytes() for file in photos.rglob("*") if file.is_file()}
    for mode in ("copy", "symlink", "hardlink"):
        found = call("export", run, "--folders", "by kind", "--mode", mode)
        assert found.code == 0, found.err
        assert found.out.startswith("60 files in by kind")
        assert len(list(Path("by kind").glob("cluster-*/*.png"))) == 60
        found = call("export", run, "--undo", "by kind")
        assert found.code == 0 and found.out.startswith("60 files removed")
        assert not Path("by kind").exists()
    assert {file: file.read_bytes() for file in photos.rglob("*") if file.is_file()} == before


def test_the_undo_command_that_export_prints_can_be_typed_as_it_is(call: Command, run: ilk.Run) -> None:
    found = call("export", run, "--folders", "by kind")
    proposed = found.out.splitlines()[0].split("undo with: ")[1]
    found = call(*shlex.split(proposed)[1:])
    assert found.code == 0 and not Path("by kind").exists()


def test_export_writes_csv_and_onnx(call: Command, run: ilk.Run) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    found = call("export", run, "--csv", "out/clusters.csv", "--onnx", "out/model.onnx")
    assert found.code == 0, found.err
    assert "60 rows in out/clusters.csv" in found.out
    agreement = re.search(r"on 48 pictures of this run .* (\d+) of 48 .*differ by at most (\S+)", found.out)
    assert agreement and int(agreement[1]) >= 47 and float(agreement[2]) < 0.1
    assert len(rows_of(Path("out/clusters.csv"))) == 60
    assert Path("out/model.onnx").stat().st_size > 10_000
    assert sorted(file.name for file in Path("out").iterdir()) == ["clusters.csv", "model.onnx"]


def test_resuming_a_finished_run_says_so(call: Command, photos: Path) -> None:
    given = ["fit", photos, "-k", 2, "--out", "run", *TINY]
    assert call(*given).code == 0
    before = Path("run/model.safetensors").stat().st_mtime_ns
    found = call(*given, "--resume")
    assert found.code == 0 and "'run' is finished; nothing is left to do" in found.err
    assert Path("run/model.safetensors").stat().st_mtime_ns == before


def test_extra_images_are_learnt_from_and_not_clustered(
    call: Command, photos: Path, photo_folder: Callable[..., Path]
) -> None:
    photo_folder(Path("more"), 40, start=400)
    given = ["fit", photos, "-k", 2, "--out", "run", "--extra", "more", *TINY]
    found = call(*given)
    assert found.code == 0, found.err
    assert "more/ (40 images)" in found.err and "extra_instance" in found.err
    assert len(rows_of(Path("run/assignments.csv"))) == 60
    finished = call(*given, "--resume")
    assert finished.code == 0 and "is finished" in finished.err
    assert refused(call(*given[:6], "--resume", "-q"), "began with extra images, more/")


def test_a_run_starts_from_another_and_keeps_its_backbone(call: Command, photos: Path, run: ilk.Run) -> None:
    given = ["fit", photos, "-k", 2, "--out", "run", "--init", run, "--freeze-backbone", *TINY]
    found = call(*given)
    assert found.code == 0, found.err
    assert "backbone and instance_head as in" in found.err and "the backbone is frozen" in found.err
    config = json.loads(Path("run/config.json").read_text())
    assert config["init"]["path"] == str(run.folder.resolve()) and config["freeze_backbone"] is True
    assert "is finished" in call(*given, "--resume").err
    assert call("predict", "run", photos, "--out", "out", "-q").code == 0
    assert rows_of(Path("out/assignments.csv")) == rows_of(Path("run/assignments.csv"))


def test_a_few_known_labels_name_the_clusters_and_are_scored_apart(call: Command, photos: Path) -> None:
    Path("few.csv").write_text("id,label\ndisc/00.png,round\nstripes/30.png,banded\ngone.png,round\n")
    given = ["fit", photos, "-k", 2, "--method", "crlc", "--out", "run", "--known-labels", "few.csv", *TINY]
    found = call(*given, "--labels", "folders")
    assert found.code == 0, found.err
    assert "the labels of 2 images (2 kinds) steer the training" in found.err
    assert "belong to no image and are left out: gone.png" in found.err
    assert "labels of 2 images were used in training" in found.out
    assert "against the labels of 58 other images" in found.out
    assert re.search(r"cluster\s+name\s+images", found.out) and "banded" in found.out
    assert "is finished" in call(*given, "--resume").err
    found = call("score", "run", "--labels", "folders")
    assert found.code == 0 and "against the labels of 58 other images" in found.out


# ---- mistakes


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["fit", "photos", "--cluster", "3"], "No such option: --cluster.*--clusters"),
        (["fit", "--clusters", "3"], "Say which images"),
        (["fit", "photos", "--clusters", "many"], "whole number of at least 2, auto, or a range"),
        (["fitt", "photos"], "No such command 'fitt'.*fit"),
        (
            ["fit", "photos", "--clusters", "1"],
            "number of clusters must be a whole number of at least 2, auto, or a range such as 5-60; got 1",
        ),
        (["fit", "photos", "-k", "2", "--epochs", "3", "--minutes", "1"], "Give --epochs or --minutes, not both"),
        (["fit", "photos", "-k", "2", "--epochs", "0"], "--epochs must be at least 1; got 0"),
        (["fit", "photos", "-k", "2", "--minutes", "-1"], "--minutes must be more than 0; got -1"),
        (["fit", "photos", "-k", "2", "--method", "ccc"], "Unknown method 'ccc'. Did you mean 'cc'?"),
        (["fit", "photos", "-k", "2", "--preset", "fast"], "no preset 'fast'. Known: default, paper"),
        (["fit", "photos", "-k", "2", "--views", "phot"], "Unknown views 'phot'. Did you mean 'photo'?"),
        (["fit", "photos", "-k", "2", "--backbone", "smal"], "Unknown backbone 'smal'. Did you mean 'small'?"),
        (["fit", "gone", "-k", "2", "--backbone", "dinov2-smal"], "Did you mean 'dinov2-small'?"),
        (["fit", "gone", "-k", "2", "--backbone", "facebook/dinov2-base"], "write hf:facebook/dinov2-base"),
        (["fit", "photos", "-k", "2", "--device", "gpu"], "Unknown device 'gpu'"),
        (["fit", "photos", "-k", "2", "--precision", "half"], "--precision must be auto, float32 or bf16; got 'half'"),
        (["fit", "photos", "-k", "2", "--seed", "-1"], "--seed must be at least 0; got -1"),
        (["fit", "photos", "-k", "2", "--set", "nonsense"], "--set takes NAME=VALUE; got 'nonsense'"),
        (["fit", "photos", "-k", "2", "--set", "batchsize=3"], "no setting 'batchsize'. Did you mean 'batch_size'?"),
        (["fit", "photos", "-k", "2", "--set", "warmup=soon"], "warmup must be a whole number; got 'soon'"),
        (["fit", "photos", "-k", "2", "--resume"], "--resume needs --out"),
        (["fit", "photoss", "-k", "2"], "photoss' does not exist.*Did you mean '.*photos'?"),
        (["fit", "empty", "-k", "2"], "'empty' holds no images. It is empty"),
        (["fit", "photos", "-k", "2", "--out", "full"], "'full' is not empty"),
        (["fit", "photos", "-k", "2", "--out", "full", "--resume"], "'full' is not empty"),
        (["fit", "photos", "-k", "2", "--labels", "folder"], "labels is 'folder'.*Did you mean 'folders'"),
        (["fit", "photos", "-k", "99"], "99 clusters need at least 99 images"),
        (["fit", "photos", "-k", "2", "--image-size", "0"], "--image-size must be at least 1; got 0"),
        (["fit", "https://example.org/x", "-k", "2"], "is a remote address"),
        (["fit", "photos", "-k", "2", "--extra", "nowhere"], "nowhere' does not exist"),
        (["fit", "photos", "-k", "2", "--extra", "photos", "--method", "scl"], "scl has no use for extra images"),
        (["fit", "photos", "-k", "2", "--init", "nowhere"], "no 'nowhere' to start from"),
        (["fit", "photos", "-k", "2", "--init", "full"], "'full' is not a run folder"),
        (["fit", "photos", "-k", "2", "--init", "full/thesis.txt"], "is no .safetensors file"),
        (["fit", "photos", "-k", "2", "--freeze-backbone"], "--freeze-backbone .* Give it weights with --init RUN"),
        (["fit", "photos", "-k", "2", "--known-labels", "x.csv"], "cc has no use for known labels"),
        (
            ["fit", "photos", "-k", "2", "--method", "crlc", "--known-labels", "x.csv"],
            "no file of known labels 'x.csv'",
        ),
        (["predict", "nowhere", "photos"], "no run folder 'nowhere'"),
        (["predict", "full", "photos"], "'full' is not a run folder: it has no config.json"),
        (["score", "nowhere"], "no run folder 'nowhere'"),
        (["export", "nowhere", "--csv", "x.csv"], "no run folder 'nowhere'"),
        (["export", "nowhere"], "Say what to export: --folders DIR, --csv FILE, --to VIEWER PATH, --onnx FILE"),
        (["export", "nowhere", "--folders", "x", "--mode", "move"], "Invalid value for '--mode'.*'move' is not one of"),
        (["export", "nowhere", "--undo", "full"], "has no ilk-export.json"),
    ],
)
def test_a_mistake_is_answered_by_one_sentence(
    call: Command, photo_folder: Callable[..., Path], given: list[str], sentence: str
) -> None:
    photo_folder(Path("photos"), 4)
    Path("empty").mkdir()
    Path("full").mkdir()
    Path("full/thesis.txt").write_text("years of work")
    assert refused(call(*given), sentence)
    assert {path.name for path in Path().iterdir()} == {"photos", "empty", "full"}
    assert [path.name for path in Path("full").iterdir()] == ["thesis.txt"]


def test_a_folder_of_unreadable_files_is_refused(call: Command) -> None:
    Path("photos").mkdir()
    Path("photos/a.jpg").write_text("words")
    Path("photos/b.png").write_bytes(b"")
    assert refused(call("fit", "photos", "-k", "2"), r"none of the 2 images could be read.*a.jpg")
    assert not Path("runs").exists()


def test_resume_with_other_images_or_clusters_is_refused(
    call: Command, run: ilk.Run, photos: Path, photo_folder: Callable[..., Path]
) -> None:
    (run / "assignments.parquet").unlink()
    photo_folder(Path("others"), 4)
    assert refused(call("fit", "others", "-k", "2", "--out", run, "--resume", "-q"), "images are not those")
    call("fit", photos, "-k", "3", "--out", run, "--resume", "-q")
    assert refused(call("fit", photos, "-k", "3", "--out", run, "--resume", "-q"), "cannot go on as cc with 3")


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """A run with the options of `TINY`, in float32."""
    settings = {"batch_size": 32, "cluster_heads": 2}
    out = tmp_path_factory.mktemp("begun") / "run"
    ilk.fit(photos, 2, out=out, epochs=3, settings=settings, device="cpu", precision="float32", report=False)
    return out


OTHERS = {
    "precision": (["--precision", "bf16"], "began with --precision float32; it cannot go on with --precision bf16"),
    "seed": (["--seed", 7], "--seed 0; .*--seed 7"),
    "epochs": (["--epochs", 20], "--epochs 3; .*--epochs 20. To train longer, .*--init .*run.* --out"),
    "fewer": (["--epochs", 1], "--epochs 3; .*--epochs 1. Leave it out"),
    "minutes": (["--minutes", 3], "no --minutes; .*--minutes 3.0"),
    "size": (["--image-size", 20], r"--image-size \d+; .*--image-size 20"),
    "views": (["--views", "none"], "--views .*--views none"),
    "backbone": (["--backbone", "resnet18"], r"--backbone \S+; .*--backbone resnet18"),
    "setting": (["--set", "learning_rate=0.5"], "cannot go on with --set learning_rate=0.5"),
    "balance": (["--balance", "off"], "--balance uniform; .*--balance off"),
    "init": (["--init", "."], "no --init; "),
    "two": (["--seed", 7, "--select", "min_loss"], "--seed 0 and --select last|--select last and --seed 0"),
}


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("name", OTHERS)
def test_resume_with_other_options_is_refused_and_changes_nothing(
    call: Command, photos: Path, begun: Path, name: str, finished: bool
) -> None:
    shutil.copytree(begun, "run")
    if not finished:
        Path("run/assignments.parquet").unlink()
    before = {file: file.read_bytes() for file in Path("run").rglob("*") if file.is_file()}
    words, said = OTHERS[name]
    assert refused(call("fit", photos, "-k", 2, "--out", "run", "--resume", *words, "-q"), said)
    assert {file: file.read_bytes() for file in Path("run").rglob("*") if file.is_file()} == before


@pytest.mark.parametrize(
    "words",
    [
        [], TINY, ["--precision", "float32"], ["--epochs", 3, "--seed", 0, "--preset", "default"],
        ["--precision", "auto", "--device", "cpu", "--offline"],
    ],
    ids=len,
)  # fmt: skip
def test_resume_with_the_options_of_the_run_or_none_goes_on_in_its_precision(
    call: Command, photos: Path, begun: Path, words: list[Any]
) -> None:
    shutil.copytree(begun, "run")
    Path("run/assignments.parquet").unlink()
    weights = Path("run/model.safetensors").read_bytes()
    for name in ("checkpoint.pt", "model.safetensors"):
        Path("run", name).unlink(missing_ok=True)  # it trains again, from the beginning
    found = call("fit", photos, "-k", 2, "--out", "run", "--resume", "--no-report", *words)
    assert found.code == 0, found.err
    assert Path("run/model.safetensors").read_bytes() == weights
    assert json.loads(Path("run/config.json").read_text())["precision"] == "float32"


def test_options_that_an_older_run_does_not_record_are_named(call: Command, photos: Path, begun: Path) -> None:
    shutil.copytree(begun, "run")
    config = json.loads(Path("run/config.json").read_text())
    assert config.pop("asked")["epochs"] == 3
    Path("run/config.json").write_text(json.dumps(config))
    found = call("fit", photos, "-k", 2, "--out", "run", "--resume", "--minutes", 5)
    assert found.code == 0 and "--minutes cannot be compared with the settings of 'run'" in found.err
    assert refused(call("fit", photos, "-k", 2, "--out", "run", "--resume", "--seed", 3), "--seed 0.*--seed 3")


@pytest.mark.parametrize("damage", ["config.json", "model.safetensors", "assignments.parquet"])
def test_a_damaged_run_is_explained(
    call: Command, run: ilk.Run, photo_folder: Callable[..., Path], damage: str
) -> None:
    (run / damage).write_bytes(b"no such thing")
    given = ["score", run] if damage == "assignments.parquet" else ["predict", run, photo_folder(Path("more"), 4)]
    assert refused(call(*given), damage)


def test_a_divergence_is_explained_with_exit_code_1(call: Command, photos: Path) -> None:
    given = ["--set", "learning_rate=1e30", "--set", "warmup=0", "--set", "warm_start=0", "--set", "schedule=constant"]
    found = call("fit", photos, "-k", 2, "--out", "run", "-q", *TINY, *given)
    assert found.code == 1
    assert re.search(r"Error: The .* term became nan in epoch \d", found.err) and "Traceback" not in found.err


# ---- help


def test_methods_lists_presets_settings_views_and_backbones(call: Command) -> None:
    found = call("methods")
    assert found.code == 0 and found.err == ""
    for name in ("cc: Contrastive Clustering", "--preset paper", "learning_rate", "warm_start", "drawing", "resnet18"):
        assert name in found.out, name


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(call: Command, command: str) -> None:
    for flag in ("--help", "-h"):
        found = call(command, flag)
        assert found.code == 0 and found.err == ""
        assert re.search(rf"Usage: .*{command}", found.out)


def test_help_names_the_defaults_of_out_and_cache_dir(call: Command) -> None:
    assert "runs/NAME" in words(call("fit", "--help").out)
    assert "$ILK_CACHE" in words(call("fit", "--help").out)
    assert "RUN/predictions/NAME" in words(call("predict", "--help").out)


def test_ilk_alone_and_with_help_lists_the_commands(call: Command) -> None:
    for given in ([], ["--help"]):
        found = call(*given)
        assert "Traceback" not in found.err
        assert all(f" {command} " in found.out + found.err for command in COMMANDS)


def test_the_version_is_that_of_the_package(call: Command) -> None:
    assert call("--version") == (0, f"ilk {ilk.__version__}\n", "")
