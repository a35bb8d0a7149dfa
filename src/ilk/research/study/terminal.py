"""What `ilk study` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from ilk.research.score_tables import console
from ilk.research.study.definition import Study, seconds_of, studies
from ilk.research.study.pages import conclusions_of, study_table
from ilk.research.study.setting import StudySetting
from ilk.system.progress import spell


def show_studies(seeds: int) -> None:
    """Lists the studies: what each asks, its cells and its cost."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name, side in (("study", "left"), ("cells", "right"), ("time", "right"), ("asks", "left")):
        table.add_column(name, justify=side, no_wrap=name != "asks")  # type: ignore[arg-type]  # a literal
    for study in studies().values():
        _, seconds = seconds_of([study], seeds)
        table.add_row(study.name, str(len(study.cells)), spell(seconds), study.question)
    console().print(table)
    trainings, seconds = seconds_of(list(studies().values()), seeds)
    print(
        f"\nall: {trainings} trainings with {seeds} seeds, about {spell(seconds)}. Times are for scikit-learn's digits"
        " and one thread; trainings that studies share count once.\nRun one:  ilk study cc-views    all:  ilk study all"
        "    your own:  ilk study FILE.toml"
    )


def show_results(
    chosen: Sequence[Study], rows_of: Mapping[str, Sequence[Mapping[str, Any]]], setting: StudySetting
) -> None:
    """Prints the table of each study, the verdicts on its conclusions, and where the pages are."""
    folder = setting.folder
    shown = console()
    for study in chosen:
        header, lines = study_table(study, rows_of[study.name], short=True)
        table = Table(title=study.title, title_justify="left", box=None, header_style="bold", pad_edge=False)
        for number, name in enumerate(header):
            table.add_column(name, justify="left" if number < 2 else "right", no_wrap=number != 1)
        for line in lines:
            table.add_row(*line)
        shown.print()
        shown.print(table)
        for conclusion in conclusions_of(study, rows_of[study.name]):
            print(f"  {conclusion['verdict']}: {conclusion['claim']} [{conclusion['order']}: {conclusion['by']}]")
    print()
    if len(chosen) > 1:
        page = folder / f"{setting.stem_of_all(chosen)}.md"
        print(f"Look:   {page}; and for each study .md, .tex, .parquet and .png beside it")
        return
    files = [folder / f"{setting.stem(chosen[0])}{ending}" for ending in (".png", ".md", ".tex", ".parquet")]
    print(f"Tables: {', '.join(str(file) for file in files if file.is_file())}")
