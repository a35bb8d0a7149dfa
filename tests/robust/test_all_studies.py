"""All studies that come with ilk, judged, written and drawn with made-up scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import ilk.research.study.train_cells
from ilk.research.study import studies, wanted
from ilk.research.study.train_cells import Options, run_studies
from made_studies import ablation, made


def test_the_page_of_all_studies_stays_where_some_are_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ilk.research.study.train_cells, "run_jobs", made(ablation))
    monkeypatch.setattr(ilk.research.study.train_cells, "nearest_neighbours", lambda run: 0.5)

    def digits(names: str, **options: Any) -> None:
        run_studies(wanted(names), tmp_path, Options(**options))

    digits("all", seeds=2)
    text = (tmp_path / "STUDIES.md").read_text()
    assert "`ilk study all --seeds 2 --out " in text and text.count("\n## ") == len(studies())
    assert "**What the papers conclude**: of " in text and "**What we expected, and no paper says**: of " in text
    expected = sum(not one.where for study in studies().values() for one in study.conclusions)
    assert text.split("no paper says**: of ")[1].startswith(f"{expected}, ")
    digits("cc-views,cc-heads", seeds=2)
    assert (tmp_path / "STUDIES.md").read_text() == text and len(list(tmp_path.glob("STUDIES-*.md"))) == 1
