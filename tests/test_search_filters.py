"""Filters: what is allowed means what it means to LanceDB, what isn't never reaches it."""

from __future__ import annotations

import datetime
import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
import pytest
import sidecars
from sidecars import Sidecar

from clip_client import InvalidInput
from clip_client.search import Row, Term
from clip_search.index.lance_engine import LanceEngine
from clip_search.options import IndexOptions
from clip_search.storage.filters.sql import checked
from clip_search.storage.table import Table

UTC = datetime.timezone.utc
TIMES = [datetime.datetime(2024, 5, 1, tzinfo=UTC), datetime.datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), None]
KINDS: dict[str, tuple[pa.DataType, list[Any]]] = {
    "name": (pa.string(), ["x", "O'Brien", "", "ünï", "a%b_c\\d", "naïve 🦆", 'say "hi"', "X", None]),
    "Mixed": (pa.string(), ["p", "Q", None, "x"]),
    "select": (pa.string(), ["k", None, "l"]),
    "year": (pa.int64(), [0, 1, -1, 7, 2003, 2**63 - 1, -(2**63), None]),
    "score": (pa.float64(), [0.0, -0.0, 1.5, -2.25, 1e308, -1e308, 5e-324, float("inf"), None]),
    "good": (pa.bool_(), [True, False, None]),
    "seen": (pa.timestamp("us", "UTC"), TIMES),
    "day": (pa.date32(), [datetime.date(2024, 5, 1), datetime.date(1, 1, 1), None]),
    "tags": (pa.list_(pa.string()), [["x", "y"], [], None, ["z", None]]),
    "price": (pa.decimal128(10, 2), [Decimal("1.50"), Decimal("-99.99"), None]),
    "size": (pa.uint64(), [0, 2**64 - 1, 7, None]),
    "hash": (pa.binary(), [b"ab", b"", None]),
}
ROWS = 400


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A table with every kind of column and every odd value, nulls among them."""
    draw = random.Random(0)
    columns = {name: pa.array([draw.choice(values) for _ in range(ROWS)], kind) for name, (kind, values) in KINDS.items()}
    fixed = {"id": pa.array([f"r{n}" for n in range(ROWS)]), "row": pa.array(range(ROWS))}
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(ROWS * 2, np.float32)), 2)
    more = {"has_image": pa.array([True] * ROWS), "vector_image": vectors, "thumbnail": pa.array([b"x"] * ROWS)}
    return lancedb.connect(tmp_path_factory.mktemp("raw")).create_table("raw", pa.table({**fixed, **columns, **more}))


@pytest.fixture(scope="module")
def table(raw: Any) -> Table:
    return Table(raw)


def kept(raw: Any, where: str) -> list[int]:
    """The rows that LanceDB itself keeps."""
    return sorted(raw.search().where(where).select(["row"]).limit(None).to_arrow()["row"].to_pylist())


VALUES = {
    "string": [
        "'x'",
        "'O''Brien'",
        "''",
        "'ünï'",
        "'🦆'",
        "lower(name)",
        "upper(Mixed)",
        "btrim(name)",
        "name",
        "`Mixed`",
        "MIXED",
    ],
    "number": ["0", "1", "-1", "2003", "9223372036854775807", "abs(score)", "length(name)", "round(score, 1)"],
    "integer": ["year", "YEAR", "year % 7", "year + 1", "year - 2 - 3", "2 * year + 1", "-year", "strpos(name, 'x')"],
    "float": ["score", "score / 2", "score * 1.5", "1e308", "-1.5", "score - 0.5", "cast(year as double)"],
    "pattern": ["'%x%'", "'_'", "'O''%'", "'%\\_%'", "'ü%'", "''", "'%'"],
}
CONDITIONS = [
    "good",
    "good = true",
    "good IS TRUE",
    "good IS NOT FALSE",
    "array_has(tags, 'x')",
    "array_length(tags) = 2",
    "array_has_any(tags, ['x', 'z'])",
    "seen > timestamp '2024-01-01'",
    "seen < timestamp '1970-01-01 00:00:00'",
    "date_part('year', seen) = 2024",
    "day = date '2024-05-01'",
    "price > cast('1.2' as decimal(10, 2))",
    "size = 18446744073709551615",
    "hash = X'6162'",
    "starts_with(name, 'O')",
    "contains(name, '\"')",
    "coalesce(name, 'none') = 'none'",
    "nullif(year, 1) IS NULL",
    "cast(year as string) = '7'",
    "try_cast(name as int) IS NULL",
    "left(name, 2) = 'O'''",
    "`select` = 'k'",
    "(year = 1) = true",
    "name NOT IN ('x', '', 'none')",
    "year IN (1, -1, 7)",
]


def condition(draw: random.Random, depth: int) -> str:
    """A valid filter in SQL, with as few parentheses as it may have."""
    kind = draw.randrange(9 if depth else 6)
    if kind == 0:
        return draw.choice(CONDITIONS)
    if kind == 1:
        return f"{draw.choice(VALUES['string'])} {draw.choice(['=', '!=', '<>', '<', '>='])} {draw.choice(VALUES['string'])}"
    if kind == 2:
        left, right = draw.choice(VALUES["integer"]), draw.choice(["0", "1", "-1", "2003", "year", "9223372036854775807"])
        return f"{left} {draw.choice(['=', '!=', '<', '<=', '>', '>='])} {right}"
    if kind == 3:
        return f"{draw.choice(VALUES['float'])} {draw.choice(['<', '>', '<=', '='])} {draw.choice(VALUES['float'])}"
    if kind == 4:
        word = draw.choice(["LIKE", "NOT LIKE", "ILIKE", "not ilike"])
        return f"{draw.choice(['name', 'Mixed', 'lower(name)'])} {word} {draw.choice(VALUES['pattern'])}"
    if kind == 5:
        name = draw.choice([*KINDS])
        return draw.choice(
            [f"`{name}` IS NULL", f"`{name}` is not null", "year BETWEEN 0 AND 10", "score NOT BETWEEN -1.0 AND 2"]
        )
    if kind == 6:
        return f"NOT {condition(draw, 0)}" if draw.random() < 0.5 else f"not ({condition(draw, depth - 1)})"
    joint = draw.choice(["AND", "OR", "and", "or"])
    sides = [condition(draw, depth - 1) for _ in range(draw.randint(2, 4))]
    return f" {joint} ".join(f"({side})" if draw.random() < 0.3 else side for side in sides)


@pytest.mark.parametrize("seed", range(6))
def test_filters_keep_what_lancedb_keeps(raw: Any, table: Table, seed: int) -> None:
    draw, shares = random.Random(seed), []
    for _ in range(100):
        where = condition(draw, 3)
        expected = kept(raw, where)
        assert table.matching(where).tolist() == expected, where
        shares.append(len(expected) / ROWS)
    assert 0.1 < np.mean(shares) < 0.9  # neither all nor nothing, or the comparison would show little


def test_filters_keep_the_same_with_indexes(raw: Any, table: Table, tmp_path: Path) -> None:
    copied = lancedb.connect(tmp_path).create_table("indexed", raw.to_arrow())
    for name in ("name", "year", "score"):
        copied.create_index(name, config=lancedb.index.BTree())
    draw, indexed = random.Random(9), Table(copied)
    for _ in range(60):
        where = condition(draw, 2)
        assert indexed.matching(where).tolist() == kept(copied, where), where


@pytest.mark.parametrize(
    ("where", "same"),
    [
        ("TRIM(name) = 'x'", "btrim(name) = 'x'"),
        ("trim(both 'x' from name) = ''", "btrim(name, 'x') = ''"),
        ("extract(year from seen) = 2024", "date_part('year', seen) = 2024"),
        ("substr(name, 1, 1) = 'O'", "left(name, 1) = 'O'"),
        ("floor(score) = 1", "score >= 1 AND score < 2"),
        ("name::text = 'x'", "name = 'x'"),
        ("year = -9223372036854775808", "year < -9223372036854775807"),
        ("year = +7", "year = 7"),
    ],
)
def test_what_lancedb_refuses_for_its_spelling_is_respelled(raw: Any, table: Table, where: str, same: str) -> None:
    with pytest.raises((ValueError, RuntimeError)):
        kept(raw, where)
    assert table.matching(where).tolist() == kept(raw, same) != []


def test_a_name_in_quotes_is_taken_as_written(table: Table) -> None:
    assert table.matching("\"Mixed\" = 'x'").tolist() == table.matching("mixed = 'x'").tolist() != []
    with pytest.raises(InvalidInput, match=r"No field named mixed\. .*did you mean Mixed"):
        table.matching("`mixed` = 'x'")


HUGE = "9223372036854775807"
PROGRAMS = [
    f"length(repeat('a', {HUGE})) > 1",
    "length(repeat(repeat(repeat(name, 9999), 9999), 9999)) > 1",
    f"array_length(array_repeat(1, {HUGE})) > 1",
    f"cardinality(range(0, {HUGE})) > 1",
    f"array_length(generate_series(0, {HUGE}, 1)) > 1",
    "length(lpad(name, 2147483647)) > 1",
    "rpad(name, 2147483647, 'x') = 'x'",
    "levenshtein(name, Mixed) > 1",
    f"array_length(array_resize(tags, {HUGE}, 'x')) > 1",
    "replace(name, '', 'xxxxxxxx') = 'x'",
    "regexp_replace(name, '', 'xxxxxxxx') = 'x'",
    "regexp_like(name, '(a{1000}){1000}')",
    "name ~ '(a{1000}){1000}'",
    "name SIMILAR TO 'x'",
    "concat(name, name, name) = 'x'",
    "concat_ws(name, name, name) = 'x'",
    "name || name || name = 'x'",
    "translate(name, 'x', 'y') = 'y'",
    f"to_hex({HUGE}) = 'x'",
    "array_to_string(array_repeat(name, 99999999), 'x') = 'x'",
    "array_concat(tags, tags) = tags",
    "flatten(make_array(tags)) = tags",
    "array_has_any(tags, range(0, 99999999))",
    "array_has_any(tags, array_repeat('x', 99999999))",
    "name IN (repeat('x', 99999999))",
    "name LIKE repeat('%', 99999999)",
    "name LIKE Mixed",
    "name IN (select name from raw)",
    "exists (select 1)",
    "power(10, 1e9) > 1",
    "factorial(99999999) > 1",
    "sha512(name) = 'x'",
    "random() > 0.5",
    "now() > seen",
    "uuid() = name",
    "arrow_cast(year, 'FixedSizeBinary(2147483647)') = name",
    "cast(year as decimal(500, 2)) = 1",
    "cast(year as decimal(10, -5)) = 1",
    "cast(name as char(2147483647)) = 'x'",
    "cast(seen as timestamp(99)) = seen",
    "N'x' = name",
    "name = $1",
    "name = ?",
    "name = :x",
    "{fn repeat(name, 5)} = 'x'",
    "CASE WHEN good THEN repeat('x', 99999999) END = 'x'",
    "`repeat`(name, 99999999) = 'x'",
    '"repeat"(name, 99999999) = name',
    "raw.repeat(name, 99999999) = 'x'",
    "lower(repeat(name, 99999999)) = 'x'",
    "day + 9223372036854775807 > day",
    "-seen > seen",
    "round(score, 99999999999) = 1",
    "substr(name, 1, length(name)) = 'x'",
    "left(name, year) = 'x'",
    "coalesce(" * 6 + "year" + ", 1)" * 6 + " = 1",
    "year = 1; DROP TABLE raw",
    "year = 1 UNION SELECT * FROM raw",
    "_rowid > 0",
    "_distance > 0",
    "vector_image IS NULL",
    "length(thumbnail) > 0",
    "array_length(vector_image) = 2",
    "raw.year = 1",
    "count(*) > 1",
    "sum(year) > 1",
    "row_number() OVER () = 1",
    "lower(DISTINCT name) = 'x'",
    "year = 1 = true",
    "NOT " * 500 + "good",
    "- " * 500 + "year = 1",
    "(" * 3000 + "good" + ")" * 3000,
    "[" * 3000 + "]" * 3000,
    " OR ".join(["good"] * 2500),
    " + ".join(["year"] * 1500) + " > 1",
    "year IN (" + "1," * 3999 + "1)",
    "name LIKE '" + "%a" * 500 + "'",
    "year = " + "9" * 5000,
    "score = 1e99999999",
    "score = 1e400",
    "name = 'unfinished",
    "",
    " ",
    "\0",
    "name = 'x' AND",
    "é" * 9000,
]


def test_programs_are_refused_and_nothing_is_executed(table: Table) -> None:
    for where in PROGRAMS:
        start = time.monotonic()
        with pytest.raises(InvalidInput, match=r"^filter: ") as caught:
            table.matching(where)
        assert len(str(caught.value)) < 2000, where
        assert time.monotonic() - start < 2, where


NUMBERS = [
    "1/0 = 1",
    "year / 0 = 1",
    "year % 0 = 1",
    "price / 0 = 1",
    "year / -1 = 1",
    "-9223372036854775808 / -1 = 1",
    "abs(-9223372036854775808) = 1",
    "abs(year) = 1",
    "year > 99999999999999999999",
    "year = 9223372036854775808",
    "-year = 1",
    "year * 9223372036854775807 > 1",
    "cast(name as int) = 1",
    "cast(score as int) = 1",
    "cast(year as tinyint) = 1",
    "cast(year as decimal(38, 38)) = 1",
    "cast(year as decimal(1, 0)) = 1",
    "cast(year as date) = day",
    "cast(cast(year as timestamp) as string) = ''",
    "cast(2147483647 as date) > day",
    "date_trunc('week', cast(2147483647 as date)) > day",
    "seen > timestamp '99999-01-01'",
    "day > date 'yesterday'",
    "day > date '262143-12-31'",
    "size - 1 = 18446744073709551615",
    "size = -1",
    "sqrt(score) > 1",
    "price * price * price * price * price * price > 1",
    "round(score, 20) = 1",
    "substr(name, -999999999, 999999999) = 'x'",
    "left(name, -999999999) = 'x'",
    "name = 5",
    "year = 'x'",
    "good = 1",
    "tags = 'x'",
    "name",
    "NULL",
    "array_has(name, 'x')",
    "year LIKE 'x'",
]


def answered(matching: Callable[[str], Any], where: str) -> str:
    try:
        return f"{len(matching(where))} rows"
    except InvalidInput as problem:
        return str(problem)


@pytest.mark.parametrize("where", NUMBERS)
def test_overflows_and_failing_casts_are_an_answer_or_the_clients_error(table: Table, where: str) -> None:
    assert re.match(r"\d+ rows|filter: ", answered(table.matching, where))


def test_every_way_into_the_table_checks_its_filter(raw: Any, table: Table) -> None:
    engine = LanceEngine(
        table, "image", 2, IndexOptions(engine="lancedb"), lambda count: (np.empty((0, 2), np.float32), "vectors")
    )
    ways: list[Callable[[str], Any]] = [
        table.matching,
        lambda where: table.page(where, -1, 5, ["id"]),
        lambda where: engine.search(np.ones(2, np.float32), 5, where, lambda: None),
    ]
    for way in ways:
        with pytest.raises(InvalidInput, match="the function repeat isn't allowed: allowed are abs, "):
            way("length(repeat('a', 9223372036854775807)) > 1")
        assert len(way("year = 2003 OR year = 7"))


def test_the_largest_filters_that_are_allowed_are_quick(table: Table) -> None:
    for where in (
        " OR ".join(["good"] * 399),
        " AND ".join(f"year != {n}" for n in range(130)),
        "id IN (" + ", ".join(f"'r{n}'" for n in range(900)) + ")",
        "(" * 19 + "good" + ")" * 19,
        " - ".join(["year"] * 18) + " > 1",
        " OR ".join(["coalesce(coalesce(coalesce(coalesce(year, 1), 2), 3), 4) = 1"] * 25),
        " OR ".join(["upper(lower(upper(lower(name)))) = 'x'"] * 50),
    ):
        start = time.monotonic()
        table.matching(where)
        assert time.monotonic() - start < 5, where[:50]


_CHILD = """
import json, re, resource, sys
from pathlib import Path
import lancedb
from clip_client.errors import InvalidInput
from clip_search.storage.table import Table

table = Table(lancedb.connect(sys.argv[1]).open_table("raw"))
table.matching("year = 1")
resource.setrlimit(resource.RLIMIT_DATA, (6 * 2**30,) * 2)
for where in json.load(sys.stdin):
    try:
        table.matching(where)
    except InvalidInput:
        pass
# The peak of this process alone: ru_maxrss begins with what its parent had at the fork.
print("alive", int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024)
"""


def test_a_process_of_limited_memory_outlives_all_of_them(raw: Any) -> None:
    command = [sys.executable, "-c", _CHILD, Path(raw.uri).parent if hasattr(raw, "uri") else raw._conn.uri]
    ended = subprocess.run(command, input=json.dumps(PROGRAMS + NUMBERS), capture_output=True, text=True, timeout=120)
    assert re.match(r"alive \d+$", ended.stdout.strip()), ended.stderr[-2000:]
    assert int(ended.stdout.split()[1]) < 1500  # MB
    assert "panicked" not in ended.stderr


@pytest.fixture(scope="module")
def filtered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    with sidecars.running(tmp_path_factory.mktemp("filters"), "127.0.0.1:9") as sidecar, sidecar.client() as search:
        for name in ("notes", "gone"):
            search.create(name, dimension=2)
            rows = [Row(id=f"n{n}", vector=[1, n], metadata={"name": "x", "year": n, "Score": n / 2}) for n in range(5)]
            search.add(name, rows)
        yield sidecar


def test_over_http_a_program_is_a_400_that_says_what_is_allowed(filtered: Sidecar) -> None:
    where = "length(repeat('a', 9223372036854775807)) > 1"
    path = "/v1/collections/notes"
    for method, target, body in (
        ("POST", f"{path}/search", {"vector": [1, 0], "filter": where}),
        ("POST", f"{path}/delete", {"filter": where}),
        ("GET", f"{path}/rows?filter=length(repeat(%27a%27,9223372036854775807))%3E1", None),
    ):
        status, answer = filtered.ask(method, target, body)
        assert (status, "repeat isn't allowed: allowed are abs" in answer["message"]) == (400, True), answer
    assert filtered.ask("GET", path)[1]["rows"] == 5


def test_filters_of_clients_still_work(filtered: Sidecar) -> None:
    with filtered.client() as search:
        assert {hit.id for hit in search.query("notes", Term(vector=[1, 0]), where="score >= 1 AND NOT year = 3")} == {
            "n2",
            "n4",
        }
        assert [row["id"] for row in search.rows("notes", where="name = 'x' AND Score < 1")] == ["n0", "n1"]
        assert search.delete("gone", where="year IN (0, 4) OR name IS NULL") == 2
        assert search.stats("gone")["rows"] == 3


def test_a_bad_filter_among_deletions_fails_alone(filtered: Sidecar, tmp_path: Path) -> None:
    assert filtered.ask("POST", "/v1/collections/notes/delete", {"filter": "yeer = 1"})[1]["message"].endswith(
        "did you mean year?"
    )
    assert filtered.ask("POST", "/v1/collections/notes/delete", {"filter": "year = 1 / 0"})[0] == 400
    assert filtered.ask("GET", "/v1/collections/notes")[1]["rows"] == 5


def test_what_is_executed_is_written_from_the_checked_tree(table: Table) -> None:
    assert checked("Name='x'/* or */--' or year>1", table.schema) == "`name` = 'x'"
    assert checked("not(YEAR>1)or(good)", table.schema) == "(NOT (`year` > 1)) OR `good`"
