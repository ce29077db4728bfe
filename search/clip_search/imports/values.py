"""Values of foreign tables as the API takes them: with their kind where a column can hold it, else as JSON text."""

import json
import math
from collections import Counter
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as is_type

from clip_client.errors import InvalidInput
from clip_search.storage.kinds import arrow_type, checked_value, for_json

NOT_FINITE = "not finite: null stands for it"
_NOT_EXACT = "a whole number that no float is equal to: null stands for it"
_NOT_UTF8 = "no UTF-8: null stands for it"
_BEYOND = "outside the years 1 to 9999: null stands for it"
_UNREADABLE = "finer than Python can tell: null stands for it"
_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_FIRST_S, _END_S = -62_135_596_800, 253_402_300_800  # 0001-01-01, 10000-01-01
Lost = Counter[str]  # counts of values that weren't kept, by reason


def kind_for(type: pa.DataType) -> str:
    """Return the kind of column that holds an Arrow type; empty if there are only nulls, ``string`` if none does."""
    type = _stored(type)
    if is_type.is_null(type):
        return ""
    if is_type.is_decimal(type) and type.precision <= 38 and 0 <= type.scale <= type.precision:
        return f"decimal({type.precision},{type.scale})"
    if _is_list(type):
        if _is_list(_stored(type.value_type)):  # said at once: a type may be nested so deep that looking inside takes for ever
            return "string"
        inner = kind_for(type.value_type)
        return f"list<{inner}>" if inner in ("string", "int", "float", "bool") and not _is_text(type.value_type) else "string"
    return next((kind for kind, fits in _FITS if fits(type)), "string")


def merged(first: str, other: str) -> str:
    """Return the kind of column that holds what two kinds do, as JSON text if no other does."""
    if first == other or not other:
        return first
    if not first:
        return other
    pair = {first, other}
    if pair == {"int", "float"}:
        return "float"
    if pair == {"list<int>", "list<float>"}:
        return "list<float>"
    if all(kind.startswith("decimal(") for kind in pair):
        return _wider(first, other)
    return "string"


def values(array: pa.Array, kind: str, lost: Lost) -> list[Any]:
    """Return an array's values as the API takes them for a column of a kind; count those that can't be kept, as None."""
    array = _plain(array)
    if kind == "string":
        return _python(array, lost) if is_string(array.type) else _texts(array, lost)
    if kind in ("timestamp", "date"):
        return _times(array, lost)
    if is_type.is_float16(array.type):
        array = array.cast(pa.float64())
    listed = _python(array, lost)
    if kind in ("float", "list<float>"):
        return [_each(value, lambda number: _finite(number, lost)) for value in listed]
    if kind == "binary" or kind.startswith("decimal("):
        return [None if value is None else for_json(value) for value in listed]
    return listed


def typed(array: pa.Array, kind: str, lost: Lost) -> pa.Array:
    """Return an array as a table has a column of a kind; count values that can't be kept, which are null then."""
    array, target = _plain(array), arrow_type(kind)
    try:
        if kind == kind_for(array.type) and not _is_text(array.type):
            return _cast(array, target, kind, lost)
    except pa.ArrowException:
        pass  # a value among them doesn't fit: each is looked at
    return pa.array([_checked(kind, value, lost) for value in values(array, kind, lost)], target)


def _cast(array: pa.Array, target: pa.DataType, kind: str, lost: Lost) -> pa.Array:
    """Return an array in one step; raise pa.ArrowException if a value doesn't fit."""
    array.validate(full=True)
    if kind in ("timestamp", "date"):
        return _within_years(array, lost)
    if kind == "list<float>":
        raise pa.ArrowInvalid("each list is looked at")
    array = array.cast(target)
    if kind == "float" and not pc.all(finite := pc.is_finite(array)).as_py() and len(array) > array.null_count:
        lost[NOT_FINITE] += pc.sum(pc.invert(finite)).as_py()
        return pc.if_else(finite, array, pa.scalar(None, target))
    return array


def _checked(kind: str, value: Any, lost: Lost) -> Any:
    try:
        return checked_value("", kind, value)
    except InvalidInput:
        lost[_UNREADABLE] += 1
        return None


def _is_list(type: pa.DataType) -> bool:
    return bool(is_type.is_list(type) or is_type.is_large_list(type) or is_type.is_fixed_size_list(type))


def is_string(type: pa.DataType) -> bool:
    """Tell if a type is one of Arrow's for strings."""
    type = _stored(type)
    return bool(is_type.is_string(type) or is_type.is_large_string(type) or is_type.is_string_view(type))


def _is_binary(type: pa.DataType) -> bool:
    return bool(is_type.is_binary(type) or is_type.is_large_binary(type) or is_type.is_fixed_size_binary(type))


def _is_text(type: pa.DataType) -> bool:
    """Tell if a type is stored as strings without being one."""
    return kind_for(type) == "string" and not is_string(_stored(type))


_FITS: tuple[tuple[str, Callable[[pa.DataType], bool]], ...] = (
    ("bool", is_type.is_boolean),
    ("uint", is_type.is_uint64),
    ("int", is_type.is_integer),
    ("float", is_type.is_floating),
    ("timestamp", is_type.is_timestamp),
    ("date", is_type.is_date),
    ("binary", _is_binary),
)


def _wider(first: str, other: str) -> str:
    sizes = [tuple(map(int, kind[8:-1].split(","))) for kind in (first, other)]
    scale = max(scale for _, scale in sizes)
    precision = max(precision - scale for precision, scale in sizes) + scale
    return f"decimal({precision},{scale})" if precision <= 38 else "string"


def _stored(type: pa.DataType) -> pa.DataType:
    """Return a type without its encoding (dictionary, run length, view)."""
    if isinstance(type, pa.BaseExtensionType):
        return _stored(type.storage_type)
    if is_type.is_dictionary(type) or is_type.is_run_end_encoded(type):
        return _stored(type.value_type)
    return type


def _plain(array: pa.Array) -> pa.Array:
    if isinstance(array, pa.ExtensionArray):
        return _plain(array.storage)
    if is_type.is_dictionary(array.type):
        return _plain(array.dictionary.take(array.indices))
    if is_type.is_run_end_encoded(array.type):
        return _plain(pc.run_end_decode(array))
    return array


def _python(array: pa.Array, lost: Lost) -> list[Any]:
    """Return Python's values; None for those that Python can't represent."""
    try:
        return list(array.to_pylist())
    except (ValueError, OverflowError, pa.ArrowException):
        return [_value(scalar, lost) for scalar in array]


def _value(scalar: pa.Scalar, lost: Lost) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        lost[_NOT_UTF8] += 1
    except (ValueError, OverflowError, pa.ArrowException):
        lost[_UNREADABLE] += 1
    return None


def _texts(array: pa.Array, lost: Lost) -> list[str | None]:
    """Return JSON text; plain words if the value is a string."""
    if is_type.is_time(array.type):
        return list(array.cast(pa.string()).to_pylist())
    if is_type.is_timestamp(array.type) or is_type.is_date(array.type):
        return _times(array, lost)
    if is_type.is_duration(array.type):
        unit = _UNITS[array.type.unit]
        return [None if n is None else _seconds(Decimal(n) / unit) for n in array.cast(pa.int64()).to_pylist()]
    if is_type.is_float16(array.type):
        array = array.cast(pa.float64())
    if (coarse := _coarse(array.type)) != array.type:
        array = array.cast(coarse, safe=False)
    return [None if value is None else _text(value, lost) for value in _python(array, lost)]


def _coarse(type: pa.DataType) -> pa.DataType:
    """Return the type with microseconds, as Python has, for nanoseconds inside."""
    if is_type.is_struct(type):
        return pa.struct([field.with_type(_coarse(field.type)) for field in type])
    if is_type.is_list(type):
        return pa.list_(_coarse(type.value_type))
    if is_type.is_timestamp(type) and type.unit == "ns":
        return pa.timestamp("us", type.tz)
    return pa.duration("us") if type == pa.duration("ns") else pa.time64("us") if type == pa.time64("ns") else type


def _text(value: Any, lost: Lost) -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        lost[NOT_FINITE] += 1
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, bytes | Decimal):
        return str(for_json(value))
    return json.dumps(_jsonable(value, lost), ensure_ascii=False)


def _jsonable(value: Any, lost: Lost) -> Any:
    """Return nested values as JSON has them."""
    if isinstance(value, dict):
        return {str(name): _jsonable(item, lost) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item, lost) for item in value]
    if isinstance(value, float | np.floating):
        return _finite(float(value), lost)
    if isinstance(value, bytes | Decimal):
        return for_json(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return _seconds(Decimal(value // timedelta(microseconds=1)) / 10**6)
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _seconds(seconds: Decimal) -> str:
    """Return a duration as ISO 8601 writes it."""
    return f"{'-' if seconds < 0 else ''}PT{abs(seconds):f}S"


def _each(value: Any, convert: Callable[[Any], Any]) -> Any:
    return [convert(item) for item in value] if isinstance(value, list) else convert(value)


def _finite(value: float | int | None, lost: Lost) -> float | int | None:
    if value is None:
        return None
    if math.isfinite(value) and float(value) == value:
        return value
    lost[_NOT_EXACT if isinstance(value, int) else NOT_FINITE] += 1
    return None


def _times(array: pa.Array, lost: Lost) -> list[str | None]:
    """Return timestamps in UTC to the microsecond, and dates unchanged, as text."""
    texts = _within_years(array, lost).cast(pa.string())
    return list(pc.replace_substring(texts, " ", "T").to_pylist())


def _within_years(array: pa.Array, lost: Lost) -> pa.Array:
    """Return timestamps in UTC to the microsecond, and dates; null for those that Python can't tell."""
    if is_type.is_date32(array.type):
        numbers, first, end = array.cast(pa.int32()), _FIRST_S // 86_400, _END_S // 86_400
    else:
        unit = _UNITS["ms" if is_type.is_date64(array.type) else array.type.unit]
        numbers, first, end = array.cast(pa.int64()), _FIRST_S * unit, _END_S * unit
    target = pa.date32() if is_type.is_date(array.type) else pa.timestamp("us", "UTC")
    whole = numbers.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    beyond = (whole < max(first, -(2**63))) | (whole > min(end - 1, 2**63 - 1))
    if beyond.any():
        lost[_BEYOND] += int(beyond.sum())
        array = pc.if_else(pa.array(beyond), pa.scalar(None, array.type), array)
    return array.cast(target, safe=False)
