"""What a run of studies has in common, the names of its pages, and the command that makes them again."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ilk.research.study.definition import Study, studies

DIGITS, FOLDER, ALL = "digits", Path("runs/studies"), "STUDIES"


@dataclass(frozen=True)
class StudySetting:
    """What is the same for all cells: the source, the views that T stands for, the seeds, and changed options."""

    source: str
    domain: str
    seeds: int
    changed: Mapping[str, Any]
    labels: str | None = None
    folder: Path = FOLDER

    def differs(self, study: Study) -> dict[str, Any]:
        """What differs from the study as defined. Pages with differences get names of their own."""
        differs: dict[str, Any] = dict(self.changed)
        differs |= {} if self.source == DIGITS else {"source": self.source}
        differs |= {"labels": self.labels} if self.labels else {}
        differs |= {"cells": study.picked} if study.picked else {}
        return differs | ({"file": study.file} if study.file and study.name in studies() else {})

    def stem(self, study: Study) -> str:
        """The name of the study's pages; a run with fewer seeds than the page has gets a page of its own."""
        differs = self.differs(study)
        usual = page_name(study.name, differs)
        if seeds_on(self.folder / f"{usual}.parquet") > self.seeds:
            return page_name(study.name, {**differs, "seeds": self.seeds})
        return usual

    def stem_of_all(self, chosen: Sequence[Study]) -> str:
        """The name of the page of all studies: STUDIES for those that come with ilk, unchanged."""
        whole = {study.name for study in chosen} == set(studies())
        differs: dict[str, Any] = {} if whole else {"studies": [study.file or study.name for study in chosen]}
        others = {study.name: self.stem(study) for study in chosen if self.stem(study) != study.name}
        differs |= {"stems": others} if others else {}
        return page_name(ALL, differs | ({"source": self.source} if differs and self.source != DIGITS else {}))

    def command(self, chosen: Sequence[Study]) -> str:
        """The command that makes the pages again, quoted for a shell."""
        whole = len(chosen) > 1 and [study.file or study.name for study in chosen] == list(studies())
        words = ["ilk", "study", "all" if whole else ",".join(study.file or study.name for study in chosen)]
        words += [] if self.source == DIGITS else ["--source", self.source]
        words += ["--labels", self.labels] if self.labels else []
        words += ["--seeds", str(self.seeds)]
        words += [word for name, value in self.changed.items() for word in (f"--{name}", str(value))]
        words += ["--cells", ",".join(chosen[0].picked)] if chosen[0].picked else []
        return shlex.join(words + ([] if self.folder == FOLDER else ["--out", str(self.folder)]))


def page_name(name: str, differs: Mapping[str, Any]) -> str:
    """`name`; with differences, also the source and a short hash of them."""
    if not differs:
        return name
    from ilk.research.labelled import short_name

    text = json.dumps(differs, sort_keys=True, default=str)
    words = [name, *([short_name(differs["source"])] if "source" in differs else [])]
    return "-".join([*words, hashlib.blake2b(text.encode(), digest_size=3).hexdigest()])


def seeds_on(file: Path) -> int:
    """How many seeds the rows of a page have; 0 if there is no page."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return len(pq.read_table(file, columns=["seed"])["seed"].unique())
    except (OSError, KeyError, pa.ArrowException):
        return 0
