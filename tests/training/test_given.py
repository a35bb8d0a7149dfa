"""Embeddings that were computed elsewhere train heads, in the order of the images, or are refused with a sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from sklearn.metrics import adjusted_rand_score

from ilk import load_images
from ilk.cli import main
from ilk.images import Images
from ilk.images.embeddings import read_embeddings, stand_ins
from ilk.runs.tables import read_table


def blobs(n: int = 90, d: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Directions of three classes, and the class of each row."""
    random = np.random.default_rng(0)
    kind = np.arange(n) % 3
    return (np.eye(3, d)[kind] + 0.1 * random.normal(size=(n, d))).astype(np.float32), kind


@pytest.fixture
def photos(tmp_path: Path) -> Images:
    for name in ("a", "b", "c", "d"):
        Image.new("RGB", (8, 8), (40 * ord(name) % 255, 90, 30)).save(tmp_path / f"{name}.png")
    return load_images(tmp_path, cache=False)


def write_rows(path: Path, ids: list[str], rows: np.ndarray) -> Path:
    pq.write_table(pa.table({"id": ids, "embedding": rows.tolist()}), path)
    return path


@pytest.mark.parametrize("kind", ["array", "tensor", "npy"])
def test_rows_in_order_are_taken_as_they_are(photos: Images, tmp_path: Path, kind: str) -> None:
    rows = blobs(4)[0]
    np.save(tmp_path / "e.npy", rows)
    source = {"array": rows, "tensor": torch.from_numpy(rows), "npy": tmp_path / "e.npy"}[kind]
    np.testing.assert_array_equal(read_embeddings(source, photos), rows)


def test_a_table_is_put_in_the_order_of_the_images(photos: Images, tmp_path: Path) -> None:
    rows = blobs(5)[0]
    path = write_rows(tmp_path / "e.parquet", ["d.png", "c.png", "x.png", "b.png", "a.png"], rows)
    np.testing.assert_array_equal(read_embeddings(path, photos), rows[[4, 3, 1, 0]])


def test_a_table_may_name_whole_paths(photos: Images, tmp_path: Path) -> None:
    rows = blobs(4)[0]
    path = write_rows(tmp_path / "e.parquet", list(reversed(photos.paths)), rows)
    np.testing.assert_array_equal(read_embeddings(path, photos), rows[::-1])


def test_file_names_that_fit_several_images_are_refused(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / "p" / folder).mkdir(parents=True)
        Image.new("L", (8, 8), len(folder)).save(tmp_path / "p" / folder / "same.png")
    path = write_rows(tmp_path / "e.parquet", ["same.png", "other.png"], blobs(2)[0])
    with pytest.raises(ValueError, match="fits several images"):
        read_embeddings(path, load_images(tmp_path / "p", cache=False))


def test_numbers_beyond_float16_are_scaled_and_keep_their_angles() -> None:
    rows = blobs(6)[0] * 1e9
    found = read_embeddings(rows, None)
    assert np.isfinite(found.astype(np.float16)).all()
    directions = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (found, rows)]
    np.testing.assert_allclose(*directions, rtol=1e-4)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (np.zeros((3, 5)), "3 rows and"),
        (np.zeros(4), "shape"),
        (np.zeros((4, 0)), "shape"),
        (np.array([["a"]] * 4), "numbers of shape"),
        (np.array([[1.0], [np.nan], [1.0], [np.inf]]), "2 rows of them"),
    ],
)
def test_what_does_not_fit_is_a_sentence(photos: Images, rows: np.ndarray, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_embeddings(rows, photos)


def test_files_that_are_no_embeddings_are_a_sentence(photos: Images, tmp_path: Path) -> None:
    (tmp_path / "e.npy").write_bytes(b"no array")
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "z.npz", a=np.zeros(3))
    (tmp_path / "z.npz").rename(tmp_path / "z.npy")
    pq.write_table(pa.table({"id": ["a.png"]}), tmp_path / "none.parquet")
    ragged = pa.table({"id": ["a.png", "b.png"], "e": [[1.0], [1.0, 2.0]]})
    pq.write_table(ragged, tmp_path / "ragged.parquet")
    (tmp_path / "e.csv").write_text("1,2")
    for name in ("e.npy", "o.npy", "z.npy", "none.parquet", "ragged.parquet", "e.csv"):
        with pytest.raises(ValueError, match=r"\.npy|lists of numbers|lengths|neither"):
            read_embeddings(tmp_path / name, photos)
    with pytest.raises(FileNotFoundError, match="no file of embeddings"):
        read_embeddings(tmp_path / "gone.npy", photos)


def test_embeddings_alone_are_clustered_and_new_ones_predicted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, kind = blobs()
    np.save(tmp_path / "e.npy", rows)
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> int:
        monkeypatch.setattr("sys.argv", ["ilk", *words])
        try:
            main()
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    words = ["fit", "--embeddings", "e.npy", "-k", "3", "--epochs", "5", "--out", "run", "-q", "--no-report"]
    assert call(*words) == 0
    found = read_table(tmp_path / "run" / "assignments.parquet")["cluster"].to_numpy()
    assert adjusted_rand_score(kind, found) == 1.0
    assert not (tmp_path / "run" / "flags.csv").exists()  # gray squares are nothing to judge
    assert call(*words, "--resume") == 0
    capsys.readouterr()
    np.savez(tmp_path / "images.npz", images=np.full((90, 8, 8), 7, np.uint8))
    assert call("predict", "run", "images.npz", "--out", "p", "-q", "--no-report") == 2
    assert "--embeddings" in capsys.readouterr().err
    assert call("predict", "run", "images.npz", "--embeddings", "e.npy", "--out", "p", "-q", "--no-report") == 0
    again = read_table(tmp_path / "p" / "assignments.parquet")["cluster"].to_numpy()
    np.testing.assert_array_equal(again, found)
    assert call("fit") == 2
    assert "Say which images" in capsys.readouterr().err


def test_stand_ins_are_as_many_as_the_rows() -> None:
    assert len(stand_ins(5)) == 5
    assert stand_ins(5).name == "embeddings (5 images)"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--backbone", "small"], "--backbone would do nothing. Leave it out"),
        (["--train", "all", "--views", "photo"], "--train all and --views would do nothing. Leave them out"),
        (["--init", "runs/a"], "--init"),
        (["--extra", "more"], "--extra"),
    ],
    ids=lambda words: words[0] if isinstance(words, list) else "",
)
def test_options_that_embeddings_do_without_are_refused_not_ignored(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "e.npy", blobs()[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["ilk", "fit", "--embeddings", "e.npy", "-k", "3", *words])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
