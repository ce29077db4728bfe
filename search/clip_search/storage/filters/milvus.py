"""Filters that mean the same in Milvus: comparisons of plain columns with plain values, joined by AND and OR.

There is no NOT, so it makes no difference that a missing value is false in Milvus and unknown in SQL. All other filters are
answered by the table.
"""

import math
from typing import Any

import pyarrow as pa
from sqlglot import exp

from clip_client.errors import InvalidInput
from clip_search.storage.filters.grammar import tree
from clip_search.storage.filters.values import Values, bare
from clip_search.storage.kinds import EXACT
from clip_search.storage.schema import own_columns

LONGEST = 256
"""Characters of a string up to which Milvus has it; equal to one that is longer is none of these."""
HIGHEST = 1e300
"""Number up to which Milvus has it as it is: what is beyond, or isn't a number, is told by :func:`stored`."""

_COMPARED: dict[type[exp.Expr], str] = {exp.EQ: "==", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">="}
_JOINED: dict[type[exp.Expr], str] = {exp.And: "and", exp.Or: "or"}
_KINDS = ("int", "float", "bool", "string")


class _Elsewhere(Exception):
    """A part of a filter that may mean something else in Milvus."""


def milvus_filter(where: str, schema: pa.Schema) -> str | None:
    """Return a client's filter as an expression of Milvus; None if it may not mean the same there."""
    try:
        return _Expression(schema).sql(tree(where))
    except (_Elsewhere, InvalidInput, RecursionError):
        return None  # the table says what is wrong with it


def filterable(schema: pa.Schema) -> list[str]:
    """Return the columns of a table that :func:`milvus_filter` may use."""
    return [name for name, kind in own_columns(schema).items() if kind in _KINDS]


def stored(value: Any) -> Any:
    """Return a value as Milvus has it; None if it hasn't."""
    if isinstance(value, float):
        is_high = math.isnan(value) or value > HIGHEST  # DataFusion orders NaN behind all numbers
        return 2 * HIGHEST if is_high else max(value, -2 * HIGHEST)
    return None if isinstance(value, str) and len(value) > LONGEST else value


class _Expression(Values):
    """One filter on its way to an expression."""

    def sql(self, node: exp.Expr, depth: int = 0) -> str:
        """Return the expression of a condition and all below it."""
        node = bare(node)
        if isinstance(node, exp.And | exp.Or):
            return f"({self.sql(node.this)} {_JOINED[type(node)]} {self.sql(node.expression)})"
        if isinstance(node, exp.Between):
            low, high = (self._value(node.this, node.args[name]) for name in ("low", "high"))
            return f"({self._key(node.this)} >= {low} and {self._key(node.this)} <= {high})"
        if isinstance(node, exp.In) and node.expressions:
            values = ", ".join(self._value(node.this, value) for value in node.expressions)
            return f"{self._key(node.this)} in [{values}]"
        if type(node) not in _COMPARED or (self._kind(node.this) in ("string", "bool") and not isinstance(node, exp.EQ)):
            raise _Elsewhere
        return f"{self._key(node.this)} {_COMPARED[type(node)]} {self._value(node.this, node.expression)}"

    def _key(self, column: exp.Expr) -> str:
        return f'$meta["{self.name(bare(column))}"]'

    def _kind(self, column: exp.Expr) -> str:
        column = bare(column)
        kind = own_columns(self.schema).get(self.name(column), "") if isinstance(column, exp.Column) else ""
        if kind not in _KINDS:
            raise _Elsewhere
        return kind

    def _value(self, column: exp.Expr, node: exp.Expr) -> str:  # type: ignore[override]
        kind, node = self._kind(column), bare(node)
        sign = "-" if isinstance(node, exp.Neg) else ""
        node = bare(node.this) if sign else node
        if kind == "bool" and isinstance(node, exp.Boolean) and not sign:
            return "true" if node.this else "false"
        if not isinstance(node, exp.Literal):
            raise _Elsewhere
        written = str(node.this)
        if kind == "string" and node.is_string and not sign and _is_plain(written):
            return f'"{written}"'
        if kind == "int" and not node.is_string and written.isdecimal() and int(written) < EXACT:
            return sign + written
        if kind == "float" and not node.is_string and float(written) < HIGHEST:
            return sign + repr(float(written))
        raise _Elsewhere


def _is_plain(text: str) -> bool:
    return len(text) <= LONGEST and text.isascii() and text.isprintable() and not set('"\\') & set(text)
