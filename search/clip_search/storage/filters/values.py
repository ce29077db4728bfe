"""Values in a filter of a client: columns, literals, casts and function calls, checked and written as SQL."""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
from sqlglot import exp
from sqlglot.errors import SqlglotError

from clip_client.errors import InvalidInput
from clip_search.storage.filters.grammar import ALLOWED, FUNCTIONS, PARTS, TYPES, Function
from clip_search.storage.schema import HEAVY, unknown_column

_MAX_NESTED = 4  # function in function: DataFusion doubles a COALESCE for each one around it
_MAX_LIST = 2_000
_MAX_ARGUMENT = 1_024  # repeated for each row of a batch
_MAX_DIGITS = 64  # more than any number of 64 bits needs
_NUMBER = re.compile(r"\d+(\.\d*)?([eE][+-]?\d{1,4})?")


class Values(ABC):
    """Writer of the values of one filter over a table's columns; conditions are its subclass's."""

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self._names = [name for name in schema.names if name not in HEAVY]
        self.terms = 0
        self._nested = 0

    @abstractmethod
    def sql(self, node: exp.Expr, depth: int = 0) -> str:
        """Return the SQL of a node and all below it."""

    def column(self, node: exp.Expr, depth: int) -> str:
        """Return the SQL of a column."""
        return f"`{self.name(node)}`"

    def name(self, node: exp.Expr) -> str:
        """Return the name in the table of a column that a filter names; without quotes in any case."""
        name = str(node.this.this) if isinstance(node.this, exp.Identifier) else node.sql()
        same = [known for known in self._names if known.lower() == name.lower() and not node.this.args.get("quoted")]
        known = name if name in self._names else same[0] if len(same) == 1 else None
        if known is None or "`" in known or len([part for part in node.args.values() if part]) > 1:
            raise self._unknown(node.sql(identify=False) if known else name)
        return known

    def _unknown(self, name: str) -> InvalidInput:
        if name in HEAVY:
            return InvalidInput(f"filter: column {name} can't be used in a filter: use has_image, has_text or has_thumbnail")
        return InvalidInput(f"filter: {unknown_column(name, self.schema)}")

    def literal(self, node: exp.Expr, depth: int) -> str:
        """Return the SQL of a string or a number."""
        return quoted(str(node.this)) if node.is_string else self.number(node)

    def number(self, node: exp.Expr, sign: str = "") -> str:
        """Return the SQL of a number of 64 bits, with its sign."""
        text = str(node.this)
        if not _NUMBER.fullmatch(text) or len(text) > _MAX_DIGITS or not math.isfinite(float(text)):
            raise InvalidInput(f"filter: {sign}{text[:80]} isn't a number of 64 bits: expected e.g. 12, 1.5 or 1e-3")
        if sign and text == str(2**63):
            return f"CAST('{sign}{text}' AS bigint)"  # its positive half is none
        return f"{sign}{text}"

    def hex(self, node: exp.Expr, depth: int) -> str:
        """Return the SQL of binary, ``X'00FF'``."""
        text = str(node.this)
        if len(text) % 2 or not re.fullmatch("[0-9A-Fa-f]*", text):
            raise InvalidInput(f"filter: X'{text[:80]}' isn't hexadecimal: expected two digits for each byte")
        return f"X'{text}'"

    def word(self, node: exp.Expr, depth: int) -> str:
        """Return the SQL of TRUE, FALSE or NULL."""
        return node.sql().upper()

    def cast(self, node: exp.Expr, depth: int) -> str:
        """Return the SQL of a cast, or of ``date '2024-05-01'``, which is one."""
        only(node, "this", "to", "safe")
        word = "TRY_CAST" if isinstance(node, exp.TryCast) else "CAST"
        return f"{word}({self.sql(node.this, depth + 1)} AS {_type(node.args['to'])})"

    def trim(self, node: exp.Expr, depth: int) -> str:
        """Return the SQL of ``TRIM(BOTH 'x' FROM column)``."""
        only(node, "this", "expression", "position")
        name = {"LEADING": "ltrim", "TRAILING": "rtrim"}.get(str(node.args.get("position") or ""), "btrim")
        return self._called(FUNCTIONS[name], [part for part in (node.this, node.args.get("expression")) if part], depth)

    def extract(self, node: exp.Expr, depth: int) -> str:
        """Return the SQL of ``EXTRACT(YEAR FROM column)``."""
        only(node, "this", "expression")
        return self._called(FUNCTIONS["date_part"], [exp.Literal.string(node.this.name), node.expression], depth)

    def function(self, node: exp.Expr, depth: int) -> str:
        """Return the SQL of a call."""
        function = FUNCTIONS.get(str(node.this).lower())
        if function is None:
            near = ", ".join(sorted(FUNCTIONS))
            raise InvalidInput(f"filter: the function {str(node.this)[:80]} isn't allowed: allowed are {near}")
        return self._called(function, only(node, "this", "expressions").expressions, depth)

    def _called(self, function: Function, arguments: Sequence[exp.Expr], depth: int) -> str:
        most = len(function.arguments)
        if not most - function.optional <= len(arguments) <= most:
            least = most - function.optional
            raise InvalidInput(f"filter: {function.name} has {len(arguments)} arguments: expected {least} to {most}")
        self._nested += 1
        if self._nested > _MAX_NESTED:
            raise InvalidInput(
                f"filter: {function.name} is in {_MAX_NESTED} other functions: expected {_MAX_NESTED} levels at most"
            )
        kinds = zip(arguments, function.arguments, strict=False)
        written = [_ARGUMENTS[kind](self, function.name, bare(argument), depth) for argument, kind in kinds]
        self._nested -= 1
        return f"`{function.name}`({', '.join(written)})"  # quoted: Lance refuses some of the names as keywords

    def _value(self, name: str, node: exp.Expr, depth: int) -> str:
        if isinstance(node, exp.Literal) and node.is_string and len(node.this) > _MAX_ARGUMENT:
            raise InvalidInput(
                f"filter: {name} has a string of {len(node.this):,} characters: expected at most {_MAX_ARGUMENT:,}"
            )
        return self.sql(node, depth + 1)

    def _string(self, name: str, node: exp.Expr, depth: int) -> str:
        if not isinstance(node, exp.Literal) or not node.is_string:
            raise InvalidInput(f"filter: {name} wants a string, got {shown(node)}")
        return self._value(name, node, depth)

    def _whole(self, name: str, node: exp.Expr, depth: int) -> str:
        text = self.sql(node, depth + 1)
        if not re.fullmatch(r"-?\d{1,9}", text):
            raise InvalidInput(f"filter: {name} wants a whole number, got {shown(node)}")
        return text

    def _precision(self, name: str, node: exp.Expr, depth: int) -> str:
        text = self._whole(name, node, depth)
        if abs(int(text)) > 20:
            raise InvalidInput(f"filter: {name} to {text} digits: expected -20 to 20")
        return text

    def _part(self, name: str, node: exp.Expr, depth: int) -> str:
        part = str(node.this).lower() if isinstance(node, exp.Literal) else shown(node)
        if part not in PARTS:
            raise InvalidInput(f"filter: {name} of {part[:80]!r}: expected one of {', '.join(PARTS)}")
        return quoted(part)

    def _array(self, name: str, node: exp.Expr, depth: int) -> str:
        made = isinstance(node, exp.Array) or (isinstance(node, exp.Anonymous) and str(node.this).lower() == "make_array")
        if not made or not node.expressions:
            raise InvalidInput(f"filter: {name} wants a list, got {shown(node)}: write e.g. ['a', 'b']")
        return f"make_array({self.literals(node.expressions)})"

    def literals(self, values: Sequence[exp.Expr]) -> str:
        """Return the SQL of a list of literals, which are no terms."""
        if not 0 < len(values) <= _MAX_LIST:
            raise InvalidInput(f"filter: a list has {len(values):,} values: expected 1 to {_MAX_LIST:,}")
        terms, written = self.terms, []
        for value in map(bare, values):
            inner = value.this if isinstance(value, exp.Neg | exp.Cast) else value
            if not isinstance(inner, exp.Literal | exp.Boolean | exp.Null | exp.HexString):
                raise InvalidInput(
                    f"filter: {shown(value)} is in a list: expected numbers, strings, dates, true, false or NULL"
                )
            self.terms = terms
            written.append(self.sql(value))
        return ", ".join(written)


_ARGUMENTS: dict[str, Callable[[Values, str, Any, int], str]] = {
    "value": Values._value,
    "literal": Values._string,
    "whole": Values._whole,
    "precision": Values._precision,
    "part": Values._part,
    "array": Values._array,
}


def _type(kind: exp.Expr) -> str:
    name = getattr(kind.this, "value", "") if isinstance(kind, exp.DataType) else ""
    sizes = [str(size.this.this) for size in kind.expressions if isinstance(size, exp.DataTypeParam)]
    if name == "DECIMAL":
        return f"decimal({', '.join(_decimal(sizes))})"
    if name not in TYPES or kind.expressions:
        raise InvalidInput(
            f"filter: a cast to {kind.sql()[:80]} isn't allowed: allowed are {', '.join(sorted(set(TYPES.values())))}"
        )
    return TYPES[name]


def _decimal(sizes: Sequence[str]) -> Sequence[str]:
    if len(sizes) != 2 or not all(size.isdecimal() for size in sizes) or not int(sizes[1]) <= int(sizes[0]) <= 38:
        raise InvalidInput(f"filter: decimal({', '.join(sizes)[:80]}) isn't a type: expected e.g. decimal(38, 10)")
    return sizes


def bare(node: Any) -> Any:
    """Return a node without the parentheses around it."""
    while isinstance(node, exp.Paren):
        node = node.this
    return node


def quoted(text: str) -> str:
    """Return a string literal."""
    return "'" + text.replace("'", "''") + "'"


def shown(node: exp.Expr) -> str:
    """Return the beginning of a node, for a message."""
    try:
        return node.sql()[:80]
    except (SqlglotError, RecursionError, ValueError):  # what its writer doesn't expect of a tree that is refused
        return type(node).__name__


def refused(node: exp.Expr) -> InvalidInput:
    """Return the error of a node that has no place in a filter."""
    return InvalidInput(f"filter: {shown(node)} ({type(node).__name__}) isn't allowed: allowed are {ALLOWED}")


def only(node: exp.Expr, *names: str) -> exp.Expr:
    """Return the node, if nothing else is set of it."""
    if any(value for name, value in node.args.items() if name not in names):
        raise refused(node)
    return node
