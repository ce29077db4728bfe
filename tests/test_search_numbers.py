"""Row numbers never come back: not after kill -9 between any two steps, nor with derived files that are lost, torn or old."""

from __future__ import annotations

import functools
import io
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from collections_on_disk import Opener
from sidecars import unit

import clip_search.storage.schema
from clip_client import Unavailable
from clip_client.spec import TOWERS
from clip_search import upkeep
from clip_search.collection import Collection
from clip_search.index.part import Part
from clip_search.options import IndexOptions
from clip_search.storage import derived_files
from clip_search.storage.row_cache import RowCache
from clip_search.storage.row_numbers import BLOCK
from clip_search.storage.rows import NewRow
from clip_search.storage.table import Table

OPTIONS = IndexOptions(tail_rows=20)
VECTORS = dict(zip(TOWERS, (unit(400, seed=1), unit(400, seed=2)), strict=True))
NEW = range(300, 310)


@pytest.fixture(autouse=True)
def no_upkeep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Upkeep is done by the test alone."""
    monkeypatch.setattr(upkeep, "_PAUSE_S", 3600)


def add(collection: Collection, numbers: range, prefix: str = "r", towers: tuple[str, ...] = TOWERS) -> None:
    rows = [NewRow(f"{prefix}{n}", {tower: VECTORS[tower][n] for tower in towers}, {"n": n}) for n in numbers]
    collection.add(rows, on_conflict="replace", fingerprint="").result()


def numbers_of(collection: Collection) -> dict[int, str]:
    return {row["row"]: row["id"] for row in collection.table.page("", -1, 10_000, ["id"])}


def right(collection: Collection) -> None:
    """Every row of the table, and no other, is found by its own vectors, with its own card."""
    rows = numbers_of(collection)
    for tower in TOWERS:
        having = collection.table.rows(tower).tolist()
        assert collection.engines[tower].size() == len(having)
        for row in having:
            vector = VECTORS[tower][int(rows[row][1:])]
            scores, found = collection.search(vector, tower, 1, "")
            assert (found.tolist(), round(float(scores[0]), 2)) == ([row], 1.0)
            np.testing.assert_allclose(collection.engines[tower].vectors(np.array([row]))[0], vector, atol=2e-3)
    cards = collection.cards.take(np.array(sorted(rows), np.int64))
    assert [card and card["id"] for card in cards] == [rows[row] for row in sorted(rows)]


class Killed:
    """Copies of a data folder as kill -9 leaves it, one at each step; with the rows that had numbers until then."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder, self.opener = folder, Opener(folder / "lives")
        self.opener.folder.mkdir()
        self.copies: list[tuple[str, Path, dict[int, str]]] = []
        self._given: dict[int, str] = {}
        for owner, names in {
            derived_files: ("write_manifest", "remove_others"),
            Part: ("save",),
            RowCache: ("_written",),
            Table: ("append", "upsert", "delete", "note"),
        }.items():
            for name in names:
                monkeypatch.setattr(owner, name, self._step(name, getattr(owner, name)))

    def _step(self, name: str, do: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(do)
        def stepped(*arguments: Any, **named: Any) -> Any:
            self._copy(f"before {name}")
            done = do(*arguments, **named)
            self._copy(f"after {name}")
            return done

        return stepped

    def _copy(self, step: str) -> None:
        if self.opener.collection:
            self._given.update(numbers_of(self.opener.collection))
            place = self._folder / f"{len(self.copies)}"
            shutil.copytree(self.opener.folder, place)
            self.copies.append((step, place, dict(self._given)))


def live(opener: Opener) -> None:
    """Rows of both towers are indexed, deleted, replaced; the last ones again and again."""
    collection = opener.open(OPTIONS)
    add(collection, range(90))
    collection.maintain()
    collection.delete(where="n >= 80").result()
    add(collection, range(100, 130), towers=("image",))
    collection.maintain()
    collection.delete(where="n >= 110").result()
    add(collection, range(120, 125), towers=("text",))
    add(collection, range(120, 125))
    collection.rebuild()
    collection.delete(where="n >= 100").result()
    collection.maintain()


def torn(path: Path) -> None:
    if path.exists():
        os.truncate(path, path.stat().st_size // 2)


DAMAGES: dict[str, Callable[[Path, Path], object]] = {
    "none": lambda folder, old: None,
    "no derived files": lambda folder, old: shutil.rmtree(folder, ignore_errors=True),
    "image index torn": lambda folder, old: torn(folder / "image" / "current.json"),
    "text index missing": lambda folder, old: shutil.rmtree(folder / "text", ignore_errors=True),
    "image index missing": lambda folder, old: shutil.rmtree(folder / "image", ignore_errors=True),
    "last cards torn": lambda folder, old: [torn(path) for path in sorted(folder.glob("cards/*.arrow"))[-1:]],
    "cards missing": lambda folder, old: shutil.rmtree(folder / "cards", ignore_errors=True),
    "image index old": lambda folder, old: replaced(folder / "image", old / "image"),
    "all but cards old": lambda folder, old: [replaced(folder / tower, old / tower) for tower in TOWERS],
    "cards old": lambda folder, old: replaced(folder / "cards", old / "cards"),
}


def replaced(path: Path, other: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    if other.exists():
        shutil.copytree(other, path)


@pytest.fixture
def killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Killed:
    with monkeypatch.context() as patch:
        killed = Killed(tmp_path, patch)
        live(killed.opener)
        killed.opener.close()
    return killed


USUAL = ("none", "no derived files", "image index torn", "cards old")
"""Damages for every run: nothing, everything, a file that can't be read, one that can and isn't right."""


@pytest.mark.parametrize(
    "damage", [pytest.param(damage, marks=[] if damage in USUAL else pytest.mark.long) for damage in DAMAGES]
)
def test_killed_between_any_two_steps_no_number_comes_back(killed: Killed, damage: str) -> None:
    old = next(place for step, place, _ in killed.copies if "image" in {path.name for path in (place / "a").glob("*")})
    shutil.copytree(old / "a", old.parent / "old")
    assert len(killed.copies) > 40
    first, stride = (0, 1) if damage == "none" else ([*DAMAGES].index(damage) % 8, 8)
    for step, place, given in killed.copies[first::stride]:
        opener = Opener(place)
        DAMAGES[damage](place / "a", old.parent / "old")
        goes_on(opener, step, given)


def goes_on(opener: Opener, step: str, given: dict[int, str]) -> None:
    """New rows are added, the collection is opened once more, others are added: each has a number of its own."""
    collection = opener.open(OPTIONS)
    there = numbers_of(collection)
    right(collection)
    add(collection, NEW[:5], "x")
    again = opener.open(OPTIONS)
    add(again, NEW[5:], "y")
    again.maintain()
    right(again)
    new = {row: id for row, id in numbers_of(again).items() if row not in there}
    assert sorted(new.values()) == [*(f"x{n}" for n in NEW[:5]), *(f"y{n}" for n in NEW[5:])], step
    assert not new.keys() & given.keys(), step
    opener.close()


def test_a_deleted_last_rows_number_is_not_given_after_a_restart(opener: Opener) -> None:
    given: set[int] = set()
    for n in range(5):
        collection = opener.open(OPTIONS)
        add(collection, range(n, n + 1))
        assert not {collection.row_of(f"r{n}")} & given
        given.add(collection.row_of(f"r{n}"))
        collection.delete(ids=[f"r{n}"]).result()
    assert given == {BLOCK * n for n in range(5)}


def test_numbers_ascend_without_gaps_until_a_restart(opener: Opener) -> None:
    collection = opener.open(OPTIONS)
    for start in range(0, 100, 10):
        add(collection, range(start, start + 10))
    assert list(numbers_of(collection)) == list(range(100))


def test_more_rows_than_a_block_have_their_numbers(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clip_search.storage.row_numbers.BLOCK", 4)
    collection = opener.open(OPTIONS)
    for start in range(0, 30, 10):
        add(collection, range(start, start + 10))
    assert list(numbers_of(collection)) == list(range(30))
    assert min(numbers_of(opener.open(OPTIONS))) == 0
    add(opener.collection, range(30, 31))
    assert opener.collection.row_of("r30") == 32


@pytest.mark.parametrize("after", [False, True])
def test_a_note_that_cannot_be_written_fails_the_addition_alone(
    opener: Opener, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    collection, note_ = opener.open(OPTIONS), Table.note

    def full(table: Table, note: dict[str, Any]) -> None:
        if after:
            note_(table, note)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Table, "note", full)
        with pytest.raises(Unavailable):
            add(collection, range(5))
    assert numbers_of(collection) == {}
    add(collection, range(5))
    right(collection)


@pytest.fixture
def before_notes(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Tables are made, and numbers given, as they were before there was a note of them."""
    with monkeypatch.context() as patch:
        fields = [field.remove_metadata() for field in clip_search.storage.schema._FIXED]
        patch.setattr(clip_search.storage.schema, "_FIXED", fields)
        patch.setattr(Table, "note", lambda table, note: None)
        patch.setattr("clip_search.storage.row_numbers._MOST_IN_A_COMMIT", 0)
        yield patch


@pytest.mark.parametrize("damage", ["none", "no derived files", "image index torn", "cards missing"])
def test_a_table_without_a_note_goes_on_beyond_all_that_may_have_been_given(
    opener: Opener, before_notes: pytest.MonkeyPatch, damage: str
) -> None:
    collection = opener.open(OPTIONS)
    add(collection, range(90))
    collection.maintain()
    given = numbers_of(collection)
    assert max(given) == 89
    collection.delete(where="n >= 10").result()
    opener.close()
    DAMAGES[damage](opener.folder / "a", opener.folder / "none")
    before_notes.undo()
    goes_on(opener, damage, given)


def versions(opener: Opener) -> list[Path]:
    """Manifests, the newest first: Lance counts down in their names."""
    return sorted((opener.folder / "db" / "a.lance" / "_versions").glob("*.manifest"))


def older(opener: Opener) -> int:
    """Fill a collection, delete, and lose the newest manifest; returns how many rows there are."""
    collection = opener.open(OPTIONS)
    add(collection, range(90))
    collection.delete(where="n >= 20 AND n < 30").result()
    collection.rebuild()
    collection.delete(where="n >= 80").result()
    opener.close()
    versions(opener)[0].unlink()
    return 80


def test_a_table_that_lost_its_newest_version_is_named(opener: Opener) -> None:
    older(opener)
    with pytest.raises(
        Unavailable, match=r"at version \d+, changes up to version \d+ were acknowledged.*or remove .*acknowledged"
    ):
        opener.open(OPTIONS)


def test_it_goes_on_without_what_is_lost_once_that_is_wanted(opener: Opener) -> None:
    count = older(opener)
    opener.database.close()
    shutil.rmtree(opener.folder / "a" / "acknowledged")
    assert len(opener.open(OPTIONS).table) == count
    right(opener.collection)
    opener.open(OPTIONS)


@pytest.mark.parametrize("damage", ["torn", "gone", "something else"])
def test_a_note_of_what_was_acknowledged_that_is_damaged_says_nothing(opener: Opener, log: io.StringIO, damage: str) -> None:
    add(opener.open(OPTIONS), range(5))
    opener.close()
    note = opener.folder / "a" / "acknowledged" / derived_files.MANIFEST
    if damage == "torn":
        torn(note)
    else:
        shutil.rmtree(note.parent)
        if damage == "something else":
            note.parent.write_text("no folder")
    right(opener.open(OPTIONS))
    assert (str(note) in log.getvalue()) == (damage != "gone")
    log.truncate(0)
    right(opener.open(OPTIONS))
    assert log.getvalue() == ""


def test_rows_that_are_back_in_an_older_table_are_found_and_stay_found(opener: Opener) -> None:
    """A backup of the table under newer indexes, which leave out what was deleted in the middle of them since."""
    collection = opener.open(OPTIONS)
    add(collection, range(90))
    opener.close()
    shutil.copytree(opener.folder / "db", opener.folder / "backup")
    collection = opener.open(OPTIONS)
    collection.delete(where="n >= 40 AND n < 50").result()
    add(collection, range(200, 230))
    collection.rebuild()
    given = numbers_of(collection)
    opener.close()
    replaced(opener.folder / "db", opener.folder / "backup")
    shutil.rmtree(opener.folder / "a" / "acknowledged")
    collection = opener.open(OPTIONS)
    right(collection)
    add(collection, range(300, 330))
    for _ in range(2):  # the second one has no patience
        collection.maintain()
    assert collection.engines["image"].stats()["tail_rows"] == 0
    right(collection)
    assert not {collection.row_of(f"r{n}") for n in range(300, 330)} & given.keys()
