"""Filters over columns with nulls keep the rows that SQLite keeps, also where LanceDB's own optimiser doesn't."""

from __future__ import annotations

import itertools
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import lancedb
import pyarrow as pa
import pytest

from clip_client.errors import InvalidInput
from clip_search.storage.filters.sql import checked

_COLUMNS: dict[str, tuple] = {
    "n": (None, 1, 2, 3, 5),
    "s": (None, "a", "b", "c"),
    "f": (None, 1.0, 2.5),
    "b": (None, True, False),
}
_LITERALS = {"n": ("1", "2", "3", "4", "5"), "s": ("'a'", "'b'", "'c'", "'d'"), "f": ("1.0", "2.5", "3.5")}


class Both:
    """All combinations of values in a table of LanceDB's and in one of SQLite's."""

    def __init__(self, folder: Path) -> None:
        rows = list(itertools.product(*_COLUMNS.values()))
        kinds = [pa.int64(), pa.string(), pa.float64(), pa.bool_()]
        columns = {
            name: pa.array(column, kind) for name, column, kind in zip(_COLUMNS, zip(*rows, strict=True), kinds, strict=True)
        }
        self.lance = lancedb.connect(folder).create_table("t", pa.table({"id": range(len(rows)), **columns}))
        self.sqlite = sqlite3.connect(":memory:")
        self.sqlite.execute("CREATE TABLE t (id, n, s, f, b)")
        self.sqlite.executemany("INSERT INTO t VALUES (?, ?, ?, ?, ?)", [(id, *row) for id, row in enumerate(rows)])

    def expected(self, where: str) -> set[int]:
        return {id for (id,) in self.sqlite.execute(f"SELECT id FROM t WHERE {where}")}

    def raw(self, where: str) -> set[int]:
        return {row["id"] for row in self.lance.search().where(where).select(["id"]).limit(1000).to_list()}

    def found(self, where: str) -> set[int]:
        return self.raw(checked(where, self.lance.schema))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    made = Both(tmp_path_factory.mktemp("nulls"))
    yield made
    made.sqlite.close()


MERGED = [
    "NOT (n IN (1, 2) AND n IN (3, 4))",
    "n NOT IN (2) OR n NOT IN (4)",
    "(n NOT IN (4, 4, 1, 5)) OR (n NOT IN (7, 3)) OR n NOT IN (8)",
    "NOT (n IN (1) AND NOT (n IN (1)))",
    "NOT ((n = 2 OR n = 5) AND (n = 4 OR n = 6))",
    "NOT ((2 = n OR 5 = n OR 1 = n OR n = 8) AND (n = 4 OR n = 6 OR n = 7 OR n = 9))",
    "((n IN (1) AND n IN (2)) IS FALSE)",
    "NOT (lower(s) IN ('a') AND lower(s) IN ('b'))",
    "(n IN (1) AND n IN (2)) IS NULL",
    "coalesce(n IN (1) AND n IN (2), b)",
    "(n IN (1, 2) AND n IN (3)) = b",
    "NOT NOT ((n != 2 AND n != 5) OR (n != 4 AND n != 6))",
]


@pytest.mark.parametrize("where", MERGED)
def test_lists_that_exclude_each_other_say_nothing_of_a_null(both: Both, where: str) -> None:
    assert both.found(where) == both.expected(where)


def test_lance_itself_has_it_otherwise(both: Both) -> None:
    """Once this fails, ``filter_nulls`` can go."""
    assert any(both.raw(where) != both.expected(where) for where in MERGED)


def test_generated_filters_keep_what_sqlite_keeps(both: Both) -> None:
    draw = random.Random(7)
    shares = []
    for _ in range(600):
        where = condition(draw, draw.choice((1, 2, 2, 3)))
        found = both.found(where)
        assert found == both.expected(where), where
        shares.append(len(found))
    assert len(set(shares)) > 40  # neither all nor nothing


def test_too_many_lists_are_refused(both: Both) -> None:
    lists = " AND ".join(f"n NOT IN ({n}, {n + 1})" for n in range(33))
    with pytest.raises(
        InvalidInput, match="`n` is compared with more than 32 lists of values below a NOT: put the values into"
    ):
        both.found(lists)
    many = " AND ".join(f"n != {n}" for n in range(3, 100))
    assert both.found(f"NOT b AND {many}") == both.expected(f"NOT b AND {many}")


def condition(draw: random.Random, depth: int) -> str:
    kind = draw.randrange(4) if depth else 0
    if kind == 0:
        return comparison(draw)
    if kind == 1:
        return f"NOT ({condition(draw, depth - 1)})"
    return f"({condition(draw, depth - 1)}) {draw.choice(('AND', 'OR'))} ({condition(draw, depth - 1)})"


def comparison(draw: random.Random) -> str:
    column, maybe = draw.choice("nsf"), draw.choice(("", "NOT "))
    values = [draw.choice(_LITERALS[column]) for _ in range(draw.randint(1, 4))]
    joint, equal = draw.choice((("OR", "="), ("AND", "!=")))
    return draw.choice(
        (
            f"{column} {draw.choice(('=', '!=', '<', '<=', '>', '>='))} {values[0]}",
            f"{column} {maybe}IN ({', '.join(values)})",
            "(" + f" {joint} ".join(f"{column} {equal} {value}" for value in values) + ")",
            f"{column} {maybe}BETWEEN {values[0]} AND {values[-1]}",
            f"{column} IS {maybe}NULL",
            f"s {maybe}LIKE {draw.choice(('%', 'a%', '_', '%b'))!r}",
            draw.choice(("b", "b = true", "b IS TRUE", "b IS NOT TRUE", "b IS FALSE", "n = n", "s = s")),
        )
    )
