"""Schemas as Lance takes them: names without dots, and types that it has."""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.types as is_type

_NOT_IN_NAMES = re.compile(r"[.`]")
_RESERVED = re.compile(r"_row(id|addr|offset|_created_at_version|_last_updated_at_version)$", re.IGNORECASE)


def fitted(schema: pa.Schema) -> pa.Schema:
    """Return a schema with names and types of Lance; what Lance takes stays as it is.

    A name that Lance doesn't take, or that another column has, gets ``_`` for the characters at fault, or a number behind it.
    """
    taken = {name for name in schema.names if _is_fit(name)}
    fields, there = [], set[str]()
    for field in schema:
        name = field.name if field.name in taken and field.name not in there else _free(field.name, taken | there)
        there.add(name)
        fields.append(field.with_name(name).with_type(_type(field.type)))
    return pa.schema(fields, schema.metadata)


def _is_fit(name: str) -> bool:
    return bool(name) and not _NOT_IN_NAMES.search(name) and not _RESERVED.match(name)


def _free(name: str, taken: set[str]) -> str:
    plain = _NOT_IN_NAMES.sub("_", name) or "column"
    plain = f"own{plain}" if _RESERVED.match(plain) else plain
    names = (plain, *(f"{plain}_{n}" for n in range(2, len(taken) + 3)))
    return next(name for name in names if name not in taken)


def _type(type: pa.DataType) -> pa.DataType:
    """Return the nearest type that Lance has, such as lists for lists of one size of anything but numbers."""
    if is_type.is_decimal32(type) or is_type.is_decimal64(type):
        return pa.decimal128(type.precision, type.scale)
    if is_type.is_string_view(type):
        return pa.string()
    if is_type.is_binary_view(type):
        return pa.binary()
    if is_type.is_struct(type):
        return pa.struct([field.with_type(_type(field.type)) for field in type])
    if is_type.is_map(type):
        return pa.map_(_type(type.key_type), _type(type.item_type))
    if is_type.is_fixed_size_list(type) and is_type.is_primitive(type.value_type):
        return type
    if is_type.is_large_list(type):
        return pa.large_list(type.value_field.with_type(_type(type.value_type)))
    if is_type.is_list(type) or is_type.is_fixed_size_list(type):
        return pa.list_(type.value_field.with_type(_type(type.value_type)))
    return type
