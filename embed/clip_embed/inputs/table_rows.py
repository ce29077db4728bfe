"""Rows of columnar tables as items."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.types as kinds

from clip_client.errors import InvalidInput
from clip_client.file_names import as_id
from clip_embed.chunks import Chunk, Picture, no_columns, text_of
from clip_embed.inputs.columns import Columns, plain
from clip_embed.inputs.references import References

_LONGEST_NAME = 500


@dataclass(frozen=True)
class TableRows:
    """Maker of chunks from the batches of one table.

    Attributes:
        label: of the table in messages.
        columns: of the table.
        schema: of the input's own columns.
        references: resolves what the table names.
    """

    label: str
    columns: Columns
    schema: pa.Schema
    references: References

    def chunk(self, batch: pa.RecordBatch, first: int) -> Chunk:
        """Return a batch as items; ``first`` is the number of its first row, from 1 on."""
        names = [row_name(self.label, number) for number in range(first, first + batch.num_rows)]
        problems, notes = dict[int, str](), dict[int, str]()
        pictures: list[Picture | None] = [None] * len(names)
        for n, value in enumerate(self._values(batch, self.columns.image, problems)):
            try:
                pictures[n], names[n] = picture_of(value, self.references, names[n])
            except InvalidInput as problem:
                problems[n] = str(problem)
        texts = [text_of(text) for text in self._values(batch, self.columns.caption, notes)]
        return Chunk(names, pictures, texts, self._own(batch, notes), problems, notes)

    def lost(self, first: int, count: int, reason: str) -> Chunk:
        """Return rows that can't be read as items that are left out."""
        names = [row_name(self.label, number) for number in range(first, first + count)]
        own = pa.RecordBatch.from_arrays([pa.nulls(count, field.type) for field in self.schema], schema=self.schema)
        nothing: list[None] = [None] * count
        return Chunk(
            names, nothing, nothing, own if len(self.schema) else no_columns(count), dict.fromkeys(range(count), reason)
        )

    def _values(self, batch: pa.RecordBatch, position: int | None, reasons: dict[int, str]) -> Sequence[Any]:
        """Return the values of a column; None, and a reason, for a text that isn't UTF-8."""
        if position is None:
            return [None] * batch.num_rows
        column = _plain(batch.column(position))
        try:
            values: list[Any] = column.to_pylist()
        except ValueError:
            values = _readable(column, batch.schema.names[position], reasons)
        return values

    def _own(self, batch: pa.RecordBatch, notes: dict[int, str]) -> pa.RecordBatch:
        if not len(self.schema):
            return no_columns(batch.num_rows)
        arrays = []
        for field in self.schema:
            if field.name not in self.columns.own:
                arrays.append(pa.nulls(batch.num_rows, field.type))
                continue
            column = _plain(batch.column(self.columns.own[field.name]))
            try:
                column.validate(full=True)
            except pa.ArrowInvalid:
                column = pa.array(_readable(column, field.name, notes), column.type)
            arrays.append(_cast(column, field, notes))
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)


def row_name(label: str, number: int) -> str:
    """Return the name of a row that names no file; rows and lines are counted from 1 on."""
    return f"{as_id(label)}:{number}"


def picture_of(value: Any, references: References, name: str) -> tuple[Picture | None, str]:
    """Return the picture in a cell, and its name: a path or a URL where the cell has one, else the one given.

    Raises:
        InvalidInput: the cell holds something else, or names what may not be read.
    """
    if isinstance(value, dict):
        content, path = value.get("bytes"), value.get("path")
        told = as_id(path)[:_LONGEST_NAME] if isinstance(path, str) and path else name
        if content is None:
            return picture_of(path, references, name)
        return _decoded(content), told
    if value is None or isinstance(value, bytes):
        return value or None, name
    if not isinstance(value, str):
        raise InvalidInput(f"has a {type(value).__name__} as its picture: expected a path, a URL or an encoded picture")
    if not value.strip():
        return None, name
    picture = references.picture(value)
    return picture, name if isinstance(picture, bytes) else as_id(value.strip())[:_LONGEST_NAME]


def _decoded(content: Any) -> bytes:
    """Return encoded files as bytes; JSON has them in base64."""
    if isinstance(content, str):
        try:
            content = base64.b64decode(content, validate=True)
        except ValueError as problem:  # binascii's, or of a character beyond ASCII
            raise InvalidInput(f"has bytes that aren't base64 ({problem}): encode the picture again") from problem
    if not isinstance(content, bytes):
        raise InvalidInput(f"has a {type(content).__name__} as its bytes: expected an encoded picture")
    return content


def _readable(column: pa.Array, name: str, reasons: dict[int, str]) -> list[Any]:
    values: list[Any] = []
    for n, value in enumerate(column):
        try:
            values.append(value.as_py())
        except ValueError:
            values.append(None)
            reasons[n] = f"its {name} isn't UTF-8, and is left away: write the table again"
    return values


def _cast(column: pa.Array, field: pa.Field, notes: dict[int, str]) -> pa.Array:
    """Return a column in the type that all files' have; null, and a note, for a value that it can't hold."""
    try:
        return column.cast(field.type)
    except pa.ArrowException:
        values = []
        for n, value in enumerate(column):
            try:
                values.append(value.cast(field.type).as_py())
            except (pa.ArrowException, ValueError):
                values.append(None)
                notes[n] = f"its {field.name} doesn't fit {field.type}, which other files need, and is left away"
        return pa.array(values, field.type)


def _plain(column: pa.Array) -> pa.Array:
    """Return a column without dictionaries, views and extensions."""
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    if kinds.is_run_end_encoded(column.type):
        import pyarrow.compute as pc

        column = pc.run_end_decode(column)
    kind = plain(column.type)
    return column if column.type.equals(kind) else column.cast(kind)
