"""Measurements as a file, as a table, and compared with earlier ones."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from ilk.research.bench.goals import Goal
from ilk.research.bench.timing import Measurement
from ilk.system.files import read_json

FORMAT = 1
WIDE = 160  # columns in a file or a pipe
SAME = (
    "processor",
    "cores",
    "gpu",
    "device",
    "precision",
    "quick",
    "seed",
    "pictures",
)  # compared fairly if equal


def machine(device: str) -> dict[str, Any]:
    """The machine, and how busy it was before. `gpu`: the name of the device, or None on a CPU."""
    return {
        "system": platform.system(),
        "processor": processor(),
        "cores": usable_cores(),
        "gpu": torch.cuda.get_device_name(device) if device.startswith("cuda") else None,
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def usable_cores() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The name of the processor."""
    file = Path("/proc/cpuinfo")
    if file.is_file():
        for line in file.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def as_values(about: Mapping[str, Any], lines: Sequence[Measurement], goals: Sequence[Goal]) -> dict[str, Any]:
    """A record as plain values, for JSON."""
    shown = [asdict(line) | {"median": line.median, "spread": line.spread} for line in lines]
    judged = [asdict(goal) | {"reached": goal.reached} for goal in goals]
    return {"format": FORMAT, "kind": "ilk bench", **about, "lines": shown, "goals": judged}


def read_record(path: Path) -> tuple[dict[str, Any], list[Measurement]]:
    """A record that was written before: its header, and its measurements. Raises ValueError or FileNotFoundError."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no file '{path}'. Give --against a file that ilk bench --out wrote.")
    found = read_json(path)
    if not isinstance(found, dict) or found.get("kind") != "ilk bench" or found.get("format") != FORMAT:
        raise ValueError(f"'{path}' was not written by this version of ilk bench. Measure again with --out.")
    names = ("part", "name", "unit", "values", "note", "more")
    try:
        return found, [Measurement(**{name: line[name] for name in names}) for line in found["lines"]]
    except (KeyError, TypeError):
        raise ValueError(f"'{path}' is damaged: a line lacks a field. Measure again with --out.") from None


def change_since(line: Measurement, earlier: Sequence[Measurement]) -> tuple[float, str] | None:
    """How many times as good as before (1: the same), and "better" or "worse" where the ranges do not overlap."""
    before = next((other for other in earlier if (other.part, other.name) == (line.part, line.name)), None)
    if before is None or not line.median or not before.median or not line.spread or not before.spread:
        return None
    ratio = line.median / before.median if line.more_is_better else before.median / line.median
    apart = line.spread[0] > before.spread[1] or line.spread[1] < before.spread[0]
    return ratio, ("better" if ratio > 1 else "worse") if apart else ""


def differing_conditions(now: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    """A sentence for each condition in which two records differ, so that they cannot be compared."""
    sentences = []
    for name in SAME:
        new, old = (({**record, **record.get("machine", {})}).get(name) for record in (now, before))
        if new != old:
            sentences.append(f"the earlier measurement had {name} {old}, this one has {new}")
    return sentences


def show_record(
    lines: Sequence[Measurement], goals: Sequence[Goal], earlier: Sequence[Measurement] | None = None
) -> None:
    """Prints the table and the goals."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = max(console.width, WIDE)
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("part", no_wrap=True)
    table.add_column("what", overflow="fold")
    for name in ("median", "least - greatest"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    if earlier is not None:
        table.add_column("than before", no_wrap=True)
    table.add_column("", overflow="fold")
    for line in lines:
        cells = [line.part, line.name, *numbers(line), line.unit]
        if earlier is not None:
            change = change_since(line, earlier)
            cells.append("" if change is None else f"{change[0]:.2f} x {change[1]}".strip())
        table.add_row(*cells, remark(line))
    console.print(table)
    if goals:
        console.print("\nGoals:")
    for goal in goals:
        console.print("  " + goal_line(goal))


def numbers(line: Measurement) -> tuple[str, str]:
    if line.median is None or line.spread is None:
        return "-", ""
    return three_digits(line.median), f"{three_digits(line.spread[0])} - {three_digits(line.spread[1])}"


def three_digits(value: float) -> str:
    """A number with three digits, or without decimals from 100 on."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def remark(line: Measurement) -> str:
    words = [line.note] if line.note else []
    if "shares" in line.more:
        words.append(", ".join(f"{name} {share:.0%}" for name, share in line.more["shares"].items()))
    if line.more.get("waits"):
        words.append("waits a step: " + ", ".join(f"{name} {n:.0f}" for name, n in line.more["waits"].items()))
    if "device_bytes" in line.more:
        words.append(f"{line.more['device_bytes'] / 2**20:,.0f} MiB on the device")
    return "; ".join(words)


def goal_line(goal: Goal) -> str:
    limit = f"{'at least' if goal.at_least else 'at most'} {three_digits(goal.wanted)}"
    if goal.value is None:
        return f"not measured  {goal.text} (wanted: {limit})"
    word = "reached     " if goal.reached else "not reached "
    spread = "" if goal.spread is None else f" ({three_digits(goal.spread[0])} - {three_digits(goal.spread[1])})"
    return f"{word}  {goal.text}: {three_digits(goal.value)}{spread} (wanted: {limit})"
