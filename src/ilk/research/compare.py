"""Methods and baselines side by side on labelled sets: the grid of trainings, its tables and its picture."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ilk.report.figures import DOTS_PER_INCH, OKABE_ITO, STYLE, figure
from ilk.research.baselines import BASELINES
from ilk.research.grid import PIXELS, Job, refuse_unknown, run_jobs
from ilk.research.labelled import short_name
from ilk.research.oracle import ORACLE
from ilk.research.tables import SCORES, TITLES, console, latex, markdown, spread, summary, write_rows
from ilk.runs.folder import Run
from ilk.system.files import replacing, write_text
from ilk.system.progress import Watch, spell
from ilk.system.text import safe_text

SHOWN = tuple(name for name in SCORES if name != "nmi_geometric")
HEADER = ("set", "method", *(TITLES[name] for name in SHOWN), "seeds", "collapsed", "time each")
PUBLISHED = "published ACC / NMI / ARI"
BY = ("source", "method", "on", "read_out", "select", "preset", "settings", "balance")
OF_TRAININGS = ("preset", "settings", "views", "backbone", "balance", "epochs", "minutes", "select")
DEFAULTS = {"preset": "default", "select": "last"}
CHOSEN_BY_LABELS = "labels chose the epoch"


def planned(
    sources: Sequence[str], methods: Sequence[str], seeds: int, *, on: Sequence[str] = (PIXELS,), **asked: Any
) -> list[Job]:
    """The jobs of a comparison: every method on every source with the seeds 0, 1, ...

    Baselines run on each of `on`, and once where their seed does not matter. `asked`: fields of `Job`.
    Raises ValueError for unknown names, and for settings that no method of those asked for can meet.
    """
    if seeds < 1:
        raise ValueError(f"There must be at least 1 seed; got {seeds}.")
    if not methods:
        raise ValueError("Name at least one method or baseline with --methods.")
    for method in methods:
        refuse_unknown(method)
    if not on:
        raise ValueError("Say what baselines cluster with --on: pixels, or run folders; or leave --on out.")
    refuse_idle(methods, on, asked)
    for where in on:
        if where != PIXELS:
            Run(where).open()  # a sentence if that is no run
    jobs = []
    for source in dict.fromkeys(sources):
        for method in dict.fromkeys(methods):
            baseline = BASELINES.get(method)
            if baseline is None:
                jobs += [Job(source=source, method=method, seed=seed, **asked) for seed in range(seeds)]
                continue
            told: dict[str, Any] = {
                name: asked.get(name) for name in ("image_size", "n_clusters", "images", "imbalance")
            }
            often = seeds if baseline.random or told["imbalance"] is not None else 1
            jobs += [
                Job(source=source, method=method, seed=seed, on=where, split=asked.get("split", "train+test"), **told)
                for where in dict.fromkeys(on)
                for seed in range(often)
            ]
    refuse_hopeless(jobs)
    return jobs


def refuse_idle(methods: Sequence[str], on: Sequence[str], asked: Mapping[str, Any]) -> None:
    """Raises ValueError for options that none of the methods uses."""
    if all(method in BASELINES for method in methods):
        idle = [name for name in OF_TRAININGS if asked.get(name) not in (None, {}, DEFAULTS.get(name))]
        names = ", ".join("--set" if name == "settings" else f"--{name}" for name in idle)
        if idle:
            raise ValueError(f"Only baselines are asked for, and they have no use for {names}. Leave that out.")
    if not any(method in BASELINES for method in methods) and any(where != PIXELS for where in on):
        raise ValueError(
            "--on says what baselines cluster, and none is asked for. Add one to --methods, such as kmeans."
        )


def refuse_hopeless(jobs: Sequence[Job]) -> None:
    """Raises the first ValueError if every method that is to be trained refuses what is asked of it."""
    first, trained = None, {job.method: job for job in jobs if not job.is_baseline}
    for job in trained.values():
        try:
            job.request(2).resolved_preset()
            return
        except ValueError as error:
            first = first or error
    if first is not None:
        raise first


def compare(
    jobs: Sequence[Job],
    folder: str | os.PathLike[str],
    *,
    labels: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    watch: Watch | None = None,
    command: str = "",
    report: bool = False,
) -> list[dict[str, Any]]:
    """Runs what `folder` has no row of yet, and writes results.parquet, .md, .tex, .png of `jobs` there; the rows."""
    watch = watch or Watch()
    return run_jobs(
        jobs, folder, labels=labels, cache_dir=cache_dir, watch=watch, report=report,
        then=lambda rows: write_results(Path(folder), rows, command, watch),
    )  # fmt: skip


def write_results(
    folder: Path, rows: Sequence[Mapping[str, Any]], command: str = "", watch: Watch | None = None
) -> None:
    """Writes one row a job as Parquet, and the means as Markdown, LaTeX and, with matplotlib, a picture."""
    header, cells = table(rows)
    write_rows(folder / "results.parquet", rows)
    write_text(folder / "results.md", safe_text(page(rows, header, cells, command)))
    caption = f"Mean and standard deviation (n - 1) over seeds. {explained(rows)}"
    small = [text for text, _ in notes(rows)]
    text = latex(header, cells, caption=caption, label="tab:ilk-compare", left=2, notes=small)
    write_text(folder / "results.tex", safe_text(text))
    (folder / "results.png").unlink(missing_ok=True)  # of another command, if it is not drawn anew
    try:
        draw(folder / "results.png", rows)
    except ImportError:
        (watch or Watch()).say("results.png needs matplotlib: pip install 'ilk[figures]', then the same command again")


def print_results(rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Prints the table and where it is written."""
    from rich.table import Table

    header, cells = table(rows)
    shown = Table(box=None, header_style="bold", pad_edge=False)
    for name in header:
        shown.add_column(name, no_wrap=name not in ("method", PUBLISHED))
    for line in cells:
        shown.add_row(*map(safe_text, line))
    console().print(shown)
    print(f"mean +- standard deviation (n - 1) over seeds. {explained(rows)}")
    for text, _ in notes(rows):
        print(safe_text(f"  {text}"))
    files = [folder / f"results.{ending}" for ending in ("md", "tex", "parquet", "png")]
    print(safe_text(f"Written: {', '.join(str(file) for file in files if file.is_file())}"))


def table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and cells: one row a source and method, with published figures where any of them has some.

    Presets, settings and balance make rows of their own, and are named where a method has several.
    """
    groups = grouped(rows)
    known = [published(group) for group in groups]
    header = [*HEADER, *([PUBLISHED] if any(known) else [])]
    cells = []
    for group, figures in zip(groups, known, strict=True):
        scores = [spread(group[name], group[f"{name}_sd"]) for name in SHOWN]
        seeds = str(group["seeds"]) + (f" ({group['failed']} failed)" if group["failed"] else "")
        spent = time_of(group["training_seconds"])
        line = [
            short_name(group["source"]),
            name_of(group) + variant(group, groups),
            *scores,
            seeds,
            str(group["collapsed"]),
            spent,
        ]
        cells.append([*line, *(["; ".join(map(triple, figures)) or "-"] if any(known) else [])])
    return header, cells


def grouped(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Means over seeds, and of how many clusters: papers' figures are for a set with that many classes."""
    asked = {row["source"]: row["n_clusters"] for row in rows if row.get("n_clusters")}
    return [{**group, "n_clusters": asked.get(group["source"])} for group in summary(rows, BY)]


def time_of(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds:.2g} s" if seconds < 10 else spell(seconds)


def name_of(group: Mapping[str, Any]) -> str:
    """A method as tables call it, with what must not be overlooked."""
    name = str(group["method"])
    name += "" if group["on"] == PIXELS else f" on {group['on']}"
    name += " + k-means" if group["read_out"] == "kmeans" else ""
    if group["select"] == "last" or group["method"] in BASELINES:
        return name
    return f"{name} ({group['select']}{': ' + CHOSEN_BY_LABELS if group['select'] == ORACLE else ''})"


def variant(group: Mapping[str, Any], groups: Sequence[Mapping[str, Any]]) -> str:
    """What tells a group from others of its method by preset, settings or balance."""
    if group["method"] in BASELINES:
        return ""
    alike = [one for one in groups if all(one[name] == group[name] for name in ("source", "method"))]
    parts = []
    for name in ("preset", "settings", "balance"):
        if len({json.dumps(one[name], sort_keys=True, default=str) for one in alike}) == 1:
            continue
        value = group[name]
        if name == "settings":
            parts += [f"{key}={one}" for key, one in sorted((value or {}).items())] or ["no settings"]
        else:
            parts.append(f"{name} {value or 'as preset'}")
    return f" [{', '.join(parts)}]" if parts else ""


def published(group: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What papers report of the method on a set of that name."""
    from ilk.research.published import figures

    if group["on"] != PIXELS or group["read_out"] != "heads":
        return []
    return figures(group["method"], short_name(group["source"]), group["n_clusters"])


def triple(figure: Mapping[str, Any]) -> str:
    return " / ".join("-" if figure[name] is None else f"{figure[name]:.3f}" for name in ("acc", "nmi", "ari"))


def protocol(group: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """How the rows of a group came about, by the names that `ilk.research.published` uses."""
    mine = [row for row in rows if all(row.get(name) == group.get(name) for name in BY) and not row.get("error")]

    def all_of(name: str) -> str:
        return " or ".join(dict.fromkeys(str(row.get(name)) for row in mine if row.get(name) is not None)) or "none"

    found = {
        "split": all_of("split").replace("+", " and "), "resolution": all_of("image_size"),
        "selection": all_of("select"), "backbone": all_of("backbone"), "epochs": all_of("epochs"),
        "trials": str(len(mine)),
    }  # fmt: skip
    if len(groups := {row["n_images"] for row in mine}) == 1 and any(row["images"] or row["imbalance"] for row in mine):
        found["split"] += f", {groups.pop():,} of the images"
    if group["method"] in BASELINES:
        return {name: found[name] for name in ("split", "resolution", "trials")}
    return found


def differences(figure: Mapping[str, Any], ours: Mapping[str, str]) -> str:
    """What is known to differ between a published figure and ours, or all that is known of the published one."""
    from ilk.research.published import tables

    def plain(text: str) -> str:
        return re.sub(r"[^a-z0-9]", "", text.lower())

    theirs = next(
        (one.protocol for one in tables().values() if f"{one.citation}, {one.number}" == figure["source"]), None
    )
    if theirs is None:
        return f"there {figure['protocol']}; here {'; '.join(ours.values())}"
    parts = [
        f"{name} {theirs[name]} (here {value})" for name, value in ours.items() if plain(theirs[name]) != plain(value)
    ]
    return "; ".join(parts) or "nothing that is known"


def notes(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """For each published figure in the table: how it differs from ours, and what else is to be known of it."""
    found = []
    for group in grouped(rows):
        ours = protocol(group, rows)
        for one in published(group) if group["seeds"] else []:
            what = f"{group['method']} on {short_name(group['source'])}, published {triple(one)} ({one['source']})"
            found.append((f"{what}: differs in {differences(one, ours)}.", one["note"]))
    return found


def explained(rows: Sequence[Mapping[str, Any]]) -> str:
    """What a table of these rows has to say of itself, in sentences."""
    sentences = ["Collapsed: less than half of the clusters are in use."]
    if any(row["select"] == ORACLE and row["method"] not in BASELINES for row in rows):
        sentences.append(
            "oracle_acc: labels chose the epoch, as in some papers; without labels there is no such score."
        )
    return " ".join(sentences)


def page(rows: Sequence[Mapping[str, Any]], header: Sequence[str], cells: Sequence[Sequence[str]], command: str) -> str:
    """results.md: the table, how the published figures differ, what failed, and what it was made with."""
    parts = ["# Comparison", markdown(header, cells)]
    parts += [f"Mean +- standard deviation (n - 1) over seeds. {explained(rows)} Time: of one training or clustering."]
    known = [f"- {text}" + (f" {more}" if more else "") for text, more in notes(rows)]
    parts += ["Published figures (ACC / NMI / ARI):\n\n" + "\n".join(known)] if known else []
    short = dict.fromkeys(
        f"- {short_name(row['source'])}, seed {row['seed']}: {row['imbalance_reached']:.4g} in the place of"
        f" {row['imbalance']:.4g}, for want of images" for row in rows
        if row.get("imbalance") and (row.get("imbalance_reached") or math.inf) < 0.95 * row["imbalance"]
    )  # fmt: skip
    parts += ["Tails shorter than was asked for:\n\n" + "\n".join(short)] if short else []
    failed = [f"- {row['method']} on {short_name(row['source'])}, seed {row['seed']}: {row['error']}" for row in rows
              if row["error"]]  # fmt: skip
    parts += ["Failed:\n\n" + "\n".join(failed)] if failed else []
    made = dict.fromkeys(
        f"{row['machine']}, {row['threads']} threads, ilk {row['versions']['ilk']}, torch {row['versions']['torch']},"
        f" scikit-learn {row['versions']['scikit-learn']}" for row in rows
    )  # fmt: skip
    parts += [f"Made on {'; '.join(made)}." + (f"\n\n    {command}" if command else "")]
    return "\n\n".join(parts) + "\n"


def draw(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One panel a source and score, one dot a seed, a bar at the mean, a cross at what is published.

    Raises ImportError without matplotlib.
    """
    import matplotlib

    groups = [group for group in grouped(rows) if group["seeds"]]
    sources = list(dict.fromkeys(group["source"] for group in groups))
    if not groups:
        return
    with matplotlib.rc_context(STYLE), figure() as plot:
        tallest = max(sum(group["source"] == source for group in groups) for source in sources)
        plot.set_size_inches(9, 0.8 + len(sources) * (0.7 + 0.3 * tallest))
        axes = plot.subplots(len(sources), len(SHOWN), squeeze=False, sharex="col")
        for source, line in zip(sources, axes, strict=True):
            members = [group for group in groups if group["source"] == source]
            for name, ax in zip(SHOWN, line, strict=True):
                draw_scores(ax, members, name)
                ax.set_xlim(min(0.0, *(value - 0.02 for group in groups for value in group[f"{name}_each"])), 1)
                ax.set_title(f"{short_name(source)}: {TITLES[name]}", loc="left", fontsize=9)
                ax.set_yticks(
                    range(len(members)),
                    [safe_text(name_of(one) + variant(one, members)) for one in members] if name == SHOWN[0] else [],
                )
        said = "dot: one seed, bar: their mean"
        said += "; cross: published, under another protocol" if any(map(published, groups)) else ""
        plot.supxlabel(said, fontsize=8)
        with replacing(path) as temporary:
            plot.savefig(temporary, format="png", dpi=DOTS_PER_INCH)


def draw_scores(ax: Any, members: Sequence[Mapping[str, Any]], name: str) -> None:
    short = {"accuracy": "acc", "nmi_arithmetic": "nmi", "ari": "ari"}[name]
    for height, group in enumerate(members):
        colour = OKABE_ITO[5 if group["method"] in BASELINES else 0]
        ax.plot([group[name]] * 2, [height - 0.3, height + 0.3], color=colour, linewidth=2)
        ax.plot(
            group[f"{name}_each"], [height] * len(group[f"{name}_each"]), "o", color=colour, alpha=0.6, markersize=5
        )
        for one in published(group):
            if one[short] is not None:
                ax.plot(one[short], height, "x", color=OKABE_ITO[4], markersize=6)
    ax.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    ax.set_ylim(len(members) - 0.5, -0.5)
    ax.grid(axis="x", alpha=0.3)
