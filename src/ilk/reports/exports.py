"""A run in the formats of other viewers: a Parquet file for Embedding Atlas, a folder for FiftyOne."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ilk.reports.folder import Results, read_run
from ilk.reports.neighbours import nearest, unit_rows
from ilk.reports.projection import find_map, principal_map
from ilk.reports.sprites import LOSSLESS_BELOW, PER_SHEET, Thumbnails, read_thumbnails, webp
from ilk.runs.unfinished import why_no_results
from ilk.system.files import replacing, write_json

NEIGHBOURS = 15
MOST_NEIGHBOURS = 50_000  # images; comparing all with all takes too long for more
FORMATS = ("embedding-atlas", "fiftyone")


def finished(folder: str | os.PathLike[str]) -> tuple[Results, Thumbnails | None]:
    """The results and the thumbnails of a finished run. Raises ValueError for one that has not finished."""
    files = read_run(folder)
    if files.results is None:
        raise ValueError(f"'{files.folder}' has no results. {why_no_results(files.folder, files.config)}")
    return files.results, read_thumbnails(files.folder, len(files.results))


def export_embedding_atlas(folder: str | os.PathLike[str], file: Path) -> dict[str, Any]:
    """Writes a Parquet file with one row per image and returns counts: rows, pictures, neighbours, map.

    Columns: id, path, cluster, confidence, label, x, y, image, neighbors. `image`: {bytes, path}, a WebP thumbnail or
    null. `neighbors`: {ids, distances} of the 15 nearest other images, nearest first, where an id is a row of the file
    and a distance is 1 - cosine; null for runs of more than 50,000 images. `x`, `y`: from the report's map if it has
    all images, else principal components.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if file.is_dir():
        raise IsADirectoryError(f"'{file}' is a folder; embedding-atlas needs a file, such as '{file}/atlas.parquet'.")
    results, thumbnails = finished(folder)
    n = len(results)
    plane = find_map(Path(folder), results.embedding, np.arange(n)) if n <= MOST_NEIGHBOURS else None
    plane = plane or principal_map(results.embedding)
    count = min(NEIGHBOURS, n - 1) if n <= MOST_NEIGHBOURS else 0
    near = nearest(unit_rows(results.embedding), range(1, count + 1)) if count else None
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    neighbour = pa.struct([("ids", pa.list_(pa.int64())), ("distances", pa.list_(pa.float32()))])
    schema = pa.schema([
        ("id", pa.string()), ("path", pa.string()), ("cluster", pa.int32()), ("confidence", pa.float32()),
        ("label", pa.string()), ("x", pa.float32()), ("y", pa.float32()), ("image", picture), ("neighbors", neighbour),
    ])  # fmt: skip
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for start in range(0, n, PER_SHEET):
            rows = np.arange(start, min(start + PER_SHEET, n))
            xy, small = plane.of(rows), dict(thumbnails_of(thumbnails, rows))
            lists = [None] * len(rows) if near is None else [
                {"ids": index.tolist(), "distances": (1 - cosine).tolist()}
                for index, cosine in zip(near[0][rows], near[1][rows], strict=True)
            ]  # fmt: skip
            columns = {
                "id": [results.ids[row] for row in rows],
                "path": [results.paths[row] for row in rows],
                "cluster": results.cluster[rows], "confidence": results.confidence[rows],
                "label": [label_of(results, row) for row in rows.tolist()],
                "x": xy[:, 0], "y": xy[:, 1],
                "image": [
                    {"bytes": small[row], "path": f"{row:06d}.webp"} if row in small else None for row in rows.tolist()
                ],
                "neighbors": lists,
            }  # fmt: skip
            arrays = [pa.array(columns[field.name], field.type) for field in schema]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
    return {
        "rows": n, "pictures": 0 if thumbnails is None else len(thumbnails.rows), "neighbours": near is not None,
        "map": plane.method,
    }  # fmt: skip


def label_of(results: Results, row: int) -> str | None:
    """The name of an image's label; None where it has none."""
    if results.label is None or results.label[row] < 0:
        return None
    return results.label_names[int(results.label[row])]


def thumbnails_of(thumbnails: Thumbnails | None, rows: np.ndarray) -> Iterator[tuple[int, bytes]]:
    """Pairs of a row and its thumbnail as a WebP file, for the rows that have one."""
    if thumbnails is None:
        return
    kept = rows[np.isin(rows, thumbnails.rows)]
    for row, picture in zip(kept.tolist(), thumbnails.cut(thumbnails.cells(kept)), strict=True):
        yield row, webp(picture, 80, lossless=thumbnails.tile < LOSSLESS_BELOW)


def export_fiftyone(folder: str | os.PathLike[str], out: Path) -> dict[str, Any]:
    """Writes a FiftyOneImageClassificationDataset to `out` and returns counts: images, thumbnails, left_out, labelled.

    `data.json` has the path of each image's file, so nothing is copied; images without a file of their own (from
    arrays or archives) get their thumbnail as a file in `thumbnails/`. `labels.json` has clusters and confidences, with
    id, second cluster, margin and place on the map as attributes; `truth.json` has the labels, if there are any.
    Images with neither a file nor a thumbnail are left out.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"'{out}' is not empty. Choose a new folder for the FiftyOne dataset.")
    results, thumbnails = finished(folder)
    n = len(results)
    plane = find_map(Path(folder), results.embedding, np.arange(n)) if n <= MOST_NEIGHBOURS else None
    xy = (plane or principal_map(results.embedding)).of(np.arange(n))
    own = np.array([bool(path) and os.path.isfile(path) for path in results.paths])
    drawn = np.zeros(n, dtype=bool)
    drawn[[] if thumbnails is None else thumbnails.rows] = True
    kept = np.flatnonzero(own | drawn)
    if not len(kept):
        raise ValueError(f"None of the {n:,} images of '{folder}' is a file on disk or has a thumbnail.")
    out.mkdir(parents=True, exist_ok=True)
    digits = max(2, len(str(len(results.clusters) - 1)))
    names = [f"cluster {cluster.number:0{digits}d}" for cluster in results.clusters]
    small = kept[~own[kept]]
    if len(small):
        (out / "thumbnails").mkdir()
        for row, data in thumbnails_of(thumbnails, small):
            (out / "thumbnails" / f"{row:06d}.webp").write_bytes(data)
    paths, labels, truth = {}, {}, {}
    for row in kept.tolist():
        key = f"{row:06d}"  # not a file name: FiftyOne would cut off what looks like an extension
        paths[key] = os.path.abspath(results.paths[row]) if own[row] else f"thumbnails/{key}.webp"
        labels[key] = {
            "label": int(results.cluster[row]), "confidence": round(float(results.confidence[row]), 6),
            "attributes": {
                "image_id": results.ids[row], "second": names[int(results.second[row])],
                "margin": round(float(results.margin[row]), 6), "x": float(xy[row, 0]), "y": float(xy[row, 1]),
            },
        }  # fmt: skip
        if results.label is not None and results.label[row] >= 0:
            truth[key] = int(results.label[row])
    write_json(out / "data.json", paths)
    write_json(out / "labels.json", {"classes": names, "labels": labels})
    if truth:
        write_json(out / "truth.json", {"classes": results.label_names, "labels": truth})
    return {"images": len(kept), "thumbnails": len(small), "left_out": n - len(kept), "labelled": len(truth)}


def fiftyone_lines(out: Path, *, labelled: bool) -> list[str]:
    """Lines of Python that open the dataset."""
    lines = [
        "import fiftyone as fo",
        "kind = fo.types.FiftyOneImageClassificationDataset",
        f"where = {str(out)!r}",
        "dataset = fo.Dataset.from_dir(where, kind, data_path='data.json', label_field='cluster', dynamic=True)",
    ]
    if labelled:
        lines.append(
            "dataset.merge_dir(where, kind, data_path='data.json', labels_path='truth.json', label_field='label')"
        )
    return [*lines, "fo.launch_app(dataset)"]
