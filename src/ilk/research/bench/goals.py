"""The goals of speed and memory: how many times faster than other libraries, and below which limits."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ilk.research.bench import memory
from ilk.research.bench.timing import Measurement

IMPORT, HELP = 0.15, 0.3  # seconds
BYTES_PER_IMAGE = 250  # for names, paths and order; its pixels take 3,072


class Ratio(NamedTuple):
    part: str
    ours: str  # how the name of the measurement begins
    theirs: str
    least: float
    where: tuple[str, ...]  # how both names end


RATIOS = (
    Ratio("views", "ilk linear, 32 px, ", "torchvision, 32 px, ", 20, ("one core",)),
    Ratio("views", "ilk linear, 32 px, ", "kornia, 32 px, ", 8, ("one core", "GPU")),
    Ratio("views", "ilk linear, 224 px, ", "torchvision, 224 px, ", 8, ("one core",)),
    Ratio("views", "ilk, 32 px, ", "torchvision, 32 px, ", 20, ("one core",)),
    Ratio("views", "ilk, 32 px, ", "kornia, 32 px, ", 8, ("one core", "GPU")),
    Ratio("views", "ilk, 224 px, ", "torchvision, 224 px, ", 8, ("one core",)),
    Ratio("decode", "ilk, folder -> 96 px, ", "torchvision ImageFolder -> 96 px, ", 2, ("one core",)),
    Ratio("decode", "ilk, folder -> 224 px, ", "torchvision ImageFolder -> 224 px, ", 2, ("one core",)),
)
STEP = 4  # times as fast as the plain loop
NEARLY = 0.8  # of the speed of decoding alone


@dataclass(frozen=True)
class Goal:
    """A goal and what was measured; `value` None: not measured here. `spread`: the lowest and highest repeat."""

    part: str
    text: str
    wanted: float
    at_least: bool
    value: float | None
    spread: tuple[float, float] | None = None

    @property
    def reached(self) -> bool | None:
        if self.value is None:
            return None
        return self.value >= self.wanted if self.at_least else self.value <= self.wanted


def judge_goals(lines: Sequence[Measurement], parts: Sequence[str]) -> list[Goal]:
    """The goals of the parts that were measured."""
    goals = [*ratios(lines), *steps(lines), *limits(lines)]
    return [goal for goal in goals if goal.part in parts]


def ratios(lines: Sequence[Measurement]) -> Iterator[Goal]:
    for part, ours, theirs, least, where in RATIOS:
        for place in where:
            a, b = find_measurement(lines, part, ours + place), find_measurement(lines, part, theirs + place)
            if a is not None and b is not None:
                yield against(part, f"{a.name} : {theirs.split(' ')[0].rstrip(',')}", a, b, least)
    alone = [line for line in lines if line.part == "predict" and line.name.startswith("ilk, folder decoded")]
    for a, b in zip(alone[1:], alone, strict=False):
        yield against("predict", "decoding and assigning a folder : decoding alone", a, b, NEARLY)


def steps(lines: Sequence[Measurement]) -> Iterator[Goal]:
    for plain in lines:
        ours = find_measurement(lines, "train", "ilk" + plain.name.removeprefix("plain"))
        if plain.part == "train" and plain.name.startswith("plain") and ours is not None:
            yield against("train", f"{ours.name} : plain float32 loop", ours, plain, STEP)
    counted = [line.more["waits"] for line in lines if "waits" in line.more]
    if counted:
        most = max(waits.get("_local_scalar_dense", 0.0) for waits in counted)
        yield Goal("train", "calls of .item() in a step", 0, False, most)


def limits(lines: Sequence[Measurement]) -> Iterator[Goal]:
    for name, most in (("import ilk", IMPORT), ("ilk --help", HELP)):
        line = find_measurement(lines, "start", name)
        if line is not None:
            yield Goal("start", f"{name}, seconds", most, False, line.median, line.spread)
    yield Goal(
        "memory", "bytes per image by which a training grows, page cache not counted", BYTES_PER_IMAGE, False,
        memory.growth(list(lines)),
    )  # fmt: skip


def find_measurement(lines: Sequence[Measurement], part: str, name: str) -> Measurement | None:
    return next((line for line in lines if (line.part, line.name) == (part, name)), None)


def against(part: str, text: str, a: Measurement, b: Measurement, least: float) -> Goal:
    """The median over repeats of a : b; the two of a pair were measured one after the other."""
    if not a.values or not b.values:
        return Goal(part, text, least, True, None)
    found = [x / y for x, y in zip(a.values, b.values, strict=True)]
    return Goal(part, text, least, True, statistics.median(found), (min(found), max(found)))
