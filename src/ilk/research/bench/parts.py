"""A measurement from end to end: pictures, the parts in turn, each written down as soon as it is there."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ilk.research.bench import decoding_speed, memory, prediction_speed, start_time, step_speed, view_speed
from ilk.research.bench.drawn_photos import write_folder
from ilk.research.bench.goals import Goal, judge_goals
from ilk.research.bench.record import as_values, machine, usable_cores
from ilk.research.bench.timing import Conditions, Measurement, measure_cases
from ilk.system.devices import choose_device, choose_precision
from ilk.system.files import write_json
from ilk.system.progress import Watch
from ilk.system.text import did_you_mean
from ilk.system.versions import versions

TIMED = {
    module.PART: module.groups for module in (start_time, decoding_speed, view_speed, step_speed, prediction_speed)
}
PARTS = (*TIMED, memory.PART)
BUSY = 0.5  # share of the cores in use before the start from which a warning is shown
FILES, FEW_FILES = 512, 48


@dataclass
class BenchRecord:
    """The measurements so far, and the parts they belong to."""

    about: dict[str, Any]
    lines: list[Measurement] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)

    @property
    def goals(self) -> list[Goal]:
        return judge_goals(self.lines, self.parts)

    def values(self) -> dict[str, Any]:
        return as_values({**self.about, "parts": self.parts}, self.lines, self.goals)


def chosen_parts(names: Sequence[str]) -> list[str]:
    """The named parts in order, or all if none is named. Raises ValueError with the nearest name."""
    for name in names:
        if name not in PARTS:
            raise ValueError(f"Unknown part '{name}'.{did_you_mean(name, PARTS)} Known: {', '.join(PARTS)}.")
    return [name for name in PARTS if not names or name in names]


def run_bench(
    parts: Sequence[str] = (),
    *,
    device: str = "auto",
    precision: str = "auto",
    repeats: int = 5,
    quick: bool = False,
    seed: int = 0,
    images: Path | None = None,
    out: Path | None = None,
    watch: Watch | None = None,
    found: BenchRecord | None = None,
) -> BenchRecord:
    """The record of measuring the named `PARTS`, or all of them.

    `images`: a folder of files to decode instead of random images. `out`: the JSON file, written after each group of
    measurements, so that nothing is lost when the command is stopped. `found`: filled while measuring.
    Raises ValueError, FileNotFoundError or FileExistsError before anything is measured.
    """
    wanted, watch = chosen_parts(parts), watch or Watch()
    check(repeats, images, out)
    place = choose_device(device)
    kind = choose_precision(precision, place)
    found = found if found is not None else BenchRecord({})
    found.about |= {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"), "machine": machine(place),
        "versions": versions(), "device": place, "precision": kind, "quick": quick, "repeats": repeats, "seed": seed,
        "pictures": "drawn" if images is None else str(images),
    }  # fmt: skip
    load = found.about["machine"]["load"]
    if load is not None and load > BUSY * usable_cores():
        watch.warn(f"something else is running (load {load:.1f}); speeds will be too low and vary")
    with tempfile.TemporaryDirectory(prefix="ilk-bench-") as scratch:
        conditions = Conditions(
            device=place, precision=kind, cores=usable_cores(), repeats=repeats, quick=quick, seed=seed,
            folder=images or Path(scratch) / "photos", scratch=Path(scratch), watch=watch,
        )  # fmt: skip
        if images is None and {"decode", "predict"} & set(wanted):
            watch.say("making random images")
            write_folder(conditions.folder, conditions.smaller(FILES, FEW_FILES), seed)
        for part in wanted:
            watch.say(f"measuring {part}")
            for lines in measured(part, conditions):
                found.lines += lines
                if out is not None:
                    write_json(out, found.values())
            found.parts.append(part)
            if out is not None:
                write_json(out, found.values())
    return found


def measured(part: str, conditions: Conditions) -> Iterator[list[Measurement]]:
    """The measurements of a part, group by group."""
    if part == memory.PART:
        yield memory.memory_measurements(conditions)
        return
    for cases in TIMED[part](conditions):
        yield measure_cases(part, cases, conditions)


def check(repeats: int, images: Path | None, out: Path | None) -> None:
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1; got {repeats}. Five or more show the spread.")
    if images is not None and not images.is_dir():
        raise FileNotFoundError(f"There is no folder '{images}'. Give --images a folder of pictures, or leave it out.")
    if out is not None and out.exists():
        raise FileExistsError(f"'{out}' exists already. Choose another --out, or delete it.")
    if out is not None and not out.resolve().parent.is_dir():
        raise FileNotFoundError(f"There is no folder '{out.resolve().parent}' to write '{out.name}' to. Make it first.")
