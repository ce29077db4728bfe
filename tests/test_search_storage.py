"""Messages for tables that can't be read and filters that can't be used, and the searches that go on meanwhile."""

from __future__ import annotations

import io
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from amount import amount
from collections_on_disk import OPTIONS, VECTORS, Opener, fill, hit_ids, rows

from clip_client import InvalidInput, ModelSpec, Unavailable
from clip_client.clip import Embeddings
from clip_search.collection import Collection
from clip_search.embedder import Embedder
from clip_search.errors import StorageFull, cleaned
from clip_search.lru import Lru
from clip_search.options import Options
from clip_search.sidecar import Sidecar
from clip_search.storage.handle import Handle
from clip_search.storage.schema import About

LANCE_FILES = "db/a.lance/data/*.lance"


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: list[Callable[[Path], None]] = [emptied, zeroed, directory, Path.unlink]


def damaged(opener: Opener, damage: Callable[[Path], None]) -> Collection:
    """A collection that was open when all files of its rows were damaged."""
    collection = opener.open()
    collection.add(rows(*range(20)), on_conflict="error", fingerprint="").result()
    collection.rebuild()
    collection = opener.open()
    for path in opener.folder.glob(LANCE_FILES):
        damage(path)
    return collection


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_table_that_cannot_be_read_is_not_the_filters_fault(opener: Opener, damage: Callable[[Path], None]) -> None:
    collection = damaged(opener, damage)
    asked: list[Callable[[], object]] = [
        lambda: collection.search(VECTORS[1], "image", 5, "length(caption) > 1"),
        lambda: collection.matching("length(caption) > 2"),
        lambda: collection.table.page("", -1, 10, ["id", "caption"]),
        lambda: collection.table.page("length(caption) > 3", -1, 10, ["id", "caption"]),
        lambda: collection.table.get([1], ["caption"]),
        lambda: collection.delete(where="length(caption) > 4").result(10),
    ]
    for ask in asked:
        with pytest.raises(Unavailable, match=r"can't be (read|written) \(") as caught:
            ask()
        assert "filter" not in str(caught.value)
    assert hit_ids(collection, VECTORS[7], 1) == ["r7"]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("nope = 1", "No field named nope"),
        ("year ==== 1", "sql parser error"),
        ("CAST(caption AS INT) = 5", "Cannot cast string"),
        ("year / (year - year) = 1", "Divide by zero"),
        ("nofunction(year) = 1", "the function nofunction isn.t allowed"),
        ("caption", "boolean"),
        ("to_timestamp(caption) > now()", "timestamp"),
        ("regexp_like(caption, '(')", "the function regexp_like isn.t allowed"),
    ],
)
@pytest.mark.parametrize("engine", ["faiss", "lancedb"])
def test_a_filter_that_cannot_be_used_is_the_callers_fault(opener: Opener, where: str, message: str, engine: str) -> None:
    collection = opener.open(OPTIONS if engine == "faiss" else type(OPTIONS)(engine="lancedb", exact_rows=400))
    collection.add(rows(1, 2), on_conflict="error", fingerprint="").result()
    asked: list[Callable[[], object]] = [
        lambda: collection.search(VECTORS[1], "image", 5, where),
        lambda: collection.table.page(where, -1, 10, ["id"]),
        lambda: collection.delete(where=where).result(10),
    ]
    for ask in asked:
        with pytest.raises(InvalidInput, match=message):
            ask()


@pytest.mark.parametrize(
    ("problem", "kind"),
    [
        (OSError(28, "No space left on device (os error 28)"), StorageFull),
        (RuntimeError(""), Unavailable),
        (MemoryError(), Unavailable),
    ],
)
def test_what_a_read_raises_is_told_apart(
    opener: Opener, monkeypatch: pytest.MonkeyPatch, problem: Exception, kind: type[Exception]
) -> None:
    collection = opener.open()

    def broken(*arguments: Any, **named: Any) -> Any:
        raise problem

    monkeypatch.setattr(collection.table._handle.raw, "count_rows", broken)
    with pytest.raises(kind):
        collection.stats()


@pytest.mark.parametrize("problem", [ValueError(""), KeyError(), RuntimeError("\n"), RuntimeError("lance error: ")])
def test_an_error_without_a_message_is_told_by_its_kind(problem: Exception) -> None:
    assert cleaned(problem) in (type(problem).__name__,)


class Panic(BaseException):
    """As PyO3 raises one for a panic of Rust code."""


@pytest.mark.parametrize("problem", [RuntimeError(""), KeyError(), Panic("a panic"), MemoryError()])
def test_each_broken_table_is_named_and_the_others_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: io.StringIO, problem: BaseException
) -> None:
    sidecar = Sidecar(Options(str(tmp_path), triton="127.0.0.1:9"))
    for name in "abcd":
        sidecar.create(name, 4, "", {})
    sidecar.close()
    reopened = Sidecar(Options(str(tmp_path), triton="127.0.0.1:9"))
    real = reopened.database.open_set

    def opened(name: str) -> Any:
        if name in "ac":
            raise problem
        return real(name)

    monkeypatch.setattr(reopened.database, "open_set", opened)
    reopened.open_all()
    assert reopened.names() == ["b", "d"]
    assert set(reopened.broken) == {"a", "c"}
    assert all(reopened.broken.values())
    assert "collection a can't be opened" in log.getvalue()
    with pytest.raises(Unavailable, match="collection a can't be opened"):
        reopened.collection("a")
    reopened.close()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_table_whose_files_are_broken_is_named_at_opening(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    sidecar = Sidecar(Options(str(tmp_path), triton="127.0.0.1:9"))
    for name in "ab":
        made = sidecar.create(name, 64, "", {})
        made.add([type(rows(1)[0])("x", {"image": np.ones(64, np.float32) / 8})], on_conflict="error", fingerprint="").result()
    sidecar.close()
    for path in tmp_path.glob("a.lance/data/*"):
        damage(path)
    shutil.rmtree(tmp_path / "indexes" / "a", ignore_errors=True)
    reopened = Sidecar(Options(str(tmp_path), triton="127.0.0.1:9"))
    reopened.open_all()
    assert (reopened.names(), set(reopened.broken)) == (["b"], {"a"})
    reopened.close()


def test_remembered_filters_from_many_threads(opener: Opener) -> None:
    collection = opener.open()
    fill(collection)
    numbers = {year: collection.table.numbers(f"year = {year}").tolist() for year in range(100)}

    def ask(n: int) -> bool:
        return collection.matching(f"year = {n % 100}").tolist() == numbers[n % 100]

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(amount(400, 1500))))


def test_a_slow_filter_keeps_nobody_waiting(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = opener.open()
    collection.add(rows(1, 2), on_conflict="error", fingerprint="").result()
    real, go_on, begun = collection.table.matching, threading.Event(), threading.Event()

    def slow(where: str) -> Any:
        if where == "year = 1":
            begun.set()
            go_on.wait(10)
        return real(where)

    monkeypatch.setattr(collection.table, "matching", slow)
    waiting = threading.Thread(target=collection.matching, args=("year = 1",))
    waiting.start()
    assert begun.wait(10)
    assert len(collection.matching("year = 2")) == 1
    assert not go_on.is_set()
    go_on.set()
    waiting.join()


def test_an_lru_cache_keeps_what_was_asked_for_last() -> None:
    cache: Lru[str, int] = Lru(2)
    for n, key in enumerate("ab"):
        cache.put(key, n)
    assert cache.get("a") == 0
    cache.put("c", 2)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (0, None, 2)
    none: Lru[str, int] = Lru(0)
    none.put("a", 1)
    assert none.get("a") is None


@pytest.fixture
def embedder(monkeypatch: pytest.MonkeyPatch, spec: ModelSpec) -> Embedder:
    """Its texts become vectors of their length; some raise."""
    embedder = Embedder("127.0.0.1:9", "clip", 0)

    def texts(sent: Any) -> Embeddings:
        for text in sent:
            if text == "panic":
                raise Panic("a panic")
            if text == "bug":
                raise KeyError(text)
        vectors = [None if text == "bad" else np.full(1, len(text), np.float32) for text in sent]
        return Embeddings(vectors, {n: "no text" for n, row in enumerate(vectors) if row is None})

    monkeypatch.setattr(embedder, "texts", texts)
    monkeypatch.setattr(Embedder, "spec", spec)
    yield embedder
    embedder.close()


def test_the_text_thread_outlives_cancelled_requests_and_whatever_is_raised(embedder: Embedder) -> None:
    for round in range(50):
        waiting = [embedder.text(text) for text in ("a", "bb", "ccc", "bad")]
        cancelled = waiting[round % 3].cancel()
        kept = [future for n, future in enumerate(waiting[:3]) if not (n == round % 3 and cancelled)]
        assert [future.exception(10) for future in kept] == [None] * len(kept)
        assert isinstance(waiting[3].exception(10), InvalidInput)
    for text in ("panic", "bug"):
        with pytest.raises(Unavailable, match="can't be embedded"):
            embedder.text(text).result(10)
    assert embedder.text("four").result(10).vector == [4]


def test_texts_that_wait_too_long_or_are_too_many_are_refused(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    real, go_on, begun = embedder.texts, threading.Event(), threading.Event()

    def slow(sent: Any) -> Embeddings:
        begun.set()
        go_on.wait(10)
        return real(sent)

    monkeypatch.setattr(embedder, "texts", slow)
    monkeypatch.setattr("clip_search.embedder._MOST_WAITING", 3)
    first = embedder.text("a")
    assert begun.wait(10)
    monkeypatch.setattr("clip_search.embedder.TIMEOUT_S", -1)
    late = [embedder.text("b") for _ in range(3)]
    with pytest.raises(Unavailable, match="texts wait to be embedded"):
        embedder.text("c")
    go_on.set()
    assert first.result(10).vector == [1]
    for future in late:
        with pytest.raises(TimeoutError, match="no turn within"):
            future.result(10)


def test_tables_made_before_they_had_an_identity_open(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "clip_search.storage.schema._metadata", lambda about: {b"clipserve": b'{"size": 32, "fingerprint": "model1"}'}
    )
    fill(opener.open())
    opener.collection.rebuild()
    collection = opener.open()
    assert collection.about == About(32, "model1")
    assert collection.table.identity == "a"
    assert hit_ids(collection, VECTORS[7], 1) == ["r7"]
    assert collection.engines["image"].stats()["tail_rows"] == 0


def test_a_change_that_others_overtake_is_made_alone() -> None:
    others = threading.Lock()
    held: list[bool] = []

    def change() -> None:
        held.append(others.locked())
        if len(held) < 2:
            raise RuntimeError(
                "lance error: Too many concurrent writers. Attempted 8 times, but failed on retry_timeout of 30 s"
            )

    Handle(object(), lambda: None, None).write(change, others)
    assert held == [False, True]
    assert not others.locked()
    held.clear()
    with pytest.raises(Unavailable, match="Too many concurrent writers"):
        Handle(object(), lambda: None, None).write(change)
