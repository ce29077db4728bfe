"""Rows over HTTP: a bad row is that row's error, the others are added, and the books balance."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import sidecars
from sidecars import Sidecar, base64_of, unit

from clip_client import InvalidInput
from clip_client.search import Row, Search, Term
from clip_search.storage.rows import NewRow, to_arrow

NOBODY = "127.0.0.1:9"
VECTOR = [1.0] + [0.0] * 7
OTHER = [0.0, 1.0] + [0.0] * 6


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A sidecar without a Triton: all vectors are ready ones."""
    with sidecars.running(tmp_path_factory.mktemp("intake"), NOBODY) as sidecar:
        yield sidecar


@pytest.fixture
def search(sidecar: Sidecar) -> Iterator[Search]:
    with sidecar.client() as search:
        search.create("c", dimension=8)
        yield search
        search.drop("c")


def post(sidecar: Sidecar, rows: Any, **more: Any) -> tuple[int, Any]:
    """Rows sent as they are; a str is a row's JSON, which may be none."""
    if isinstance(rows, list):
        written = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        rows = "[" + ",".join(written) + "]"
    rest = "".join(f', "{name}": {json.dumps(value)}' for name, value in more.items())
    return sidecar.ask("POST", "/v1/collections/c/rows", f'{{"rows": {rows}{rest}}}'.encode("utf-8", "surrogatepass"))


def errors(answer: Any) -> dict[int, str]:
    return {error["index"]: error["message"] for error in answer["errors"]}


BAD_ROWS = [
    ('{"vector": [NaN, 1, 1, 1, 1, 1, 1, 1]}', "finite number"),
    ('{"vector": [-Infinity, 1, 1, 1, 1, 1, 1, 1]}', "finite number"),
    ('{"vector": [1e400, 1, 1, 1, 1, 1, 1, 1]}', "finite number"),
    ('{"vector": [%s, 1, 1, 1, 1, 1, 1, 1]}' % ("9" * 5000), "number"),
    ('{"vector": [1%s, 1, 1, 1, 1, 1, 1, 1]}' % ("0" * 300), "infinity"),
    ({"vector": ["1"] * 8}, "number"),
    ({"vector": [True] * 8}, "number"),
    ({"vector": [[1.0] * 8]}, "number"),
    ({"vector": [1.0] * 7}, r"shape \[7\]"),
    ({"vector": []}, r"shape \[0\]"),
    ({"vector": [0.0] * 8}, "length 0"),
    ({"vector": 5}, "vector"),
    ({"vector": {"a": 1}}, "vector"),
    ({"vector": "%%%"}, "base64"),
    ({"vector": "AAAA"}, "base64 of float32"),
    ({"vector": base64_of(np.ones(9, np.float32).tobytes())}, r"shape \[9\]"),
    ({"vector": VECTOR, "text_vector": [float("nan")] * 8}, "finite number"),
    ({"id": 5, "vector": VECTOR}, "id: .*string, got 5"),
    ({"id": "", "vector": VECTOR}, "id is ''"),
    ({"id": "x" * 3000, "vector": VECTOR}, "expected a printable string"),
    ('{"id": "\\ud800", "vector": [1, 0, 0, 0, 0, 0, 0, 0]}', "printable"),
    ({"vector": VECTOR, "colour": 1}, "colour: Extra inputs"),
    ({"vector": VECTOR, "metadata": [1]}, "metadata: .*dictionary"),
    ({"vector": VECTOR, "metadata": None}, "metadata: .*dictionary"),
    ({"vector": VECTOR, "metadata": {"a": [1]}}, "metadata a is a list"),
    ({"vector": VECTOR, "metadata": {"a": {"b": 1}}}, "metadata a is a dict"),
    ({"vector": VECTOR, "metadata": {"a": 2**64}}, "metadata a is 18446744073709551616.*64 bits"),
    ({"vector": VECTOR, "metadata": {"a": float("nan")}}, "metadata a is nan.*finite"),
    ({"vector": VECTOR, "metadata": {"a": "\ud800"}}, "half of a surrogate pair"),
    ({"vector": VECTOR, "metadata": {"\ud800": 1}}, r"can't be called '\\ud800'"),
    ({"vector": VECTOR, "metadata": {"clip similarity": 1}}, "can't be called 'clip similarity'"),
    ({"vector": VECTOR, "metadata": {"original-width": 1}}, "can't be called 'original-width'"),
    ({"vector": VECTOR, "metadata": {"😀": 1}}, "can't be called"),
    ({"vector": VECTOR, "metadata": {"": 1}}, "can't be called ''"),
    ({"vector": VECTOR, "metadata": {"x" * 65: 1}}, "can't be called"),
    ({"vector": VECTOR, "metadata": {"id": 1}}, "column id is taken"),
    ({"vector": VECTOR, "metadata": {"Time": 1}}, "column Time is taken"),
    ({"vector": VECTOR, "metadata": {"vector_image": 1}}, "column vector_image is taken"),
    ({"vector": VECTOR, "metadata": {"Vector": 1}}, "column Vector is taken"),
    ({"vector": VECTOR, "metadata": {"_rowid": 1}}, "column _rowid is taken"),
    ({"vector": VECTOR, "metadata": {"_distance": 1}}, "column _distance is taken"),
    ({"vector": VECTOR, "metadata": {"YEAR": 1}}, "column YEAR is there as year"),
    ({"vector": VECTOR, "metadata": {f"c{n}": n for n in range(300)}}, "makes 313 columns.*at most 256"),
    ({"vector": VECTOR, "source": 5}, "source: .*string"),
    ({"vector": VECTOR, "source": "x" * 5000}, "source: .*4096"),
    ({"text": "x" * 200_000}, "text: .*131072"),
    ('{"text": "\\udfff"}', "text: .*unicode"),
    ({"image_url": 5}, "image_url: .*string"),
    ('{"image_path": "\\ud83d"}', "surrogate"),
    ({"image": "", "image_url": ""}, "one image"),
    ({"image": "%%%"}, "isn't base64"),
    ({"image": "data:image/png,abc"}, "isn't base64"),
    ({}, "nothing to embed"),
    (None, "the row: .*dictionary"),
    ([1], "the row: .*dictionary"),
    ("true", "the row: .*dictionary"),
    ("[" * 150 + "]" * 150, "the row: .*dictionary"),
    ({"vector": VECTOR, "metadata": "x"}, "metadata: .*dictionary"),
]


def test_a_bad_row_is_its_own_error(sidecar: Sidecar, search: Search) -> None:
    search.add("c", [Row(id="before", vector=VECTOR, metadata={"year": 1})])
    good = [{"id": "first", "vector": VECTOR}, {"id": "last", "vector": OTHER, "metadata": {"year": 2}}]
    for bad, message in BAD_ROWS:
        status, answer = post(sidecar, [good[0], bad, good[1]], on_conflict="replace")
        assert (status, answer["ids"], list(errors(answer))) == (201, ["first", "last"], [1]), (bad, answer)
        assert re.search(message, errors(answer)[1]), (message, errors(answer)[1])
        status, answer = post(sidecar, [bad])
        assert (status, answer["error"]["errors"].keys()) == (400, {"0"}), bad
    assert {row["id"] for row in search.rows("c")} == {"before", "first", "last"}
    assert search.stats("c")["columns"] == {"year": "int"}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is None"),
        (b"[1]", "expected a JSON object with rows"),
        (b'"x"', "expected a JSON object with rows"),
        (b"{", "Invalid JSON"),
        (b"[" * 100_000, "Invalid JSON"),
        (b"{}", "rows: Field required"),
        (b'{"rows": null}', "rows: .*valid list"),
        (b'{"rows": []}', "at least 1 item"),
        (b'{"rows": {"a": 1}}', "rows: .*valid list"),
        (b'{"rows": [1], "on_conflict": "x"}', "on_conflict"),
        (b'{"rows": [1], "fingerprint": 5}', "fingerprint"),
        (b'{"rows": [1], "fingerprint": "\\ud800"}', "fingerprint"),
        (b'{"rows": [1], "columns": {"a": "complex"}}', "column 'a' can't be of type 'complex'"),
        (b'{"rows": [1], "columns": {"a": "decimal(50,2)"}}', "can't be of type"),
        (b'{"rows": [1], "colour": 5}', "colour: Extra inputs"),
    ],
)
def test_what_concerns_all_rows_refuses_all(sidecar: Sidecar, search: Search, body: bytes, message: str) -> None:
    status, answer = sidecar.ask("POST", "/v1/collections/c/rows", body)
    assert status == 400
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(answer["message"])


def test_more_rows_than_a_request_may_have_are_too_many(sidecar: Sidecar, search: Search) -> None:
    status, answer = sidecar.ask("POST", "/v1/collections/c/rows", b'{"rows": [' + b"1," * 10_000 + b"1]}")
    assert (status, answer["message"]) == (413, "rows is 10,001: expected at most 10,000")


def test_bytes_that_arent_utf8_are_their_rows_error(sidecar: Sidecar, search: Search) -> None:
    good, bad = json.dumps({"vector": VECTOR}).encode(), b'{"vector": [1,0,0,0,0,0,0,0], "metadata": {"a": "caf\xe9"}}'
    status, answer = sidecar.ask("POST", "/v1/collections/c/rows", b'{"rows": [' + good + b"," + bad + b"]}")
    assert (status, answer["added"], list(errors(answer))) == (201, 1, [1])


@pytest.mark.parametrize("on_conflict", ["error", "skip", "replace"])
def test_the_first_of_several_rows_with_one_id_is_taken(sidecar: Sidecar, search: Search, on_conflict: str) -> None:
    rows = [{"id": "a", "vector": [0.0] * 8}, *({"id": "a", "vector": VECTOR, "metadata": {"n": n}} for n in (1, 2))]
    status, answer = post(sidecar, [*rows, {"id": "b", "vector": OTHER}], on_conflict=on_conflict)
    assert (status, answer["added"], answer["ids"]) == (201, 2, ["a", "b"])
    assert set(errors(answer)) == {0, 2}
    assert "twice in one request, row 1 has it" in errors(answer)[2]
    assert search.get("c", ["a"])[0]["metadata"] == {"n": 1}


def test_what_was_sent_is_the_sum_of_what_became_of_it(search: Search) -> None:
    search.add("c", [Row(id=str(n), vector=VECTOR, metadata={"n": 1}) for n in range(3)])
    bad = [Row(id="x", vector=[0.0] * 8), Row(id="y", vector=VECTOR, metadata={"n": "text"}), Row(id="z", vector=[1.0])]
    rows = [*(Row(id=str(n), vector=OTHER) for n in range(5)), *bad]
    for on_conflict, expected in (("skip", (2, 0, 3, 3)), ("replace", (0, 5, 0, 3)), ("skip", (0, 0, 5, 3))):
        outcome = search.add("c", rows, on_conflict=on_conflict)
        assert (outcome.added, outcome.replaced, outcome.skipped, len(outcome.errors)) == expected
        assert outcome.sent == len(rows)
        assert outcome.ids == [str(n) for n in range(5)]


@pytest.mark.parametrize("values", [[1, 1.5], [1.5, 1], [None, 1, 1.5, 2], [1, 2.5, -3]])
def test_int_widens_to_float_within_a_request(search: Search, values: list[Any]) -> None:
    outcome = search.add("c", [Row(id=str(n), vector=VECTOR, metadata={"score": v}) for n, v in enumerate(values)])
    assert (outcome.added, outcome.errors) == (len(values), {})
    assert search.stats("c")["columns"] == {"score": "float"}
    assert [row["metadata"]["score"] for row in search.rows("c")] == values


def test_int_widens_to_float_between_requests(search: Search, sidecar: Sidecar) -> None:
    search.add("c", [Row(id=str(n), vector=unit(1, 8, n)[0], metadata={"score": n, "tag": "a"}) for n in range(20)])
    search.rebuild("c", wait=True)
    assert search.add("c", [Row(id="x", vector=VECTOR, metadata={"score": 0.5})]).added == 1
    assert search.stats("c")["columns"] == {"score": "float", "tag": "string"}
    search.add("c", [Row(id="y", vector=VECTOR, metadata={"score": 7})])
    for _ in range(2):
        hits = search.query("c", Term(vector=VECTOR), k=30, where="score < 2.5")
        assert {hit.id: hit.metadata["score"] for hit in hits} == {"0": 0, "1": 1, "2": 2, "x": 0.5}
        assert {hit.metadata["score"] for hit in search.query("c", Term(vector=VECTOR), k=30)} == {*range(20), 0.5}
        assert [row["metadata"]["score"] for row in search.get("c", ["3", "x", "y"])] == [3, 0.5, 7]
        search.rebuild("c", wait=True)
    assert search.delete("c", where="score = 0.5") == 1


def test_what_cant_be_widened_is_its_rows_error(search: Search) -> None:
    search.add("c", [Row(id="a", vector=VECTOR, metadata={"n": 2**60 + 1, "m": 1, "s": "x", "b": True})])
    wrong = [{"n": 0.5}, {"m": "x"}, {"m": True}, {"s": 1}, {"b": 1}, {"b": 0.0}, {"m": 2**63}, {"n": 1.0, "m": 1.5}]
    good = {"m": 2, "n": 2}
    outcome = search.add("c", [Row(vector=VECTOR, metadata=fields) for fields in (*wrong, good)])
    assert (outcome.added, set(outcome.errors)) == (1, set(range(len(wrong))))
    assert outcome.errors[1] == "metadata m is 'x', the column holds int64: send that type"
    assert "no float is equal to" in outcome.errors[0]
    assert search.stats("c")["columns"] == {"n": "int", "m": "int", "s": "string", "b": "bool"}
    outcome = search.add("c", [Row(vector=VECTOR, metadata={"f": v}) for v in (1.5, 2**53 + 1, 2**60, 10**400)])
    assert (outcome.added, set(outcome.errors)) == (2, {1, 3})


def test_clients_that_disagree_about_a_column_lose_rows_alone(search: Search) -> None:
    values = [1, 1.5, "x", True, 2**53 + 1] * 12

    def add(n: int) -> tuple[int, int]:
        rows = [Row(id=f"{n}a", vector=VECTOR), Row(id=f"{n}b", vector=VECTOR, metadata={"v": values[n]})]
        outcome = search.add("c", rows)
        return outcome.added, len(outcome.errors)

    with ThreadPoolExecutor(8) as pool:
        ended = list(pool.map(add, range(len(values))))
    assert all(sum(counts) == 2 and counts[0] >= 1 for counts in ended)
    rows = list(search.rows("c"))
    assert len(rows) == sum(added for added, _ in ended)
    kept = {row["id"]: row["metadata"].get("v") for row in rows if row["id"].endswith("b")}
    assert kept == {id: values[int(id[:-1])] for id in kept}


def test_a_column_of_nulls_has_no_kind_yet(search: Search) -> None:
    search.add("c", [Row(id="a", vector=VECTOR, metadata={"v": None})])
    assert search.stats("c")["columns"] == {}
    assert search.add("c", [Row(id="b", vector=VECTOR, metadata={"v": "x"})]).added == 1
    assert search.get("c", ["a"])[0]["metadata"] == {"v": None}


def test_the_bound_of_columns_is_per_row(search: Search) -> None:
    wide = [Row(id=str(n), vector=VECTOR, metadata={f"c{n}_{m}": m for m in range(100)}) for n in range(4)]
    outcome = search.add("c", wide)
    assert (outcome.ids, set(outcome.errors)) == (["0", "1"], {2, 3})
    assert len(search.stats("c")["columns"]) == 200
    assert "at most 256" in outcome.errors[2]


KINDS = [
    ("timestamp", "2024-05-01T12:00:00.000001Z", "2024-05-01T12:00:00.000001+00:00", "c > timestamp '2024-01-01T00:00:00Z'"),
    ("timestamp", "2024-05-01T12:00:00+02:00", "2024-05-01T10:00:00+00:00", "c > timestamp '2024-01-01T00:00:00Z'"),
    ("timestamp", "0001-01-01T00:00:00", "0001-01-01T00:00:00+00:00", "c < timestamp '2024-01-01T00:00:00Z'"),
    ("date", "2024-05-01", "2024-05-01", "c = date '2024-05-01'"),
    ("binary", "AP8=", "AP8=", "c = X'00FF'"),
    ("decimal(10,2)", "1.5", "1.50", "c = cast('1.5' as decimal(10,2))"),
    ("decimal(38,0)", 10**37, str(10**37), "c > 5"),
    ("uint", 2**64 - 1, 2**64 - 1, "c = 18446744073709551615"),
    ("list<string>", ["a", None, "ü"], ["a", None, "ü"], "array_has(c, 'a')"),
    ("list<int>", [], [], "c IS NOT NULL"),
    ("list<int>", [1, -(2**63)], [1, -(2**63)], "array_has(c, 1)"),
    ("list<float>", [1, 2.5], [1.0, 2.5], "array_has(c, 2.5)"),
    ("list<bool>", [True, False], [True, False], "array_has(c, true)"),
    ("float", 1, 1.0, "c = 1"),
]


@pytest.mark.parametrize(("kind", "sent", "kept", "where"), KINDS, ids=range(len(KINDS)))
def test_declared_kinds_go_in_and_come_out(
    sidecar: Sidecar, search: Search, kind: str, sent: Any, kept: Any, where: str
) -> None:
    rows = [{"id": "a", "vector": VECTOR, "metadata": {"c": sent}}, {"id": "null", "vector": VECTOR}]
    assert post(sidecar, rows, columns={"c": kind, "unused": "date"})[1]["added"] == 2
    assert search.stats("c")["columns"] == {"c": kind}
    assert post(sidecar, [{"id": n, "vector": OTHER, "metadata": {"c": sent}} for n in "ab"], on_conflict="replace")[0] == 201
    for _ in range(2):
        assert {row["id"]: row["metadata"]["c"] for row in search.rows("c")} == {"a": kept, "b": kept, "null": None}
        hits = search.query("c", Term(vector=OTHER), k=3)
        assert {hit.id: hit.metadata["c"] for hit in hits} == {"a": kept, "b": kept, "null": None}
        assert {hit.id for hit in search.query("c", Term(vector=OTHER), k=3, where=where)} == {"a", "b"}
        search.rebuild("c", wait=True)
    again = search.get("c", ["a"])[0]["metadata"]["c"]
    assert search.add("c", [Row(vector=VECTOR, metadata={"c": again})]).added == 1


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("timestamp", ["2024-05-01", "x", 5, "2024-13-01T00:00:00Z", "2024-01-01T00:00:60Z", "0001-01-01T00:00:00+14:00"]),
        ("timestamp", ["2024-05-01T12:00:00.1234567Z", "9999-12-31T23:59:59-01:00", "٢٠٢٤-05-01T12:00:00Z", ""]),
        ("date", ["2024-02-30", "20240501", 5, "2024-05-01T00:00:00Z", "0000-01-01", True]),
        ("binary", ["%%%", 5, "AAA", "é", [1]]),
        ("decimal(4,2)", ["1.234", "100", "NaN", "x", 1.5, "1e9999", True, "", "Infinity", 10**50]),
        ("uint", [-1, 2**64, 1.5, "1", True]),
        ("list<int>", [["a"], 5, [[1]], [2**63], [1.5], [True], {"a": 1}]),
        ("list<string>", [["\ud800"], "abc", [1]]),
        ("list<float>", [["1"], [float("nan")], [2**53 + 1]]),
        ("list<bool>", [[1], ["true"]]),
    ],
)  # fmt: skip
def test_values_that_arent_of_the_declared_kind(sidecar: Sidecar, search: Search, kind: str, values: list[Any]) -> None:
    rows = [{"vector": VECTOR, "metadata": {"c": value}} for value in values]
    status, answer = post(sidecar, [*rows, {"vector": VECTOR}], columns={"c": kind})
    assert (status, answer["added"], set(errors(answer))) == (201, 1, set(range(len(values))))
    assert search.stats("c")["columns"] == {}


def test_a_collection_is_made_with_kinds(search: Search) -> None:
    search.create("kinds", dimension=8, columns={"price": "decimal(10, 2)", "tags": "list<string>"})
    assert search.stats("kinds")["columns"] == {"price": "decimal(10,2)", "tags": "list<string>"}
    assert search.add("kinds", [Row(vector=VECTOR, metadata={"price": "1.25", "tags": ["a"]})]).added == 1
    search.drop("kinds")
    for columns in ({"a": "complex"}, {"a": "decimal(3,4)"}, {"_rowid": "int"}, {"a": "int", "A": "int"}):
        with pytest.raises(InvalidInput, match="column"):
            search.create("kinds", dimension=8, columns=columns)


def test_a_widening_that_was_cut_short_is_finished(sidecar: Sidecar, tmp_path: Path) -> None:
    import lancedb

    with sidecars.running(tmp_path / "cut", NOBODY) as first, first.client() as search:
        search.create("c", dimension=8)
        search.add("c", [Row(id="a", vector=VECTOR, metadata={"score": 1})])
    table = lancedb.connect(tmp_path / "cut").open_table("c")
    table.add_columns({"widened score": "cast(score as double)"})
    with sidecars.running(tmp_path / "cut", NOBODY) as again, again.client() as search:
        assert search.stats("c")["columns"] == {"score": "int"}
        assert search.add("c", [Row(id="b", vector=VECTOR, metadata={"score": 1.5})]).added == 1
        assert [row["metadata"]["score"] for row in search.rows("c")] == [1, 1.5]


def test_vectors_as_base64_and_as_numbers_are_the_same(search: Search, sidecar: Sidecar) -> None:
    vector = unit(1, 8)[0]
    rows = [{"id": "a", "vector": vector.tolist()}, {"id": "b", "vector": base64.b64encode(vector.tobytes()).decode()}]
    assert post(sidecar, rows)[0] == 201
    kept = search.get("c", ["a", "b"], vectors=True)
    np.testing.assert_array_equal(kept[0]["vector_image"], kept[1]["vector_image"])


@pytest.mark.parametrize("name", ["vector_", "my_vector", "embedding", "image_embedding", "vectors"])
@pytest.mark.parametrize("kind", ["list<float>", "list<int>"])
def test_lists_that_are_called_vectors_stay_lists(search: Search, name: str, kind: str) -> None:
    values = [[1, 2], [], None, [1, 2, 3], [None]]
    for on_conflict in ("error", "replace"):
        rows = [Row(id=str(n), vector=VECTOR, metadata={name: value}) for n, value in enumerate(values)]
        assert search.add("c", rows, on_conflict=on_conflict, columns={name: kind}).errors == {}
        assert [row["metadata"][name] for row in search.rows("c")] == values


def test_the_client_sends_what_json_has_no_type_for(search: Search) -> None:
    kinds = {"t": "timestamp", "d": "date", "y": "binary", "m": "decimal(10,2)", "l": "list<int>"}
    values = {"t": datetime(2024, 5, 1, tzinfo=timezone.utc), "d": date(2024, 5, 1), "y": b"\x00", "m": Decimal("1E+1")}
    plain = {"l": np.arange(2), "f": np.float32(0.5), "i": np.int64(3), "b": np.bool_(True)}
    rows = [Row(id="a", vector=VECTOR, metadata=values | plain), Row(image="no file"), Row(vector=["x"])]
    rows += [Row(vector=VECTOR, metadata={"s": {1}}), Row(id="b", vector=OTHER), Row(id="c", vector=[0.0] * 8)]
    outcome = search.add("c", rows, columns=kinds)
    assert (outcome.added, outcome.ids, set(outcome.errors), outcome.sent) == (2, ["a", "b"], {1, 2, 3, 5}, 6)
    assert outcome.errors[3] == "metadata s is a set: expected a string, a number or true/false"
    assert "length 0" in outcome.errors[5]
    got = search.get("c", ["a"])[0]["metadata"]
    assert got == {"t": "2024-05-01T00:00:00+00:00", "d": "2024-05-01", "y": "AA==", "m": "10.00", "l": [0, 1]} | {
        "f": 0.5,
        "i": 3,
        "b": True,
    }
    with pytest.raises(InvalidInput, match="row 0") as caught:
        search.add("c", [Row(image="no file"), Row(vector=[0.0] * 8)])
    assert set(caught.value.errors) == {0, 1}


def test_hits_of_clip_retrievals_route_have_every_kind(sidecar: Sidecar, search: Search) -> None:
    search.add("c", [Row(vector=VECTOR, metadata={"caption": b"\x00"})], columns={"caption": "binary"})
    wanted = {"modality": "image", "num_images": 1, "indice_name": "c", "embedding_input": VECTOR}
    status, hits = sidecar.ask("POST", "/knn-service", wanted)
    assert (status, hits[0]["caption"]) == (200, "AA==")


def test_rows_are_added_beside_what_a_failed_widening_left(tmp_path: Path) -> None:
    import lancedb

    from clip_search.storage.schema import About, schema
    from clip_search.storage.table import Table

    wanted = schema(About(8, ""), {"score": "int"})
    table = Table(lancedb.connect(tmp_path).create_table("c", schema=wanted))
    table._handle.raw.add_columns({"widened score": "cast(score as double)"})
    for n in range(2):
        table.append(to_arrow([NewRow(str(n), {"image": unit(1, 8)[0]}, {"score": n})], n, "", table.schema))
        table.upsert(to_arrow([NewRow("0", {"image": unit(1, 8)[0]}, {"score": n})], n, "", table.schema))
        table.widen(["score"])
        assert table.schema.field("score").type == pa.float64()
        assert not [name for name in table.schema.names if " " in name]
        table._handle.raw.add_columns({"widened score": "cast(score as double)"})
