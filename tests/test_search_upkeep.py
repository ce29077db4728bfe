"""Files, memory and threads while rows are replaced for ever; versions of the table that somebody reads."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import lancedb
import numpy as np
import psutil
import pytest
from collections_on_disk import COUNT, VECTORS, Opener, fill, hit_ids, rows

from clip_client.spec import Tower
from clip_search import upkeep
from clip_search.collection import Collection
from clip_search.storage.lance_threads import limit_threads

WARM, COMMITS = 50, 100
MEBI = 2**20


def replaced(collection: Collection, commits: range) -> None:
    """Rows replaced, three in a commit, all over the table."""
    for n in commits:
        three = rows(*((n * 37 + k * 331) % 1000 for k in range(3)))
        collection.add(three, on_conflict="replace", fingerprint="").result()


def files(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*"))


def becomes(condition: Callable[[], bool], within_s: float = 30) -> bool:
    """Tell if something becomes true by the upkeep's work."""
    end = time.monotonic() + within_s
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)
    return condition()


def optimized(collection: Collection) -> None:
    """Compacted, twice: the version before the first was the newest then; and nothing is younger than the clean-up wants."""
    for _ in range(2):
        collection.table.optimize()
        replaced(collection, range(1))
        time.sleep(1.1 + 4 * collection.table.merging_s)
    collection.table.optimize()


@pytest.fixture
def alone(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> Collection:
    """A collection of 1,000 rows whose upkeep is done by the test alone."""
    monkeypatch.setattr("clip_search.upkeep._PAUSE_S", 3600)
    collection = opener.open()
    fill(collection)
    return collection


@dataclass(frozen=True)
class Held:
    """Memory, descriptors and threads of a process."""

    memory: int
    descriptors: int
    threads: int

    @classmethod
    def now(cls) -> Held:
        process = psutil.Process()
        return cls(process.memory_info().rss, process.num_fds(), process.num_threads())


def replaced_for_ever(folder: Path) -> tuple[list[Held], int]:
    """Rows replaced in three rounds: what this process holds after each, and the files that are left."""
    upkeep._OPTIMIZE_COMMITS, upkeep._QUICK_SHARE, upkeep._PAUSE_S = 25, 1, 0.05
    opener, held = Opener(folder), []
    collection = opener.open()
    fill(collection)
    for start, end in ((0, WARM), (WARM, WARM + COMMITS), (WARM + COMMITS, WARM + 2 * COMMITS)):
        replaced(collection, range(start, end))
        held.append(Held.now())
    becomes(lambda: replaced(collection, range(25)) or files(folder) < 500)
    left = files(folder)
    opener.close()
    return held, left


def test_replacing_rows_for_ever_takes_no_more_files_memory_descriptors_and_threads(tmp_path: Path) -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as another:  # this process holds the leftovers of other tests
        (warm, first, second), left = another.submit(replaced_for_ever, tmp_path).result()
    assert left < 500
    assert first.descriptors - warm.descriptors < 30
    assert second.threads - first.threads < 20  # LanceDB's pools have their size after the first round
    # What leaks, leaks in both rounds.
    assert min(first.memory - warm.memory, second.memory - first.memory) / COMMITS < 0.15 * MEBI


def test_caches_of_lancedb_are_let_go_with_the_files_that_they_describe(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions: list[lancedb.Session] = []
    monkeypatch.setattr("lancedb.Session", lambda *sizes, real=lancedb.Session: sessions.append(real(*sizes)) or sessions[-1])
    monkeypatch.setattr("clip_search.upkeep._PAUSE_S", 3600)
    collection = opener.open()
    fill(collection)
    replaced(collection, range(50))
    held = sessions[-1].size_bytes
    collection.table.optimize()
    collection.present(["r1"])
    assert sessions[-1].size_bytes < held / 4


def test_a_version_stays_while_it_is_read(alone: Collection, opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clip_search.storage.table._VECTOR_ROWS", 10)
    replaced(alone, range(3))
    version = alone.table.version
    reading = alone.table.vectors("image", 0, 10**6)
    next(reading)
    replaced(alone, range(3, 6))
    optimized(alone)
    assert readable(opener, version)
    assert sum(len(numbers) for numbers, _ in reading) == 1000 - 10
    replaced(alone, range(6, 9))
    optimized(alone)
    assert not readable(opener, version)


def readable(opener: Opener, version: int) -> bool:
    """Tell if another reader can still read a version of the table."""
    table = lancedb.connect(opener.folder / "db").open_table("a")
    try:
        table.checkout(version)
        return bool(len(table.search().limit(None).to_arrow()))
    except (ValueError, RuntimeError):
        return False


def test_what_is_written_while_files_are_merged_is_found_at_once(alone: Collection) -> None:
    ended = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        merging = pool.submit(lambda: [alone.table.optimize() for _ in iter(ended.is_set, True)])
        try:
            for ids in batches(30):
                added = [row for n, row in zip(range(3), rows(0, 1, 2), strict=True) if setattr(row, "id", ids[n]) is None]
                assert alone.add(added, on_conflict="error", fingerprint="").result().added == 3
                assert alone.present(ids) == set(ids)
                assert alone.delete(ids=ids[:1]).result() == 1
                assert alone.present(ids) == set(ids[1:])
        finally:
            ended.set()
    assert merging.result()
    assert len(alone.table) == 1000 + 2 * 30
    assert len(set().union(*alone.table.ids())) == 1000 + 2 * 30


def batches(count: int) -> Iterator[list[str]]:
    return ([f"new {n} {k}" for k in range(3)] for n in range(count))


def test_files_that_a_run_before_has_left_are_merged(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clip_search.upkeep._PAUSE_S", 3600)
    monkeypatch.setattr("clip_search.upkeep._OPTIMIZE_COMMITS", 15)
    for start in range(0, 30, 10):
        collection = opener.open()
        for n in range(start, start + 10):
            collection.add(rows(n), on_conflict="error", fingerprint="").result()
    collection.maintain()
    collection.maintain()
    assert collection.table.fragments() == 1


@pytest.mark.parametrize(("last_s", "beside_adds"), [(3600, 10), (0, 1)], ids=["long", "no time"])
def test_merging_waits_for_a_pause_only_where_it_takes_long(
    last_s: float, beside_adds: int, alone: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clip_search.upkeep._OPTIMIZE_COMMITS", 5)
    alone.table.merging_s = last_s
    alone.upkeep._optimized_s -= 60
    alone.maintain()
    assert alone.table.fragments() == beside_adds
    alone.maintain()
    assert alone.table.fragments() == 1


def cached(collection: Collection) -> int:
    """Rows in the row cache, deleted ones among them."""
    return sum(len(deck.rows) for deck in collection.cards._decks)


def test_the_row_cache_drops_rows_that_were_replaced(
    alone: Collection, opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clip_search.storage.row_cache._SMALL", 50)
    for start in range(0, 900, 100):
        alone.add(rows(*range(start, start + 100)), on_conflict="replace", fingerprint="").result()
        alone.maintain()
    alone.delete(ids=["r999"]).result()
    assert 999 <= cached(alone) <= 1.6 * 999
    files_now = list((opener.folder / "a" / "cards").glob("*.arrow"))
    assert len(files_now) <= 10
    numbers = alone.table.numbers()
    before = alone.cards.take(numbers)
    assert {card["id"] for card in before} == {f"r{n}" for n in range(999)}
    again = opener.open()  # its files are whole
    assert again.cards.take(again.table.numbers()) == before


def test_the_row_cache_of_deleted_rows_is_empty(alone: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clip_search.storage.row_cache._SMALL", 50)
    alone.maintain()
    alone.delete(where="year >= 0").result()
    alone.maintain()
    assert cached(alone) == 0
    alone.add(rows(5), on_conflict="error", fingerprint="").result()
    assert alone.cards.take(alone.table.numbers())[0]["id"] == "r5"


@pytest.mark.parametrize(
    ("database", "readers", "there"),
    [
        ("/data", None, str(os.cpu_count())),
        ("file:///data", None, str(os.cpu_count())),
        ("/data", "7", "7"),
        ("s3://a/b", None, None),
    ],
)
def test_files_are_read_by_as_many_threads_as_there_are_cores(
    database: str, readers: str | None, there: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LANCE_IO_THREADS", "LANCE_DEFAULT_FRAGMENT_READAHEAD"):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    if readers:
        monkeypatch.setenv("LANCE_IO_THREADS", readers)
    limit_threads(database)
    assert os.environ.get("LANCE_IO_THREADS") == there
    assert ("LANCE_DEFAULT_FRAGMENT_READAHEAD" in os.environ) == (there is not None)


@pytest.mark.parametrize("left", [0, 3, 600])
def test_rows_that_go_while_all_is_indexed_anew(alone: Collection, monkeypatch: pytest.MonkeyPatch, left: int) -> None:
    numbers, going = alone.table.rows, [[f"r{n}" for n in range(left, COUNT)]]

    def listed(tower: Tower) -> np.ndarray:
        there = numbers(tower)
        while going:
            alone.delete(ids=going.pop()).result()
        return there

    monkeypatch.setattr(alone.table, "rows", listed)
    alone.rebuild()
    assert len(hit_ids(alone, VECTORS[0], COUNT)) == left
    if left:
        assert hit_ids(alone, VECTORS[left - 1], 1) == [f"r{left - 1}"]
