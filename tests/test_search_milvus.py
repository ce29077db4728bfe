"""Milvus engine on a real Milvus standalone: what holds for every engine, and what is its own.

CLIPSERVE_MILVUS_KILLS=40 CLIPSERVE_TESTS=long python -m pytest tests/test_search_milvus.py -k no_kill    more than CI's
"""

from __future__ import annotations

import functools
import inspect
import io
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import killed_collection
import killed_milvus
import milvus_servers
import numpy as np
import pytest
import test_search_collection
import test_search_commits
import test_search_filters
import test_search_numbers
from amount import amount
from collections_on_disk import COUNT, OPTIONS, VECTORS, Opener, brute, fill, hit_ids, rows, settled
from kill_ledger import Ledger, differences
from milvus_servers import Milvus
from sidecars import SIZE, unit
from test_search_numbers import before_notes  # noqa: F401

from clip_client import InvalidInput, Unavailable
from clip_search.collection import Collection
from clip_search.index.milvus.rows import MilvusRows
from clip_search.options import IndexOptions, MilvusOptions
from clip_search.storage.filters.milvus import milvus_filter
from clip_search.storage.rows import NewRow

KILLS = amount(1, 4, "CLIPSERVE_MILVUS_KILLS")
"""Every other one is of Milvus, before that of the collection's process."""
SEED = int(os.environ.get("CLIPSERVE_KILL_SEED", "0"))
NOWHERE = MilvusOptions("http://127.0.0.1:9", "root:secret")


@pytest.fixture(scope="session")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Milvus]:
    """A running server; who kills it starts it again."""
    if obstacle := milvus_servers.obstacle():
        pytest.skip(obstacle)
    with milvus_servers.running(tmp_path_factory.mktemp("milvus")) as server:
        yield server


class MilvusOpener(Opener):
    """Opens with this engine unless a test says otherwise."""

    def __init__(self, folder: Path, milvus: MilvusOptions) -> None:
        super().__init__(folder)
        self.options = IndexOptions(engine="milvus", exact_rows=OPTIONS.exact_rows, tail_rows=OPTIONS.tail_rows, milvus=milvus)

    def open(self, options: IndexOptions | None = None) -> Collection:
        return super().open(options or self.options)

    def stats(self) -> dict[str, Any]:
        assert self.collection
        stats: dict[str, Any] = self.collection.engines["image"].stats()
        return stats

    @property
    def there(self) -> MilvusRows:
        """Collection in Milvus."""
        assert self.collection
        engine: Any = self.collection.engines["image"]
        milvus: MilvusRows = engine._milvus
        return milvus


@pytest.fixture
def opener(tmp_path: Path, milvus: Milvus) -> Iterator[MilvusOpener]:
    """A collection that is opened and opened again; it is gone from Milvus afterwards."""
    opener = MilvusOpener(tmp_path, MilvusOptions(milvus.uri))
    yield opener
    engines = [*opener.collection.engines.values()] if opener.collection else []
    opener.close()
    for engine in engines:
        engine.discard()


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("year = 7", '$meta["year"] == 7'),
        ("YEAR > 5 AND (year <= -6 OR flag = true)", '($meta["year"] > 5 and ($meta["year"] <= -6 or $meta["flag"] == true))'),
        ("year BETWEEN 1 AND 2", '($meta["year"] >= 1 and $meta["year"] <= 2)'),
        ("caption IN ('a b', 'c')", '$meta["caption"] in ["a b", "c"]'),
        ("price > 2", '$meta["price"] > 2.0'),
        *[(one, None) for one in ("year != 7", "NOT year = 7", "year IS NULL", "flag", "7 = year", "year > 7.5")],
        *[(one, None) for one in ("year > 9007199254740993", "price < 1e301", "caption > 'a'", "caption LIKE 'a'", "id = 'a'")],
        *[(one, None) for one in ("caption = 'a\"b'", r"caption = 'a\b'", "caption = 'ä'", "nothing = 1", "year = '7'", "1 +")],
    ],
)  # fmt: skip
def test_filters_go_to_milvus_where_they_mean_the_same(where: str, expected: str | None) -> None:
    import pyarrow as pa

    kinds = {"id": pa.string(), "year": pa.int64(), "price": pa.float64(), "flag": pa.bool_(), "caption": pa.string()}
    assert milvus_filter(where, pa.schema(list(kinds.items()))) == expected


def test_an_address_that_cant_be_used_is_refused() -> None:
    for uri, reason in (
        ("", "--milvus-uri http://HOST"),
        ("host:19530", "expected http://"),
        ("http://u:secret@h", "password"),
    ):
        with pytest.raises(InvalidInput, match=reason) as told:
            IndexOptions(engine="milvus", milvus=MilvusOptions(uri))
        assert "secret" not in str(told.value)
    assert "secret" not in repr(NOWHERE)


def test_a_server_that_is_down_stops_nothing_but_searches(tmp_path: Path, log: io.StringIO) -> None:
    opener = MilvusOpener(tmp_path, NOWHERE)
    collection = opener.open(replace(opener.options, exact_rows=10))
    collection.add(rows(*range(10)), on_conflict="error", fingerprint="").result()
    assert hit_ids(collection, VECTORS[7], 1) == ["r7"], "so few are in memory"
    collection.add(rows(*range(10, 20)), on_conflict="error", fingerprint="").result()
    with pytest.raises(Unavailable, match=r"http://127\.0\.0\.1:9 "):
        collection.search(VECTORS[7], "image", 1, "")
    assert opener.stats()["waiting_rows"] == 20
    assert "secret" not in log.getvalue() + str(opener.stats())
    opener.close()


@pytest.mark.long
def test_a_killed_server_gets_what_it_missed(opener: MilvusOpener, milvus: Milvus) -> None:
    collection = opener.open()
    fill(collection)
    assert settled(lambda: opener.stats()["waiting_rows"] == 0)
    collection.delete(ids=["r3"]).result()
    milvus.kill()
    try:
        collection.add([NewRow("new", {"image": unit(1, seed=9)[0]})], on_conflict="error", fingerprint="").result()
        collection.delete(ids=["r5"]).result()
        start = time.monotonic()
        with pytest.raises(Unavailable, match=milvus.uri):
            collection.search(VECTORS[7], "image", 1, "")
        assert time.monotonic() - start < 60
    finally:
        milvus.start()
    assert _waited(lambda: not opener.stats()["trouble"], 120), opener.stats()
    assert hit_ids(collection, unit(1, seed=9)[0], 1) == ["new"]
    assert not {"r3", "r5"} & {*hit_ids(collection, VECTORS[3], 20), *hit_ids(collection, VECTORS[5], 20)}
    assert _waited(lambda: len(opener.there.numbers(COUNT)) == COUNT - 1, 60)


@pytest.mark.long
def test_what_milvus_lacks_or_has_too_much_is_mended_at_opening(opener: MilvusOpener) -> None:
    collection = opener.open()
    fill(collection)
    assert settled(lambda: opener.stats()["waiting_rows"] == 0)
    opener.there.remove(np.arange(100, 300))
    opener.there.put(np.array([5000]), unit(1, seed=3), [{}], anew=False)
    collection = opener.open()
    assert "r5000" not in hit_ids(collection, unit(1, seed=3)[0], 1)
    assert _waited(lambda: opener.there.numbers(COUNT).tolist() == list(range(COUNT)), 60)
    assert hit_ids(collection, VECTORS[150], 1) == ["r150"]
    assert collection.row_of("r150") == 150
    opener.there.put(np.arange(COUNT), unit(COUNT, seed=4), [{}] * COUNT, anew=True)
    collection = opener.open()
    held = opener.there.vectors(np.arange(0, COUNT, 50))
    np.testing.assert_allclose(held[150], VECTORS[150], atol=1e-6)


@pytest.mark.long
def test_the_recall_is_measured_and_kept(opener: MilvusOpener) -> None:
    options = replace(opener.options, recall_target=0.9)
    collection = opener.open(options)
    vectors = unit(3000, seed=6)
    for start in range(0, 3000, 500):
        more = [NewRow(f"v{n}", {"image": vectors[n]}, {"n": n}) for n in range(start, start + 500)]
        collection.add(more, on_conflict="error", fingerprint="").result()
    collection.rebuild()
    stats = opener.stats()
    assert (stats["rows"], stats["tail_rows"], stats["source"], stats["trouble"]) == (3000, 0, "texts", "")
    assert stats["recall"] >= 0.9
    assert stats["queries"] == 500
    queries = unit(20, seed=2)
    truth = [set(np.argsort(-(vectors @ query))[:10].tolist()) for query in queries]
    found = [
        len({int(id[1:]) for id in hit_ids(collection, query, 10)} & true) for query, true in zip(queries, truth, strict=True)
    ]
    assert sum(found) >= 0.8 * 200
    for where, kept in (("n < 100", vectors[:100]), ("NOT n >= 100", vectors[:100])):
        best = np.argsort(-(kept @ queries[0]))[:5]
        assert hit_ids(collection, queries[0], 5, where) == [f"v{n}" for n in best]
    opener.open(options)
    assert opener.stats()["recall"] == stats["recall"]


@pytest.mark.long
def test_without_texts_queries_are_made(opener: MilvusOpener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opener, "texts", lambda count, space, size: (np.empty((0, size), np.float32), "vectors"))
    collection = opener.open(replace(opener.options, recall_target=0.9))
    vectors = unit(2000, seed=6)
    more = [NewRow(f"v{n}", {"image": vectors[n]}, {"n": n}) for n in range(2000)]
    collection.add(more, on_conflict="error", fingerprint="").result()
    collection.rebuild()
    stats = opener.stats()
    assert (stats["source"], stats["queries"], stats["trouble"]) == ("made", 500, "")
    assert stats["recall"] >= 0.9


@pytest.mark.long
def test_a_collection_of_somebody_else_is_left_alone(opener: MilvusOpener, milvus: Milvus) -> None:
    collection = opener.open()
    fill(collection)
    assert settled(lambda: opener.stats()["waiting_rows"] == 0)
    other = MilvusRows(MilvusOptions(milvus.uri), opener.there.name, "other", SIZE + 1)
    with pytest.raises(Unavailable, match="wasn't made for these rows"):
        other.open()
    other.close()
    assert brute(VECTORS[1], 5, range(COUNT)) == hit_ids(collection, VECTORS[1], 5)


@pytest.mark.slow
def test_filters_mean_the_same_in_milvus(opener: MilvusOpener) -> None:
    collection = opener.open(replace(opener.options, exact_rows=10))
    draw = random.Random(SEED)
    signs = "".join(map(chr, range(32, 127)))
    texts = ["".join(draw.choices(signs, k=draw.choice((1, 3, 8, 255, 256, 257)))) for _ in range(60)] + [
        "",
        "'",
        " a ",
        "%",
        "null",
    ]
    values: dict[str, list[Any]] = {
        "year": [0, -1, 1, 7, 2**53 - 1, 1 - 2**53, 2**53 + 1, -(2**62)],
        "price": [0.0, -0.5, 3.0, 1e299, -1e299, 1.0000000000000002, float("inf"), float("-inf"), float("nan")],
        "flag": [True, False],
        "caption": texts,
    }
    kinds = {"year": "int", "price": "float", "flag": "bool", "caption": "string"}
    sent = [{name: draw.choice(those) for name, those in values.items() if draw.random() < 0.8} for _ in range(600)]
    new = [NewRow(f"r{n}", {"image": VECTORS[n]}, metadata) for n, metadata in enumerate(sent)]
    collection.add(new, on_conflict="error", fingerprint="", columns=kinds).result()
    assert settled(lambda: opener.stats()["waiting_rows"] == 0)

    def literal(name: str) -> str:
        value = draw.choice([one for one in values[name] if not isinstance(one, float) or abs(one) < 1e300])
        return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value).lower()

    def condition(depth: int) -> str:
        if depth and draw.random() < 0.6:
            return f"({condition(depth - 1)} {draw.choice(('AND', 'OR'))} {condition(depth - 1)})"
        name = draw.choice([*values])
        if name in ("year", "price") and draw.random() < 0.3:
            return f"{name} BETWEEN {literal(name)} AND {literal(name)}"
        if name != "flag" and draw.random() < 0.3:
            return f"{name} IN ({', '.join(literal(name) for _ in range(3))})"
        return f"{name} {draw.choice(('=', '<', '<=', '>', '>=')) if name in ('year', 'price') else '='} {literal(name)}"

    pushed = 0
    for _ in range(300):
        where = condition(3)
        if expression := milvus_filter(where, collection.table.schema):
            pushed += 1
            assert sorted(opener.there._query(expression).tolist()) == collection.matching(where).tolist(), where
    assert pushed > 50


@pytest.mark.long
@pytest.mark.timeout(300 + 120 * KILLS)
def test_no_kill_loses_rows_or_has_them_twice(milvus: Milvus, tmp_path: Path) -> None:
    draw = random.Random(SEED)
    for life in range(KILLS):
        command = [sys.executable, killed_milvus.__file__, str(tmp_path), milvus.uri]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout
            assert process.stdout.readline() == b"open\n"
            time.sleep(draw.uniform(0.1, 3))
            if life % 2:
                milvus.kill()
                milvus.start()
                time.sleep(draw.uniform(0.1, 3))
            assert process.poll() is None
            process.kill()
    ledger = Ledger(tmp_path / "ledger", killed_collection.SIZE)
    store, collection = killed_milvus.opened(tmp_path, milvus.uri)
    engines: Any = collection.engines
    for engine in engines.values():
        assert _waited(lambda engine=engine: not engine.stats()["trouble"], 120), engine.stats()
        rows = collection.table.rows(engine._tower)
        assert _waited(lambda engine=engine, rows=rows: np.array_equal(engine._milvus.numbers(int(rows[-1])), rows), 60)
        count = engine._milvus._client.query(engine._milvus.name, output_fields=["count(*)"], consistency_level="Strong")
        assert count[0]["count(*)"] == len(rows)
    wrong = differences(collection, ledger, killed_collection.SIZE)
    print(f"seed {SEED}: {KILLS} kills, {ledger.acknowledged} acknowledged changes")
    for engine in engines.values():
        engine.discard()
    collection.close()
    store.close()
    assert not wrong
    assert ledger.acknowledged


def _waited(condition: Any, limit_s: float) -> bool:
    deadline = time.monotonic() + limit_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)
    return bool(condition())


_OF_FAISS = {
    "test_an_index_is_built_in_the_background_and_is_the_same_after_a_restart",
    "test_an_index_is_tuned_again_on_what_people_ask",
    "test_a_rebuild_leaves_one_part_and_changes_no_answer",
    "test_a_broken_index_is_made_again",
    "test_the_databases_own_index_finds_most_and_all_that_a_filter_keeps",
}
"""Tests that look at the parts of one engine."""


def _again(test: Callable[..., None]) -> Callable[..., None]:
    """The same test in this module, where ``opener`` is another."""

    @functools.wraps(test)
    def copy(*arguments: Any, **named: Any) -> None:
        test(*arguments, **named)

    copy.pytestmark = [*getattr(test, "pytestmark", []), pytest.mark.slow.mark]  # type: ignore[attr-defined]
    return copy


for _module in (test_search_collection, test_search_commits, test_search_filters, test_search_numbers):
    for _name, _test in vars(_module).items():
        is_ours = _name.startswith("test_") and _name not in _OF_FAISS and callable(_test)
        if is_ours and "opener" in inspect.signature(_test).parameters:
            globals()[_name] = _again(_test)
