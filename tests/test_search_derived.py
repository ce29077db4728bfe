"""Files derived from a table: one that is damaged is noticed when it is opened, named in the log, and made again."""

from __future__ import annotations

import io
import itertools
import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from collections_on_disk import COUNT, OPTIONS, VECTORS, Opener, brute, fill, hit_ids, rows, settled

from clip_search.collection import Collection
from clip_search.index.part_builder import PartBuilder
from clip_search.options import IndexOptions
from clip_search.storage.derived_files import read_manifest
from clip_search.storage.rows import NewRow

FILES = ["cards/current.json", "cards/*.arrow", "image/current.json", "image/part-*/index.faiss", "image/part-*/rows.npy"]

_DERIVED, _PART = "clip_search.storage.derived_files", "clip_search.index.part.Part.save"
_SAVING = [f"{_DERIVED}.write_manifest", _PART, f"{_DERIVED}.make_folder", f"{_DERIVED}.remove_others"]


def flipped(at: float) -> Callable[[Path, Path], None]:
    """Turns one bit at a share of the length."""

    def flip(path: Path, other: Path) -> None:
        content = bytearray(path.read_bytes())
        content[min(int(at * len(content)), len(content) - 1)] ^= 4
        path.write_bytes(content)

    return flip


def directory(path: Path, other: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "something").write_text("in it")


def pipe(path: Path, other: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGES: dict[str, Callable[[Path, Path], object]] = {
    "truncated": lambda path, other: os.truncate(path, path.stat().st_size // 2),
    "one byte more": lambda path, other: path.write_bytes(path.read_bytes() + b" x"),
    "empty": lambda path, other: os.truncate(path, 0),
    "first bit": flipped(0),
    "middle bit": flipped(0.5),
    "last bit": flipped(1),
    "deleted": lambda path, other: path.unlink(),
    "another's": shutil.copyfile,
    "directory": directory,
    "pipe": pipe,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection with several files of each kind, and another one beside it."""
    folder = tmp_path_factory.mktemp("made")
    for name in ("this", "other"):
        opener = Opener(folder / name)
        opener.folder.mkdir()
        build(opener, reverse=name == "other")
        opener.close()
    return folder


def build(opener: Opener, *, reverse: bool) -> None:
    """Rows in two parts and two files of cards; some are deleted since."""
    collection = opener.open()
    if reverse:  # so that no file of one is byte for byte one of the other
        collection.add([NewRow("gone", {"image": VECTORS[0]})], on_conflict="error", fingerprint="").result()
        collection.delete(ids=["gone"]).result()
    numbers = list(range(COUNT))[:: -1 if reverse else 1]
    collection.add(rows(*numbers[:700]), on_conflict="error", fingerprint="").result()
    assert settled(lambda: collection.engines["image"].stats()["tail_rows"] == 0)
    collection.maintain()
    collection.add(rows(*numbers[700:]), on_conflict="error", fingerprint="").result()
    collection.maintain()
    assert settled(lambda: collection.engines["image"].stats()["tail_rows"] == 0)
    collection.maintain()
    collection.delete(ids=["r5", "r800"]).result()


@pytest.fixture
def opener(made: Path, tmp_path: Path) -> Opener:
    shutil.copytree(made, tmp_path / "made")
    opener = Opener(tmp_path / "made" / "this")
    yield opener
    opener.close()


def answers_right(collection: Collection) -> None:
    assert collection.engines["image"].size() == COUNT - 2
    numbers = collection.table.numbers()
    assert len(numbers) == COUNT - 2
    assert None not in collection.cards.take(numbers)
    for n in range(0, COUNT, 37):
        assert hit_ids(collection, VECTORS[n], 1) == [f"r{n}"]
        number = collection.row_of(f"r{n}")
        assert collection.cards.take(np.array([number]))[0]["caption"] == f"picture {n}"
        np.testing.assert_allclose(collection.engines["image"].vectors(np.array([number]))[0], VECTORS[n], atol=2e-3)
    assert not {"r5", "r800"} & set(hit_ids(collection, VECTORS[5], COUNT))
    assert hit_ids(collection, VECTORS[3], 5, "year = 7") == brute(VECTORS[3], 5, range(7, COUNT, 100))


def damaged(opener: Opener, pattern: str, damage: str, which: int = 0) -> Path:
    path = sorted((opener.folder / "a").glob(pattern))[which]
    other = sorted((opener.folder.parent / "other" / "a").glob(pattern))[0]
    DAMAGES[damage](*((path, other) if damage != "another's" else (other, path)))
    return path


def marks(pattern: str, damage: str) -> list[pytest.MarkDecorator]:
    """Leave to longer runs what a file's digest tells in the same way, but for one file that is damaged in each way."""
    if pattern == FILES[1] or damage in ("deleted", "truncated", "middle bit"):
        return []
    return [pytest.mark.slow if damage in ("first bit", "last bit") else pytest.mark.long]


@pytest.mark.parametrize(
    ("pattern", "damage"), [pytest.param(*pair, marks=marks(*pair)) for pair in itertools.product(FILES, DAMAGES)]
)
def test_one_damaged_file_is_named_and_made_again(opener: Opener, log: io.StringIO, pattern: str, damage: str) -> None:
    path = damaged(opener, pattern, damage)
    collection = opener.open()
    answers_right(collection)
    assert str(path) in log.getvalue()
    assert settled(lambda: not collection.cards.unsaved and not collection.engines["image"]._unsaved)
    answers_right(collection)
    log.truncate(0)
    answers_right(opener.open())
    assert log.getvalue() == ""


@pytest.mark.parametrize("pattern", FILES[1::2])
def test_a_damaged_file_between_good_ones(opener: Opener, log: io.StringIO, pattern: str) -> None:
    path = damaged(opener, pattern, "middle bit", which=-1)
    answers_right(opener.open())
    assert str(path) in log.getvalue()
    answers_right(opener.open())


@pytest.mark.parametrize("name", ["", "cards", "image", "text"])
@pytest.mark.parametrize("kind", ["file", "gone", "unreadable link"])
def test_a_folder_of_derived_files_that_is_something_else(opener: Opener, name: str, kind: str) -> None:
    folder = opener.folder / "a" / name
    shutil.rmtree(folder, ignore_errors=True)
    if kind == "file":
        folder.write_text("no folder")
    elif kind == "unreadable link":
        folder.symlink_to(opener.folder / "nowhere")
    collection = opener.open()
    answers_right(collection)
    assert settled(lambda: not collection.cards.unsaved)
    collection.rebuild()
    answers_right(opener.open())


def test_another_collections_files_as_a_whole_are_noticed(opener: Opener, log: io.StringIO) -> None:
    other = opener.folder.parent / "other" / "a"
    shutil.rmtree(opener.folder / "a")
    shutil.copytree(other, opener.folder / "a")
    answers_right(opener.open())
    assert "is of another collection" in log.getvalue()


@pytest.mark.parametrize(("of", "to"), list(itertools.permutations(("cards", "image", "text", "acknowledged"), 2)))
@pytest.mark.parametrize("whole", [False, True])
def test_files_in_another_folder_than_their_own_are_noticed(
    opener: Opener, log: io.StringIO, of: str, to: str, whole: bool
) -> None:
    folder = opener.folder / "a"
    collection = opener.open()
    collection.add([NewRow("t", {"text": VECTORS[7]})], on_conflict="error", fingerprint="").result()
    collection.rebuild()
    opener.close()
    if whole:
        shutil.copytree(folder / of, folder / "copy")
        shutil.rmtree(folder / to)
        (folder / "copy").rename(folder / to)
    else:
        shutil.copyfile(folder / of / "current.json", folder / to / "current.json")
    again = opener.open()
    assert "is the one of another folder" in log.getvalue()
    again.delete(ids=["t"]).result()
    answers_right(again)
    assert again.search(VECTORS[7], "text", 5, "")[1].tolist() == []


def test_files_of_a_collection_of_the_same_name_that_was_dropped_are_noticed(opener: Opener) -> None:
    old = opener.folder.parent / "old"
    shutil.copytree(opener.folder / "a", old)
    opener.open().drop(lambda: opener.database.drop("a"))
    opener.database.close()
    opener.collection = None
    shutil.copytree(old, opener.folder / "a")
    collection = opener.open()
    collection.add([NewRow("new", {"image": VECTORS[7]})], on_conflict="error", fingerprint="").result()
    assert hit_ids(collection, VECTORS[7], 5) == ["new"]
    assert collection.cards.take(np.array([0]))[0]["id"] == "new"
    assert hit_ids(opener.open(), VECTORS[7], 5) == ["new"]


def test_older_files_of_the_same_collection_are_completed(opener: Opener) -> None:
    old = opener.folder.parent / "old"
    shutil.copytree(opener.folder / "a", old)
    collection = opener.open()
    collection.add(rows(5), on_conflict="error", fingerprint="").result()
    new = NewRow("r9", {"image": VECTORS[800]})
    collection.add([new], on_conflict="replace", fingerprint="").result()
    collection.rebuild()
    opener.close()
    shutil.rmtree(opener.folder / "a")
    shutil.copytree(old, opener.folder / "a")
    reopened = opener.open()
    assert hit_ids(reopened, VECTORS[5], 1) == ["r5"]
    assert hit_ids(reopened, VECTORS[800], 1) == ["r9"]
    assert reopened.engines["image"].size() == COUNT - 1


def as_older_versions_wrote_it(folder: Path) -> None:
    """Files without checksums: an index has a list of its parts, each with its tuning beside it; cards have nothing."""
    for tower in ("image", "text"):
        manifest = folder / tower / "current.json"
        if not manifest.exists():
            continue
        parts = json.loads(manifest.read_text())["content"]["parts"]
        for name, about in parts.items():
            told = {"kind": about["kind"], "tuned": about["tuned"]}
            (folder / tower / name / "part.json").write_text(json.dumps(told))
        manifest.write_text(json.dumps({"table_version": 5, "parts": list(parts)}))
    (folder / "cards" / "current.json").unlink()
    for deck in (folder / "cards").glob("*.arrow"):
        deck.rename(deck.with_name("-".join(deck.stem.split("-")[:2]) + ".arrow"))


def test_files_of_older_versions_are_made_again(opener: Opener, log: io.StringIO) -> None:
    as_older_versions_wrote_it(opener.folder / "a")
    collection = opener.open()
    answers_right(collection)
    assert "has no checksums" in log.getvalue()
    assert settled(lambda: collection.engines["image"].stats()["tail_rows"] == 0 and not collection.cards.unsaved)
    log.truncate(0)
    answers_right(opener.open())
    assert log.getvalue() == ""


def test_a_number_is_not_given_twice_when_the_cards_are_lost(opener: Opener) -> None:
    opener.open().delete(where="year >= 0").result()
    opener.close()
    shutil.rmtree(opener.folder / "a" / "cards")
    collection = opener.open()
    collection.add(rows(5), on_conflict="error", fingerprint="").result()
    assert collection.row_of("r5") >= COUNT


@pytest.mark.parametrize("write", _SAVING)
def test_an_index_that_could_not_be_saved_is_saved_later(opener: Opener, monkeypatch: pytest.MonkeyPatch, write: str) -> None:
    collection = opener.open()
    with monkeypatch.context() as patch:
        patch.setattr(write, _full)
        with pytest.raises(OSError, match="No space left"):
            collection.rebuild()
        answers_right(collection)
    collection.maintain()
    answers_right(opener.open())
    assert opener.collection.engines["image"].stats()["tail_rows"] == 0


def _full(*arguments: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_folder_that_cannot_be_written_does_not_keep_a_collection_from_opening(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(opener.folder / "a")
    monkeypatch.setattr("clip_search.storage.derived_files.make_folder", _full)
    collection = opener.open()
    answers_right(collection)
    collection.add(rows(5), on_conflict="error", fingerprint="").result()
    assert hit_ids(collection, VECTORS[5], 1) == ["r5"]


@pytest.mark.parametrize("engine", ["faiss", "lancedb"])
def test_cards_are_checked_with_every_engine(opener: Opener, log: io.StringIO, engine: str) -> None:
    damaged(opener, "cards/*.arrow", "middle bit")
    collection = opener.open(IndexOptions(engine=engine, exact_rows=OPTIONS.exact_rows))
    assert hit_ids(collection, VECTORS[1], 1) == ["r1"]
    assert "isn't what was written" in log.getvalue()


def test_leftovers_of_what_was_broken_off_go(opener: Opener) -> None:
    leftovers = [opener.folder / "a" / name for name in ("cards/x.part", "image/part-abc/index.faiss")]
    for path in leftovers:
        path.parent.mkdir(exist_ok=True)
        path.write_text("half")
    collection = opener.open()
    answers_right(collection)
    collection.rebuild()
    assert not any(path.exists() for path in leftovers)


def test_a_new_collection_has_nothing_to_complain_of(tmp_path: Path, log: io.StringIO) -> None:
    opener = Opener(tmp_path)
    fill(opener.open())
    opener.collection.rebuild()
    opener.open()
    opener.close()
    assert log.getvalue() == ""


def test_parts_begun_at_once_in_a_new_folder_take_nothing_from_each_other(tmp_path: Path) -> None:
    class Table:
        identity = "table 1"

    folder = tmp_path / "image"
    builder = PartBuilder(
        cast(Any, Table()), "image", folder, IndexOptions(), lambda count: (np.empty((0, 4), np.float32), "made")
    )
    for _ in range(50):
        shutil.rmtree(folder, ignore_errors=True)
        with ThreadPoolExecutor(4) as pool:
            begun = [pool.submit(builder.new_folder) for _ in range(4)]
            noted = pool.submit(builder.note, {"last": 7, "parts": {}, "queries": {}})
            assert len({future.result().name for future in begun}) == 4
            noted.result()
        assert read_manifest(folder, "table 1", {"last": -1, "parts": {}})["last"] == 7
