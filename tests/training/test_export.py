"""Clusters as folders and tables: originals stay as they are, and what was made can be taken away."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ilk.pipeline.export import MANIFEST, export_csv, export_folders, flat_name, free_target, undo_folders
from ilk.runs.folder import Run
from ilk.runs.tables import assignments_table, read_table, write_table


def state(folder: Path) -> dict[str, Any]:
    """The names, bytes and times of change of everything below a folder."""
    return {
        str(file.relative_to(folder)): (file.read_bytes(), file.stat().st_mtime_ns)
        for file in folder.rglob("*")
        if file.is_file()
    }


def names_in(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if not file.is_dir() or file.is_symlink()}


@pytest.fixture
def source(tmp_path: Path, photos: Path, run: Run) -> Path:
    """The run's images, copied to where they may be changed; the run knows of the copies."""
    folder = Path(shutil.copytree(photos, tmp_path / "my photos"))
    table = read_table(run / "assignments.parquet").to_pylist()
    set_table(run, [row["id"] for row in table], [str(folder / row["id"]) for row in table], [
        row["cluster"] for row in table
    ])  # fmt: skip
    return folder


def set_table(run: Run, ids: list[str], paths: list[str], clusters: list[int]) -> None:
    half = np.full(len(ids), 0.5, dtype=np.float32)
    write_table(
        assignments_table(ids, paths, np.array(clusters), half, 1 - np.array(clusters), half, None),
        run.folder,
        "assignments",
    )


@pytest.mark.parametrize("mode", ["copy", "symlink", "hardlink"])
def test_every_image_is_in_the_folder_of_its_cluster_and_no_original_is_touched(
    tmp_path: Path, run: Run, source: Path, mode: str
) -> None:
    before = state(source)
    manifest = export_folders(run, tmp_path / "sorted", mode)
    assert state(source) == before
    assert len(manifest["made"]) == 60 and manifest["left_out"] == []
    rows = {row["id"]: row for row in read_table(run / "assignments.parquet").to_pylist()}
    for item in manifest["made"]:
        target, row = tmp_path / "sorted" / item["to"], rows[item["id"]]
        assert target.parent.name == f"cluster-{row['cluster']}"
        assert target.read_bytes() == Path(row["path"]).read_bytes()
        assert target.is_symlink() == (mode == "symlink")
        assert os.path.samefile(target, row["path"]) == (mode != "copy")
    made = {item["to"] for item in manifest["made"]}
    assert names_in(tmp_path / "sorted") == made | {MANIFEST}
    assert json.loads((tmp_path / "sorted" / MANIFEST).read_text()) == manifest


@pytest.mark.parametrize("mode", ["copy", "symlink", "hardlink"])
def test_undo_takes_away_what_was_made_and_nothing_else(tmp_path: Path, run: Run, source: Path, mode: str) -> None:
    before, folder = state(source), tmp_path / "sorted"
    export_folders(run, folder, mode)
    assert undo_folders(folder).removed == 60
    assert not folder.exists()
    assert state(source) == before


@pytest.mark.usefixtures("source")
def test_undo_keeps_the_files_of_others_and_the_folders_they_are_in(tmp_path: Path, run: Run) -> None:
    folder = tmp_path / "sorted"
    export_folders(run, folder)
    (folder / "cluster-0" / "notes.txt").write_text("mine")
    (folder / "mine").mkdir()
    assert undo_folders(folder).removed == 60
    assert names_in(folder) == {"cluster-0/notes.txt"}
    assert (folder / "mine").is_dir() and not (folder / "cluster-1").exists()


def test_undo_keeps_a_copy_that_was_changed_or_is_the_last_one(tmp_path: Path, run: Run, source: Path) -> None:
    folder = tmp_path / "sorted"
    made = export_folders(run, folder)["made"]
    Path(made[0]["from"]).unlink()
    (folder / made[1]["to"]).write_bytes(b"retouched")
    (folder / made[2]["to"]).unlink()
    assert undo_folders(folder).removed == 57
    kept = {made[0]["to"], made[1]["to"]}
    assert names_in(folder) == kept | {MANIFEST}
    assert {item["to"] for item in json.loads((folder / MANIFEST).read_text())["made"]} == kept


@pytest.mark.parametrize("mode", ["copy", "hardlink"])
def test_a_manifest_whose_originals_are_the_files_themselves_deletes_none(
    tmp_path: Path, run: Run, source: Path, mode: str
) -> None:
    folder = tmp_path / "sorted"
    export_folders(run, folder, mode)
    change_manifest(folder, lambda item: {**item, "from": str(folder / item["to"])})
    shutil.rmtree(source)
    before = state(folder)
    undone = undo_folders(folder)
    assert undone.removed == 0 and len(undone.kept) == 60
    assert "60 files kept: 60 that are the original itself" in undone.kept_line()
    assert {name: data for name, data in state(folder).items() if name != MANIFEST} == {
        name: data for name, data in before.items() if name != MANIFEST
    }


@pytest.mark.parametrize("mode", ["copy", "hardlink"])
@pytest.mark.parametrize("replace", [os.symlink, os.link, "folder"])
def test_copies_that_the_originals_have_become_links_to_are_not_deleted(
    tmp_path: Path, run: Run, source: Path, mode: str, replace: Any
) -> None:
    """As a program that saves space does; or as somebody who keeps the sorted folder and links to it."""
    folder = tmp_path / "sorted"
    made = export_folders(run, folder, mode)["made"]
    contents = {Path(item["from"]): (folder / item["to"]).read_bytes() for item in made}
    if replace == "folder":  # a link to the folder of the copies in the place of that of the originals
        change_manifest(folder, lambda item: {**item, "from": str(source / Path(item["to"]).name)})
        contents = {source / Path(item["to"]).name: (folder / item["to"]).read_bytes() for item in made[:1]}
        shutil.rmtree(source)
        source.symlink_to((folder / made[0]["to"]).parent)
    else:
        for item in made:
            Path(item["from"]).unlink()
            replace(folder / item["to"], item["from"])
    undo_folders(folder)
    for original, content in contents.items():
        assert original.read_bytes() == content


def test_two_exported_files_that_name_each_other_are_not_both_deleted(tmp_path: Path, run: Run, source: Path) -> None:
    folder = tmp_path / "sorted"
    first, second = export_folders(run, folder)["made"][:2]
    data = (folder / first["to"]).read_bytes()
    (folder / second["to"]).write_bytes(data)
    swapped = {first["to"]: str(folder / second["to"]), second["to"]: str(folder / first["to"])}
    change_manifest(folder, lambda item: {**without_hash(item), "from": swapped.get(item["to"], item["from"])})
    shutil.rmtree(source)
    assert undo_folders(folder).removed == 1
    assert [file.read_bytes() for file in folder.rglob("*.png") if file.read_bytes() == data]


@pytest.mark.parametrize("old", [False, True])
def test_an_edited_copy_of_the_same_size_and_time_is_not_deleted(
    tmp_path: Path, run: Run, source: Path, old: bool
) -> None:
    """`old`: a manifest without hashes, as earlier versions wrote it."""
    folder = tmp_path / "sorted"
    item = export_folders(run, folder)["made"][7]
    assert len(item["hash"]) == 32
    if old:
        change_manifest(folder, without_hash)
    copy = folder / item["to"]
    times, data = copy.stat(), copy.read_bytes()
    copy.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    os.utime(copy, ns=(times.st_atime_ns, times.st_mtime_ns))
    undone = undo_folders(folder)
    assert undone.removed == 59 and undone.kept_line().startswith("1 files kept: 1 that differ")
    assert item["to"] in undone.kept_line() and copy.is_file()


def test_a_copy_and_an_original_that_were_both_replaced_are_not_what_was_exported(
    tmp_path: Path, run: Run, source: Path
) -> None:
    folder = tmp_path / "sorted"
    item = export_folders(run, folder)["made"][0]
    for file in (folder / item["to"], Path(item["from"])):
        file.write_bytes(b"another picture")
    assert undo_folders(folder).removed == 59 and (folder / item["to"]).is_file()


def test_a_manifest_without_hashes_is_undone_by_the_content_of_the_originals(
    tmp_path: Path, run: Run, source: Path
) -> None:
    before, folder = state(source), tmp_path / "sorted"
    export_folders(run, folder)
    change_manifest(folder, without_hash)
    assert undo_folders(folder).removed == 60
    assert state(source) == before and not folder.exists()


def without_hash(item: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in item.items() if name != "hash"}


def change_manifest(folder: Path, change: Callable[[dict[str, str]], dict[str, str]]) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["made"] = [change(item) for item in manifest["made"]]
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_undo_keeps_a_hard_link_whose_original_has_gone(tmp_path: Path, run: Run, source: Path) -> None:
    made = export_folders(run, tmp_path / "sorted", "hardlink")["made"]
    Path(made[0]["from"]).unlink()
    assert undo_folders(tmp_path / "sorted").removed == 59
    assert (tmp_path / "sorted" / made[0]["to"]).is_file()


def test_undo_removes_links_that_lead_nowhere_and_keeps_links_that_were_set_anew(
    tmp_path: Path, run: Run, source: Path
) -> None:
    folder = tmp_path / "sorted"
    made = export_folders(run, folder, "symlink")["made"]
    Path(made[0]["from"]).unlink()
    link = folder / made[1]["to"]
    link.unlink()
    link.symlink_to(made[2]["from"])
    assert undo_folders(folder).removed == 59
    assert names_in(folder) == {made[1]["to"], MANIFEST}


@pytest.mark.usefixtures("source")
def test_undo_twice_is_refused_with_a_sentence(tmp_path: Path, run: Run) -> None:
    export_folders(run, tmp_path / "sorted")
    undo_folders(tmp_path / "sorted")
    with pytest.raises(FileNotFoundError, match=f"no {MANIFEST}.*undone already"):
        undo_folders(tmp_path / "sorted")


@pytest.mark.parametrize(
    "outside", ["../victim.txt", "{absolute}", "cluster-0/../../victim.txt", "link/victim.txt", ""]
)
def test_a_manifest_that_was_tampered_with_cannot_delete_outside_its_folder(
    tmp_path: Path, run: Run, source: Path, outside: str
) -> None:
    folder = tmp_path / "sorted"
    manifest = export_folders(run, folder)
    (tmp_path / "victim.txt").write_text("dear to somebody")
    (folder / "link").symlink_to(tmp_path)
    target = outside.format(absolute=tmp_path / "victim.txt")
    manifest["made"].append({"id": "x", "from": manifest["made"][0]["from"], "to": target})
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="outside the folder"):
        undo_folders(folder)
    assert (tmp_path / "victim.txt").read_text() == "dear to somebody"
    assert len(names_in(folder)) == 62  # 60 images, the manifest and the link


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"made": [1], "mode": "copy"}', '{"made": [{}], "mode": "copy"}']
)
@pytest.mark.usefixtures("source")
def test_a_damaged_manifest_removes_nothing(tmp_path: Path, run: Run, text: str) -> None:
    export_folders(run, tmp_path / "sorted")
    (tmp_path / "sorted" / MANIFEST).write_text(text)
    with pytest.raises(ValueError, match="damaged"):
        undo_folders(tmp_path / "sorted")
    assert len(names_in(tmp_path / "sorted")) == 61


@pytest.mark.usefixtures("source")
def test_a_folder_with_something_in_it_is_refused(tmp_path: Path, run: Run) -> None:
    (tmp_path / "sorted").mkdir()
    export_folders(run, tmp_path / "sorted")  # an empty one is welcome
    with pytest.raises(FileExistsError, match="sorted' is not empty"):
        export_folders(run, tmp_path / "sorted")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError, match="file' is not empty"):
        export_folders(run, tmp_path / "file")


@pytest.mark.usefixtures("source")
def test_an_unknown_mode_is_refused(tmp_path: Path, run: Run) -> None:
    with pytest.raises(ValueError, match="'move'.*copy, symlink, hardlink"):
        export_folders(run, tmp_path / "sorted", "move")
    assert not (tmp_path / "sorted").exists()


def test_images_without_a_file_and_files_that_have_gone_are_left_out_with_the_reason(
    tmp_path: Path, run: Run, source: Path
) -> None:
    here = str(next(source.rglob("*.png")))
    ids = ["array", "zipped.png", "gone.png", "here.png", "folder"]
    set_table(run, ids, ["", "/a.zip::zipped.png", str(source / "gone.png"), here, str(source)], [0, 0, 0, 1, 1])
    manifest = export_folders(run, tmp_path / "sorted")
    assert [item["id"] for item in manifest["made"]] == ["here.png"]
    reasons = {item["id"]: item["reason"] for item in manifest["left_out"]}
    assert reasons.keys() == set(ids) - {"here.png"}
    assert reasons["array"] == reasons["zipped.png"] == "it has no file of its own"
    assert reasons["gone.png"] == "its file has gone"
    assert names_in(tmp_path / "sorted") == {"cluster-1/here.png", MANIFEST}


def test_nothing_to_export_is_said_before_anything_is_made(tmp_path: Path, run: Run) -> None:
    set_table(run, ["0", "1"], ["", ""], [0, 1])
    with pytest.raises(ValueError, match="None.*2 images"):
        export_folders(run, tmp_path / "sorted")
    assert not (tmp_path / "sorted").exists()


def test_names_that_clash_are_numbered(tmp_path: Path, run: Run, source: Path) -> None:
    here = [str(file) for file in sorted(source.rglob("*.png"))[:5]]
    set_table(run, ["a/b.png", "a__b.png", "A/B.png", "a__b-2.png", "other/b.png"], here, [0] * 5)
    manifest = export_folders(run, tmp_path / "sorted")
    names = [item["to"].removeprefix("cluster-0/") for item in manifest["made"]]
    assert names[0] == "a__b.png" and names[4] == "other__b.png"
    assert len({name.lower() for name in names}) == 5
    for item, path in zip(manifest["made"], here, strict=True):
        assert (tmp_path / "sorted" / item["to"]).read_bytes() == Path(path).read_bytes()
    assert undo_folders(tmp_path / "sorted").removed == 5


def test_long_and_odd_names_make_files_that_exist(tmp_path: Path, run: Run, source: Path) -> None:
    data = next(source.rglob("*.png")).read_bytes()
    ids = [
        "/".join(["folder"] * 60) + "/x.png",
        "ö" * 300 + ".png",
        "..",
        "../../etc/passwd",
        "/absolute.png",
        "new\nline.png",
        'quote".png',
        "back\\slash.png",
        "-rf.png",
        "  ",
        "no suffix",
    ]
    paths = []
    for number in range(len(ids)):
        paths.append(str(source / f"odd {number}.png"))
        Path(paths[-1]).write_bytes(data)
    set_table(run, ids, paths, [0] * len(ids))
    manifest = export_folders(run, tmp_path / "sorted")
    made = [tmp_path / "sorted" / item["to"] for item in manifest["made"]]
    assert len(made) == len(set(made)) == len(ids)
    for file in made:
        assert file.read_bytes() == data
        assert file.resolve().parent == (tmp_path / "sorted" / "cluster-0").resolve()
        assert file.suffix == ".png" and len(file.name.encode()) <= 200
    assert undo_folders(tmp_path / "sorted").removed == len(ids)


def test_flat_names_and_free_targets_by_hand() -> None:
    assert flat_name("cat/a.png", "/p/cat/a.png") == "cat__a.png"
    assert flat_name("000007", "/p/a.jpeg") == "000007.jpeg"
    assert flat_name("a.png#2", "/p/a.png") == "a.png#2.png"
    assert len(flat_name("x." + "y" * 250, "/p/x." + "y" * 250)) == 200  # an ending as long as a name can be
    taken: set[str] = set()
    found = [free_target("c", name, taken) for name in ("a.png", "A.PNG", "a.png", "a-2.png")]
    assert found == ["c/a.png", "c/A-2.PNG", "c/a-3.png", "c/a-2-2.png"]
    composed, decomposed = "caf\u00e9.png", "cafe\u0301.png"
    assert free_target("c", composed, taken) != free_target("c", decomposed, taken).replace("e\u0301", "\u00e9")


def test_folders_are_named_so_that_they_sort(tmp_path: Path, run: Run, source: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "n_clusters": 11}))
    export_folders(run, tmp_path / "sorted")
    assert {folder.name for folder in (tmp_path / "sorted").iterdir()} == {"cluster-00", "cluster-01", MANIFEST}


def test_a_failure_half_way_is_told_and_can_be_undone(
    tmp_path: Path, run: Run, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, folder, copy2 = state(source), tmp_path / "sorted", shutil.copy2

    def disk_full(origin: str, target: Path) -> None:
        if len(names_in(folder)) > 20:
            Path(target).write_bytes(b"half")
            raise OSError(28, "No space left on device")
        copy2(origin, target)

    monkeypatch.setattr(shutil, "copy2", disk_full)
    with pytest.raises(OSError, match=r"copy.*No space left on device.*20 files"):
        export_folders(run, folder)
    assert undo_folders(folder).removed == 20
    assert not folder.exists()
    assert state(source) == before


@pytest.mark.usefixtures("source")
def test_progress_counts_the_files(tmp_path: Path, run: Run) -> None:
    calls: list[tuple[int, int]] = []
    export_folders(run, tmp_path / "sorted", "copy", lambda done, total: calls.append((done, total)))
    assert calls == [(i, 60) for i in range(1, 61)]


def test_the_csv_comes_from_the_checked_table(tmp_path: Path, run: Run) -> None:
    """Not from the run's own CSV file, which nothing checks."""
    wanted = (run / "assignments.csv").read_bytes()
    (run / "assignments.csv").write_text("root:x:0:0")
    assert export_csv(run, tmp_path / "a.csv") == 60
    assert (tmp_path / "a.csv").read_bytes() == wanted


def test_the_csv_is_that_of_the_run(tmp_path: Path, run: Run) -> None:
    file = tmp_path / "new folder" / "clusters of mine.csv"
    assert export_csv(run, file) == 60
    assert file.read_bytes() == (run / "assignments.csv").read_bytes()
    with open(file, newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 60


@pytest.mark.usefixtures("source")
def test_an_unfinished_run_exports_nothing(tmp_path: Path, run: Run) -> None:
    (run / "assignments.parquet").unlink()
    for export in (export_csv, export_folders):
        with pytest.raises(FileNotFoundError, match="not finished"):
            export(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()
