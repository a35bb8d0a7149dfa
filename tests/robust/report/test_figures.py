"""The static figures: every plot of a report as SVG and PNG, readable by the colour-blind and by a machine."""

from __future__ import annotations

import builtins
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image

from ilk.reports.figures import FIGURES, OKABE_ITO, write_figures
from made_trees import with_number

Written = Callable[..., Path]

pytest.importorskip("matplotlib")
AXES = {
    "map": ["first principal component (unit: embedding length)", "second principal component (same unit)"],
    "k-curve": ["clusters (number)", "gain (nats; silhouette -1 to 1)", "chosen: 6", "nearly as good", "views"],
    "training": ["epoch (passes over the images)", "loss term (nats, mean of the epoch)"],
    "usage": ["effective clusters (number)", "mean confidence (probability)"],
    "pairs": ["mean cosine similarity (-1 to 1)"],
    "moments": ["first component (no unit)", "before training", "at the end, epoch 6"],
    "affinity-samples": ["cosine similarity of embeddings (-1 to 1)", "cluster of the image (number)"],
    "affinity-clusters": ["cosine similarity of mean embeddings (-1 to 1)", "cluster (number)"],
    "confidence": ["images (number)", "confidence (the model's probability of its cluster)"],
    "reliability": ["mean confidence of a bin (probability)", "accuracy in the bin (part of images)"],
    "confusion": ["label", "images (number)", "kind 0"],
    "sizes": ["images (number)", "cluster (number), largest first"],
}


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """PNGs of few pixels, which are drawn faster."""
    monkeypatch.setattr("ilk.reports.figures.DOTS_PER_INCH", 20)


def texts(file: Path) -> set[str]:
    """The words in an SVG."""
    return {"".join(one.itertext()).strip() for one in ElementTree.parse(file).iter() if one.tag.endswith("}text")}


def test_every_plot_is_written_as_svg_and_png_with_its_axes_named(tmp_path: Path, run_folder: Path) -> None:
    with_number(run_folder, views=True)
    written = write_figures(run_folder, tmp_path / "figures")
    assert {file.name for file in written} == {f"{name}.{ending}" for name in FIGURES for ending in ("svg", "png")}
    assert set(written) == set((tmp_path / "figures").iterdir())
    assert set(AXES) == set(FIGURES)
    for name, titles in AXES.items():
        found = texts(tmp_path / "figures" / f"{name}.svg")
        assert set(titles) <= found, name
        with Image.open(tmp_path / "figures" / f"{name}.png") as picture:
            assert picture.width >= 900 and len(picture.convert("RGB").getcolors(1 << 24) or []) > 10


@pytest.mark.usefixtures("coarse")
def test_clusters_have_the_colours_of_okabe_and_ito(tmp_path: Path, run_folder: Path) -> None:
    write_figures(run_folder, tmp_path)
    text = (tmp_path / "map.svg").read_text().lower()
    assert all(colour.lower() in text for colour in OKABE_ITO[:3])


@pytest.mark.usefixtures("coarse")
@pytest.mark.parametrize(("n", "k"), [(1, 2), (3, 2), (40, 1), (300, 50)])
def test_small_runs_and_many_clusters_have_figures(tmp_path: Path, written_run: Written, n: int, k: int) -> None:
    written = write_figures(written_run(tmp_path / "run", n, k), tmp_path / "figures")
    assert {file.stem for file in written} >= {"map", "confidence", "sizes", "affinity-clusters"}


@pytest.mark.usefixtures("coarse")
def test_only_plots_that_there_is_something_for_are_drawn(tmp_path: Path, written_run: Written) -> None:
    stopped = write_figures(written_run(tmp_path / "a", finished=False), tmp_path / "stopped")
    assert {file.stem for file in stopped} == {"training", "usage", "pairs"}
    bare = write_figures(written_run(tmp_path / "b", labels=False, moments=False), tmp_path / "bare")
    assert {file.stem for file in bare} == set(FIGURES) - {"k-curve", "moments", "reliability", "confusion"}


@pytest.mark.usefixtures("coarse")
def test_labels_with_markup_or_formulas_are_drawn_as_they_are(tmp_path: Path, written_run: Written) -> None:
    folder = written_run(tmp_path / "run")
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(folder / "assignments.parquet")
    hostile = ["<script>x</script>", "$\\frac{", "two\nlines", None]
    labels = pa.array([hostile[i % 4] for i in range(60)], pa.string())
    pq.write_table(table.set_column(table.column_names.index("label"), "label", labels), folder / "assignments.parquet")
    write_figures(folder, tmp_path / "figures")
    svg = (tmp_path / "figures" / "confusion.svg").read_text()
    assert "<script" not in svg and {"<script>x</script>", "$\\frac{", "two lines"} <= texts(
        tmp_path / "figures" / "confusion.svg"
    )


@pytest.mark.usefixtures("coarse")
def test_the_same_run_gives_the_same_svg(tmp_path: Path, run_folder: Path) -> None:
    for name in ("a", "b"):
        write_figures(run_folder, tmp_path / name)
    for name in ("sizes", "confusion", "training"):
        assert (tmp_path / "a" / f"{name}.svg").read_bytes() == (tmp_path / "b" / f"{name}.svg").read_bytes()
        assert not re.search(r"20\d\d-\d\d-\d\d", (tmp_path / "a" / f"{name}.svg").read_text())


def test_without_matplotlib_there_is_a_sentence(
    tmp_path: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *rest, **more)

    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ValueError, match=r"matplotlib.*pip install 'ilk\[figures\]'"):
        write_figures(run_folder, tmp_path / "figures")
    assert not (tmp_path / "figures").exists()
