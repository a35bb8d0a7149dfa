"""Files that are never half-written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ilk.system.files import replacing, write_json, write_text


def write_half(file: Path, accident: type[BaseException]) -> None:
    with replacing(file) as temporary:
        temporary.write_text("half")
        raise accident


def test_the_new_content_is_there_when_the_block_ends(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("old")
    with replacing(file) as temporary:
        temporary.write_text("new")
        assert file.read_text() == "old"
        assert temporary.parent == tmp_path
    assert file.read_text() == "new"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("accident", [RuntimeError, KeyboardInterrupt])
def test_an_exception_in_the_middle_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, accident: type[BaseException]
) -> None:
    file = tmp_path / "a.txt"
    file.write_text("old")
    with pytest.raises(accident):
        write_half(file, accident)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_an_exception_in_the_first_write_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        write_half(tmp_path / "a.txt", RuntimeError)
    assert list(tmp_path.iterdir()) == []


def test_text_is_utf8_with_the_line_ends_it_has(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "größer\nals\r\n")
    assert (tmp_path / "a.txt").read_bytes() == "größer\nals\r\n".encode()


def test_json_is_readable_by_people_and_machines(tmp_path: Path) -> None:
    value = {"name": "Straße", "n": [1, 2.5, None]}
    write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == value
    assert "Straße" in text
    assert text.endswith("}\n")


def test_a_value_that_is_no_json_leaves_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"a": object()})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1}
    assert len(list(tmp_path.iterdir())) == 1
