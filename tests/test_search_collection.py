"""A collection on a real LanceDB: durable, found at once, hidden at once, the same after a restart."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import lancedb
import lancedb.index
import numpy as np
import pyarrow as pa
import pytest
from collections_on_disk import COUNT, OPTIONS, VECTORS, Opener, brute, fill, hit_ids, rows, settled
from sidecars import SIZE, unit

from clip_client import ContractMismatch, InvalidInput, Unavailable
from clip_search.collection import Collection
from clip_search.errors import Conflict, NotFound
from clip_search.index import merges
from clip_search.index.faiss_index import VectorIndex
from clip_search.index.part import Part, Tail
from clip_search.index.part_builder import PartBuilder
from clip_search.index.snapshot import Snapshot
from clip_search.index.tuning import Tuned
from clip_search.options import IndexOptions
from clip_search.storage.database import Database
from clip_search.storage.rows import NewRow, checked_id, checked_vector

LANCE = IndexOptions(engine="lancedb", exact_rows=400)


@pytest.mark.parametrize("options", [OPTIONS, LANCE])
def test_what_is_added_is_found_filtered_and_deleted(opener: Opener, options: IndexOptions) -> None:
    collection = opener.open(options)
    fill(collection)
    assert hit_ids(collection, VECTORS[7], 1) == ["r7"]
    query = unit(1, seed=2)[0]
    assert hit_ids(collection, query, 5, "year = 7") == brute(query, 5, range(7, COUNT, 100))
    assert collection.delete(ids=["r7", "never there"]).result() == 1
    assert "r7" not in hit_ids(collection, VECTORS[7], 20)
    assert collection.delete(where="year >= 50").result() == 500
    assert hit_ids(collection, query, 5, "year >= 50") == []
    assert len(collection.table) == 499


@pytest.fixture
def few(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> Opener:
    """One with few texts to tune on: each is a search for every effort that is tried."""
    monkeypatch.setattr(opener, "texts", lambda count, space, size: (unit(40, size, seed=5), opener.source))
    return opener


def test_the_databases_own_index_is_tuned_on_texts_and_says_so(few: Opener) -> None:
    collection = few.open(LANCE)
    fill(collection)
    collection.rebuild()
    stats = collection.engines["image"].stats()
    assert (stats["kind"], stats["indexed_rows"], stats["tail_rows"], stats["source"]) == ("IvfRq", COUNT, 0, "texts")
    assert stats["recall"] >= stats["recall_target"] == 0.98
    queries = unit(20, seed=2)
    hits = [len(set(hit_ids(collection, query, 10)) & set(brute(query, 10, range(COUNT)))) for query in queries]
    assert sum(hits) >= 0.95 * 10 * len(queries)
    assert hit_ids(collection, queries[0], 5, "year = 7") == brute(queries[0], 5, range(7, COUNT, 100))
    collection.add([NewRow("new", {"image": VECTORS[5] + 0})], on_conflict="error", fingerprint="").result()
    assert set(hit_ids(collection, VECTORS[5], 2)) == {"r5", "new"}  # a new one is compared with, outside of the index
    collection.add([NewRow("words", {"text": VECTORS[6]})], on_conflict="error", fingerprint="").result()
    assert "words" not in hit_ids(collection, VECTORS[6], COUNT)  # it has no picture
    assert len(hit_ids(collection, VECTORS[6], COUNT + 1)) == COUNT + 1
    kept = {name: stats[name] for name in ("probes", "refine", "queries", "source")}
    again = few.open(LANCE).engines["image"].stats()
    assert {name: again[name] for name in kept} == kept
    assert again["recall"] >= stats["recall"]


def test_the_databases_own_index_takes_in_new_rows_and_is_tuned_again(few: Opener) -> None:
    options = IndexOptions(engine="lancedb", exact_rows=400, tail_rows=20)
    collection = few.open(options)
    engine = collection.engines["image"]
    fill(collection)
    few.source = "vectors"
    collection.rebuild()
    assert engine.stats()["source"] == "vectors"
    few.source = "asked"
    assert settled(lambda: engine.stats()["source"] == "asked")
    more = [NewRow(f"m{n}", {"image": vector}) for n, vector in enumerate(unit(120, seed=8))]
    collection.add(more, on_conflict="error", fingerprint="").result()
    assert settled(lambda: engine.stats()["indexed_rows"] == COUNT + 120)
    assert engine.stats()["recall"] >= 0.98
    collection.delete(ids=["m5"]).result()
    assert "m5" not in hit_ids(collection, more[5].vectors["image"], 20)


def test_an_index_of_an_older_version_is_tuned_as_it_is(few: Opener) -> None:
    fill(few.open())
    few.close()
    table = lancedb.connect(few.folder / "db").open_table("a")
    table.create_index("vector_image", config=lancedb.index.IvfHnswSq(distance_type="cosine"))
    collection = few.open(LANCE)
    assert hit_ids(collection, VECTORS[5], 1) == ["r5"]
    assert settled(lambda: (collection.engines["image"].stats()["recall"] or 0) >= 0.98)
    assert collection.engines["image"].stats()["kind"] == "IvfHnswSq"


def test_without_texts_the_databases_own_index_is_tuned_on_made_ones(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opener, "texts", lambda count, space, size: (np.empty((0, size), np.float32), "vectors"))
    collection = opener.open(LANCE)
    fill(collection)
    collection.rebuild()
    stats = collection.engines["image"].stats()
    assert (stats["source"], stats["queries"]) == ("made", 128)
    assert stats["recall"] >= 0.98
    assert hit_ids(collection, VECTORS[5], 1) == ["r5"]


def test_an_index_is_built_in_the_background_and_is_the_same_after_a_restart(opener: Opener) -> None:
    collection = opener.open()
    fill(collection)
    assert settled(lambda: collection.engines["image"].stats()["tail_rows"] <= 200)
    collection.delete(ids=["r3"]).result()
    collection.add(rows(3), on_conflict="error", fingerprint="").result()
    before = hit_ids(collection, VECTORS[3], 10)
    stats = collection.stats()["indexes"]["image"]
    reopened = opener.open()
    assert hit_ids(reopened, VECTORS[3], 10) == before
    assert reopened.stats()["indexes"]["image"]["parts"] == [{**part, "hidden": part["hidden"]} for part in stats["parts"]]
    assert stats["recall"] >= 0.98
    assert {part["source"] for part in stats["parts"]} == {"texts"}


def test_an_index_is_tuned_again_on_what_people_ask(opener: Opener) -> None:
    def sources(collection: Collection) -> set[str]:
        return {part["source"] for part in collection.engines["image"].stats()["parts"]}

    collection = opener.open()
    fill(collection)
    collection.rebuild()
    assert sources(collection) == {"texts"}
    opener.source = "asked"
    assert settled(lambda: sources(collection) == {"asked"})
    opener.source = "texts"
    assert sources(opener.open()) == {"asked"}


def test_a_rebuild_leaves_one_part_and_changes_no_answer(opener: Opener) -> None:
    collection = opener.open()
    fill(collection)
    collection.delete(where="year < 10").result()
    collection.rebuild()
    (part,) = collection.engines["image"].stats()["parts"]
    assert (part["rows"], part["hidden"], part["kind"]) == (900, 0, "ivf")
    assert hit_ids(collection, VECTORS[77], 1) == ["r77"]
    assert opener.open().engines["image"].stats()["tail_rows"] == 0


def test_rows_that_are_replaced_again_and_again_are_indexed_once_they_rest(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clip_search.upkeep._PAUSE_S", 3600)  # the test alone does the upkeep
    built: list[int] = []
    build = PartBuilder.part
    monkeypatch.setattr(PartBuilder, "part", lambda builder, first, *rest: built.append(first) or build(builder, first, *rest))
    collection = opener.open()

    def replaced(*numbers: int) -> list[tuple[int, int]]:
        collection.add(rows(*numbers), on_conflict="replace", fingerprint="").result()
        collection.maintain()  # sees the commit, so more may come
        return parts()

    def parts() -> list[tuple[int, int]]:
        return [(part["rows"], part["hidden"]) for part in collection.engines["image"].stats()["parts"]]

    replaced(*range(600))
    collection.maintain()
    replaced(*range(600, 850))
    collection.maintain()
    assert (parts(), built) == ([(600, 0), (250, 0)], [0, 600])
    assert replaced(*range(600, 730)) == [(600, 0), (250, 130)]
    assert replaced(*range(730, 850)) == [(600, 0)]  # of the other nothing was left
    with collection.writer.coming():
        collection.maintain()
    assert len(built) == 2  # more were announced
    assert hit_ids(collection, VECTORS[700], 1) == ["r700"]
    collection.maintain()
    assert (parts(), len(built)) == ([(600, 0), (250, 0)], 3)
    replaced(*range(100, 300))
    collection.maintain()
    assert parts() == [(850, 0)]  # a third of the first was hidden
    assert opener.open().engines["image"].size() == 850
    assert hit_ids(opener.collection, VECTORS[200], 1) == ["r200"]


def test_parts_become_one_once_no_more_rows_come(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clip_search.upkeep._PAUSE_S", 3600)  # the test alone does the upkeep
    collection = opener.open()

    def add(first: int, last: int) -> None:
        collection.add(rows(*range(first, last)), on_conflict="error", fingerprint="").result()
        collection.maintain()  # sees the commit

    def parts() -> list[int]:
        collection.maintain()
        return [part["rows"] for part in collection.engines["image"].stats()["parts"]]

    add(0, 600)
    assert parts() == [600]
    add(600, 850)
    assert parts() == [600, 250]
    assert parts() == [600, 250]  # others may follow
    monkeypatch.setattr("clip_search.index.engine._REST_S", 0)
    add(850, 860)
    assert parts() == [860]
    assert hit_ids(collection, VECTORS[77], 1) == ["r77"]
    assert hit_ids(collection, VECTORS[855], 1) == ["r855"]


@pytest.mark.parametrize(
    ("sizes", "first"), [((800, 49), None), ((800, 50), 0), ((900, 40, 17), 0), ((900, 40, 8), 900), ((900,), None)]
)
def test_parts_are_merged_where_one_is_searched_faster(sizes: tuple[int, ...], first: int | None) -> None:
    starts = [sum(sizes[:n]) for n in range(len(sizes))]
    parts = [
        Part.of(
            VectorIndex.build("flat", SIZE, size, [unit(size)], unit(1), 1),
            np.arange(start, start + size),
            Tuned(1, 1.0, 0.98, 0, "vectors"),
        )
        for start, size in zip(starts, sizes, strict=True)
    ]
    assert merges.joint(Snapshot(tuple(parts), Tail.empty(SIZE))) == first


def test_a_number_is_never_given_twice(opener: Opener) -> None:
    collection = opener.open()
    fill(collection)
    collection.rebuild()
    collection.delete(where="year >= 0").result()
    reopened = opener.open()
    reopened.add(rows(1), on_conflict="error", fingerprint="").result()
    assert reopened.row_of("r1") >= COUNT
    assert hit_ids(reopened, VECTORS[999], 5) == ["r1"]


def test_everything_gone_leaves_an_empty_index(opener: Opener) -> None:
    collection = opener.open()
    fill(collection)
    collection.delete(where="year >= 0").result()
    collection.rebuild()
    assert hit_ids(collection, VECTORS[1]) == []


@pytest.mark.parametrize("name", ["image/current.json", "cards"])
def test_a_broken_index_is_made_again(opener: Opener, name: str) -> None:
    fill(opener.open())
    opener.collection.rebuild()
    opener.close()
    broken = opener.folder / "a" / name
    for path in [broken] if broken.is_file() else list(broken.iterdir()):
        path.write_bytes(b"{broken")
    assert hit_ids(opener.open(), VECTORS[7], 1) == ["r7"]


def test_a_missing_index_file_is_made_again(opener: Opener) -> None:
    fill(opener.open())
    opener.collection.rebuild()
    opener.close()
    for path in (opener.folder / "a" / "image").glob("part-*/index.faiss"):
        path.write_bytes(path.read_bytes()[:500])
    assert hit_ids(opener.open(), VECTORS[7], 1) == ["r7"]


def test_an_id_that_is_there(opener: Opener) -> None:
    collection = opener.open()
    collection.add(rows(1, 2), on_conflict="error", fingerprint="").result()
    with pytest.raises(Conflict, match="'r2' is there already: send on_conflict"):
        collection.add(rows(2, 3), on_conflict="error", fingerprint="").result()
    assert collection.present(["r1", "r2", "r3"]) == {"r1", "r2"}
    skipped = collection.add(rows(2, 3), on_conflict="skip", fingerprint="").result()
    assert (skipped.added, skipped.skipped) == (1, 1)
    new = NewRow("r1", {"image": VECTORS[500]}, {"year": 1})
    replaced = collection.add([new], on_conflict="replace", fingerprint="").result()
    assert (replaced.added, replaced.replaced) == (0, 1)
    assert hit_ids(collection, VECTORS[500], 1) == ["r1"]
    assert len(collection.table) == 3
    assert collection.cards.take(np.array([collection.row_of("r1")]))[0]["caption"] is None


def test_an_id_twice_in_a_request(opener: Opener) -> None:
    with pytest.raises(InvalidInput, match="'r1' is there twice in one request"):
        opener.open().add(rows(1, 1), on_conflict="replace", fingerprint="")


def test_vectors_of_another_model_are_refused_with_what_to_do(opener: Opener) -> None:
    with pytest.raises(ContractMismatch, match=r"holds vectors of model model1, got model2: .*clipserve search add FOLDER"):
        opener.open().add(rows(1), on_conflict="error", fingerprint="model2")


def test_many_at_once_are_committed_together(opener: Opener) -> None:
    collection = opener.open()
    version = collection.table.version
    waiting = [collection.add(rows(n), on_conflict="error", fingerprint="") for n in range(300)]
    assert sum(one.result().added for one in waiting) == 300
    assert collection.table.version - version < 150  # the first is alone, what waits behind it goes together
    assert len(collection.table) == 300


def test_files_are_merged_once_writing_pauses(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clip_search.upkeep._PAUSE_S", 3600)  # the test alone does the upkeep
    monkeypatch.setattr("clip_search.upkeep._OPTIMIZE_COMMITS", 5)
    monkeypatch.setattr("clip_search.upkeep._QUICK_SHARE", 0)
    collection = opener.open()
    fill(collection)
    collection.maintain()
    assert files(collection) == 10
    collection.maintain()
    assert files(collection) == 1


def test_files_are_merged_while_writing_goes_on_once_they_are_many(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clip_search.upkeep._PAUSE_S", 3600)
    monkeypatch.setattr("clip_search.upkeep._OPTIMIZE_COMMITS", 1)
    monkeypatch.setattr("clip_search.upkeep._QUICK_SHARE", 0)
    collection = opener.open()
    fill(collection)
    collection.maintain()
    assert files(collection) == 1


def files(collection: Collection) -> int:
    return int(collection.table._handle.raw.stats()["fragment_stats"]["num_fragments"])


def test_one_bad_request_fails_alone(opener: Opener) -> None:
    collection = opener.open()
    collection.add(rows(0), on_conflict="error", fingerprint="").result()
    odd = NewRow("odd", {"image": VECTORS[1]}, {"year": "not a number"})
    waiting = [collection.add([row], on_conflict="error", fingerprint="") for row in [*rows(*range(1, 50)), odd]]
    with pytest.raises(InvalidInput, match="the column holds int64"):
        waiting[-1].result()
    assert [one.result().added for one in waiting[:-1]] == [1] * 49


def test_searches_go_on_while_rows_come_and_go_and_an_index_is_built(opener: Opener) -> None:
    collection = opener.open()
    fill(collection)
    stop, wrong = threading.Event(), []

    def search() -> int:
        count = 0
        while not stop.is_set():
            hits = hit_ids(collection, VECTORS[1], 3)
            wrong.extend([hits] if hits[:1] != ["r1"] else [])
            count += 1
        return count

    with ThreadPoolExecutor(1) as pool:
        searching = pool.submit(search)
        try:
            for start in range(100, COUNT, 100):
                collection.delete(ids=[f"r{n}" for n in range(start, start + 50)]).result()
                collection.add(rows(*range(start, start + 50)), on_conflict="error", fingerprint="").result()
                collection.rebuild()
        finally:
            stop.set()
    assert searching.result() > 5
    assert wrong == []
    assert len(collection.table) == COUNT


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("nope = 1", r"No field named nope\. Valid fields are .*year"),
        ("year ==== 3", "sql parser error"),
        ("caption = 5", "could not convert"),
        ("year = 1" + " OR year = 1" * 300, r"300 terms|characters"),
        ("(" * 150 + "year = 1" + ")" * 150, "recursion limit|terms"),
        ("x" * 9000, "9000 characters"),
    ],
)
def test_a_bad_filter_gives_the_databases_reason_without_its_source(opener: Opener, where: str, message: str) -> None:
    collection = opener.open()
    collection.add(rows(1), on_conflict="error", fingerprint="").result()
    with pytest.raises(InvalidInput, match=message) as caught:
        collection.search(VECTORS[1], "image", 5, where)
    assert ".rs" not in str(caught.value)


def test_a_new_column_comes_with_its_first_row(opener: Opener) -> None:
    collection = opener.open()
    collection.add(rows(1), on_conflict="error", fingerprint="").result()
    new = NewRow("new", {"image": VECTORS[2]}, {"score": 0.5, "good": True})
    collection.add([new], on_conflict="error", fingerprint="").result()
    assert collection.stats()["columns"] == {"year": "int", "caption": "string", "score": "float", "good": "bool"}
    assert hit_ids(collection, VECTORS[1], 5, "good") == ["new"]
    assert hit_ids(opener.open(), VECTORS[1], 5, "good") == ["new"]


@pytest.mark.parametrize("name", ["row", "vector_image", "a b", "1st", "x" * 65, ""])
def test_column_names_that_cant_be(opener: Opener, name: str) -> None:
    with pytest.raises(InvalidInput, match="column"):
        opener.open().add([NewRow("a", {"image": VECTORS[0]}, {name: 1})], on_conflict="error", fingerprint="").result()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0] * (SIZE + 1), rf"has shape \[{SIZE + 1}\], the collection holds \[{SIZE}\]"),
        ([float("nan")] * SIZE, "NaN"),
        ([float("inf")] * SIZE, "infinity"),
        ([0.0] * SIZE, "length 0"),
        (["a"] * SIZE, "isn't a list of numbers"),
        ([[1.0], [2.0, 3.0]], "isn't a list of numbers"),
        ([1e300] * SIZE, "infinity"),
    ],
)
def test_vectors_that_cant_be(values: object, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        checked_vector(values, SIZE)


@pytest.mark.parametrize("value", ["", "x" * 3000, "a\nb", 5])
def test_ids_that_cant_be(value: object) -> None:
    with pytest.raises(InvalidInput, match="expected a printable string"):
        checked_id(value)


def test_quotes_in_ids(opener: Opener) -> None:
    collection = opener.open()
    collection.add([NewRow("it's; --", {"image": VECTORS[0]})], on_conflict="error", fingerprint="").result()
    assert collection.row_of("it's; --") == 0
    with pytest.raises(NotFound, match="no row"):
        collection.row_of("its")


def test_one_owner_at_a_time(opener: Opener) -> None:
    opener.open()
    with pytest.raises(Unavailable, match="in use by another sidecar"):
        Database(str(opener.folder / "db"), opener.folder)


def test_somebody_elses_table(opener: Opener) -> None:
    opener.open()
    opener.database._database.create_table("other", schema=pa.schema([pa.field("x", pa.int64())]))
    with pytest.raises(ContractMismatch, match="wasn't made by clipserve"):
        Collection("other", opener.database.open("other"), opener.folder / "other", OPTIONS, opener.texts)


def test_cards_are_mapped_not_loaded(opener: Opener) -> None:
    fill(opener.open())
    opener.collection.rebuild()
    used = pa.total_allocated_bytes()
    reopened = opener.open()
    assert pa.total_allocated_bytes() - used < 50_000
    assert reopened.cards.take(np.array([5]))[0]["caption"] == "picture 5"
