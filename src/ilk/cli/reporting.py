"""What `ilk report` and `ilk export --to` write and print. Neither needs torch."""

from __future__ import annotations

import shlex
from pathlib import Path

from ilk.reports import write_report
from ilk.reports.exports import FORMATS, export_embedding_atlas, export_fiftyone, fiftyone_lines
from ilk.reports.folder import read_config
from ilk.reports.sprites import MOST
from ilk.runs.unfinished import state_of
from ilk.system.text import did_you_mean


def report(
    run: Path, out: Path | None, *, figures: Path | None = None, most: int = MOST, layout: str | None = None
) -> None:
    """Builds the report, and the figures if wanted, and says where they are and what is in them."""
    file = write_report(run, out, most=most, layout=layout)
    n = read_config(run).get("images", {}).get("n")
    state = state_of(run)
    if state == "model":
        print(f"{file} (a model without results: its training)")
    elif state != "finished":
        print(f"{file} (the run has not finished: its training so far)")
    elif isinstance(n, int) and n > most:
        print(f"{file} ({most:,} of the {n:,} images)")
    else:
        print(file)
    if figures is not None:
        from ilk.reports.figures import write_figures

        made = write_figures(run, figures, most=most, layout=layout)
        print(f"{len(made)} files in {figures} ({', '.join(one.name for one in made[::2])} and as PNG)")


def export_to(run: Path, kind: str, target: Path) -> None:
    """Writes the run for another viewer and says how to open it there. Raises ValueError for an unknown one."""
    if kind not in FORMATS:
        hint = did_you_mean(kind, FORMATS) or f" Use {' or '.join(FORMATS)}."
        raise ValueError(f"Unknown format '{kind}'.{hint}")
    if kind == "embedding-atlas":
        exported = export_embedding_atlas(run, target)
        print(f"{exported['rows']:,} images in {target} (map: {exported['map']}). Open it with:")
        neighbours = ["--neighbors", "neighbors"] if exported["neighbours"] else []
        pictures = ["--image", "image"] if exported["pictures"] else []
        print("  " + shlex.join(["embedding-atlas", str(target), "--x", "x", "--y", "y", *neighbours, *pictures]))
        if not exported["neighbours"]:
            print("  (without neighbours: there are too many images to compare all with all)")
        return
    made = export_fiftyone(run, target)
    print(f"{made['images']:,} images in {target}; no file was copied. Open it in Python with:")
    for line in fiftyone_lines(target.resolve(), labelled=bool(made["labelled"])):
        print(f"  {line}")
    if made["thumbnails"]:
        print(f"{made['thumbnails']:,} images have no file of their own and are there as thumbnails")
    if made["left_out"]:
        print(f"{made['left_out']:,} images have neither a file nor a thumbnail and are left out")
