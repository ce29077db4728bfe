"""Rows in Arrow's form: what goes in and comes out, and streams that are refused."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import sidecars
from sidecars import PICTURES, Sidecar

from clip_client.errors import Conflict, InvalidInput, NotFound, TooLarge
from clip_client.search import Row, Search, Term
from clip_search import ready_rows
from clip_search.web import arrow_stream

SIZE = 8
NAME = "arrow"
TYPE = {"content-type": "application/vnd.apache.arrow.stream"}


@pytest.fixture
def client(sidecar: Sidecar) -> Iterator[Search]:
    """A client, and an empty collection of vectors of 8."""
    with sidecar.client() as search:
        search.create(NAME, dimension=SIZE, fingerprint="")
        yield search
        search.drop(NAME)


def unit(count: int) -> np.ndarray:
    return sidecars.unit(count, SIZE)


def listed(vectors: Any, size: int = SIZE, type: pa.DataType | None = None) -> pa.Array:
    return pa.array(
        [None if vector is None else list(map(float, vector)) for vector in vectors], type or pa.list_(pa.float32(), size)
    )


def stream(rows: pa.Table, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(rows)
    return bytes(sink.getvalue())


def table(count: int = 3, **columns: Any) -> pa.Table:
    own = {"id": [f"r{n}" for n in range(count)], "vector_image": listed(unit(count))}
    return pa.table({**own, **columns})


def taken(body: bytes) -> pa.Table:
    """A stream's rows, as the sidecar reads them."""
    return arrow_stream.read(body, lambda schema: ready_rows.check_schema(schema, SIZE))


def ids(search: Search) -> list[str]:
    return [row["id"] for row in search.rows(NAME)]


def test_rows_come_out_as_they_went_in(client: Search) -> None:
    rows = table(
        source=["/a.jpg", None, "https://b"],
        vector_text=listed([unit(3)[1], None, unit(3)[0]]),
        n=pa.array([1, None, 3], pa.int16()),
        name=pa.array(["é", None, ""], pa.large_string()),
        share=pa.array([0.5, None, 2.0], pa.float32()),
        taken=pa.array([10**15, None, 0], pa.timestamp("us", "UTC")),
        file=pa.array([b"\0\xff", None, b""]),
        words=pa.array([["a"], None, []]),
        nothing=pa.nulls(3),
    )
    added = client.add_arrow(NAME, rows)
    assert (added.added, added.ids, added.errors, list(added.others)) == (3, ["r0", "r1", "r2"], {}, [])
    kinds = {"n": "int", "name": "string", "share": "float", "taken": "timestamp", "file": "binary", "words": "list<string>"}
    assert client.stats(NAME)["columns"] == kinds
    [page] = client.arrow_rows(NAME, vectors=True)
    for name in ("id", "source", "n", "name", "share", "taken", "file", "words"):
        assert page[name].to_pylist() == rows[name].to_pylist(), name
    np.testing.assert_allclose(np.array(page["vector_image"].to_pylist()), unit(3), atol=1e-6)
    assert [vector is None for vector in page["vector_text"].to_pylist()] == [False, True, False]
    assert [row["metadata"] for row in client.get(NAME, ["r0"])] == [
        {"n": 1, "name": "é", "share": 0.5, "taken": "2001-09-09T01:46:40+00:00", "file": "AP8=", "words": ["a"]}
    ]
    client.drop(NAME)
    client.create(NAME, dimension=SIZE, fingerprint="")
    assert client.add_arrow(NAME, page.drop_columns(["row", "fingerprint", "time"])).added == 3  # a page goes in as it is


def test_a_page_goes_in_whole(client: Search) -> None:
    client.add_arrow(NAME, table())
    [page] = client.arrow_rows(NAME, vectors=True)
    assert client.add_arrow(NAME, page, on_conflict="skip", compare=True).skipped == 3


def test_pages_follow_each_other_and_filters_keep(client: Search) -> None:
    client.add_arrow(NAME, table(25, n=list(range(25))))
    assert [len(page) for page in client.arrow_rows(NAME, page=10)] == [10, 10, 5]
    assert [len(page) for page in client.arrow_rows(NAME, page=5)] == [5] * 5
    kept = pa.concat_tables(client.arrow_rows(NAME, where="n % 7 = 3", page=2))
    assert kept["n"].to_pylist() == [3, 10, 17, 24]
    assert "vector_image" not in kept.column_names
    client.delete(NAME, ["r3"])
    assert [len(page) for page in client.arrow_rows(NAME, page=24)] == [24]
    with pytest.raises(TooLarge, match="at most 10,000"):
        next(client.arrow_rows(NAME, page=10_001))
    with pytest.raises(InvalidInput, match="No field named m"):
        next(client.arrow_rows(NAME, where="m = 1"))


def test_a_bad_row_stops_no_other(client: Search) -> None:
    vectors = [*unit(5), [0.0] * SIZE, [float("nan")] * SIZE, [1e38] * SIZE, None]
    names = ["a", "b", "a", None, "x\n", "c", "d", "e", "f"]
    share = [0.5, float("inf"), 0, 0, 0, 0, 0, 0, 0]
    added = client.add_arrow(NAME, pa.table({"id": names, "vector_image": listed(vectors), "share": share}))
    assert {n: reason.split(":")[0] for n, reason in added.errors.items()} == {
        1: "metadata share",
        2: "id 'a' is there twice in one request, row 0 has it already",
        4: "id is 'x\\n'",
        5: "the vector has NaN, infinity or length 0",
        6: "the vector has NaN, infinity or length 0",
        7: "the vector has NaN, infinity or length 0",
        8: "the row has no vector",
    }
    assert added.added == 2
    assert ids(client)[0] == "a"
    assert len(ids(client)[1]) == 32


def test_lists_of_any_length_are_told_apart(client: Search) -> None:
    for kind in (pa.list_(pa.float64()), pa.large_list(pa.float16())):
        rows = pa.table({"vector_text": listed([unit(1)[0], [1.0], None, unit(2)[1]], type=kind)})
        added = client.add_arrow(NAME, rows)
        assert added.added == 2
        assert added.errors[1] == "the vector has 1 numbers, the collection holds 8: use the same model"


def test_ids_that_are_there_are_refused_skipped_compared_or_replaced(client: Search) -> None:
    client.add_arrow(NAME, table())
    other = pa.table({"id": ["r0", "r1", "new"], "vector_image": listed([unit(3)[0], unit(3)[2], unit(3)[1]])})
    with pytest.raises(Conflict, match="id 'r0' and 1 more is there already"):
        client.add_arrow(NAME, other)
    skipped = client.add_arrow(NAME, other, on_conflict="skip", compare=True)
    assert (skipped.added, skipped.skipped, list(skipped.others)) == (1, 2, [1])
    replaced = client.add_arrow(NAME, other, on_conflict="replace")
    assert (replaced.added, replaced.replaced) == (0, 3)
    assert ids(client) == ["r2", "r0", "r1", "new"]


def test_pictures_are_made_anew_as_thumbnails(
    client: Search,
) -> None:
    added = client.add_arrow(NAME, table(thumbnail=[PICTURES[0], None, b"no picture"]))
    assert [*added.errors] == [2]
    [row, other] = client.get(NAME, ["r0", "r1"])
    assert row["thumbnail"]
    assert other["thumbnail"] is None


def nested(depth: int) -> pa.Array:
    kind: pa.DataType = pa.int64()
    for _ in range(depth):
        kind = pa.list_(kind)
    return pa.nulls(3, kind)


REFUSED = {
    "no vectors": (pa.table({"id": ["a"]}), "have no vectors: expected a column vector_image"),
    "another size": (pa.table({"vector_image": listed([[1.0]], 1)}), "holds vectors of 1, the collection holds 8"),
    "whole numbers": (pa.table({"vector_image": pa.array([[1] * 8])}), "list<.*int64>: expected lists of 8 floats"),
    "a struct": (table(s=[{"a": 1}] * 3), r"column s is struct<a: int64>: expected a plain type or a list of one"),
    "deep lists": (table(s=nested(30)), "column s is list<"),
    "a dictionary": (table(s=pa.array(["a"] * 3).dictionary_encode()), "column s is dictionary<"),
    "a name of ours": (table(**{"vector": [1, 2, 3]}), "column vector is taken"),
    "a name that is no word": (table(**{"a b": [1, 2, 3]}), "a column can't be called 'a b'"),
    "too many columns": (table(**{f"c{n}": [0, 0, 0] for n in range(300)}), "302 columns: expected at most 256"),
    "ids that are numbers": (pa.table({"id": [1], "vector_image": listed(unit(1))}), "column id is int64: expected string"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_tables_that_cant_be_taken(case: str) -> None:
    rows, reason = REFUSED[case]
    with pytest.raises(InvalidInput, match=reason):
        taken(stream(rows))


def twice(rows: pa.Table) -> bytes:
    schema = pa.schema([*rows.schema, pa.field("id", pa.string())])
    return stream(pa.Table.from_arrays([*rows.columns, rows["id"]], schema=schema))


def lying(body: bytes, true: int, said: int) -> bytes:
    """A stream whose last number of rows is another one."""
    old, new = struct.pack("<q", true), struct.pack("<q", said)
    assert old in body
    return body.replace(old, new)


def empty_batches(count: int) -> bytes:
    sink, batch = pa.BufferOutputStream(), pa.RecordBatch.from_pylist([], schema=table(0).schema)
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        for _ in range(count):
            writer.write_batch(batch)
    return bytes(sink.getvalue())


STREAMS = {
    "nothing": (b"", "no Arrow IPC stream"),
    "JSON": (b'{"rows": []}', "no Arrow IPC stream"),
    "cut": (stream(table())[:-200], "no Arrow IPC stream"),
    "lz4": (stream(table(300), compression="lz4"), "buffers are compressed"),
    "zstd": (stream(table(300), compression="zstd"), "buffers are compressed"),
    "more rows than bytes": (lying(stream(table(7)), 7, 9_000), "no Arrow IPC stream"),
    "a column twice": (twice(table()), "column 'id' is there twice"),
    "no UTF-8": (stream(pa.table({"id": pa.array([b"\xff"]).view(pa.string()), "vector_image": listed(unit(1))})), "no Arrow"),
    "empty batches": (empty_batches(1_000), "1,000 messages or more"),
}  # fmt: skip


@pytest.mark.parametrize("case", STREAMS)
def test_streams_that_cant_be_read(case: str) -> None:
    body, reason = STREAMS[case]
    with pytest.raises(InvalidInput, match=reason):
        taken(body)


def test_rows_beyond_the_bounds(client: Search, sidecar: Sidecar) -> None:
    with pytest.raises(TooLarge, match="number of rows is 10,001: expected at most 10,000"):
        client.add_arrow(NAME, table(10_001))
    with pytest.raises(InvalidInput, match="has no rows"):
        client.add_arrow(NAME, table(0))
    with pytest.raises((InvalidInput, TooLarge)):
        taken(lying(stream(table(7)), 7, 2**60))
    assert sidecar.ask("POST", "/v1/collections/nobody/arrow", stream(table()), **TYPE)[0] == 404
    assert sidecar.ask("POST", f"/v1/collections/{NAME}/arrow?on_conflict=never", stream(table()), **TYPE)[0] == 400


def test_a_changed_byte_is_refused_or_makes_other_rows() -> None:
    """In a process of its own: a fault in a library's C++ ends it."""
    script = """
import numpy as np, pyarrow as pa, test_search_arrow as here
from clip_client.errors import InvalidInput
body, random = here.stream(here.table(2, name=["a", "b"], words=[["x"], []])), np.random.default_rng(0)
for place in random.integers(0, len(body), 2_000).tolist():
    try:
        here.taken(body[:place] + bytes([body[place] ^ int(random.integers(1, 256))]) + body[place + 1 :]).to_pylist()
    except InvalidInput:
        pass
print("whole")
"""
    command = [sys.executable, "-c", script]
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(sidecars.__file__).parent), *sys.path])
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths}, timeout=300)
    assert (run.returncode, run.stdout) == (0, "whole\n"), run.stderr


def test_a_sidecar_without_arrow_says_that_nothing_is_there(client: Search) -> None:
    with pytest.raises(NotFound):
        client.add_arrow("nobody", table())
    with pytest.raises(InvalidInput, match="rows is a list: expected a pyarrow Table"):
        client.add_arrow(NAME, [Row(vector=unit(1)[0])])  # type: ignore[arg-type]


def test_a_search_gives_a_hundred_thousand_ids_and_scores(client: Search, sidecar: Sidecar) -> None:
    vectors = unit(24_000)
    for start in range(0, 24_000, 8_000):
        part = vectors[start : start + 8_000]
        lists = pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), SIZE)  # [n, D] -> [n * D]
        numbers = range(start, start + 8_000)
        client.add_arrow(NAME, pa.table({"id": [str(n) for n in numbers], "vector_image": lists, "n": numbers}))
    scores = vectors @ vectors[7]
    order = np.argsort(-scores, kind="stable")
    hits = client.query(NAME, Term(vector=vectors[7]), k=100_000)
    np.testing.assert_allclose([hit.score for hit in hits], scores[order], atol=1e-5)
    assert {hit.id for hit in hits} == {str(n) for n in range(24_000)}
    assert not any(hit.metadata for hit in hits)
    page = client.query(NAME, Term(vector=vectors[7]), k=3, offset=23_000)
    np.testing.assert_allclose([scores[hit.metadata["n"]] for hit in page], scores[order[23_000:23_003]], atol=1e-5)
    assert len(client.query(NAME, Term(vector=vectors[7]), k=50_000, where="n < 15000")) == 15_000
    asked = {
        "modality": "image",
        "num_images": 2,
        "num_result_ids": 20_000,
        "indice_name": NAME,
        "embedding_input": vectors[7].tolist(),
    }
    status, answer = sidecar.ask("POST", "/knn-service", asked)
    assert (status, len(answer)) == (200, 20_000)
    assert {entry.keys() == {"id", "similarity"} for entry in answer[2:]} == {True}


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"k": 10**9}, "k + offset is 1,000,000,000: expected at most 100,000"),
        ({"k": 1, "offset": 100_000}, "k + offset is 100,001: expected at most 100,000"),
        ({"k": 10_001}, "send columns [] for the ids and scores of up to 100,000"),
        ({"k": 10_001, "columns": [], "sort": {"column": "id"}}, "k + offset is 10,001: expected at most 10,000"),
    ],
)
def test_longer_lists_are_refused_with_the_bound(client: Search, sidecar: Sidecar, asked: dict[str, Any], reason: str) -> None:
    status, answer = sidecar.ask("POST", f"/v1/collections/{NAME}/search", {"vector": [1.0] * SIZE, **asked})
    assert status == 413
    assert reason in answer["message"]
