"""Filters of clients: checked, and written anew as the SQL that LanceDB executes.

A filter in LanceDB is DataFusion's SQL with all its functions, some of which allocate what they are told to. Here it is parsed,
every part of it must be one that is known to be cheap, and only SQL made from the checked tree is executed.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pyarrow as pa
from sqlglot import exp

from clip_client.errors import InvalidInput
from clip_search.storage.filters.grammar import MAX_DEPTH, too_deep, tree
from clip_search.storage.filters.nulls import Lists
from clip_search.storage.filters.values import Values, bare, only, quoted, refused, shown

_MAX_TERMS = 400
"""Columns, values and operations: a chain of 1,000 fits the stack of LanceDB's threads, one of 2,000 ends the process."""
_MAX_PATTERN = 256  # characters; matching takes time in proportion

_MOST_HINTED = 60  # characters
_WORDS = re.compile(r"[\w.-]+( [\w.-]+){0,9}")
_LOGICAL = re.compile(r"\b(and|or|not|is|in|like|ilike|between|null|true|false)\b", re.I)

_OPERATIONS: dict[type[exp.Expr], str] = {
    **{exp.EQ: "=", exp.NEQ: "!=", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">="},
    **{exp.Add: "+", exp.Sub: "-", exp.Mul: "*", exp.Div: "/", exp.Mod: "%"},
}
_ARITHMETIC = (exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod, exp.Neg)
_LOGIC: dict[type[exp.Expr], str] = {exp.And: " AND ", exp.Or: " OR "}
_ATOMS = (exp.Column, exp.Literal, exp.Boolean, exp.Null, exp.Anonymous, exp.Cast, exp.HexString, exp.Trim, exp.Extract)
_LOOSE = (*_OPERATIONS, exp.Is, exp.Like, exp.ILike, exp.In, exp.Between, exp.Escape, exp.Not, exp.And, exp.Or)
"""Nodes that bind no tighter than a comparison: inside one they need parentheses, since dialects disagree without."""


@lru_cache(1024)
def checked(where: str, schema: pa.Schema) -> str:
    """Return SQL for LanceDB that means what a client's filter over the columns of a table means.

    Raises:
        InvalidInput: the filter can't be read, uses what isn't allowed, names no column, or is too large.
    """
    try:
        return _Writer(schema).sql(tree(where))
    except InvalidInput as problem:
        raise InvalidInput(f"{problem}{_hint(where)}") from problem


def _hint(where: str) -> str:
    """Return the condition that is meant by bare words, which people type as into a search box; empty for anything else."""
    words = where.strip()
    if len(words) > _MOST_HINTED or not _WORDS.fullmatch(words) or _LOGICAL.search(words):
        return ""
    return f"; to look for words in names: id ILIKE '%{words}%'"


class _Writer(Values):
    """One filter on its way back to SQL; every kind of node has a method, and what has none is refused."""

    def __init__(self, schema: pa.Schema) -> None:
        super().__init__(schema)
        self._lists = Lists()

    def sql(self, node: exp.Expr, depth: int = 0) -> str:
        """Return the SQL of a node and all below it."""
        if isinstance(node, exp.Paren):
            return self.sql(only(node, "this").this, depth)
        self.terms += 1
        if self.terms > _MAX_TERMS:
            raise InvalidInput(
                f"filter: its characters hold more than {_MAX_TERMS} terms: expected fewer, e.g. id IN ('a', 'b', …)"
            )
        if depth > MAX_DEPTH:
            raise too_deep()
        if isinstance(node, (*_OPERATIONS, *_LOGIC)):
            return self._operation(node, depth)
        write = _WRITERS.get(type(node))
        if write is None:
            raise refused(node)
        return write(self, node, depth)

    def _inner(self, node: exp.Expr, depth: int) -> str:
        """Return the SQL of an operand, in parentheses unless it is an atom."""
        text = self.sql(node, depth + 1)
        return text if isinstance(bare(node), _ATOMS) else f"({text})"

    def _operand(self, node: exp.Expr, depth: int) -> str:
        """Return the SQL of an operand; refuse what would be ambiguous as a condition without parentheses of the client's."""
        if isinstance(node, _LOOSE) and not isinstance(node, _ARITHMETIC):
            raise InvalidInput(f"filter: {shown(node)} is part of another comparison: put it in parentheses")
        return self._inner(node, depth)

    def _operation(self, node: exp.Expr, depth: int) -> str:
        if isinstance(node, exp.And | exp.Or):
            return _LOGIC[type(node)].join(self._inner(operand, depth) for operand in _flat(node, type(node)))
        only(node, "this", "expression", "typed", "safe")
        if isinstance(node, _ARITHMETIC):
            self._check_numbers(node)
        left, right = (self._operand(side, depth) for side in (node.this, node.expression))
        left, right = (right, left) if isinstance(node, exp.EQ | exp.NEQ) and _is_value(node.this) else (left, right)
        left = self._lists.apart(left, node)
        return f"{left} {_OPERATIONS[type(node)]} {right}"

    def _check_numbers(self, node: exp.Expr) -> None:
        """Refuse arithmetic with dates: DataFusion's ends in errors of its own."""
        for operand in (node.this, node.args.get("expression")):
            operand = bare(operand)
            dated = isinstance(operand, exp.Cast) and operand.to.this.value in ("DATE", "TIMESTAMP")
            dated |= isinstance(operand, exp.Anonymous) and operand.name.lower() == "date_trunc"
            if isinstance(operand, exp.Column):
                kind = self.schema.field(self.name(operand)).type
                dated = not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))
            if dated:
                raise InvalidInput(f"filter: {shown(operand)} isn't a number, as {shown(node)} wants: compare it instead")

    def _not(self, node: exp.Expr, depth: int) -> str:
        inner = bare(only(node, "this").this)
        if isinstance(inner, exp.Is | exp.In | exp.Between | exp.Like | exp.ILike | exp.Escape):
            return self._condition(inner, depth, negated=True)
        return f"NOT {self._inner(inner, depth)}"

    def _condition(self, node: exp.Expr, depth: int, negated: bool = False) -> str:
        writers: dict[type[exp.Expr], Callable[[exp.Expr, int, bool], str]]
        writers = {exp.Is: self._is, exp.In: self._in, exp.Between: self._between}
        return writers.get(type(node), self._like)(node, depth, negated)

    def _is(self, node: exp.Expr, depth: int, negated: bool) -> str:
        what = only(node, "this", "expression").expression
        if not isinstance(what, exp.Null | exp.Boolean):
            raise refused(node)
        return f"{self._operand(node.this, depth)} IS {'NOT ' if negated else ''}{what.sql().upper()}"

    def _in(self, node: exp.Expr, depth: int, negated: bool) -> str:
        values = only(node, "this", "expressions").expressions
        operand = self._lists.apart(self._operand(node.this, depth), node)
        return f"{operand} {'NOT ' if negated else ''}IN ({self.literals(values)})"

    def _between(self, node: exp.Expr, depth: int, negated: bool) -> str:
        only(node, "this", "low", "high")
        value, low, high = (self._operand(node.args[name], depth) for name in ("this", "low", "high"))
        return f"{value} {'NOT ' if negated else ''}BETWEEN {low} AND {high}"

    def _like(self, node: exp.Expr, depth: int, negated: bool) -> str:
        like, escape = node, ""
        if isinstance(node, exp.Escape):
            like, escape = node.this, " ESCAPE '\\'"
            if not isinstance(like, exp.Like | exp.ILike) or node.expression.args.get("this") != "\\":
                raise InvalidInput("filter: ESCAPE can't have another sign than '\\': write e.g. LIKE '100\\%'")
        pattern = only(like, "this", "expression", "negate").expression
        if not isinstance(pattern, exp.Literal) or not pattern.is_string or len(pattern.this) > _MAX_PATTERN:
            raise InvalidInput(f"filter: {shown(like)}: the pattern must be a string of at most {_MAX_PATTERN} characters")
        word = "ILIKE" if isinstance(like, exp.ILike) else "LIKE"
        negated ^= bool(like.args.get("negate"))
        return f"{self._operand(like.this, depth)} {'NOT ' if negated else ''}{word} {quoted(pattern.this)}{escape}"

    def _negative(self, node: exp.Expr, depth: int) -> str:
        value = only(node, "this").this
        if isinstance(value, exp.Literal) and not value.is_string:
            return self.number(value, "-")
        self._check_numbers(node)
        return f"-{self._inner(value, depth)}"


_Write = Callable[[_Writer, Any, int], str]
_WRITERS: dict[type[exp.Expr], _Write] = {
    exp.Not: _Writer._not,
    **dict.fromkeys((exp.Is, exp.In, exp.Between, exp.Like, exp.ILike, exp.Escape), _Writer._condition),
    exp.Neg: _Writer._negative,
    exp.Column: _Writer.column,
    exp.Literal: _Writer.literal,
    exp.HexString: _Writer.hex,
    **dict.fromkeys((exp.Boolean, exp.Null), _Writer.word),
    **dict.fromkeys((exp.Cast, exp.TryCast), _Writer.cast),
    exp.Trim: _Writer.trim,
    exp.Extract: _Writer.extract,
    exp.Anonymous: _Writer.function,
}


def _is_value(node: exp.Expr) -> bool:
    return isinstance(bare(node), exp.Literal | exp.Boolean | exp.Neg)


def _flat(node: exp.Expr, kind: type[exp.Expr]) -> list[exp.Expr]:
    """Operands of a chain of one operator, in order."""
    waiting, operands = [node], list[exp.Expr]()
    while waiting:
        current = waiting.pop()
        if isinstance(current, kind):
            waiting += [current.args["expression"], current.this]
        else:
            operands.append(current)
    return operands
