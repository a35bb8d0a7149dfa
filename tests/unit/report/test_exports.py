"""Exports to other viewers: a Parquet file as Embedding Atlas reads it, a folder as FiftyOne documents it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ilk.reports.exports import export_embedding_atlas, export_fiftyone, fiftyone_lines
from ilk.runs.folder import Run


def atlas(folder: Path, file: Path) -> Any:
    export_embedding_atlas(folder, file)
    return pq.read_table(file)


def load_fiftyone(folder: Path, labels: str = "labels.json") -> dict[str, tuple[Path, Any]]:
    """The dataset as FiftyOne's documentation of FiftyOneImageClassificationDataset has it read.

    `data.json` maps each UUID to a path, absolute or in the dataset's folder; `labels` has `classes` and,
    by UUID, a target: a class's index, or a dict of label, confidence and attributes.
    """
    paths = json.loads((folder / "data.json").read_text(encoding="utf-8"))
    found = json.loads((folder / labels).read_text(encoding="utf-8"))
    assert set(found) == {"classes", "labels"} and all(isinstance(name, str) for name in found["classes"])
    samples = {}
    for key, target in found["labels"].items():
        assert os.path.splitext(key)[1] == "" and os.sep not in key  # FiftyOne drops what looks like an ending
        target = target if isinstance(target, dict) else {"label": target}
        assert set(target) <= {"label", "confidence", "attributes"} and type(target["label"]) is int
        samples[key] = (folder / paths[key], {**target, "label": found["classes"][target["label"]]})
    return samples


def rows_of(run: Run) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(run / "assignments.parquet").to_pylist()
    return rows


def test_the_atlas_has_a_row_an_image_in_order_and_the_columns_it_reads(tmp_path: Path, run: Run) -> None:
    table = atlas(run.folder, tmp_path / "new" / "atlas.parquet")
    assert table.column_names == [
        "id", "path", "cluster", "confidence", "label", "x", "y", "image", "neighbors"
    ]  # fmt: skip
    assert table.schema.field("image").type == pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    assert {field.name for field in table.schema.field("neighbors").type} == {"ids", "distances"}
    for row, original in zip(table.to_pylist(), rows_of(run), strict=True):
        for name in ("id", "path", "cluster", "confidence", "label"):
            assert row[name] == original[name]
        assert np.isfinite([row["x"], row["y"]]).all()


def test_every_row_of_the_atlas_has_its_own_thumbnail(tmp_path: Path, run: Run) -> None:
    rows = atlas(run.folder, tmp_path / "atlas.parquet").to_pylist()
    for row in rows:
        with Image.open(BytesIO(row["image"]["bytes"])) as picture, Image.open(row["path"]) as file:
            assert picture.format == "WEBP" and picture.size == (12, 12)
            difference = np.abs(np.asarray(picture.convert("RGB"), float) - np.asarray(file.convert("RGB"), float))
        assert difference.max() == 0  # tiles as small as these are kept without loss
    assert len({row["image"]["path"] for row in rows}) == 60


def test_the_neighbours_of_the_atlas_are_rows_nearest_first_by_cosine_distance(tmp_path: Path, run: Run) -> None:
    rows = atlas(run.folder, tmp_path / "atlas.parquet").to_pylist()
    z = np.load(run / "embeddings.npy").astype(float)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    for i, row in enumerate(rows):
        ids, distances = row["neighbors"]["ids"], row["neighbors"]["distances"]
        assert len(ids) == len(distances) == 15 and i not in ids and len(set(ids)) == 15
        assert distances == sorted(distances)
        assert distances == pytest.approx([1 - z[i] @ z[j] for j in ids], abs=1e-3)


def test_an_atlas_of_many_images_leaves_neighbours_out_and_says_so(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ilk.reports.exports.MOST_NEIGHBOURS", 59)
    found = export_embedding_atlas(run.folder, tmp_path / "atlas.parquet")
    assert found == {"rows": 60, "pictures": 60, "neighbours": False, "map": "PCA"}
    assert pq.read_table(tmp_path / "atlas.parquet")["neighbors"].null_count == 60


def test_a_run_without_thumbnails_has_an_atlas_without_pictures(tmp_path: Path, run: Run) -> None:
    (run / "thumbnails" / "index.json").unlink()
    assert atlas(run.folder, tmp_path / "atlas.parquet")["image"].null_count == 60


def test_fiftyone_gets_every_image_with_its_file_cluster_and_label_and_no_copy(tmp_path: Path, run: Run) -> None:
    out = tmp_path / "new" / "dataset"
    assert export_fiftyone(run.folder, out) == {"images": 60, "thumbnails": 0, "left_out": 0, "labelled": 60}
    assert {file.name for file in out.iterdir()} == {"data.json", "labels.json", "truth.json"}
    clusters, labels = load_fiftyone(out), load_fiftyone(out, "truth.json")
    for i, row in enumerate(rows_of(run)):
        path, target = clusters[f"{i:06d}"]
        assert str(path) == row["path"] and path.is_file()
        assert target["label"] == f"cluster {row['cluster']:02d}"
        assert target["confidence"] == pytest.approx(row["confidence"], abs=1e-6)
        assert target["attributes"]["image_id"] == row["id"]
        assert target["attributes"]["margin"] == pytest.approx(row["margin"], abs=1e-6)
        assert labels[f"{i:06d}"] == (path, {"label": row["label"]})


def test_images_without_a_file_of_their_own_are_given_to_fiftyone_as_thumbnails(
    tmp_path: Path, written_run: Callable[..., Path]
) -> None:
    folder = written_run(tmp_path / "run", 20, 2, labels=False)
    found = export_fiftyone(folder, tmp_path / "dataset")
    assert found == {"images": 20, "thumbnails": 20, "left_out": 0, "labelled": 0}
    assert not (tmp_path / "dataset" / "truth.json").exists()
    for path, _ in load_fiftyone(tmp_path / "dataset").values():
        with Image.open(path) as picture:
            assert picture.size == (16, 16)
    bare = written_run(tmp_path / "bare", 20, 2, pictures=False)
    with pytest.raises(ValueError, match="None of the 20 images"):
        export_fiftyone(bare, tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_the_lines_for_fiftyone_name_the_files_that_were_made(tmp_path: Path) -> None:
    lines = "\n".join(fiftyone_lines(tmp_path / "it's", labelled=True))
    compile(lines, "lines", "exec")
    assert (
        "data_path='data.json'" in lines
        and "labels_path='truth.json'" in lines
        and repr(str(tmp_path / "it's")) in lines
    )
    assert "truth" not in "\n".join(fiftyone_lines(tmp_path, labelled=False))


def test_nothing_is_exported_into_what_is_there_or_from_what_is_not_finished(
    tmp_path: Path, run: Run, written_run: Callable[..., Path]
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    with pytest.raises(FileExistsError, match="is not empty"):
        export_fiftyone(run.folder, tmp_path / "full")
    with pytest.raises(IsADirectoryError, match="folder.*embedding-atlas"):
        export_embedding_atlas(run.folder, tmp_path / "full")
    stopped = written_run(tmp_path / "stopped", finished=False)
    for export, target in ((export_fiftyone, tmp_path / "d"), (export_embedding_atlas, tmp_path / "a.parquet")):
        with pytest.raises(ValueError, match="not finished"):
            export(stopped, target)
        assert not target.exists()
