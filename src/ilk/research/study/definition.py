"""What a study is, and how one is read from a TOML file."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError, create_model

from ilk.pipeline.options import field_of, options_of
from ilk.research import published
from ilk.research.options import STRICT, LabelledTraining
from ilk.system.progress import spell
from ilk.system.text import did_you_mean
from ilk.system.validation import sentence_of
from ilk.system.wording import python_words

SHIPPED = Path(__file__).parent / "studies"
KNN = "knn5"
SCORES = {"accuracy": "accuracy", "nmi": "NMI", "ari": "ARI", KNN: "accuracy of 5 nearest neighbours"}
COLUMNS = {"accuracy": "accuracy", "nmi": "nmi_arithmetic", "ari": "ari", KNN: KNN}  # of the rows of a grid
PRINTED_AS = {"accuracy": "acc", "nmi": "nmi", "ari": "ari", KNN: KNN}  # the columns of published tables
NOT_IN_FILES = ("minutes", "seed", "on")  # of a training: studies count epochs and get their seeds when they are run
TRAINING = ("method", *(name for name in options_of(LabelledTraining) if name not in NOT_IN_FILES))
TRAINING_KEYS: dict[str, Any] = {
    name: (field_of(LabelledTraining, name).annotation, field_of(LabelledTraining, name)) for name in TRAINING[1:]
}


class AboutConclusion(BaseModel):
    """The keys of a conclusion in a file."""

    model_config = STRICT

    claim: str
    order: str
    where: str = ""


class AboutCell(BaseModel):
    """The keys of a cell in a file, beside those of its training, which take the place of the study's."""

    model_config = STRICT

    name: str
    about: str = ""
    published: str = ""
    seconds: int | float = 0
    as_many_as: str = ""
    per_cluster: int = Field(1, ge=1)
    method: str = ""


class AboutStudy(BaseModel):
    """The keys of a study in a file, beside those of the training that all its cells share."""

    model_config = STRICT

    title: str
    question: str
    method: str
    cells: list[dict[str, Any]] = Field(min_length=1)
    conclusions: list[dict[str, Any]] = []
    paper: str = ""
    why: str = ""
    table: str = ""
    published: str = ""
    score: Literal["accuracy", "nmi", "ari", "knn5"] = "accuracy"
    rank: int = 99
    seconds: int | float = 30


FileCell = create_model("FileCell", __base__=AboutCell, **TRAINING_KEYS)
FileStudy = create_model("FileStudy", __base__=AboutStudy, **TRAINING_KEYS)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One line of a study's table. `training`: fields of a `Job`; `published`: the line of the published table.

    `as_many_as`: the cell whose number of images this one takes where `images` was meant for the digits alone.
    `per_cluster`: a batch has that many images a cluster.
    """

    name: str
    about: str
    training: Mapping[str, Any]
    seconds: float
    published: str | None = None
    as_many_as: str | None = None
    per_cluster: int | None = None


@dataclass(frozen=True, kw_only=True)
class Conclusion:
    """What a paper concludes: the cells in `order`, the best first. `where`: in which table or figure."""

    claim: str
    order: tuple[str, ...]
    where: str = ""

    @property
    def text(self) -> str:
        return " > ".join(self.order)


@dataclass(frozen=True, kw_only=True)
class Study:
    """A question, the trainings that answer it, and what was published about it.

    `why`: of the base settings. `score`: what conclusions are judged by. `published`: the ref of the table. `seconds`
    of a cell: one training on scikit-learn's digits, on one thread. `rank`: its place in a list. `file`: of a person's
    own study, as it was given. `picked`: the cells, where only some were asked for. `whole`: all its cells by name.
    """

    name: str
    rank: int
    title: str
    question: str
    paper: str
    why: str
    table: str
    published: str | None
    score: str
    cells: tuple[Cell, ...]
    conclusions: tuple[Conclusion, ...]
    file: str = ""
    picked: tuple[str, ...] = ()
    whole: Mapping[str, Cell] = field(default_factory=dict)

    def cell(self, name: str) -> Cell:
        return next(cell for cell in self.cells if cell.name == name)

    def chosen(self, names: list[str]) -> Study:
        """The study with those cells alone, and the conclusions about them. Raises ValueError for an unknown name."""
        known = [cell.name for cell in self.cells]
        for name in names:
            if name not in known:
                raise ValueError(
                    f"Study '{self.name}' has no cell '{name}'.{did_you_mean(name, known)} Known: {', '.join(known)}."
                )
        cells = tuple(cell for cell in self.cells if cell.name in names)
        kept = tuple(one for one in self.conclusions if set(one.order) <= set(names))
        picked = () if len(cells) == len(self.cells) else tuple(cell.name for cell in cells)
        return replace(self, cells=cells, conclusions=kept, picked=picked)

    def printed(self, cell: Cell) -> dict[str, dict[str, float]]:
        """The published figures of a cell, by data set."""
        if self.published is None or cell.published is None:
            return {}
        return published.find_table(self.published).scores_of(cell.published)


@functools.cache
def studies() -> dict[str, Study]:
    """The studies that ilk brings, by name, in an order of value: cheap and telling ones first."""
    found = [read_study(file, check=False) for file in sorted(SHIPPED.glob("*.toml"))]
    return {study.name: study for study in sorted(found, key=lambda study: (study.rank, study.name))}


def find_study(name: str) -> Study:
    """A study by its name, or of a file. Raises ValueError with the nearest name, or what is wrong in the file."""
    if name.endswith(".toml"):
        return replace(read_study(Path(name).expanduser()), file=name)
    if name not in studies():
        raise ValueError(
            f"There is no study '{name}'.{did_you_mean(name, studies())} Known: {', '.join(studies())}; or give a"
            " file of your own, NAME.toml."
        )
    return read_study(SHIPPED / f"{name}.toml")


def read_study(file: Path, *, check: bool = True) -> Study:
    """The study that a TOML file describes. Raises ValueError: the file, the key, and what is allowed.

    `check`: whether the settings of its trainings are looked at too, for which torch is loaded.
    """
    said = published.read_toml(file)
    where = f"'{file}'"
    check_keys(said, FileStudy, where)
    base = {key: said[key] for key in TRAINING if key in said}
    cells = tuple(read_cell(cell, base, said, where) for cell in said["cells"])
    for cell in cells if check else ():
        check_training(cell.training, f"{where}, cell '{cell.name}'")
    names = [cell.name for cell in cells]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{where}: two cells are called '{twice[0]}'. Give each its own name.")
    for cell in cells:
        if cell.as_many_as is not None and cell.as_many_as not in names:
            raise ValueError(f"{where}, cell '{cell.name}': as_many_as names the cell '{cell.as_many_as}'."
                             f"{did_you_mean(cell.as_many_as, names)} Known: {', '.join(names)}.")  # fmt: skip
    if "published" in said:
        check_published(said["published"], cells, where)
    conclusions = tuple(read_conclusion(conclusion, names, where) for conclusion in said.get("conclusions", []))
    texts = {key: said.get(key, "") for key in ("title", "question", "paper", "why", "table")}
    return Study(
        name=file.stem, rank=said.get("rank", 99), published=said.get("published"), cells=cells,
        score=said.get("score", "accuracy"), conclusions=conclusions,
        whole={cell.name: cell for cell in cells}, **texts,
    )  # fmt: skip


def read_cell(one: dict[str, Any], base: dict[str, Any], said: dict[str, Any], where: str) -> Cell:
    place = f"{where}, cell '{one.get('name', '?')}'"
    check_keys(one, FileCell, place)
    if not re.fullmatch(r"[^\s,>\"|]+( [^\s,>\"|]+)*", one["name"]):
        raise ValueError(f"{place}: a name is words without commas, quotes, > and |.")
    training = {**base, **{key: one[key] for key in TRAINING if key in one}}
    training["settings"] = {**base.get("settings", {}), **one.get("settings", {})}
    seconds = float(one.get("seconds", said.get("seconds", 30)))
    return Cell(
        name=one["name"], about=one.get("about", ""), training=training, seconds=seconds,
        published=one.get("published"), as_many_as=one.get("as_many_as"), per_cluster=one.get("per_cluster"),
    )  # fmt: skip


def read_conclusion(one: dict[str, Any], names: list[str], where: str) -> Conclusion:
    place = f"{where}, conclusion '{one.get('claim', '?')}'"
    check_keys(one, AboutConclusion, place)
    order = tuple(part.strip().strip("\"'") for part in one["order"].split(">"))
    if len(order) < 2:
        raise ValueError(f'{place}: order must be cells from best to worst, such as "A" > "B"; got {one["order"]!r}.')
    for name in order:
        if name not in names:
            raise ValueError(
                f"{place}: order names the cell '{name}'.{did_you_mean(name, names)} Known: {', '.join(names)}."
            )
    return Conclusion(claim=one["claim"], order=order, where=one.get("where", ""))


def check_keys(said: dict[str, Any], kind: type[BaseModel], where: str) -> None:
    """Raises ValueError for a key that is unknown, missing, of the wrong type or out of range."""
    try:
        kind.model_validate(said)
    except ValidationError as error:
        sentence = sentence_of(error, str, kind.model_fields, unknown="There is no key")
        raise ValueError(f"{where}: {sentence}") from None


def check_training(training: Mapping[str, Any], place: str) -> None:
    """Raises ValueError where no training could be like that; what the images decide is left open."""
    from ilk.research.grid import Job

    try:
        job_of(Job, training).request(10)
    except ValueError as error:
        raise ValueError(f"{place}: {python_words(str(error))}") from None


def job_of(make: Any, training: Mapping[str, Any], source: str = "digits", domain: str = "photo", **more: Any) -> Any:
    """`make`, a `Job`, of a cell's training; T in its views is what `domain` does, x the plain image."""
    asked = {**training, **more}
    if "views" in asked:
        asked["views"] = views_of(asked["views"], domain)
    return make(source=source, **asked)


def views_of(text: str, domain: str) -> str:
    """The name of views: "T+x" with "photo" is "photo+none", "T+T" is "photo"; other names stay as they are."""
    parts = text.split("+")
    if not set(parts) <= {"T", "x"}:
        return text
    names = [domain if part == "T" else "none" for part in parts]
    return names[0] if len(set(names)) == 1 else "+".join(names)


def check_published(ref: str, cells: tuple[Cell, ...], where: str) -> None:
    try:
        table = published.find_table(ref)
    except ValueError as error:
        raise ValueError(f"{where}, key 'published': {error}") from None
    known = list(dict.fromkeys(str(row.get("cell", row.get("method"))) for row in table.rows))
    for cell in cells:
        if cell.published is not None and cell.published not in known:
            raise ValueError(
                f"{where}, cell '{cell.name}': the table {ref} has no line '{cell.published}'."
                f"{did_you_mean(cell.published, known)} Known: {', '.join(known)}."
            )


def seconds_of(chosen: Sequence[Study], seeds: int) -> tuple[int, float]:
    """How many trainings the studies take together, those they share counted once, and their seconds on digits."""
    once: dict[str, float] = {}
    for study in chosen:
        for cell in study.cells:
            trained = {name: value for name, value in cell.training.items() if name != "read_out"}
            once[repr(sorted(trained.items(), key=str))] = cell.seconds
    return seeds * len(once), seeds * math.fsum(once.values())


def cost_line(study: Study, seeds: int) -> str:
    trainings, seconds = seconds_of([study], seeds)
    return f"{len(study.cells)} cells, {trainings} trainings, about {spell(seconds)} on digits and one thread"


def wanted(names: str, cells: str | None = None) -> list[Study]:
    """The studies of a command line: "all", or names or files with commas; of a single one perhaps some cells only."""
    asked = [name.strip() for name in names.split(",") if name.strip()]
    chosen = [find_study(name) for name in (studies() if asked == ["all"] else dict.fromkeys(asked))]
    known = [study.name for study in chosen]
    if twice := [study for study in chosen if known.count(study.name) > 1]:
        raise ValueError(
            f"Two of these studies are called '{twice[0].name}', and their pages would be too. Rename one file, or run"
            " them one after the other with an --out each."
        )
    if cells is None:
        return chosen
    if len(chosen) != 1:
        raise ValueError("Cells belong to one study. Name that study, or leave --cells out.")
    return [chosen[0].chosen([name.strip() for name in cells.split(",") if name.strip()])]
