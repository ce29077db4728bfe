"""Changes of a collection: each ends by itself, and what is in memory agrees with the table whatever fails."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest
from collections_on_disk import VECTORS, Opener, hit_ids, rows, settled

from clip_client import ClipError, Unavailable
from clip_search.collection import Collection
from clip_search.errors import Conflict, NotFound, StorageFull
from clip_search.storage.rows import NewRow
from clip_search.storage.writer import Operation

FULL = OSError(28, "No space left on device (os error 28)")


class Panic(BaseException):
    """As PyO3 raises one for a panic of Rust code: not an Exception."""


class Grouped:
    """Lets operations pile up, so that they are committed as one group."""

    def __init__(self, collection: Collection) -> None:
        self._collection, self._go_on = collection, threading.Event()
        commit = collection.writer._commit

        def held(group: list[Operation]) -> None:
            self._go_on.wait(10)
            commit(group)

        collection.writer._commit = held

    def __enter__(self) -> None:
        self.first = self._collection.delete(ids=["nobody"])
        assert settled(lambda: self._collection.writer._waiting.empty())

    def __exit__(self, *problem: object) -> None:
        self._go_on.set()
        self.first.result(10)


def add(collection: Collection, *numbers: int, on_conflict: str = "error") -> Future[Any]:
    return collection.add(rows(*numbers), on_conflict=on_conflict, fingerprint="")


def agrees(collection: Collection, *numbers: int) -> None:
    """Table, memory and a fresh opening have these rows and no others."""
    ids = {f"r{n}" for n in numbers}
    assert {id for batch in collection.table.ids() for id in batch} == ids
    assert collection.engines["image"].size() == len(ids)
    assert set(hit_ids(collection, VECTORS[0], 1000)) == ids
    assert collection.present([f"r{n}" for n in range(60)]) == ids
    for n in numbers:
        assert hit_ids(collection, VECTORS[n], 1) == [f"r{n}"]


def failing(monkeypatch: pytest.MonkeyPatch, collection: Collection, name: str, problem: BaseException, *, after: bool) -> list:
    """LanceDB's method fails, before or after it did its work; returns the calls, to be emptied to count anew."""
    calls: list[object] = []
    real = getattr(collection.table._handle.raw, name)

    def broken(*arguments: Any, **named: Any) -> Any:
        calls.append(arguments)
        if after:
            real(*arguments, **named)
        raise problem

    monkeypatch.setattr(collection.table._handle.raw, name, broken)
    return calls


def test_a_change_of_which_nothing_is_left_harms_nobody(opener: Opener) -> None:
    collection = opener.open()
    add(collection, 0, 1).result()
    with Grouped(collection):
        skipped = add(collection, 0, 1, on_conflict="skip")
        good = add(collection, 2)
        none = collection.delete(ids=["never there"])
        no_rows = collection.add([], on_conflict="error", fingerprint="")
        nothing = collection.delete(where="year = 99")
        last = add(collection, 3)
    assert (skipped.result().added, skipped.result().skipped) == (0, 2)
    assert (good.result().added, last.result().added, no_rows.result().added) == (1, 1, 0)
    assert (none.result(), nothing.result()) == (0, 0)
    agrees(collection, 0, 1, 2, 3)


def test_every_operation_of_a_group_has_its_own_outcome(opener: Opener) -> None:
    collection = opener.open()
    add(collection, 0).result()
    with Grouped(collection):
        outcomes = [
            add(collection, 0),
            add(collection, 1),
            collection.delete(where="no such column = 3"),
            collection.add([NewRow("odd", {"image": VECTORS[1]}, {"year": "text"})], on_conflict="error", fingerprint=""),
            collection.delete(ids=["r1"]),
            add(collection, 1, 2),
            add(collection, 2, on_conflict="replace"),
            add(collection, 2),
        ]
    kinds = [type(outcome.exception()).__name__ if outcome.exception() else "" for outcome in outcomes]
    assert kinds == ["Conflict", "", "InvalidInput", "InvalidInput", "", "", "", "Conflict"]
    agrees(collection, 0, 1, 2)


def test_a_later_change_of_an_id_never_overtakes_an_earlier_one(opener: Opener) -> None:
    collection = opener.open()
    with Grouped(collection):
        add(collection, 1, 2, on_conflict="replace")
        add(collection, 2, 3, on_conflict="replace")
        last = collection.add([NewRow("r3", {"image": VECTORS[50]})], on_conflict="replace", fingerprint="")
    assert (last.result().added, last.result().replaced) == (0, 1)
    assert hit_ids(collection, VECTORS[50], 1) == ["r3"]


def test_a_conflict_and_a_full_disk_in_one_group(opener: Opener, monkeypatch: pytest.MonkeyPatch, log: io.StringIO) -> None:
    collection = opener.open()
    add(collection, 0).result()
    real, calls = collection.table._handle.raw.add, []

    def add_when_small(new: Any) -> Any:
        calls.append(len(new))
        if len(new) > 1:
            raise FULL
        return real(new)

    monkeypatch.setattr(collection.table._handle.raw, "add", add_when_small)
    with Grouped(collection):
        conflict, full, good = add(collection, 0), add(collection, 1, 2), add(collection, 3)
    with pytest.raises(Conflict, match="'r0' is there already"):
        conflict.result()
    with pytest.raises(StorageFull, match="the disk is full"):
        full.result()
    assert good.result().added == 1
    assert calls == [3, 2, 1]
    agrees(collection, 0, 3)
    assert "No space left" in log.getvalue()
    assert "Traceback" in log.getvalue()


@pytest.mark.parametrize("problem", [FULL, RuntimeError(""), MemoryError(), Panic("index out of bounds"), KeyError("x")])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("name", ["add", "add_columns", "delete", "merge_insert"])
def test_what_fails_or_only_seems_to_leaves_memory_as_the_table_is(
    opener: Opener, monkeypatch: pytest.MonkeyPatch, name: str, after: bool, problem: BaseException
) -> None:
    collection = opener.open()
    add(collection, 0, 1).result()
    changes: dict[str, Callable[[], Future[Any]]] = {
        "add": lambda: add(collection, 2),
        "add_columns": lambda: collection.add(
            [NewRow("r2", {"image": VECTORS[2]}, {"new": 1})], on_conflict="error", fingerprint=""
        ),
        "delete": lambda: collection.delete(ids=["r1"]),
        "merge_insert": lambda: add(collection, 1, 2, on_conflict="replace"),
    }
    changed = {"add": (0, 1, 2), "add_columns": (0, 1, 2), "delete": (0,), "merge_insert": (0, 1, 2)}[name]
    with monkeypatch.context() as patch:
        if name == "merge_insert":
            _failing_merge(patch, collection, problem, after)
        else:
            failing(patch, collection, name, problem, after=after)
        outcome = changes[name]()
        if after:
            outcome.result(10)
        else:
            with pytest.raises(Unavailable):
                outcome.result(10)
    agrees(collection, *(changed if after else (0, 1)))
    assert add(collection, 9).result(10).added == 1
    again = changes[name]()
    assert again.exception(10) is None or isinstance(again.exception(), Conflict)
    agrees(collection, *changed, 9)
    agrees(opener.open(), *changed, 9)


def _failing_merge(monkeypatch: pytest.MonkeyPatch, collection: Collection, problem: BaseException, after: bool) -> None:
    import lancedb.merge

    real = lancedb.merge.LanceMergeInsertBuilder.execute

    def broken(self: Any, *arguments: Any, **named: Any) -> Any:
        if after:
            real(self, *arguments, **named)
        raise problem

    monkeypatch.setattr(lancedb.merge.LanceMergeInsertBuilder, "execute", broken)


def test_columns_that_were_added_before_the_rows_failed_are_known(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = opener.open()
    new = NewRow("r1", {"image": VECTORS[1]}, {"score": 0.5})
    with monkeypatch.context() as patch:
        failing(patch, collection, "add", FULL, after=False)
        with pytest.raises(StorageFull):
            collection.add([new], on_conflict="error", fingerprint="").result()
    assert collection.add([new], on_conflict="error", fingerprint="").result().added == 1
    assert hit_ids(collection, VECTORS[1], 5, "score > 0.4") == ["r1"]


def test_rows_that_do_not_fit_add_no_column(opener: Opener) -> None:
    collection = opener.open()
    add(collection, 0).result()
    odd = NewRow("odd", {"image": VECTORS[1]}, {"score": 2**70, "year": 1})
    with pytest.raises(ClipError):
        collection.add([odd], on_conflict="error", fingerprint="").result()
    assert collection.add([NewRow("r1", {"image": VECTORS[1]}, {"score": "a"})], on_conflict="error", fingerprint="").result()
    agrees(collection, 0, 1)


@pytest.mark.parametrize("place", ["cards", "append", "hide"])
def test_a_failure_in_memory_is_mended_from_the_table(
    opener: Opener, monkeypatch: pytest.MonkeyPatch, log: io.StringIO, place: str
) -> None:
    collection = opener.open()
    add(collection, 0, 1).result()
    owner, name = (collection.cards, "append") if place == "cards" else (collection.engines["image"], place)
    real, first = getattr(owner, name), [MemoryError("memory is short")]

    def once(*arguments: Any) -> None:
        if first:
            raise first.pop()
        real(*arguments)

    monkeypatch.setattr(owner, name, once)
    assert add(collection, 1, 2, on_conflict="replace").result(10).replaced == 1
    assert "memory is short" in log.getvalue()
    assert "Traceback" in log.getvalue()
    assert not first
    agrees(collection, 0, 1, 2)


def test_what_nobody_can_know_is_said_and_looked_up_before_the_next_change(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = opener.open()
    add(collection, 0).result()
    with monkeypatch.context() as patch:
        failing(patch, collection, "add", RuntimeError("the network is away"), after=True)
        failing(patch, collection, "checkout_latest", RuntimeError("the network is away"), after=False)
        with Grouped(collection):
            waiting = [add(collection, n) for n in (1, 2)]
        for future in waiting:
            with pytest.raises(Unavailable, match="it isn't known if the change was stored"):
                future.result(10)
        with pytest.raises(Unavailable, match="network is away"):
            add(collection, 3).result(10)
    with pytest.raises(Conflict):
        add(collection, 1).result(10)
    agrees(collection, 0, 1, 2)


def test_what_nobody_could_know_is_looked_up_without_a_further_change(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = opener.open()
    with monkeypatch.context() as patch:
        failing(patch, collection, "add", RuntimeError("the network is away"), after=True)
        failing(patch, collection, "checkout_latest", RuntimeError("the network is away"), after=False)
        with pytest.raises(Unavailable, match="it isn't known"):
            add(collection, 1).result(10)
    assert settled(lambda: hit_ids(collection, VECTORS[1], 1) == ["r1"])
    agrees(collection, 1)


def test_what_nobody_could_know_is_looked_up_by_the_next_search(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = opener.open()
    monkeypatch.setattr(type(collection), "maintain", lambda self: None)  # so that the upkeep doesn't come first
    with monkeypatch.context() as patch:
        failing(patch, collection, "add", RuntimeError("the network is away"), after=True)
        failing(patch, collection, "checkout_latest", RuntimeError("the network is away"), after=False)
        with pytest.raises(Unavailable, match="it isn't known"):
            add(collection, 1).result(10)
        assert hit_ids(collection, VECTORS[1], 1) == []  # the table can't be read yet: searches go on without
    assert hit_ids(collection, VECTORS[1], 1) == ["r1"]


def test_a_cancelled_change_is_passed_over_and_one_under_way_is_not(opener: Opener) -> None:
    collection = opener.open()
    with Grouped(collection):
        cancelled, good = add(collection, 1), add(collection, 2)
        assert cancelled.cancel()
    assert good.result(10).added == 1
    agrees(collection, 2)
    assert not good.cancel()


def test_the_writer_outlives_whatever_a_commit_raises(opener: Opener, log: io.StringIO) -> None:
    collection = opener.open()
    real, problems = collection.writer._commit, [Panic("a panic"), SystemExit(3), ValueError("")]

    def commit(group: list[Operation]) -> None:
        if problems:
            raise problems.pop()
        real(group)

    collection.writer._commit = commit
    for _ in range(3):
        with pytest.raises(Unavailable, match="the change failed"):
            add(collection, 1).result(10)
    assert add(collection, 1).result(10).added == 1
    assert collection.writer.alive
    assert "a panic" in log.getvalue()


def test_a_change_after_the_end_is_refused_and_never_waits(opener: Opener) -> None:
    collection = opener.open()
    stop, outcomes = threading.Event(), []

    def changes() -> None:
        while not stop.is_set():
            try:
                outcomes.append(collection.delete(ids=["nobody"]))
            except Unavailable as problem:
                outcomes.append(problem)
                return

    threads = [threading.Thread(target=changes) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert settled(lambda: len(outcomes) > 8)
    collection.close()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    futures = [future for future in outcomes if isinstance(future, Future)]
    assert len(futures) == len(outcomes) - 8
    assert [future.result(5) for future in futures] == [0] * len(futures)


def test_a_dropped_collection_is_gone_for_who_still_holds_it(opener: Opener, log: io.StringIO) -> None:
    collection = opener.open()
    add(collection, 1).result()
    collection.drop(lambda: opener.database.drop("a"))
    asked: list[Callable[[], object]] = [
        lambda: add(collection, 2),
        lambda: collection.delete(ids=["r1"]),
        lambda: collection.row_of("r1"),
        lambda: collection.search(VECTORS[1], "image", 1, "year = 1"),
        lambda: collection.table.append(np.array([])),
        collection.rebuild,
    ]
    for ask in asked:
        with pytest.raises(NotFound, match="was dropped"):
            ask()
    assert opener.database.names() == []
    assert not (opener.folder / "db" / "a.lance").exists()
    assert "ERROR upkeep" not in log.getvalue()
