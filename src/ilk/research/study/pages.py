"""A study on paper: its table in Markdown, LaTeX and Parquet, a plot, and all studies on one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ilk.research import published
from ilk.research.score_tables import TITLES, latex, markdown, spread, summary, write_rows
from ilk.research.study.definition import COLUMNS, KNN, PRINTED_AS, SCORES, Cell, Conclusion, Study
from ilk.research.study.setting import Setting, seeds_on
from ilk.research.study.verdicts import FAILS, HOLDS, OPEN, RULE, differences, verdict
from ilk.system.files import replacing, write_text
from ilk.system.progress import Watch

EXPECTED = "expected, not quoted"
HEADERS = {**TITLES, KNN: "5-NN"}
PROBES = {"linear": "linear probe"}
READ = {
    "last": "the last", "min_loss": "that of the least loss", "oracle_acc": "that of the best accuracy by labels",
}  # fmt: skip
OURS, PRINTED = "#0072B2", "#D55E00"  # told apart by the colour-blind


def write_study(
    study: Study, rows: Sequence[Mapping[str, Any]], folder: Path, setting: Setting, watch: Watch | None = None
) -> None:
    """Writes NAME.md, NAME.tex, NAME.parquet and, with matplotlib, NAME.png into `folder`; see `Setting.stem`.

    Pages that are there with more seeds stay until as many are done again.
    """
    name = setting.stem(study)
    if seeds_on(folder / f"{name}.parquet") > done(rows):
        return
    header, lines = table_of(study, rows)
    drawn = plot(study, rows, folder / f"{name}.png", setting)
    if not drawn and watch is not None:
        watch.warn("the plots need matplotlib, which is not installed. Install it with: pip install 'ilk[figures]'")
    write_rows(folder / f"{name}.parquet", rows)
    caption = f"{study.title}. {setting.source}, {done(rows)} seeds, mean and standard deviation."
    write_text(folder / f"{name}.tex", latex(header, lines, caption=caption, label=f"tab:{name}", left=2))
    write_text(folder / f"{name}.md", study_page(study, rows, setting, drawn=drawn, level=1))


def table_of(
    study: Study, rows: Sequence[Mapping[str, Any]], *, short: bool = False
) -> tuple[list[str], list[list[str]]]:
    """Header and lines of a study's table: cell, what it is, scores here, figures of the paper.

    `short`: of those only the first, which is what a terminal has room for.
    """
    scores = [COLUMNS[name] for name in ("accuracy", "nmi", "ari", *((KNN,) if study.score == KNN else ()))]
    groups = {group["cell"]: group for group in summary(rows, ["cell"], scores)}
    sets = list(dict.fromkeys(name for cell in study.cells for name in study.printed(cell)))
    header = ["cell", "what it is", *(HEADERS[name] for name in scores), "effective clusters"]
    header += [f"published, {published.DATASETS[name]}" for name in sets]
    lines = []
    for cell in study.cells:
        group, printed = groups.get(cell.name), study.printed(cell)
        if group is None:
            continue
        used = [row["effective_clusters"] for row in rows if row["cell"] == cell.name and not row.get("error")]
        found = [spread(group[name], group[f"{name}_sd"]) for name in scores]
        failed = f" ({group['failed']} failed)" if group["failed"] else ""
        mean = f"{sum(used) / len(used):.1f}" if used else "-"
        if short:
            column = PRINTED_AS[study.score]
            printed = {one: {column: told[column]} if column in told else told for one, told in printed.items()}
        theirs = [printed_scores(printed.get(one), most=1 if short else None) for one in sets]
        lines.append([cell.name, cell.about, *found, mean + failed, *theirs])
    return header, lines


def printed_scores(printed: Mapping[str, float] | None, most: int | None = None) -> str:
    """Published figures in one cell of a table: `ACC 0.790, NMI 0.705, ARI 0.637`; at most so many of them."""
    titles = {"acc": "ACC", "nmi": "NMI", "ari": "ARI", "linear": "linear probe", "knn5": "5-NN", "knn200": "200-NN"}
    told = [f"{title} {printed[name]:.3f}" for name, title in titles.items() if name in printed] if printed else []
    return ", ".join(told[:most]) or "-"


def by_seed(study: Study, rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[int, float]]:
    """The score that conclusions are judged by, by cell and seed; failed trainings left out."""
    found: dict[str, dict[int, float]] = {cell.name: {} for cell in study.cells}
    for row in rows:
        if not row.get("error"):
            found[row["cell"]][row["seed"]] = row[COLUMNS[study.score]]
    return found


def printed_order(study: Study, conclusion: Conclusion) -> str:
    """What the paper's own figures say of an order: `CIFAR-10 .790 > .690`, a set each; "no digits" without any."""
    cells = [study.printed(study.cell(name)) for name in conclusion.order]
    for column in printed_columns(study):
        sets = [name for name in cells[0] if all(column in cell.get(name, {}) for cell in cells)]
        other = "" if column == PRINTED_AS[study.score] else f" ({PROBES[column]})"
        texts = [published.DATASETS[one] + other + ": " + ", ".join(f"{cell[one][column]:.3f}" for cell in cells)
                 for one in sets]  # fmt: skip
        if texts:
            return "; ".join(texts)
    return "no digits"


def printed_columns(study: Study) -> list[str]:
    """The published columns that say of an order what the study's score does, the likest first."""
    return [PRINTED_AS[study.score], *(["linear"] if study.score == KNN else [])]


def conclusions_of(study: Study, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Each published conclusion with its order, what is found here, and by how much."""
    scores = by_seed(study, rows)
    found = []
    for one in study.conclusions:
        pairs = differences(one.order, scores)
        claim = f"{one.claim} ({one.where or EXPECTED})"
        by = ", ".join(pair.text for pair in pairs)
        told = {"claim": claim, "order": one.text, "printed": printed_order(study, one)}
        found.append({**told, "verdict": verdict(pairs), "by": by, "where": one.where})
    return found


def done(rows: Sequence[Mapping[str, Any]]) -> int:
    return len({row["seed"] for row in rows})


def study_page(
    study: Study, rows: Sequence[Mapping[str, Any]], setting: Setting, *, drawn: bool, level: int, rule: bool = True
) -> str:
    """The study in Markdown. `level`: of its title."""
    header, lines = table_of(study, rows)
    parts = [f"{'#' * level} {study.title}", study.question, here(rows, setting)]
    parts += [study.why] if study.why else []
    parts += [markdown(header, lines)]
    if drawn:
        parts.append(f"![{SCORES[study.score]} of each cell, a dot a seed]({setting.stem(study)}.png)")
    if found := conclusions_of(study, rows):
        told = [[one["claim"], one["order"], one["printed"], f"**{one['verdict']}**", one["by"]] for one in found]
        score = f"difference in {SCORES[study.score]}"
        head = ["conclusion", "order of the cells", "its own figures", "here", score]
        parts.append(markdown(head, told))
        parts += [RULE] if rule else []
    parts.append(published_protocol(study))
    if failed := [row for row in rows if row.get("error")]:
        parts.append("Failed: " + "; ".join(f"{row['cell']}, seed {row['seed']}: {row['error']}" for row in failed))
    parts.append(f"Run it again: `{setting.command([study])}`")
    return "\n\n".join(parts) + "\n"


def here(rows: Sequence[Mapping[str, Any]], setting: Setting) -> str:
    """How the figures of this machine came about, in a sentence."""
    well = [row for row in rows if not row.get("error")]
    if not well:
        return f"Here: {setting.source}; no training has ended well."

    def words(name: str) -> str:
        return " or ".join(str(value) for value in dict.fromkeys(row.get(name) for row in well))

    machine = f"{words('threads')} thread of {words('machine')}" if words("machine") else ""
    read = list(dict.fromkeys(row.get("select") or "last" for row in well))
    by_labels = list(dict.fromkeys(row["cell"] for row in well if row.get("select") == "oracle_acc"))
    labels = f"Labels score, and chose the epoch of {', '.join(by_labels)}: scores that nobody gets without labels."
    return (
        f"Here: {setting.source}, {words('n_images')} images at {words('image_size')} pixels, backbone"
        f" {words('backbone')}, T is the views '{setting.domain}', epochs {words('epochs')}, read at"
        f" {' or '.join(READ.get(one, one) for one in read)},"
        f" {done(rows)} {'seed' if done(rows) == 1 else 'seeds'}, {machine}."
        f" {labels if by_labels else 'Labels score and choose nothing.'}"
    )


def published_protocol(study: Study) -> str:
    """What the published figures were made with: why they are not to be compared digit by digit."""
    source = ", ".join(filter(None, (study.paper, study.table)))
    if study.published is None:
        return f"Source: {source}. No digits are published for this." if source else "Nothing is published for this."
    one = published.find_table(study.published)
    text = f"Published: {one.citation}, {one.number}; {published.protocol_line(one)}. Compare orders, not digits."
    text += "".join(f" Misprint: {slip['why']}" for slip in one.misprints)
    return text + (f" Uncertain: {one.uncertain}" if one.uncertain else "")


def write_all(
    chosen: Sequence[Study], found: Mapping[str, Sequence[Mapping[str, Any]]], folder: Path, setting: Setting
) -> None:
    """Writes STUDIES.md: what holds of what the papers conclude, what of what we expected, then every study so far.

    A page that is there with more studies stays until as many are done again.
    """
    file = folder / f"{setting.stem_of_all(chosen)}.md"
    ready = [study for study in chosen if study.name in found]
    if len(ready) < len(chosen) and file.is_file() and file.read_text(encoding="utf-8").count("\n## ") > len(ready):
        return
    told = [(study, one) for study in ready for one in conclusions_of(study, found[study.name])]
    parts = [
        "# Studies: what the papers conclude, tried here",
        f"Written by `{setting.command(chosen)}`; `docs/studies.md` says what each study asks, and how to write one.",
        RULE,
        *tally("What the papers conclude", [pair for pair in told if pair[1]["where"]], setting),
        *tally("What we expected, and no paper says", [pair for pair in told if not pair[1]["where"]], setting),
    ]
    parts += [
        study_page(
            study, found[study.name], setting, drawn=(folder / f"{setting.stem(study)}.png").is_file(), level=2,
            rule=False,
        )
        for study in ready
    ]  # fmt: skip
    write_text(file, "\n\n".join(part.strip() for part in parts) + "\n")


def tally(title: str, told: Sequence[tuple[Study, Mapping[str, str]]], setting: Setting) -> list[str]:
    """How many conclusions hold, and each in a table; nothing where there are none."""
    if not told:
        return []
    counts = [sum(one["verdict"] == each for _, one in told) for each in (HOLDS, FAILS, OPEN)]
    rows = [
        [f"[{study.name}](#{anchor(study.title)})", one["claim"], one["order"], f"**{one['verdict']}**", one["by"]]
        for study, one in told
    ]
    said = f"of {len(told)}, {counts[0]} hold on {setting.source}, {counts[1]} do not, {counts[2]} cannot be told."
    head = ["study", "conclusion", "order of the cells", "here", "difference"]
    return [f"**{title}**: {said}", markdown(head, rows)]


def anchor(title: str) -> str:
    """The address of a heading on its page, as GitHub makes it."""
    kept = "".join(letter for letter in title.lower() if letter.isalnum() or letter in " -_")
    return kept.replace(" ", "-")


def plot(study: Study, rows: Sequence[Mapping[str, Any]], path: Path, setting: Setting) -> bool:
    """Draws every cell: a dot a seed, mean and standard deviation as a bar, published figures as diamonds.

    Returns False, and draws nothing, without matplotlib.
    """
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    scores = by_seed(study, rows)
    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(6, 1.3 + 0.42 * len(study.cells)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        for place, cell in enumerate(study.cells):
            draw_cell(axes, place, list(scores[cell.name].values()), study, cell)
        axes.set_yticks(range(len(study.cells)), [cell.name for cell in study.cells])
        axes.set_ylim(len(study.cells) - 0.5, -0.5)
        axes.grid(axis="x", alpha=0.3)
        axes.set_xlabel(
            f"{SCORES[study.score]} on {setting.source}\na dot a seed, a bar for mean and standard deviation"
        )
        axes.set_title(study.title, loc="left", fontsize=10)
        handles, names = axes.get_legend_handles_labels()
        once = dict(zip(names, handles, strict=True))
        if once:
            figure.legend(once.values(), once.keys(), loc="outside lower right", frameon=False, fontsize=8)
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png", dpi=150, metadata={"Software": None})
    return True


def draw_cell(axes: Any, place: int, values: list[float], study: Study, cell: Cell) -> None:
    """One line of the plot."""
    import numpy as np

    if values:
        spread_of = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        axes.errorbar(np.mean(values), place, xerr=spread_of, fmt="|", color=OURS, capsize=4, markersize=12)
        axes.scatter(values, [place] * len(values), s=14, color=OURS, alpha=0.6, linewidths=0)
    column = PRINTED_AS[study.score]
    for (name, printed), mark in zip(study.printed(cell).items(), "Dso^v", strict=False):
        if column in printed:
            axes.scatter([printed[column]], [place], marker=mark, s=26, facecolors="none", edgecolors=PRINTED,
                         label=f"published, {published.DATASETS[name]}")  # fmt: skip
