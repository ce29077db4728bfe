"""The ledger of ``add`` and ``import``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clip_client import InvalidInput
from clip_search.cli.books import Books


def test_what_was_read_is_the_sum_of_what_became_of_it(tmp_path: Path) -> None:
    told: list[str] = []
    with Books(tmp_path / "errors.jsonl", told.append) as books:
        books.added, books.unchanged, books.replaced = 3, 2, 1
        assert books.status() == 0
        books.note("a.jpg", "caption.txt isn't UTF-8")
        books.leave_out("b\n\udcff.jpg", "not a picture")
    assert (books.read, books.left_out, books.status()) == (7, 1, 1)
    assert books.closing() == "read 7 = 3 added + 2 unchanged + 1 replaced + 1 left out"
    assert told == ["a.jpg: caption.txt isn't UTF-8", r"left out b\n\udcff.jpg: not a picture"]
    assert [json.loads(line) for line in (tmp_path / "errors.jsonl").read_text().splitlines()] == [
        {"item": "a.jpg", "reason": "caption.txt isn't UTF-8", "kind": "partial"},
        {"item": "b\n\udcff.jpg", "reason": "not a picture"},
    ]


def test_a_file_for_errors_that_cant_be_written_is_named_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="name another file"):
        Books(tmp_path / "none" / "errors.jsonl", print)


def test_a_disk_that_is_full_stops_nothing() -> None:
    told: list[str] = []
    with Books(Path("/dev/full"), told.append) as books:
        books.added = 1
        books.note("a.jpg", "no caption")
        books.note("b.jpg", "no caption")
    assert books.closing().startswith("read 1 = 1 added")
    assert books.status() == 1
    assert told[1].startswith("the errors can't be written any more")
    assert [told[0], *told[2:]] == ["a.jpg: no caption", "b.jpg: no caption"]
