"""Files that are damaged while they are served: noticed, named in the log, made again; answers are right before and after."""

from __future__ import annotations

import io
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from collections_on_disk import COUNT, OPTIONS, VECTORS, Opener, hit_ids, rows, settled

from clip_client.errors import Unavailable
from clip_search import upkeep
from clip_search.collection import Collection
from clip_search.index import block_checks, list_files
from clip_search.index.faiss_index import VectorIndex
from clip_search.index.part import Part
from clip_search.index.tuning import Tuned
from clip_search.options import IndexOptions
from clip_search.storage import derived_files
from clip_search.storage.deck import Deck
from clip_search.storage.derived_files import Sums

FILES = ["cards/current.json", "cards/*.arrow", "image/current.json", "image/part-*/index.faiss", "image/part-*/rows.npy"]


@pytest.fixture(autouse=True)
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Upkeep is done by the test alone; a pass follows the other, blocks are small."""
    monkeypatch.setattr(upkeep, "_PAUSE_S", 3600)
    monkeypatch.setattr(block_checks, "_PASS_S", 0)
    monkeypatch.setattr(derived_files, "BLOCK_BYTES", 4096)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection with parts and cards on disk."""
    opener = Opener(tmp_path_factory.mktemp("made"))
    collection = opener.open()
    for start in (0, 600):
        collection.add(rows(*range(start, min(start + 600, COUNT))), on_conflict="error", fingerprint="").result()
        collection.maintain()
    collection.delete(ids=["r5", "r800"]).result()
    opener.close()
    return opener.folder


@pytest.fixture
def serving(made: Path, tmp_path: Path, log: io.StringIO) -> Iterator[Opener]:
    shutil.copytree(made, tmp_path / "made")
    opener = Opener(tmp_path / "made")
    opener.open()
    assert log.getvalue() == ""
    yield opener
    opener.close()


def answers_right(collection: Collection) -> None:
    numbers = collection.table.numbers()
    assert collection.engines["image"].size() == len(numbers) == COUNT - 2
    for n in [*range(0, COUNT, 41), 799, 801]:
        assert hit_ids(collection, VECTORS[n], 1) == [f"r{n}"]
    cards = collection.cards.take(numbers)
    assert [card and card["caption"] for card in cards] == [f"picture {n}" for n in range(COUNT) if n not in (5, 800)]
    assert not {"r5", "r800"} & set(hit_ids(collection, VECTORS[5], COUNT))


def one_pass(collection: Collection) -> None:
    """Check every block once, and do what is due then."""
    blocks = sum(len(sums.running) for keeper in (collection.cards, *collection.engines.values())
                 for sums in keeper.files().values())  # fmt: skip
    for _ in range(2 * blocks // block_checks._BLOCKS + 4):
        collection.maintain()


def flip(path: Path, at: float = 0.5) -> None:
    """As a medium does it: nobody wrote, so the time stays."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(int(at * (before.st_size - 1)))
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 4]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def written(path: Path) -> None:
    flip(path)
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 10**9))


def moved_over(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes()[:-3] + b"abc")
    other.replace(path)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "first bit": lambda path: flip(path, 0),
    "middle bit": flip,
    "last bit": lambda path: flip(path, 1),
    "written": written,
    "moved over": moved_over,
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: os.truncate(path, 0),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b" "),
    "deleted": Path.unlink,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("pattern", FILES)
def test_a_file_damaged_while_it_is_served_is_named_and_made_again(
    serving: Opener, log: io.StringIO, pattern: str, damage: str
) -> None:
    collection = serving.collection
    answers_right(collection)
    path = sorted((serving.folder / "a").glob(pattern))[0]
    DAMAGES[damage](path)
    one_pass(collection)
    answers_right(collection)
    assert log.getvalue().count(str(path)) == 1
    log.truncate(0)
    one_pass(collection)
    answers_right(serving.open())
    assert log.getvalue() == ""


@pytest.mark.parametrize("damage", ["written", "moved over", "truncated", "empty", "deleted"])
def test_cards_that_somebody_writes_to_are_never_shown(serving: Opener, log: io.StringIO, damage: str) -> None:
    for path in (serving.folder / "a").glob("cards/*.arrow"):
        DAMAGES[damage](path)
    answers_right(serving.collection)
    assert "was changed by somebody" in log.getvalue()
    answers_right(serving.open())


def test_cards_are_asked_of_a_table_that_cannot_be_read_until_it_can(serving: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: object) -> None:
        raise Unavailable("the table can't be read")

    for path in (serving.folder / "a").glob("cards/*.arrow"):
        written(path)
    with monkeypatch.context() as patch:
        patch.setattr(serving.collection.cards, "_read", fails)
        with pytest.raises(Unavailable):
            hit_ids(serving.collection, VECTORS[1])
    answers_right(serving.collection)


def in_memory(part: Part) -> None:
    """Another vector in the place of one: what a bit that flips in memory does, or between check and loading."""
    vectors = part.index.vectors(np.arange(len(part.rows)))
    vectors[:50] = -vectors[:50]
    part.index = VectorIndex.build(part.index.kind, vectors.shape[1], len(vectors), [vectors], vectors, 1)


@pytest.mark.parametrize("number", [0, -1])
def test_an_index_that_is_wrong_in_memory_too_is_searched_exactly_until_it_is_made_again(
    serving: Opener, log: io.StringIO, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    collection = serving.collection
    engine = collection.engines["image"]
    part = engine.index.snapshot.parts[number]
    in_memory(part)
    with pytest.raises(AssertionError):
        answers_right(collection)
    path = part.folder / "index.faiss"
    flip(path)
    with monkeypatch.context() as patch:
        patch.setattr(engine, "maintain", lambda patience: False)
        one_pass(collection)
        answers_right(collection)
        assert [part.makeshift for part in engine.index.snapshot.parts].count(True) == 1
        assert engine.index.snapshot.parts[number].index.kind == "flat"
        collection.delete(ids=["r7", "r900"]).result()
        assert not {"r7", "r900"} & set(hit_ids(collection, VECTORS[7], COUNT))
        collection.add(rows(7, 900), on_conflict="error", fingerprint="").result()
    assert "searched exactly until" in log.getvalue()
    collection.maintain()
    assert not any(part.makeshift for part in engine.index.snapshot.parts)
    assert engine.size() == COUNT - 2
    log.truncate(0)
    assert hit_ids(serving.open(), VECTORS[7], 1) == ["r7"]
    assert log.getvalue() == ""


def test_a_wrong_index_whose_rows_are_all_deleted_goes(serving: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = serving.collection
    engine = collection.engines["image"]
    part = engine.index.snapshot.parts[0]
    collection.delete(where="year >= 0").result()
    in_memory(part)
    flip(part.folder / "index.faiss")
    engine.distrust(part.folder / "index.faiss", "it is damaged")
    assert part not in engine.index.snapshot.parts
    assert hit_ids(collection, VECTORS[1], 5) == []


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
def test_a_part_in_memory_is_what_its_files_are(tmp_path: Path, kind: str) -> None:
    vectors, numbers = VECTORS[:300], np.arange(300)[::-1].copy()
    part = Part.of(
        VectorIndex.build(kind, vectors.shape[1], 300, [vectors], vectors, 1), numbers, Tuned(4, 1.0, 0.9, 9, "texts")
    )
    part.save(tmp_path / "part")
    loaded = Part.load(tmp_path / "part", part.about())
    for one in (part, loaded):
        one.index.search(vectors[:3], 5, 8)
        one.hide(numbers[:9])
        assert one.is_intact()
    loaded.rows[7] += 1
    assert not loaded.is_intact()
    in_memory(part)
    assert not part.is_intact()


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 8192, 10_000])
def test_each_block_is_checked_without_the_others(tmp_path: Path, size: int) -> None:
    path, content = tmp_path / "file", np.random.default_rng(0).bytes(size)
    path.write_bytes(content)
    sums = Sums.of(path)
    assert str(sums) == f"{size}-{zlib.crc32(content):08x}"
    blocks = range(len(sums.running))
    assert len(blocks) == -(-size // 4096)
    for number in blocks:
        sums.check_block(path, number)
    for at in range(0, size, 997):
        flip(path, at / max(size - 1, 1))
        damaged = [number for number in blocks if not _holds(sums, path, number)]
        assert damaged == [next(i for i, (a, b) in enumerate(zip(content, path.read_bytes(), strict=True)) if a != b) // 4096]
        path.write_bytes(content)
    path.write_bytes(content + b"x")
    with pytest.raises(derived_files.Damaged, match="isn't any more what was opened"):
        sums.check_block(path, 0)


def _holds(sums: Sums, path: Path, number: int) -> bool:
    try:
        sums.check_block(path, number)
        return True
    except derived_files.Damaged:
        return False


def test_files_that_upkeep_replaced_are_no_damage(serving: Opener, log: io.StringIO) -> None:
    collection = serving.collection
    for n in range(6):
        collection.maintain()  # in the middle of a pass
        collection.add(rows(5), on_conflict="replace", fingerprint="").result()
        collection.rebuild()
        collection.delete(ids=["r5"]).result()
        assert collection.cards.take(collection.table.numbers())[n]
        one_pass(collection)
    assert log.getvalue() == ""


def test_upkeep_checks_by_itself(serving: Opener, log: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "_PAUSE_S", 0.01)
    collection = serving.open()
    path = sorted((serving.folder / "a").glob("image/part-*/index.faiss"))[0]
    flip(path)
    assert settled(lambda: str(path) in log.getvalue() and not path.exists())
    answers_right(collection)


def test_lancedbs_own_engine_has_its_cards_checked(serving: Opener, log: io.StringIO) -> None:
    collection = serving.open(IndexOptions(engine="lancedb", exact_rows=OPTIONS.exact_rows))
    path = sorted((serving.folder / "a").glob("cards/*.arrow"))[0]
    flip(path)
    one_pass(collection)
    assert str(path) in log.getvalue()
    assert hit_ids(collection, VECTORS[1], 1) == ["r1"]


@pytest.mark.parametrize("opened_again", [False, True])
def test_an_index_file_that_never_was_what_was_written_is_noticed(
    serving: Opener, log: io.StringIO, monkeypatch: pytest.MonkeyPatch, opened_again: bool
) -> None:
    close = list_files.SummedFile.close

    def torn(file: list_files.SummedFile) -> Sums:
        sums = close(file)
        if (path := Path(file._file.name)).name == "index.faiss":
            flip(path)
        return sums

    with monkeypatch.context() as patch:
        patch.setattr(list_files.SummedFile, "close", torn)
        serving.collection.rebuild()
    (path,) = (serving.folder / "a").glob("image/part-*/index.faiss")
    if opened_again:
        serving.open()
    answers_right(serving.collection)
    one_pass(serving.collection)
    assert str(path) in log.getvalue()
    log.truncate(0)
    answers_right(serving.open())
    assert log.getvalue() == ""


def test_cards_that_never_were_what_was_written_are_not_used(serving: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    mapped = Deck.mapped

    def torn(path: Path, checksum: str) -> Deck:
        flip(path)
        return mapped(path, checksum)

    with monkeypatch.context() as patch:
        patch.setattr(Deck, "mapped", torn)
        with pytest.raises(derived_files.Damaged):
            serving.collection.rebuild()
        answers_right(serving.collection)
    one_pass(serving.collection)
    answers_right(serving.open())
