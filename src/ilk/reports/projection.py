"""The map: embeddings in two dimensions, by principal components, UMAP or openTSNE."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ilk.system.files import replacing

FILE = "map.npz"
FIT_ON = 20_000  # rows that the principal components are computed from
CHUNK = 16_384  # rows projected together
LEAST = 10  # images that UMAP and openTSNE need
METHODS = {"pca": "PCA", "umap": "UMAP", "tsne": "openTSNE"}
STEPS = 65_535  # the length of the longer axis in whole numbers


@dataclass(frozen=True)
class Map:
    """The coordinates of some rows."""

    method: str  # PCA, UMAP or openTSNE
    note: str
    rows: np.ndarray  # (m,) int64, ascending
    xy: np.ndarray  # (m, 2) float32

    def of(self, rows: np.ndarray) -> np.ndarray:
        """The coordinates of `rows`, (len(rows), 2); all of them must be on the map."""
        return self.xy[np.searchsorted(self.rows, rows)]


def principal(embedding: np.ndarray) -> tuple[np.ndarray, float]:
    """The first two principal components of each row, (n, 2) float32, and their share of the variance.

    Computed from up to 20,000 evenly spaced rows. The sign of an axis makes its largest weight positive.
    """
    n = len(embedding)
    chosen = np.arange(n) if n <= FIT_ON else np.linspace(0, n - 1, FIT_ON).round().astype(np.int64)
    sample = np.asarray(embedding[chosen], dtype=np.float32)
    mean = sample.mean(0)
    sample -= mean
    values, vectors = np.linalg.eigh((sample.T @ sample).astype(np.float64))
    axes = vectors[:, ::-1][:, :2]
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
    xy = np.zeros((n, 2), dtype=np.float32)
    for start in range(0, n, CHUNK):
        part = np.asarray(embedding[start : start + CHUNK], dtype=np.float32) - mean
        xy[start : start + CHUNK, : axes.shape[1]] = part @ axes.astype(np.float32)
    total = float(values.clip(0).sum())
    share = float(values[::-1][:2].clip(0).sum()) / total if total > 1e-12 else 0.0
    return xy, share


def find_map(folder: Path, embedding: np.ndarray, rows: np.ndarray, method: str | None = None) -> Map:
    """The map of `rows`: the one saved in the run folder if it is of these embeddings, else a new one, saved there.

    `method`: "pca", "umap" or "tsne"; None for the saved map, or else principal components. Raises ValueError for an
    unknown method, for one that is not installed and for UMAP or openTSNE of fewer than 10 images.
    """
    wanted = None if method is None else known_method(method)
    key = fingerprint(embedding)
    saved = load_map(folder / FILE, key)
    if saved is not None and wanted in (None, saved.method) and np.isin(rows, saved.rows).all():
        return saved
    if wanted in (None, "PCA"):
        made = principal_map(embedding)
        if wanted is None and saved is not None:
            return made  # without saving it: the saved map, of other images, took long to make
    else:
        made = neighbour_map(embedding, rows, wanted)
    try:
        with replacing(folder / FILE) as temporary, open(temporary, "wb") as file:
            np.savez(file, key=key, method=made.method, note=made.note, rows=made.rows, xy=made.xy)
    except OSError:
        pass  # the report of a read-only folder can be written elsewhere
    return made


def known_method(name: str) -> str:
    """The name of a method as people know it. Raises ValueError for an unknown one."""
    if name not in METHODS:
        raise ValueError(f"Unknown map '{name}'. Use {', '.join(METHODS)}.")
    return METHODS[name]


def principal_map(embedding: np.ndarray) -> Map:
    """The map of all rows by their first two principal components."""
    xy, share = principal(embedding)
    note = f"first two principal components of the embeddings, {share:.0%} of the variance"
    return Map("PCA", note, np.arange(len(embedding)), xy)


def neighbour_map(embedding: np.ndarray, rows: np.ndarray, method: str) -> Map:
    """The map of `rows` by UMAP or openTSNE with a fixed seed. Raises ValueError where that is not possible."""
    if len(rows) < LEAST:
        raise ValueError(f"{method} needs at least {LEAST} images; there are {len(rows)}. Use the map pca.")
    reduce = {"UMAP": by_umap, "openTSNE": by_opentsne}[method]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            xy, version = reduce(np.asarray(embedding[rows], dtype=np.float32))
    except ImportError:
        raise ValueError(
            f"The map by {method} needs a package that is not installed. Install it with: pip install 'ilk[map]'"
        ) from None
    if xy.shape != (len(rows), 2) or not np.isfinite(xy).all():
        raise ValueError(f"{method} gave no place to some of the images. Use the map pca.")
    return Map(method, f"{method} {version} of the embeddings by cosine; axes have no unit", rows, xy)


def by_umap(embedding: np.ndarray) -> tuple[np.ndarray, str]:
    """Coordinates, (n, 2) float32, and the version of umap-learn."""
    import umap

    reducer = umap.UMAP(metric="cosine", n_neighbors=min(15, len(embedding) - 1), random_state=0)
    return np.asarray(reducer.fit_transform(embedding), dtype=np.float32), str(umap.__version__)


def by_opentsne(embedding: np.ndarray) -> tuple[np.ndarray, str]:
    """Coordinates, (n, 2) float32, and the version of openTSNE."""
    import openTSNE

    perplexity = min(30, (len(embedding) - 1) / 3)
    fitted = openTSNE.TSNE(metric="cosine", perplexity=perplexity, random_state=0).fit(embedding)
    return np.asarray(fitted, dtype=np.float32), str(openTSNE.__version__)


def fingerprint(embedding: np.ndarray) -> str:
    """A hash of the shape and of up to 4,096 evenly spaced rows, which tells whether a saved map fits."""
    chosen = np.linspace(0, len(embedding) - 1, min(len(embedding), 4096)).round().astype(np.int64)
    digest = hashlib.blake2b(repr(embedding.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(embedding[chosen]).tobytes())
    return digest.hexdigest()


def load_map(file: Path, key: str) -> Map | None:
    """The saved map; None if it is damaged or of embeddings with another fingerprint."""
    if not file.is_file():
        return None
    try:
        with np.load(file, allow_pickle=False) as saved:
            loaded = Map(str(saved["method"]), str(saved["note"]), saved["rows"], saved["xy"])
            own = str(saved["key"]) == key
    except Exception:  # numpy and zipfile raise several kinds for a damaged file; the map is made again
        return None
    fits = loaded.rows.ndim == 1 and loaded.xy.shape == (len(loaded.rows), 2) and np.isfinite(loaded.xy).all()
    return loaded if own and fits else None


def whole_numbers(xy: np.ndarray) -> tuple[np.ndarray, float]:
    """The coordinates as whole numbers from 0 to 65,535, with one scale for both axes, and the length of one step."""
    if not len(xy):
        return np.zeros((0, 2), dtype=np.int64), 0.0
    low, high = xy.min(0).astype(np.float64), xy.max(0).astype(np.float64)
    step = float((high - low).max()) / STEPS
    if step < 1e-12:
        return np.full(xy.shape, (STEPS + 1) // 2, dtype=np.int64), 0.0
    middle = (low + high) / 2
    return np.rint((xy - middle) / step + STEPS / 2).clip(0, STEPS).astype(np.int64), step


def read_moments(file: Path, epochs: int, n: int) -> dict[str, Any] | None:
    """Where some images were during training: `rows`, and `moments` of epoch, title, xy (m, 2) and cluster (m,).

    None for a run without the file. The principal components of each moment are rotated to fit those of the last one
    (orthogonal Procrustes). Raises ValueError for a damaged file.
    """
    if not file.is_file():
        return None
    try:
        with np.load(file, allow_pickle=False) as saved:
            rows, when = saved["rows"], saved["epochs"]
            embedding, cluster = saved["embedding"].astype(np.float32), saved["cluster"]
    except Exception as error:  # numpy and zipfile raise several kinds
        raise ValueError(f"'{file}' is damaged ({type(error).__name__}), so the moments are not shown.") from None
    fits = embedding.ndim == 3 and embedding.shape[:2] == (len(when), len(rows)) == cluster.shape
    if not fits or not len(when) or not np.isfinite(embedding).all() or rows.min() < 0 or rows.max() >= n:
        raise ValueError(f"'{file}' is damaged or of another run, so the moments are not shown.")
    order = np.argsort(when)
    planes = [principal(embedding[i])[0] for i in order]
    last = planes[-1] - planes[-1].mean(0)
    moments = []
    for i, plane in zip(order, planes, strict=True):
        left, _, right = np.linalg.svd((plane - plane.mean(0)).T @ last)
        epoch = int(when[i])
        moments.append({
            "epoch": epoch, "title": title_of(epoch, epochs), "xy": plane @ (left @ right),
            "cluster": None if (cluster[i] < 0).any() else cluster[i].astype(np.int64),
        })  # fmt: skip
    return {"rows": rows.astype(np.int64), "moments": moments}


def title_of(epoch: int, epochs: int) -> str:
    """What a moment is called."""
    if epoch == 0:
        return "before training"
    return f"after epoch {epoch} of {epochs}" if epoch < epochs else f"at the end, epoch {epoch}"
