"""The pages of studies: tables in Markdown, LaTeX and Parquet, verdicts, and one page of all studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ilk.research import published
from ilk.research.score_tables import TITLES, latex, markdown, spread, summary, write_rows
from ilk.research.study.cell_plot import draw_study
from ilk.research.study.definition import COLUMNS, KNN, PRINTED_AS, SCORES, Conclusion, Study
from ilk.research.study.setting import StudySetting, seeds_on
from ilk.research.study.verdicts import FAILS, HOLDS, OPEN, RULE, differences, verdict
from ilk.system.files import write_text
from ilk.system.progress import Watch

EXPECTED = "expected, not quoted"
HEADERS = {**TITLES, KNN: "5-NN"}
PROBES = {"linear": "linear probe"}
READ = {
    "last": "the last", "min_loss": "that of the least loss", "oracle_acc": "that of the best accuracy by labels",
}  # fmt: skip


def write_study(
    study: Study, rows: Sequence[Mapping[str, Any]], folder: Path, setting: StudySetting, watch: Watch | None = None
) -> None:
    """Writes NAME.md, NAME.tex, NAME.parquet and, with matplotlib, NAME.png into `folder`; see `StudySetting.stem`.

    Existing pages with more seeds stay until as many are done again.
    """
    name = setting.stem(study)
    if seeds_on(folder / f"{name}.parquet") > done(rows):
        return
    header, lines = study_table(study, rows)
    scores = by_seed(study, rows)
    drawn = draw_study(study, scores, folder / f"{name}.png", setting)
    if not drawn and watch is not None:
        watch.warn("the plots need matplotlib, which is not installed. Install it with: pip install 'ilk[figures]'")
    write_rows(folder / f"{name}.parquet", rows)
    caption = f"{study.title}. {setting.source}, {done(rows)} seeds, mean and standard deviation."
    write_text(folder / f"{name}.tex", latex(header, lines, caption=caption, label=f"tab:{name}", left=2))
    write_text(folder / f"{name}.md", study_page(study, rows, setting, drawn=drawn, level=1))


def study_table(
    study: Study, rows: Sequence[Mapping[str, Any]], *, short: bool = False
) -> tuple[list[str], list[list[str]]]:
    """Header and lines of a study's table: cell, what it is, scores here, scores of the paper.

    `short`: only the first score of the paper, for a terminal.
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
    """Published scores in one table cell: `ACC 0.790, NMI 0.705, ARI 0.637`; at most `most` of them."""
    titles = {"acc": "ACC", "nmi": "NMI", "ari": "ARI", "linear": "linear probe", "knn5": "5-NN", "knn200": "200-NN"}
    texts = [f"{title} {printed[name]:.3f}" for name, title in titles.items() if name in printed] if printed else []
    return ", ".join(texts[:most]) or "-"


def by_seed(study: Study, rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[int, float]]:
    """{cell: {seed: score}}, the score that conclusions are judged by; without failed trainings."""
    scores: dict[str, dict[int, float]] = {cell.name: {} for cell in study.cells}
    for row in rows:
        if not row.get("error"):
            scores[row["cell"]][row["seed"]] = row[COLUMNS[study.score]]
    return scores


def printed_order(study: Study, conclusion: Conclusion) -> str:
    """The paper's own scores of the cells in an order, for each data set; "no digits" if it prints none."""
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
    """The published columns that can be compared with the study's score, the closest first."""
    return [PRINTED_AS[study.score], *(["linear"] if study.score == KNN else [])]


def conclusions_of(study: Study, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Each conclusion with its order, the verdict here, and the differences."""
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
    study: Study,
    rows: Sequence[Mapping[str, Any]],
    setting: StudySetting,
    *,
    drawn: bool,
    level: int,
    rule: bool = True,
) -> str:  # fmt: skip
    """The study in Markdown. `level`: of its heading. `rule`: whether the rule of verdicts is explained."""
    header, lines = study_table(study, rows)
    parts = [f"{'#' * level} {study.title}", study.question, here(rows, setting)]
    parts += [study.why] if study.why else []
    parts += [markdown(header, lines)]
    if drawn:
        parts.append(f"![{SCORES[study.score]} of each cell, a dot per seed]({setting.stem(study)}.png)")
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


def here(rows: Sequence[Mapping[str, Any]], setting: StudySetting) -> str:
    """How the scores here were measured, in a sentence."""
    well = [row for row in rows if not row.get("error")]
    if not well:
        return f"Here: {setting.source}; no training has succeeded."

    def words(name: str) -> str:
        return " or ".join(str(value) for value in dict.fromkeys(row.get(name) for row in well))

    machine = f"{words('threads')} thread of {words('machine')}" if words("machine") else ""
    read = list(dict.fromkeys(row.get("select") or "last" for row in well))
    by_labels = list(dict.fromkeys(row["cell"] for row in well if row.get("select") == "oracle_acc"))
    labels = f"Labels score, and chose the epoch of {', '.join(by_labels)}: such scores need labels."
    return (
        f"Here: {setting.source}, {words('n_images')} images at {words('image_size')} pixels, backbone"
        f" {words('backbone')}, T is the views '{setting.domain}', epochs {words('epochs')}, read at"
        f" {' or '.join(READ.get(one, one) for one in read)},"
        f" {done(rows)} {'seed' if done(rows) == 1 else 'seeds'}, {machine}."
        f" {labels if by_labels else 'Labels score and choose nothing.'}"
    )


def published_protocol(study: Study) -> str:
    """The protocol of the published scores, which explains why digits should not be compared."""
    source = ", ".join(filter(None, (study.paper, study.table)))
    if study.published is None:
        return f"Source: {source}. No digits are published for this." if source else "Nothing is published for this."
    one = published.find_table(study.published)
    text = f"Published: {one.citation}, {one.number}; {published.protocol_line(one)}. Compare orders, not digits."
    text += "".join(f" Misprint: {slip['why']}" for slip in one.misprints)
    return text + (f" Uncertain: {one.uncertain}" if one.uncertain else "")


def write_all(
    chosen: Sequence[Study], found: Mapping[str, Sequence[Mapping[str, Any]]], folder: Path, setting: StudySetting
) -> None:
    """Writes STUDIES.md: the verdicts on the papers' conclusions and on our expectations, then every study so far.

    An existing page with more studies stays until as many are done again.
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


def tally(title: str, told: Sequence[tuple[Study, Mapping[str, str]]], setting: StudySetting) -> list[str]:
    """How many conclusions hold, and a table of them; nothing if there are none."""
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
    """The anchor of a heading, as GitHub makes it."""
    kept = "".join(letter for letter in title.lower() if letter.isalnum() or letter in " -_")
    return kept.replace(" ", "-")
