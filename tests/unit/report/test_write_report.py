"""One file, written whole or not at all, without torch and without the source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ilk.reports import write_report

Written = Callable[..., Path]


def test_the_report_is_one_file_in_the_run_folder(run_folder: Path) -> None:
    before = {file.name for file in run_folder.iterdir()}
    assert write_report(run_folder) == run_folder / "report.html"
    assert {file.name for file in run_folder.iterdir()} - before == {"report.html", "map.npz"}
    text = (run_folder / "report.html").read_text(encoding="utf-8")
    assert text.startswith("<!") and "000000.jpg" in text and "data:image/webp;base64," in text


def test_the_same_run_gives_the_same_report(run_folder: Path) -> None:
    first = write_report(run_folder).read_bytes()
    assert write_report(run_folder).read_bytes() == first


def test_the_report_goes_where_it_is_asked_to(tmp_path: Path, run_folder: Path) -> None:
    out = tmp_path / "new folder" / "für Anna.html"
    assert write_report(run_folder, out) == out and out.stat().st_size > 10_000
    assert not (run_folder / "report.html").exists()
    with pytest.raises(IsADirectoryError, match="folder.*--out"):
        write_report(run_folder, tmp_path)


def test_a_report_that_fails_leaves_the_one_before(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = write_report(run_folder).read_bytes()

    def fail(*_: Any) -> Any:
        raise ValueError("no")

    monkeypatch.setattr("ilk.reports.page.render", fail)
    with pytest.raises(ValueError, match="no"):
        write_report(run_folder)
    assert (run_folder / "report.html").read_bytes() == before
    assert not list(run_folder.glob("*.tmp"))


@pytest.mark.parametrize(
    "made", [{"finished": False}, {"n": 3, "k": 2}, {"n": 1, "k": 2}, {"labels": False, "pictures": False}]
)
def test_every_kind_of_run_has_a_report(tmp_path: Path, written_run: Written, made: dict[str, Any]) -> None:
    assert write_report(written_run(tmp_path / "run", **made)).stat().st_size > 10_000
