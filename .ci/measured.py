"""Figures that benches wrote beside docs/benchmarks.md, read from their files."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from documents import ROOT

BENCHMARKS = ROOT / "docs" / "benchmarks"

Row = Mapping[str, Any]


def cell(bench: str, table: str, row: tuple[object, ...], column: str) -> float:
    """Return a figure of a bench: of the table whose first column is so called, the row that begins so, and a column."""
    for values in rows(bench, table):
        if (*values.values(),)[: len(row)] == row:
            return float(values[column])
    sys.exit(f"docs/benchmarks/{bench}.json has no row {row} in the table {table!r}: take its figures out of the documents")


def rows(bench: str, table: str) -> list[Row]:
    """Return the rows of a bench's table, each by column."""
    tables = [entry for entry in content(BENCHMARKS / f"{bench}.json")["tables"] if entry["columns"][0] == table]
    return [dict(zip(entry["columns"], values, strict=True)) for entry in tables for values in entry["rows"]]


@cache
def content(path: Path) -> Any:
    """Return the content of a file of figures."""
    return json.loads(path.read_text(encoding="utf-8"))


def of_each(choose: Callable[[list[float]], float], bench: str, table: str, column: str) -> float:
    """Return the least or the most of a column."""
    return choose([float(row[column]) for row in rows(bench, table)])
