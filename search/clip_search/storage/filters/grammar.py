"""Syntax of filters, read by sqlglot, and the functions and types that a filter may use."""

import logging
from dataclasses import dataclass
from typing import Literal

from sqlglot import exp, parser, tokens
from sqlglot.dialects.dialect import Dialect
from sqlglot.tokenizer_core import Token, TokenType

from clip_client.errors import InvalidInput

_MAX_CHARACTERS = 8_192  # a list of some hundred ids fits
MAX_DEPTH = 20  # nested parentheses and operations; DataFusion's own parser stops at 50
_MAX_TOKENS = 4_000

ALLOWED = (
    "comparisons, AND, OR, NOT, LIKE, ILIKE, IN, BETWEEN, IS NULL, IS TRUE, + - * / %, CAST, TRY_CAST, and functions that "
    "docs/search.md lists"
)

Kind = Literal["value", "literal", "whole", "part", "precision", "array"]
"""Kind of an argument: any expression, a string, a whole number, a part of a date, or a list of literals."""


@dataclass(frozen=True)
class Function:
    """A function that may be called: its name in DataFusion, and its arguments."""

    name: str
    arguments: tuple[Kind, ...]
    optional: int = 0


def _each(names: str, *arguments: Kind, optional: int = 0) -> dict[str, Function]:
    return {name: Function(name, arguments, optional) for name in names.split()}


_EIGHT: tuple[Kind, ...] = ("value",) * 8
# Nothing here gives more than it takes, and nothing takes longer than one look at each value.
FUNCTIONS: dict[str, Function] = {
    **_each("lower upper length char_length character_length octet_length", "value"),
    **_each("trim btrim ltrim rtrim", "value", "literal", optional=1),
    **_each("starts_with ends_with contains strpos nullif array_has array_contains list_has list_contains", "value", "value"),
    **_each("left right", "value", "whole"),
    **_each("substr", "value", "whole", "whole", optional=1),
    "substring": Function("substr", ("value", "whole", "whole"), 1),
    **_each("abs floor ceil sqrt isnan array_length cardinality", "value"),
    "ceiling": Function("ceil", ("value",)),
    **_each("round trunc", "value", "precision", optional=1),
    **_each("coalesce greatest least", *_EIGHT, optional=7),
    **_each("date_part date_trunc", "part", "value"),
    **_each("array_has_any array_has_all", "value", "array"),
}
PARTS = (
    *("year", "quarter", "month", "week", "day", "dow", "doy", "hour", "minute", "second"),
    *("millisecond", "microsecond", "epoch"),
)

_PLAIN_TYPES = "TINYINT SMALLINT INT BIGINT FLOAT DOUBLE BOOLEAN DATE TIMESTAMP DECIMAL BINARY"
TYPES: dict[str, str] = {
    **{name: name.lower() for name in _PLAIN_TYPES.split()},
    **{f"U{name}": f"{name.lower()} unsigned" for name in ("TINYINT", "SMALLINT", "INT", "BIGINT")},
    **{"TEXT": "string", "VARCHAR": "string", "VARBINARY": "binary"},
}
"""sqlglot's name of a type -> Lance's."""

_WORDS = {
    *("AND", "OR", "NOT", "LIKE", "ILIKE", "IN", "BETWEEN", "IS", "NULL", "TRUE", "FALSE", "ESCAPE", "AS", "FROM"),
    *("TINYINT", "SMALLINT", "INT", "INTEGER", "BIGINT", "FLOAT", "REAL", "DOUBLE", "DOUBLE PRECISION", "BOOLEAN", "DATE"),
    *("TIMESTAMP", "STRING", "TEXT", "VARCHAR", "DECIMAL", "NUMERIC", "BINARY", "VARBINARY", "UNSIGNED"),
    *("TINYINT UNSIGNED", "SMALLINT UNSIGNED", "INT UNSIGNED", "BIGINT UNSIGNED"),
}


class _Filters(Dialect):
    """As much of SQL as a filter needs; every other word is a column."""

    class Tokenizer(tokens.Tokenizer):
        IDENTIFIERS = ['"', "`"]  # noqa: RUF012  (sqlglot's)
        HEX_STRINGS = [("X'", "'"), ("x'", "'")]  # noqa: RUF012
        KEYWORDS = {  # noqa: RUF012
            **{word: kind for word, kind in tokens.Tokenizer.KEYWORDS.items() if word in _WORDS or not word[0].isalpha()},
            "ILIKE": TokenType.ILIKE,
        }

    class Parser(parser.Parser):
        FUNCTIONS = {}  # noqa: RUF012  (every call stays a name with arguments)
        COLUMN_OPERATORS = {  # noqa: RUF012  (no paths into JSON)
            kind: parser.Parser.COLUMN_OPERATORS[kind] for kind in (TokenType.DOT, TokenType.DCOLON)
        }
        NO_PAREN_FUNCTIONS = {}  # noqa: RUF012
        NO_PAREN_FUNCTION_PARSERS = {}  # noqa: RUF012
        FUNCTION_PARSERS = {  # noqa: RUF012
            name: parser.Parser.FUNCTION_PARSERS[name] for name in ("CAST", "TRY_CAST", "EXTRACT", "TRIM")
        }


_DIALECT = _Filters()
logging.getLogger("sqlglot").setLevel(logging.CRITICAL)  # what is wrong with a filter is told to whoever sent it


def tree(where: str) -> exp.Expr:
    """Return the syntax tree of a filter; raise InvalidInput if it can't be parsed, or is too long or too deep for it."""
    if len(where) > _MAX_CHARACTERS:
        raise InvalidInput(f"filter: it has {len(where)} characters: expected at most {_MAX_CHARACTERS}")
    try:
        _check_tokens(_DIALECT.tokenize(where))
        conditions = _DIALECT.parse_into(exp.Condition, where)
    except InvalidInput:
        raise
    except RecursionError as problem:
        raise too_deep() from problem
    except Exception as problem:  # its parser expects SQL, and trips over what isn't
        place = _place(problem)
        raise InvalidInput(
            f"filter: {where[:200]!r} can't be read (sql parser error{place}); allowed are {ALLOWED}"
        ) from problem
    if len(conditions) != 1 or conditions[0] is None:
        raise InvalidInput(f"filter: {where[:200]!r} isn't one condition: expected e.g. year >= 2003 AND caption LIKE '%cat%'")
    return conditions[0]


def too_deep() -> InvalidInput:
    """Return the error of a filter that is nested too deeply."""
    return InvalidInput(f"filter: it is nested beyond the recursion limit: expected at most {MAX_DEPTH} levels")


def _check_tokens(tokens: list[Token]) -> None:
    if len(tokens) > _MAX_TOKENS:
        raise InvalidInput(f"filter: it has {len(tokens):,} words and signs: expected at most {_MAX_TOKENS:,}")
    depth = 0
    for token in tokens:
        depth += token.token_type in (TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE)
        depth -= token.token_type in (TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE)
        if depth > MAX_DEPTH:
            raise too_deep()


def _place(problem: Exception) -> str:
    errors = getattr(problem, "errors", None) or [{}]
    near = errors[0].get("highlight")
    return f" at {str(near)[:80]!r}" if near else ""
