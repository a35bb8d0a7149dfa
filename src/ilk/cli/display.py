"""What the command line shows: progress while it works, tables when it is done."""

from __future__ import annotations

import csv
import json
import math
import shlex
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ilk.runs.folder import Run
from ilk.system.progress import Watch, epoch_line

LINE_EVERY = 5.0  # seconds between plain lines where there is no terminal


class Display(Watch):
    """A live bar with a line of status on a terminal, plain lines elsewhere, nothing but warnings when quiet."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.live: Live | None = None
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(30),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=self.console,
        )
        self.task: TaskID | None = None
        self.what, self.status, self.said = "", "", 0.0

    def __enter__(self) -> Display:
        if self.console.is_terminal and not self.quiet:
            self.live = Live(get_renderable=self.picture, console=self.console, transient=True)
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def picture(self) -> Group:
        return Group(self.bar, Text(self.status)) if self.status else Group(self.bar)

    def close(self) -> None:
        if self.live is not None:
            self.live.stop()
            self.live = None

    def say(self, text: str) -> None:
        if not self.quiet:
            self.console.print(text, markup=False)

    def warn(self, text: str) -> None:
        self.console.print(f"Warning: {text}", style="yellow", markup=False)

    def progress(self, done: int, total: int, what: str) -> None:
        if self.live is not None:
            if what != self.what or self.task is None:
                if self.task is not None:
                    self.bar.remove_task(self.task)
                self.task, self.status = self.bar.add_task(what, total=total), ""
            self.bar.update(self.task, completed=done, total=total)
        elif not self.quiet and what != "training" and time.monotonic() - self.said > LINE_EVERY:
            self.console.print(f"{what}: {done:,} of {total:,}", markup=False)
            self.said = time.monotonic()
        self.what = what

    def epoch(self, record: dict[str, Any]) -> None:
        if record["message"]:
            self.say(f"epoch {record['epoch']}: {record['message']}")
        self.status = epoch_line(record)
        due = time.monotonic() - self.said > LINE_EVERY or record["epoch"] == record["epochs"]
        if self.live is None and not self.quiet and due:
            self.console.print(self.status, markup=False)
            self.said = time.monotonic()


def cluster_table(run: Run, most: int = 30) -> None:
    """Prints the clusters of a finished run, largest first."""
    with open(run / "clusters.csv", encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: -int(row["size"]))
    table = Table(box=None, header_style="bold", pad_edge=False)
    named = [("name", "left")] if rows and "name" in rows[0] else []  # by labels that were given to the training
    sides = [("cluster", "right"), *named, ("images", "right"), ("sure", "right"), ("most typical", "left")]
    for name, side in sides:
        least = 7 if side == "right" else None  # long file names must not squeeze the numbers away
        table.add_column(name, justify=side, overflow="ellipsis", no_wrap=True, min_width=least)  # type: ignore[arg-type]  # a literal
    for row in rows[:most]:
        sure = f"{float(row['mean_confidence']):.0%}" if row["mean_confidence"] else "-"
        typical = ", ".join(filter(None, (row["typical_1"], row["typical_2"])))
        name_cell = [row["name"]] if named else []
        table.add_row(row["cluster"], *name_cell, f"{int(row['size']):,}", sure, typical)
    console = Console(highlight=False, markup=False)
    console.print()
    console.print(table)
    if len(rows) > most:
        console.print(f"... and {len(rows) - most} smaller clusters in {run / 'clusters.csv'}", soft_wrap=True)


def score_lines(run: Run, *, always: bool = False) -> None:
    """Prints the scores of a run; where there are no labels, only with `always`."""
    scores = json.loads((run / "scores.json").read_text(encoding="utf-8"))
    labelled, known = scores["labels"], scores.get("known")
    if labelled is None and known is None and not always:
        return
    print()
    if known is not None:
        print(f"labels of {known['images']:,} images were used in training; scores against labels leave them out")
        print(f"  accuracy on them {known['accuracy']:.3f} (in the cluster named by their label)")
    if labelled is not None:
        others = "" if known is None else " other"
        print(f"against the labels of {labelled['images']:,}{others} images ({labelled['classes']} kinds):")
        print_selection(scores.get("selection"))
        print(f"  accuracy {labelled['accuracy']:.3f} (best one-to-one matching of clusters and labels)")
        print(f"  NMI {labelled['nmi_arithmetic']:.3f} (arithmetic; geometric {labelled['nmi_geometric']:.3f})")
        fowlkes = f"   Fowlkes-Mallows {labelled['fowlkes_mallows']:.3f}" if "fowlkes_mallows" in labelled else ""
        print(f"  ARI {labelled['ari']:.3f}   purity {labelled['purity']:.3f}{fowlkes}")
        if "calibration_error" in labelled:
            print(
                f"  confidence and accuracy are {labelled['calibration_error']:.3f} apart (expected calibration error)"
            )
    elif known is not None:
        print("no labels known for the other images; give them with --labels")
    else:
        print(f"no labels known for these {scores['images']:,} images; give them with --labels")
    print(
        f"  effective clusters {scores['effective_clusters']:.1f} of {scores['n_clusters']}"
        f"   mean confidence {scores['mean_confidence']:.3f}"
    )


def print_selection(selection: dict[str, Any] | None) -> None:
    """Prints which epoch was kept, and a warning if labels chose it."""
    if selection is None:
        return
    print(f"  epoch {selection['epoch']} of {selection['epochs']} (select={selection['by']})")
    if selection["used_labels"]:
        print("  LABELS CHOSE THIS EPOCH: the scores say what was possible, not what works without labels")


def next_commands(run: Run, source: str) -> None:
    """Prints what to do with a finished run."""
    where = shlex.quote(str(run))
    with open(run / "bad_files.csv", encoding="utf-8", newline="") as file:
        bad = sum(1 for _ in csv.reader(file)) - 1
    print()
    if (run / "report.html").is_file():
        print(f"Look:   {run / 'report.html'} (open it in a browser), {run / 'clusters.png'}")
    else:
        print(f"Look:   {run / 'clusters.png'} (a picture of every cluster)")
    print(f"Tables: {run / 'assignments.csv'} (one row an image), {run / 'clusters.csv'}")
    if bad:
        print(f"        {run / 'bad_files.csv'} ({bad:,} files that could not be read)")
    print("Next:")
    print(f"  ilk export {where} --folders sorted/     copy the files into one folder a cluster")
    print(f"  ilk predict {where} MORE_IMAGES          sort new images into the same clusters")
    print(f"  ilk score {where} --labels folders       compare with sub-folder names or a table")


def demo_lines(run: Run, baseline: float) -> None:
    """Prints what to compare the demo with, where to look, and what to do next."""
    print(f"  for comparison: k-means on the raw pixels has accuracy {baseline:.3f}")
    look = run / "report.html" if (run / "report.html").is_file() else run / "clusters.png"
    print(f"\nLook at the clusters: {look}")
    print("Now your own pictures:  ilk fit FOLDER --clusters 10")


def method_lines() -> None:
    """Prints methods, presets and settings with their ranges and help, views and backbones."""
    from ilk.methods import METHODS, Recipe
    from ilk.networks.backbones import backbone_names
    from ilk.views import DOMAINS

    for name, kind in METHODS.items():
        print(f"{name}: {kind.title} ({kind.source})")
        for preset, (_, _, about) in kind.presets.items():
            print(f"  --preset {preset:11} {about}")
        print("  settings (--set name=value), in the presets " + ", ".join(kind.presets) + ":")
        for line in setting_lines([preset.recipe for preset in kind.presets.values()], helped=False):
            print(f"    {line}")
        for line in setting_lines([preset.config for preset in kind.presets.values()]):
            print(f"    {line}")
        print()
    print("settings of every method, and the values where a preset says nothing:")
    for line in setting_lines([Recipe()]):
        print(f"    {line}")
    print("\nviews (--views NAME; auto chooses photo, drawing or object):")
    for name, domain in DOMAINS.items():
        print(f"  {name:15} {domain.about}")
    print(f"\nbackbones (--backbone NAME): {', '.join(backbone_names())}")


def setting_lines(records: Sequence[Any], *, helped: bool = True) -> list[str]:
    """A line for each setting: its name, its value in each of the records, and what it is with its range."""
    from ilk.methods.records import declared

    lines = []
    for field in declared(type(records[0])).values():
        values = " | ".join(shown(getattr(record, field.name)) for record in records)
        limits = f"; {field.range}" if field.range else ""
        lines.append(f"{field.name:22} {values:20}  {field.help}{limits}" if helped else f"{field.name:22} {values}")
    return lines


def shown(value: object) -> str:
    if value is None:
        return "auto"
    return f"{value:g}" if isinstance(value, float) and math.isfinite(value) else str(value)
