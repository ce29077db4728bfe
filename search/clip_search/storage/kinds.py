"""Kinds of metadata columns: their types in the table, and their values in JSON."""

import base64
import binascii
import functools
import math
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, timezone
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Any

import pyarrow as pa

from clip_client.errors import InvalidInput

TYPES: dict[str, pa.DataType] = {
    "string": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "uint": pa.uint64(),
    "timestamp": pa.timestamp("us", "UTC"),
    "date": pa.date32(),
    "binary": pa.binary(),
    "list<string>": pa.list_(pa.string()),
    "list<int>": pa.list_(pa.int64()),
    "list<float>": pa.list_(pa.float64()),
    "list<bool>": pa.list_(pa.bool_()),
}
"""Kinds by name; there is ``decimal(P,S)`` beside them."""
EXACT = 2**53  # largest whole number up to which a float holds every one

_NAMES = {kind: name for name, kind in TYPES.items()}
_DECIMAL = re.compile(r"decimal\( ?(\d{1,2}), ?(\d{1,2}) ?\)", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,6})0*)?([Zz]|[+-]\d\d:\d\d)?", re.ASCII)
_PLAIN: dict[type, str] = {bool: "bool", int: "int", float: "float", str: "string"}
_SHOWN = 80  # characters of a value in a message


def arrow_type(kind: Any) -> pa.DataType | None:
    """Return the table's type of a kind; None if there is no such kind."""
    if not isinstance(kind, str):
        return None
    if match := _DECIMAL.fullmatch(kind):
        precision, scale = map(int, match.groups())
        return pa.decimal128(precision, scale) if 1 <= precision <= 38 and scale <= precision else None
    return TYPES.get(kind)


def kind_of(type: pa.DataType) -> str:
    """Return the name of a type in a table."""
    if pa.types.is_decimal128(type):
        return f"decimal({type.precision},{type.scale})"
    return _NAMES.get(type, str(type))


def kind_by(name: str, value: Any) -> str:
    """Return the kind of a column that begins with this value; raise InvalidInput if the kind has to be declared."""
    kind = _PLAIN.get(type(value))
    if kind is None:
        raise InvalidInput(
            f"metadata {word(name)} is a {type(value).__name__}: expected a string, a number or true/false; "
            f"other kinds are declared, as in \"columns\": {{{shown(name)}: 'list<string>'}}"
        )
    return kind


def checked_value(name: str, kind: str, value: Any) -> Any:
    """Return a metadata value as its column, which is of this kind, takes it; raise InvalidInput if it doesn't fit."""
    if value is None:
        return None
    try:
        return _converter(kind)(value)
    except (TypeError, ValueError, ArithmeticError) as problem:
        why = f" ({problem})" if isinstance(problem, _Unfit) else ""
        raise InvalidInput(f"metadata {word(name)} is {shown(value)}, the column holds {_expected(kind)}{why}") from problem


def shown(value: Any) -> str:
    """Return the start of a value for a message, in characters that any terminal takes."""
    try:
        text = ascii(value[:_SHOWN] if isinstance(value, str | bytes | list) else value)
    except (RecursionError, ValueError):
        text = f"a {type(value).__name__}"  # nested too deep, or a number of thousands of digits
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def word(name: str) -> str:
    """Return a column's name for a message: bare where it is a plain word."""
    return name if name.isidentifier() and name.isascii() else shown(name)


class _Unfit(ValueError):
    """A reason beyond the wrong type."""


@functools.cache
def _converter(kind: str) -> Callable[[Any], Any]:
    if match := _DECIMAL.fullmatch(kind):
        return lambda value: _decimal(value, *map(int, match.groups()))
    if kind.startswith("list<"):
        convert = _converter(kind[5:-1])
        return lambda value: [None if item is None else convert(item) for item in _typed(value, list)]
    if kind not in _CONVERTERS:
        raise _Unfit("another program made it: clipserve doesn't write to it")
    return _CONVERTERS[kind]


def _expected(kind: str) -> str:
    type = arrow_type(kind)
    return f"{type}: {_FORMS[kind]}" if kind in _FORMS else f"{type or kind}: send that type"


def _typed(value: Any, wanted: type) -> Any:
    if type(value) is not wanted:
        raise TypeError
    return value


def _string(value: Any) -> str:
    text: str = _typed(value, str)
    try:
        text.encode()
    except UnicodeEncodeError as problem:
        raise _Unfit("it has half of a surrogate pair") from problem
    return text


def _int(value: Any, low: int = -(2**63), high: int = 2**63) -> int:
    if not low <= _typed(value, int) < high:
        raise _Unfit(f"expected a whole number of 64 bits, from {low} to {high - 1}")
    return int(value)


def _float(value: Any) -> float:
    if type(value) is int:
        return _exact_float(value)
    if not math.isfinite(_typed(value, float)):
        raise _Unfit("expected a finite number")
    return float(value)


def _exact_float(value: int) -> float:
    if abs(value) > 2**1000 or float(value) != value:
        raise _Unfit("no float is equal to it")
    return float(value)


def _timestamp(value: Any) -> datetime:
    match = _TIME.fullmatch(_typed(value, str))
    if not match:
        raise _Unfit("expected RFC 3339, to the microsecond")
    day, time, fraction, zone = match.groups()
    zone = "+00:00" if not zone or zone in "Zz" else zone
    return datetime.fromisoformat(f"{day}T{time}.{(fraction or '').ljust(6, '0')}{zone}").astimezone(timezone.utc)


def _date(value: Any) -> date:
    if not _DATE.fullmatch(_typed(value, str)):
        raise ValueError
    return date.fromisoformat(value)


def _binary(value: Any) -> bytes:
    try:
        return base64.b64decode(_typed(value, str), validate=True)
    except binascii.Error as problem:
        raise _Unfit(str(problem)) from problem


def _decimal(value: Any, precision: int, scale: int) -> Decimal:
    text = str(value) if type(value) is int and abs(value) < 10**39 else value
    if not _NUMBER.fullmatch(_typed(text, str)):
        raise _Unfit("expected digits")
    exact = Context(prec=precision, traps=[InvalidOperation, Inexact])
    try:
        return Decimal(text).quantize(Decimal(1).scaleb(-scale), context=exact)
    except (InvalidOperation, Inexact) as problem:
        raise _Unfit("it has too many digits") from problem


_CONVERTERS: Mapping[str, Callable[[Any], Any]] = {
    "string": _string,
    "int": _int,
    "uint": lambda value: _int(value, 0, 2**64),
    "float": _float,
    "bool": lambda value: _typed(value, bool),
    "timestamp": _timestamp,
    "date": _date,
    "binary": _binary,
}
_FORMS = {
    "timestamp": 'send "2024-05-01T12:00:00Z"',
    "date": 'send "2024-05-01"',
    "binary": "send base64",
}


def for_json(value: Any) -> Any:
    """Return what JSON has no type for as a string: bytes in base64, decimals in digits."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Decimal):
        return format(value, "f")
    raise TypeError(f"{type(value).__name__} isn't JSON")
