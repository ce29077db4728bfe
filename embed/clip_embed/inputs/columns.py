"""Columns of a table: those with pictures and captions, and the user's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import pyarrow as pa
import pyarrow.types as kinds

from clip_client.errors import InvalidInput
from clip_embed import fields

_IMAGES = (
    *("image", "images", "img", "picture", "photo", "jpg", "jpeg", "png", "webp", "image_bytes", "bytes", "content"),
    *("image_path", "path", "file_path", "filepath", "file_name", "filename", "file", "image_name"),
    *("image_url", "img_url", "url", "uri", "image_uri", "link", "src"),
)
"""Usual names of columns with pictures, the first that is there goes first; in any case, blanks and hyphens are ``_``."""
_CAPTIONS = ("caption", "captions", "text", "txt", "alt_text", "alt", "description", "prompt", "title")
_MOST = 5_000  # columns of a table
_LISTED = 50  # columns that a message names

Fits: TypeAlias = Callable[[pa.DataType], bool]


@dataclass(frozen=True)
class Named:
    """Names of columns as the user passed them; None for the usual ones.

    Attributes:
        image: of pictures.
        caption: of captions.
    """

    image: str | None = None
    caption: str | None = None


@dataclass(frozen=True)
class Columns:
    """Positions of columns in a table.

    Attributes:
        image: of pictures; None if it has none.
        caption: of captions; None if it has none.
        own: of the user's columns, by their names in outputs.
    """

    image: int | None
    caption: int | None
    own: Mapping[str, int]

    def schema(self, schema: pa.Schema) -> pa.Schema:
        """Return the schema of the user's columns, in types that every output has."""
        return pa.schema([pa.field(name, plain(schema.field(position).type)) for name, position in self.own.items()])


def chosen(schema: pa.Schema, named: Named) -> Columns:
    """Return the columns of a table.

    Raises:
        InvalidInput: one of the names isn't there, or is of another type; none is there with a usual name.
    """
    if len(schema) > _MOST:
        raise InvalidInput(f"has {len(schema):,} columns: expected at most {_MOST:,}")
    image = _named(schema, named.image, is_picture, _EXPECTED_PICTURE) if named.image else _usual(schema, _IMAGES, is_picture)
    caption = _named(schema, named.caption, is_text, "strings") if named.caption else _usual(schema, _CAPTIONS, is_text)
    if image is None and caption is None:
        raise InvalidInput(
            f"has no column with a usual name, but {listed(schema.names)}: pass --image-column or --caption-column"
        )
    if caption == image:
        caption = None
    return Columns(image, caption, _own(schema, image, caption))


def is_picture(kind: pa.DataType) -> bool:
    """Tell if a type holds paths, URLs or encoded files; one without any value does."""
    kind = plain(kind)
    if kinds.is_struct(kind):
        return any(field.name in ("bytes", "path") and is_picture(field.type) for field in kind)
    return _is_string(kind) or _is_bytes(kind) or kinds.is_null(kind)


def is_text(kind: pa.DataType) -> bool:
    """Tell if a type holds texts."""
    return _is_string(plain(kind)) or kinds.is_null(kind)


def plain(kind: pa.DataType) -> pa.DataType:
    """Return a type in which every output holds the same values: without dictionaries, views and extensions."""
    if isinstance(kind, pa.BaseExtensionType):
        return plain(kind.storage_type)
    if kinds.is_dictionary(kind) or kinds.is_run_end_encoded(kind):
        return plain(kind.value_type)
    if kinds.is_struct(kind):
        return pa.struct([pa.field(field.name, plain(field.type), field.nullable) for field in kind])
    if kinds.is_map(kind):
        return pa.map_(plain(kind.key_type), plain(kind.item_type))
    if kinds.is_fixed_size_list(kind):
        return pa.list_(plain(kind.value_type), kind.list_size)
    if kinds.is_large_list(kind) or kinds.is_large_list_view(kind):
        return pa.large_list(plain(kind.value_type))
    if kinds.is_list(kind) or kinds.is_list_view(kind):
        return pa.list_(plain(kind.value_type))
    return _VIEWS.get(kind, kind)


def listed(names: Sequence[str]) -> str:
    """Return names of columns for a message."""
    rest = f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
    return (", ".join(str(name)[:100] for name in names[:_LISTED]) or "no columns at all") + rest


_EXPECTED_PICTURE = "paths, URLs or encoded pictures (string, binary, or a struct of bytes and path)"
_VIEWS = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}


def _is_string(kind: pa.DataType) -> bool:
    return bool(kinds.is_string(kind) or kinds.is_large_string(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(kinds.is_binary(kind) or kinds.is_large_binary(kind) or kinds.is_fixed_size_binary(kind))


def _named(schema: pa.Schema, name: str, fits: Fits, expected: str) -> int:
    """Return the position of the column that the user named."""
    positions = [n for n, column in enumerate(schema.names) if column == name]
    positions = positions or [n for n, column in enumerate(schema.names) if column.casefold() == name.casefold()]
    if not positions:
        raise InvalidInput(f"has no column {name}: it has {listed(schema.names)}")
    if len(positions) > 1:
        raise InvalidInput(f"has {len(positions)} columns named {name}: rename all but one")
    kind = schema.field(positions[0]).type
    if not fits(kind):
        raise InvalidInput(f"has {str(kind)[:200]} in its column {name}: expected {expected}")
    return positions[0]


def _usual(schema: pa.Schema, names: Sequence[str], fits: Fits) -> int | None:
    """Return the position of the first column with a usual name and a fitting type."""
    fold = [name.strip().casefold().replace(" ", "_").replace("-", "_") for name in schema.names]
    return next((n for name in names for n, column in enumerate(fold) if column == name and fits(schema.field(n).type)), None)


def _own(schema: pa.Schema, image: int | None, caption: int | None) -> dict[str, int]:
    """Return names and positions of the columns that are kept; encoded pictures aren't, and captions have a place already."""
    dropped = {caption} | ({image} if image is not None and not _is_string(plain(schema.field(image).type)) else set())
    names = _free_names(schema.names, fields.RESERVED)
    return {name: position for position, name in enumerate(names) if position not in dropped}


def _free_names(names: Sequence[str], taken: Sequence[str]) -> list[str]:
    """Return each name once; one that is taken gets ``_`` behind it, and a number where that is taken too."""
    seen, repeated = set(taken), Counter[str]()
    free = []
    for name in names:
        base = name
        while name in seen:
            repeated[base] += 1
            name = f"{base}_{repeated[base] if repeated[base] > 1 else ''}"
        seen.add(name)
        free.append(name)
    return free
