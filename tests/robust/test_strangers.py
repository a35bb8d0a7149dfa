"""A run folder or a file of weights may come from anyone: it is refused with a sentence, and never executed."""

from __future__ import annotations

import os
import pickle
import random
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

import ilk
from ilk import Clusterer
from ilk.cli import main
from ilk.evaluation import score_run
from ilk.pipeline.build import load_method, save_model
from ilk.reports import collect
from ilk.runs.folder import Run
from ilk.runs.tables import read_known_labels, read_table
from ilk.system.files import read_json, replacing, write_json

GB = 2**30


class Bomb:
    """What makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.marker), "w"))


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """The path of a file that must not be created."""
    return tmp_path / "the bomb went off"


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., str]:
    """`refused("score", run, ...)`: that `ilk score ...` ends with code 2 and one sentence, which it returns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "1000")

    def call(*words: object) -> str:
        monkeypatch.setattr(sys, "argv", ["ilk", *map(str, words)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capfd.readouterr()
        lines = [line for line in err.splitlines() if line.startswith("Error: ")]
        assert end.value.code == 2, (out, err)
        assert len(lines) == 1 and "Traceback" not in err
        assert one_sentence(lines[0].removeprefix("Error: "))
        return lines[0]

    return call


def commands(run: Run, photos: Path, tmp_path: Path) -> dict[str, list[object]]:
    """The arguments of all commands that open a run folder, by name."""
    tiny = ["--clusters", 2, "--device", "cpu", "--precision", "float32", "--no-report"]
    return {
        "predict": ["predict", run, photos, "--out", tmp_path / "new", "--device", "cpu", "--no-report"],
        "score": ["score", run],
        "report": ["report", run, "--out", tmp_path / "r.html"],
        "export": ["export", run, "--csv", tmp_path / "a.csv"],
        "resume": ["fit", photos, *tiny, "--out", run, "--resume"],
        "init": ["fit", photos, *tiny, "--epochs", 1, "--out", tmp_path / "other", "--init", run],
    }


ALL = ("predict", "score", "report", "export", "resume", "init")


# ---- pickles


def loads(file: Path, bomb: Bomb) -> None:
    """Writes the bomb the way that each kind of file would hold one."""
    if file.suffix == ".npy":
        np.save(file, np.array([bomb, None], dtype=object), allow_pickle=True)
    elif file.suffix == ".npz":
        np.savez(file, rows=np.array([bomb], dtype=object), epochs=np.array([bomb], dtype=object))
    elif file.suffix == ".pt":
        torch.save({"epoch": 1, "method": bomb}, file)
    else:
        file.write_bytes(pickle.dumps(bomb))


def test_the_bomb_of_these_tests_would_go_off(tmp_path: Path, marker: Path) -> None:
    for name in ("a.pt", "a.npy", "a.npz", "a.bin"):
        loads(tmp_path / name, Bomb(marker))
    for read in (
        lambda: torch.load(tmp_path / "a.pt", weights_only=False),
        lambda: np.load(tmp_path / "a.npy", allow_pickle=True),
        lambda: np.load(tmp_path / "a.npz", allow_pickle=True)["rows"],
        lambda: pickle.loads((tmp_path / "a.bin").read_bytes()),
    ):
        read()
        assert marker.is_file()
        marker.unlink()


@pytest.mark.parametrize(
    ("file", "command"),
    [
        ("model.safetensors", "predict"), ("model.safetensors", "init"), ("config.json", "predict"),
        ("config.json", "report"), ("assignments.parquet", "score"), ("assignments.parquet", "report"),
        ("assignments.parquet", "export"), ("embeddings.npy", "report"), ("checkpoint.pt", "resume"),
    ],
)  # fmt: skip
def test_a_pickle_in_the_place_of_a_file_is_refused_and_not_executed(
    run: Run, photos: Path, tmp_path: Path, marker: Path, refused: Callable[..., str], file: str, command: str
) -> None:
    loads(run / file, Bomb(marker))
    if file == "checkpoint.pt":
        (run / "assignments.parquet").unlink()
    assert file in refused(*commands(run, photos, tmp_path)[command])
    assert not marker.exists()


@pytest.mark.parametrize("file", ["moments.npz", "map.npz", "thumbnails/index.json", "thumbnails/sheet-0.webp",
                                  "log.jsonl", "bad_files.csv", "scores.json"])  # fmt: skip
def test_a_pickle_where_a_report_can_do_without_is_not_executed(run: Run, marker: Path, file: str) -> None:
    loads(run / file, Bomb(marker))
    assert collect(run.folder)["run"]["finished"]
    assert not marker.exists()


@pytest.mark.parametrize("option", ["--init", "--known-labels", "--labels"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".csv", ".parquet", ".pkl"])
def test_a_pickle_given_as_an_option_is_refused_and_not_executed(
    photos: Path, tmp_path: Path, marker: Path, refused: Callable[..., str], option: str, suffix: str
) -> None:
    file = tmp_path / f"given{suffix}"
    file.write_bytes(pickle.dumps(Bomb(marker)))
    method = "crlc" if option == "--known-labels" else "cc"
    said = refused("fit", photos, "--clusters", 2, "--method", method, "--device", "cpu", "--backbone", "small",
                   "--out", tmp_path / "r", option, file)  # fmt: skip
    assert file.name in said
    assert not marker.exists()


def test_a_pickle_is_no_moments_of_a_training_that_goes_on(tmp_path: Path, marker: Path) -> None:
    from ilk.training.snapshots import Moments

    loads(tmp_path / "moments.npz", Bomb(marker))
    moments = Moments(tmp_path / "moments.npz")
    moments.begin(60, 4, 2)
    assert moments.kept == {} and not marker.exists()


def test_embeddings_that_are_a_pickle_are_no_clusterer(run: Run, marker: Path) -> None:
    loads(run / "embeddings.npy", Bomb(marker))
    with pytest.raises(ValueError, match=r"embeddings|pickle"):
        Clusterer.load(run.folder, device="cpu")
    assert not marker.exists()


def test_a_pickle_inside_a_tensor_file_of_torch_is_refused(run: Run, marker: Path) -> None:
    torch.save({"weight": Bomb(marker)}, run / "model.safetensors")
    with pytest.raises(ValueError, match="is damaged"):
        load_method(run)
    assert not marker.exists()


# ---- settings


def setting(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        *sections, last = path.split(".")
        for section in sections:
            config = config[section]
        config[last] = value

    return change


WRONG: dict[str, list[Any]] = {
    "n_clusters": [10**9, 0, 1, -3, 2.5, "7", None, True, [2], 10**400],
    "images.n": [10**12, 0, "60", None, 3.5],
    "images.size": [10**6, 0, -1, "12", 1.5],
    "images.channels": [10**6, 0, "3"],
    "images": [None, 5, []],
    "seed": [-1, "0", 10**30, 0.5],
    "method": [7, None, ["cc"], "os.system", "cc\0", "x" * 20_000],
    "backbone": [7, None, "eval", "../../etc/passwd", "ilk.cli", "small.exe"],
    "method_config": [None, 3, {"embedding_dim": 10**12}, {"embedding_dim": "128"}, {"cluster_heads": 10**9},
                      {"cluster_heads": 2.5}, {"unheard_of": 1}, {"warm_start": 7}, {"warm_start": "soon"},
                      {"embedding_dim": None}],
    "train": [None, [], {}],
    "train.epochs": [0, "4", None, -1],
    "train.batch_size": [10**12, 0, "32"],
    "train.learning_rate": ["fast", None, -1],
    "train.optimizer": ["system", None, 3],
    "views": [None, "object", {}],
    "views.a": [None, 3, {"flip": {}}],
    "front_end": [3, {}, {"mean": "0", "std": None, "sobel": False}, {"mean": [0.5] * 7, "std": None, "sobel": False},
                  {"mean": None, "std": [0, 0, 0], "sobel": True}, {"mean": None, "std": None, "sobel": "yes"}],
    "freeze_backbone": ["yes", 1, None],
    "known_labels": [3, {"names": "a"}, {"names": ["a", "b", "c"]}, {"names": [1, 2]}],
    "source": [3, {"name": 5, "fingerprint": "x"}, {"name": "x", "fingerprint": None}],
    "init": ["model.pt", {"path": 3, "hash": "x"}],
    "encoder": [3, {}, {"spec": 3, "fingerprint": "x", "feature_dim": 10}],
    "notes": ["text", [1]],
    "format": [2, "1.0", [1], 10**30],
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values],
                         ids=lambda value: str(value)[:30])  # fmt: skip
def test_a_setting_of_another_type_or_range_is_a_sentence(run: Run, name: str, value: Any) -> None:
    config = read_json(run / "config.json")
    setting(name, value)(config)
    write_json(run / "config.json", config)
    with pytest.raises(ValueError) as caught:
        load_method(run.open())
    assert one_sentence(str(caught.value))


def one_sentence(said: str) -> bool:
    """Whether it is one line that ends as sentences do, or with a command to type."""
    assert "\n" not in said and 20 < len(said) < 900, said
    assert said.rstrip().endswith((".", "?", ")")) or "with: ilk fit" in said, said
    return True


@pytest.mark.parametrize("command", ALL)
@pytest.mark.parametrize(
    "change",
    [setting("n_clusters", 10**9), setting("images", None), setting("format", 2), dict.clear],
    ids=["n_clusters", "images", "format", "empty"],
)
def test_no_command_opens_a_run_with_impossible_settings(
    run: Run, photos: Path, tmp_path: Path, refused: Callable[..., str], command: str, change: Any
) -> None:
    config = read_json(run / "config.json")
    change(config)
    write_json(run / "config.json", config)
    if command == "report" and config.get("images", 0) is None:
        pytest.skip("a report needs no more of the settings than the number of clusters")
    refused(*commands(run, photos, tmp_path)[command])


def test_a_method_with_a_row_an_image_is_refused_before_memory_is_taken(run: Run) -> None:
    config = read_json(run / "config.json")
    config |= {"method": "crlc", "method_config": {"framework": "memory_bank"}}
    config["images"]["n"] = 10**10  # 8 bytes of each in `known`, 80 in the bank
    write_json(run / "config.json", config)
    with pytest.raises(ValueError, match=r"takes 8\d\d GB; this machine has|takes 1,?\d\d\d GB"):
        load_method(run)


def test_numbers_beyond_the_stored_weights_are_refused_before_memory_is_taken(run: Run) -> None:
    config = read_json(run / "config.json")
    config |= {"method": "crlc", "method_config": {}}
    config["images"]["n"] = 10**8
    write_json(run / "config.json", config)
    tracked = torch.zeros(0)
    with pytest.raises(ValueError, match="config.json.*Missing key"):
        load_method(run)
    assert tracked.numel() == 0


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' * 5000, "NaN", "1e999", "-Infinity", '"\ud800', "9" * 5000])
def test_json_that_is_none_is_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ValueError, match=r"config.json'.*JSON") as caught:
        read_json(tmp_path / "config.json")
    assert one_sentence(str(caught.value))


@pytest.mark.parametrize("file", ["config.json", "log.jsonl"])
def test_a_file_of_two_gigabytes_is_refused_before_it_is_read(run: Run, file: str, monkeypatch: Any) -> None:
    with open(run / file, "r+b") as stream:
        stream.truncate(2 * GB)  # a hole, which takes no space
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("it was read"))
    with pytest.raises(ValueError, match=r"2,147,483,648 bytes"):
        run.config if file == "config.json" else run.log()


def test_settings_that_could_not_be_read_again_are_not_written(tmp_path: Path, run: Run) -> None:
    with pytest.raises(ValueError, match=r"images.size.*at most 4096.*1000000"):
        Run(tmp_path).write_config(run.config.replace(images={"n": 60, "channels": 3, "size": 10**6}))
    assert not (tmp_path / "config.json").exists()
    Run(tmp_path).write_config(run.config)
    assert Run(tmp_path).config == run.config


# ---- weights


def damage(tensors: dict[str, torch.Tensor], kind: str) -> dict[str, torch.Tensor]:
    name = next(name for name, tensor in tensors.items() if tensor.dim() == 4)
    weight = tensors[name]
    if kind == "NaN":
        weight.view(-1)[3] = torch.nan
    elif kind == "infinite":
        weight.view(-1)[3] = -torch.inf
    elif kind == "whole numbers":
        tensors[name] = weight.to(torch.int32)
    elif kind == "shape":
        tensors[name] = weight[:1].clone()
    elif kind == "missing":
        del tensors[name]
    elif kind == "more":
        tensors["telepathy"] = torch.zeros(3)
    return tensors


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("NaN", "numbers that are not finite"), ("infinite", "numbers that are not finite"),
        ("whole numbers", "holds whole numbers"), ("shape", "is 1x"), ("missing", "Missing key|lacks"),
        ("more", "Unexpected key telepathy"),
    ],
)  # fmt: skip
def test_weights_that_are_not_those_of_the_run_are_refused(
    run: Run, photos: Path, tmp_path: Path, refused: Callable[..., str], kind: str, sentence: str
) -> None:
    import re

    save_file(damage(load_file(run / "model.safetensors"), kind), run / "model.safetensors")
    asked = commands(run, photos, tmp_path)
    assert re.search(sentence, refused(*asked["predict"]))
    if kind != "more":  # what is beside the backbone is of no use to a new training, and not read
        refused(*asked["init"])


@pytest.mark.parametrize("chosen", [-2, 1, 10**9])
def test_a_head_that_is_not_there_cannot_be_the_chosen_one(run: Run, chosen: int) -> None:
    tensors = load_file(run / "model.safetensors")
    count = len({name.split(".")[2] for name in tensors if name.startswith("cluster_heads.heads.")})
    tensors["cluster_heads.chosen"] = torch.tensor(chosen if chosen != 1 else count)
    save_file(tensors, run / "model.safetensors")
    with pytest.raises(ValueError, match=r"cluster_heads.chosen"):
        load_method(run)
    tensors["cluster_heads.chosen"] = torch.tensor(count - 1)
    save_file(tensors, run / "model.safetensors")
    assert load_method(run).cluster_heads.best() == count - 1


def test_a_model_from_before_a_head_was_chosen_uses_that_of_the_lowest_loss(run: Run) -> None:
    tensors = load_file(run / "model.safetensors")
    del tensors["cluster_heads.chosen"]
    save_file(tensors, run / "model.safetensors")
    heads = load_method(run).cluster_heads
    assert int(heads.chosen) == -1 and heads.best() == int(heads.loss.argmin())


def header(size: int, text: bytes) -> bytes:
    return size.to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\0" * 7, header(2**62, b"{}"), header(10**8 + 1, b"{}"), header(2, b"{}"), header(2, b"[]"),
        header(40, b'{"a":{"dtype":"F32","shape":[1000000000,1000000000],"data_offsets":[0,4]}}'),
        header(74, b'{"a":{"dtype":"F32","shape":[1000000000,1000000000],"data_offsets":[0,4]}}' + b"\0" * 4),
    ],
)  # fmt: skip
def test_a_tensor_file_with_a_false_header_is_refused(
    run: Run, photos: Path, tmp_path: Path, refused: Callable[..., str], data: bytes
) -> None:
    (run / "model.safetensors").write_bytes(data)
    asked = commands(run, photos, tmp_path)
    refused(*asked["predict"])
    refused(*asked["init"])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda state: state.pop("epoch"), "KeyError"),
        (lambda state: state.update(epoch="many"), "ValueError"),
        (lambda state: state.update(epoch=-4), "negative or not finite"),
        (lambda state: state.update(seconds=float("nan")), "negative or not finite"),
        (lambda state: state.update(method=[1, 2]), "damaged"),
        (lambda state: state["method"].popitem(), "Missing key"),
        (lambda state: next(iter(state["method"].values())).fill_(torch.nan), "not finite"),
        (lambda state: state["optimizer"]["state"][0].update(exp_avg=torch.zeros(3)), "another shape"),
        (lambda state: state["optimizer"]["state"][0]["exp_avg"].fill_(torch.inf), "not finite"),
        (lambda state: state["optimizer"].pop("param_groups"), "KeyError"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(
    run: Run, photos: Path, tmp_path: Path, refused: Callable[..., str], change: Any, sentence: str
) -> None:
    (run / "assignments.parquet").unlink()
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    change(state)
    torch.save(state, run / "checkpoint.pt")
    said = refused(*commands(run, photos, tmp_path)["resume"])
    assert "checkpoint.pt' is damaged or belongs to another run" in said and sentence in said


def test_the_settings_of_the_optimizer_are_those_of_the_run_and_not_of_its_checkpoint(run: Run) -> None:
    from ilk.pipeline.build import build_method
    from ilk.training.checkpoints import load_checkpoint
    from ilk.training.optimizer import make_optimizer

    state = torch.load(run / "checkpoint.pt", weights_only=True)
    state["optimizer"]["param_groups"][0] |= {"weight_decay": 1e9, "betas": (0.0, 0.0)}
    torch.save(state, run / "checkpoint.pt")
    method = build_method(run.config)
    optimizer = make_optimizer(method, run.config.train)
    assert load_checkpoint(run / "checkpoint.pt", method, optimizer, torch.device("cpu"))[0] == 4
    assert optimizer.param_groups[0]["weight_decay"] == 0 and optimizer.param_groups[0]["betas"] == (0.9, 0.999)
    assert len(optimizer.state) > 0


# ---- tables


def column(name: str, make: Callable[[pa.Table], Any]) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.set_column(table.column_names.index(name), name, make(table))


N = 60
TABLES = {
    "cluster is text": column("cluster", lambda _: pa.array(["0"] * N)),
    "cluster out of range": column("cluster", lambda _: pa.array([2] + [0] * (N - 1), pa.int32())),
    "cluster enormous": column("cluster", lambda _: pa.array([2**31 - 1] + [0] * (N - 1), pa.int32())),
    "cluster negative": column("cluster", lambda _: pa.array([-1] + [0] * (N - 1), pa.int32())),
    "cluster with gaps": column("cluster", lambda _: pa.array([None] + [0] * (N - 1), pa.int32())),
    "second out of range": column("second_cluster", lambda _: pa.array([9] * N, pa.int32())),
    "confidence is a list": column("confidence", lambda _: pa.array([[0.5]] * N)),
    "confidence is NaN": column("confidence", lambda _: pa.array([float("nan")] * N, pa.float32())),
    "confidence above one": column("confidence", lambda _: pa.array([7.0] * N, pa.float32())),
    "id is a number": column("id", lambda _: pa.array(range(N))),
    "id with gaps": column("id", lambda _: pa.array([None, *map(str, range(N - 1))])),
    "label is a number": column("label", lambda _: pa.array(range(N))),
    "no such column": lambda table: table.drop_columns(["margin"]),
    "another table": lambda _: pa.table({"price": [1.0, 2.0]}),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_of_other_types_or_clusters_is_refused(
    run: Run, photos: Path, tmp_path: Path, refused: Callable[..., str], name: str
) -> None:
    pq.write_table(TABLES[name](pq.read_table(run / "assignments.parquet")), run / "assignments.parquet")
    asked = commands(run, photos, tmp_path)
    for command in ("score", "report", "export"):
        assert "assignments.parquet" in refused(*asked[command])


def test_a_table_that_would_unpack_to_far_more_than_its_file_is_refused(tmp_path: Path) -> None:
    n = 3_000_000
    rows = pa.table({"id": pa.array(["a"] * n), "cluster": pa.array(np.zeros(n, np.int32))})
    pq.write_table(rows, tmp_path / "assignments.parquet", compression="zstd")
    assert (tmp_path / "assignments.parquet").stat().st_size < 100_000
    with pytest.raises(ValueError, match=r"3,000,000 rows"):
        read_table(tmp_path / "assignments.parquet")


@pytest.mark.parametrize("line", ["garbage", "[1]", '"epoch"', '{"epoch": "one"}', "{}", '{"epoch": null}', "\x00"])
def test_a_line_of_the_log_that_is_no_epoch_is_a_sentence(run: Run, line: str) -> None:
    lines = (run / "log.jsonl").read_text().splitlines()
    (run / "log.jsonl").write_text("\n".join([lines[0], line, *lines[1:]]) + "\n")
    with pytest.raises(ValueError, match=r"log.jsonl'.*damaged") as caught:
        run.log()
    assert one_sentence(str(caught.value))
    found = collect(run.folder)  # a report can do without
    assert found["training"]["epoch"] == [] and any("log.jsonl" in note for note in found["made"]["notes"])


def test_known_labels_without_a_label_are_damaged(tmp_path: Path) -> None:
    (tmp_path / "known_labels.csv").write_text("id,label\na,disc\nb\n")
    with pytest.raises(ValueError, match=r"known_labels.csv'.*damaged"):
        read_known_labels(tmp_path / "known_labels.csv")


# ---- folders


@pytest.mark.parametrize("command", ALL)
def test_a_file_or_an_empty_folder_is_no_run(
    tmp_path: Path, photos: Path, refused: Callable[..., str], command: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("no run")
    for place in ("empty", "file", "nowhere"):
        if command == "resume" and place in ("empty", "nowhere"):
            continue  # there, --resume begins a run
        refused(*commands(Run(tmp_path / place), photos, tmp_path)[command])


def test_a_link_to_a_run_is_that_run(run: Run, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(run.folder)
    assert load_method(Run(tmp_path / "link").open()).n_clusters == 2


def test_a_run_with_a_link_to_another_folder_is_refused_so_that_nothing_there_is_cleared(
    run: Run, tmp_path: Path
) -> None:
    pictures = tmp_path / "my pictures"
    pictures.mkdir()
    (pictures / "large-1.webp").write_bytes(b"dear to me")
    shutil.rmtree(run / "thumbnails")
    (run / "thumbnails").symlink_to(pictures)
    with pytest.raises(ValueError, match="a link"):
        run.open()
    assert (pictures / "large-1.webp").is_file()


def pipe(place: Path) -> None:
    os.mkfifo(place)


def socket_at(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.open(place.parent, os.O_RDONLY)
        try:
            listening.bind(f"/proc/self/fd/{here}/{place.name}")  # the names of sockets must be short
        finally:
            os.close(here)


def endless(place: Path) -> None:
    place.symlink_to("/dev/zero")


def secret(place: Path) -> None:
    place.symlink_to("/etc/passwd")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="pipes and devices as Linux has them")
@pytest.mark.parametrize("command", ALL)
@pytest.mark.parametrize(
    ("file", "make", "kind"),
    [
        ("scores.json", pipe, "a pipe"), ("scores.json", endless, "a link"), ("assignments.csv", secret, "a link"),
        ("thumbnails/index.json", pipe, "a pipe"), ("log.jsonl", socket_at, "a socket"),
    ],
)  # fmt: skip
def test_a_run_with_a_link_or_a_pipe_inside_is_refused_by_every_command(
    run: Run, photos: Path, tmp_path: Path, refused: Callable[..., str], command: str, file: str, make: Any, kind: str
) -> None:
    (run / file).unlink(missing_ok=True)
    make(run / file)
    said = refused(*commands(run, photos, tmp_path)[command])
    assert str(run / file) in said and kind in said
    assert not (tmp_path / "a.csv").exists() and not (tmp_path / "r.html").exists()


def test_the_report_of_a_linked_run_is_made_and_one_with_a_link_inside_is_not(run: Run, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(run.folder)
    assert ilk.report(tmp_path / "link").is_file()
    (run / "map.npz").unlink(missing_ok=True)
    (run / "map.npz").symlink_to("/dev/zero")
    for out in (None, tmp_path / "r.html"):
        with pytest.raises(ValueError, match=r"map\.npz' is a link"):
            ilk.report(tmp_path / "link", out)


FOREIGN = {
    ".lock": b"precious", "notes.12-34.tmp": b"years of work", "config.json.12-34.tmp": b"{}", "photo.png": b"x",
}  # fmt: skip


@pytest.mark.parametrize("names", [tuple(FOREIGN), (".lock",), ("notes.12-34.tmp",)], ids=len)
@pytest.mark.parametrize("command", ["fit", "resume", "predict", "report", "score"])
def test_nothing_in_a_folder_of_somebody_else_is_touched(
    run: Run, photos: Path, tmp_path: Path, refused: Callable[..., str], command: str, names: tuple[str, ...]
) -> None:
    folder = tmp_path / "foreign"
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(FOREIGN[name])
    before = {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in folder.iterdir()}
    tiny = ["fit", photos, "--clusters", 2, "--epochs", 1, "--out", folder]
    words: dict[str, list[object]] = {
        "fit": tiny, "resume": [*tiny, "--resume"], "predict": ["predict", run, photos, "--out", folder],
        "report": ["report", folder], "score": ["score", folder],
    }  # fmt: skip
    assert str(folder) in refused(*words[command])
    assert {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in folder.iterdir()} == before


def test_in_a_run_only_the_leftovers_of_ilk_are_swept(run: Run) -> None:
    (run / "config.json.12-34.tmp").write_text("half")
    (run / "thumbnails" / "sheet-0.webp.12-34.tmp").write_text("half")
    (run / "notes.12-34.tmp").write_text("mine")
    with run.working():
        pass
    assert [file.name for file in run.folder.rglob("*.tmp")] == ["notes.12-34.tmp"]


def test_the_only_path_in_the_settings_that_is_read_must_hold_the_weights_of_then(run: Run, photos: Path) -> None:
    """`init.path` is read when a training that has no checkpoint yet goes on; whatever is there, it is compared."""
    from ilk.pipeline.build import build_method
    from ilk.pipeline.initial_weights import find_initial, start_from

    with pytest.raises(ValueError, match="pickle"):
        find_initial("/etc/passwd")
    with pytest.raises(ValueError, match="has changed since this run began"):
        start_from(build_method(run.config), find_initial(run.folder), expected="0" * 32)


@pytest.mark.parametrize("value", ["../../outside", "/tmp/outside", "..", "a/../../b"])
def test_no_setting_says_where_something_is_written(run: Run, photos: Path, tmp_path: Path, value: str) -> None:
    config = read_json(run / "config.json")
    for name in ("preset", "created", "predicted_with", "out", "folder"):
        config[name] = value
    config["source"]["name"] = value
    write_json(run / "config.json", config)
    before = {place for place in tmp_path.rglob("*") if run.folder not in place.parents}
    score_run(run)
    collect(run.folder)
    assert {place for place in tmp_path.rglob("*") if run.folder not in place.parents} == before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no umask")
def test_files_have_the_permissions_that_new_files_have_here(run: Run, tmp_path: Path) -> None:
    save_model(run, load_method(run))
    plain = tmp_path / "plain"
    plain.write_text("")
    wanted = plain.stat().st_mode & 0o777
    assert {file.name: file.stat().st_mode & 0o777 for file in run.folder.glob("*") if file.is_file()} == {
        file.name: wanted for file in run.folder.glob("*") if file.is_file()
    }


def test_a_link_in_the_place_of_a_temporary_file_is_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("years of work")
    with replacing(tmp_path / "a.txt") as temporary:
        name = temporary
    name.symlink_to(precious)
    with replacing(tmp_path / "a.txt") as temporary:
        assert temporary == name
        temporary.write_text("new")
    assert precious.read_text() == "years of work" and (tmp_path / "a.txt").read_text() == "new"


# ---- everything at random

MUTATIONS = 30  # of each file


def mutated(data: bytes, draw: random.Random) -> bytes:
    found = bytearray(data)
    kind = draw.randrange(4)
    if kind == 0:
        return bytes(found[: draw.randrange(len(found) + 1)])
    for _ in range(draw.choice((1, 1, 3, 20))):
        spot = draw.randrange(min(len(found), draw.choice((64, 1000, 10**9))))
        if kind == 1:
            found[spot] = draw.randrange(256)
        elif kind == 2:
            found[spot] ^= 1 << draw.randrange(8)
        else:
            found[spot : spot + draw.randrange(9)] = draw.randbytes(draw.randrange(9))
    return bytes(found)


def opened(run: Run) -> None:
    """Everything that is read of a finished run."""
    run.open()
    run.log()
    method = load_method(run)
    with torch.inference_mode():
        size = run.config.images
        y, z = method.eval().assign_and_embed(torch.zeros(2, size.channels, size.size, size.size))
    assert torch.isfinite(y).all() and torch.isfinite(z).all()
    score_run(run)
    collect(run.folder)
    Clusterer.load(run.folder, device="cpu")


def resumed(run: Run) -> None:
    from ilk.pipeline.build import build_method
    from ilk.training.checkpoints import load_checkpoint
    from ilk.training.optimizer import make_optimizer

    method = build_method(run.config)
    load_checkpoint(run / "checkpoint.pt", method, make_optimizer(method, run.config.train), torch.device("cpu"))


def complaint(read: Callable[[Run], None], run: Run) -> str | None:
    """The message with which a damaged run is refused; any other error is a defect."""
    try:
        read(run)
    except (ValueError, FileNotFoundError) as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    "file",
    ["config.json", "model.safetensors", "checkpoint.pt", "log.jsonl", "assignments.parquet", "embeddings.npy",
     "moments.npz", "scores.json", "bad_files.csv", "thumbnails/index.json", "thumbnails/sheet-0.webp"],
)  # fmt: skip
def test_a_file_with_random_damage_is_read_or_refused_with_a_sentence(run: Run, file: str) -> None:
    draw, data = random.Random(file), (run / file).read_bytes()
    read = resumed if file == "checkpoint.pt" else opened
    read(run)
    refusals = 0
    for number in range(MUTATIONS):
        (run / file).write_bytes(mutated(data, draw))
        said = complaint(read, run)
        refusals += said is not None
        assert said is None or ("\n" not in said and 20 < len(said) < 900), (number, said)
    assert refusals or file.startswith(("moments", "scores", "bad_files", "thumbnails"))
