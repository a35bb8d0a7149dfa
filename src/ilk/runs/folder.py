"""The folder of one training: its settings, its log and its results. Every write is atomic."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ilk.runs.config import FORMAT, Plan, read_plan
from ilk.runs.entries import is_leftover, refuse_odd_entries
from ilk.runs.unfinished import predicted_with, state_of
from ilk.system.files import read_json, read_json_lines, room_for, sweep, write_json, write_text
from ilk.system.lock import held

SELECTION = "selection.json"  # which epoch's model it is, where it is not the last one's
LAST = ("scores.json", "report.html")  # written after the assignments, which mark a run as finished


class Run:
    """A run folder: `config.json`, `log.jsonl`, `checkpoint.pt`, `model.safetensors` and the results."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    def __str__(self) -> str:
        return str(self.folder)

    @property
    def exists(self) -> bool:
        return (self / "config.json").is_file()

    @property
    def finished(self) -> bool:
        return (self / "assignments.parquet").is_file()

    def lacks(self, *, report: bool) -> list[str]:
        """Which of the files that are made after the assignments are not there."""
        return [name for name in LAST if not (self / name).is_file() and (report or name != "report.html")]

    def refuse_used(self, but: Iterable[str] = ()) -> None:
        """Raises FileExistsError if there is something in the folder already, files named in `but` left aside."""
        if self.exists:
            resumable = state_of(self.folder) != "model" and predicted_with(self.folder) is None
            further = ", or add --resume to go on with it" if resumable else ""
            raise FileExistsError(f"'{self.folder}' is not empty: it holds a run. Choose another --out{further}.")
        if self.folder.exists() and (
            not self.folder.is_dir()
            or any(place.name not in but and not is_leftover(place) for place in self.folder.iterdir())
        ):
            what = "not empty" if self.folder.is_dir() else "a file"
            raise FileExistsError(f"'{self.folder}' is {what}. Choose another folder, one that does not exist yet.")

    @contextmanager
    def working(self, *, begun: Iterable[str] = ()) -> Iterator[None]:
        """A block in which no other process may write here, and before which leftovers of killed ones are removed.

        The lock ends with its process, however that ends. A folder that is neither a run nor new or empty is refused
        before anything in it is touched. `begun`: names of entries that ilk writes before it counts as a run.
        Raises InUse, FileExistsError or ValueError, each a sentence.
        """
        if self.exists:
            refuse_odd_entries(self.folder)
        else:
            self.refuse_used(but=begun)
        with held(self.folder):
            for place in (self.folder, self / "thumbnails"):
                if place.is_dir() and not place.is_symlink():
                    sweep(place, only=is_leftover)
            yield

    def create(self) -> None:
        """Makes the folder. Raises FileExistsError if something is already in it."""
        self.refuse_used()
        self.folder.mkdir(parents=True, exist_ok=True)

    def open(self) -> Run:
        """This run, if it is one. Raises FileNotFoundError or ValueError with a sentence."""
        if self.folder.is_file():
            raise ValueError(f"'{self.folder}' is a file, not a run folder.")
        if not self.folder.is_dir():
            raise FileNotFoundError(
                f"There is no run folder '{self.folder}'. Make one with: ilk fit SOURCE --clusters K"
            )
        if not self.exists:
            raise FileNotFoundError(f"'{self.folder}' is not a run folder: it has no config.json.")
        refuse_odd_entries(self.folder)
        _ = self.config
        return self

    @property
    def config(self) -> Plan:
        """What was decided for this run, read from config.json. Raises ValueError, a sentence, if it is damaged."""
        file = self / "config.json"
        return read_plan(read_json(file), file)

    def write_config(self, plan: Plan) -> None:
        """Writes config.json, from which the folder counts as a run."""
        write_json(self / "config.json", {"format": FORMAT, **plan.as_dict()})

    def log(self) -> list[dict[str, Any]]:
        """The records of the epochs so far; a half-written last line is left out."""
        file = self / "log.jsonl"
        records = read_json_lines(file) if file.is_file() else []
        for record in records:
            epoch = record.get("epoch")
            if not isinstance(epoch, int) or epoch < 1:
                raise ValueError(f"'{file}' is damaged: it has a line without an epoch. Delete that line, or the file.")
        return records

    def append_log(self, record: dict[str, Any]) -> None:
        file = self / "log.jsonl"
        with room_for(file), open(file, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(record) + "\n")

    def cut_log(self, epochs: int) -> None:
        """Forgets the records of epochs after `epochs`, which a resumed run will do again."""
        kept = [record for record in self.log() if record["epoch"] <= epochs]
        write_text(self / "log.jsonl", "".join(json.dumps(record) + "\n" for record in kept))


def free_name(parent: Path, stem: str, *, but: str | None = None) -> Path:
    """`parent/stem`, or with the first number behind it that is free or holds the file `but`."""
    candidates: Iterable[Path] = (parent / (stem if i == 1 else f"{stem}-{i}") for i in range(1, 1_000_000))
    return next(path for path in candidates if not path.exists() or (but is not None and (path / but).is_file()))
