"""JSON lines: an object a line; a broken line is left out by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pyarrow as pa

from clip_client.errors import InvalidInput
from clip_client.text_files import parsed_json
from clip_embed import fields
from clip_embed.chunks import Chunk, SourceProblem
from clip_embed.inputs.base import PartOf, Plan
from clip_embed.inputs.columns import Columns, Named, chosen
from clip_embed.inputs.listing import Item, Listing, listed_chunks
from clip_embed.inputs.references import References
from clip_embed.inputs.table import Table
from clip_embed.inputs.table_files import NOTHING, folder_of, label_of, table_files
from clip_embed.inputs.table_rows import picture_of, row_name
from clip_embed.inputs.text_lines import TextLines
from clip_embed.locations import shown
from clip_embed.places import Place

ENDINGS = tuple(f"{ending}{packed}" for ending in (".jsonl", ".ndjson", ".json") for packed in ("", ".gz", ".bz2", ".xz"))
_SEEN, _SEEN_BYTES = 1_000, 2**26  # first lines, which tell the columns
_MOST_FIELDS = 1_000  # that become columns; the others' come to be JSON in one
_PICTURE = pa.struct([("bytes", pa.string()), ("path", pa.string())])
_TYPES: dict[type, pa.DataType] = {
    **{str: pa.string(), bool: pa.bool_(), int: pa.int64(), float: pa.float64()},
    **{list: pa.list_(pa.null()), dict: pa.struct([])},
}


@dataclass(frozen=True)
class _Line:
    """Line of a file: its object, or the reason why there is none."""

    name: str
    references: References
    size: int
    row: Mapping[str, Any]
    problem: str | None = None


class JsonLines(Table):
    """JSON lines with a field of pictures, of captions, or both."""

    kind = "jsonl"

    def plan(self, part_items: int) -> Plan:
        """Read the files once; their lines become lists, the first ones tell the columns."""
        left_out: dict[str, str] = {}
        lines = self._lines(table_files(self.location, ENDINGS), left_out)
        seen = _first(lines)
        rows = [line.row for line in seen if line.problem is None]
        if not rows:
            reasons = [*(f"{name} {reason}" for name, reason in left_out.items()), *(f"{n.name} {n.problem}" for n in seen)]
            raise InvalidInput(reasons[0] if reasons else f"{shown(self.location)} has no rows: expected an object a line")
        types = _types(rows)
        names = pa.schema([*types.items()])
        try:
            columns = chosen(names, Named(self.image_column, self.caption_column))
        except InvalidInput as problem:
            raise InvalidInput(f"{shown(self.location)} {problem}") from problem
        maker = _Maker(columns, names, rows)
        listing: Listing[Mapping[str, Any]] = Listing(part_items, maker.arrays)
        for line in chain(seen, lines):
            listing.add(maker.item(line), maker.own(line.row), line.size)
        parts, has = listing.end(), (columns.image is not None, columns.caption is not None)
        return Plan(parts, maker.schema, *has, listing.tables(lambda own: own), left_out)

    def chunks(self, part: PartOf, schema: pa.Schema, place: Place) -> Iterator[Chunk]:
        """Read a list."""
        return listed_chunks(part, schema, place)

    def _lines(self, files: Sequence[str], left_out: dict[str, str]) -> Iterator[_Line]:
        for file in files:
            label = label_of(file, self.location)
            try:
                yield from _lines_of(file, label)
            except FileNotFoundError:
                left_out[label] = NOTHING
            except (InvalidInput, SourceProblem) as problem:
                left_out[label] = getattr(problem, "reason", str(problem))


@dataclass
class _Maker:
    """Maker of items from objects.

    Attributes:
        columns: of the objects.
        names: of all fields.
        rows: first of them.
    """

    columns: Columns
    names: pa.Schema
    rows: Sequence[Mapping[str, Any]]

    def __post_init__(self) -> None:
        self.image = None if self.columns.image is None else self.names.names[self.columns.image]
        self.caption = None if self.columns.caption is None else self.names.names[self.columns.caption]
        self._dropped = {self.caption} | ({self.image} if self._is_encoded() else set())
        columns = set(self.names.names)
        kept = ({name: value for name, value in self.own(row).items() if name in columns} for row in self.rows)
        self.schema = fields.schema_of(kept, fields.RESERVED)
        del self.rows

    def arrays(self, own: Sequence[Mapping[str, Any]]) -> list[pa.Array]:
        """Return the own fields as columns."""
        columns: list[pa.Array] = fields.batch_of(own, self.schema).columns if len(self.schema) else []
        return columns

    def own(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the fields of an object that are kept; captions have a place already, and encoded pictures aren't kept."""
        return {name: value for name, value in row.items() if name not in self._dropped}

    def item(self, line: _Line) -> Item:
        """Return an object as an item."""
        if line.problem is not None:
            return Item(line.name, problem=line.problem)
        text, note = _text(line.row.get(self.caption) if self.caption is not None else None)
        value = line.row.get(self.image) if self.image is not None else None
        try:
            picture, name = picture_of(value, line.references, line.name)
        except InvalidInput as problem:
            return Item(line.name, None, text, str(problem))
        return Item(name, picture, text, None, note)

    def _is_encoded(self) -> bool:
        """Tell if the pictures are in the objects themselves."""
        nowhere = References("")
        for row in self.rows:
            value = row.get(self.image) if self.image is not None else None
            if isinstance(value, str | dict) and value:
                try:
                    return isinstance(value, dict) or isinstance(picture_of(value, nowhere, "")[0], bytes)
                except InvalidInput:
                    continue
        return False


def _lines_of(file: str, label: str) -> Iterator[_Line]:
    lines, references = TextLines(file), References(folder_of(file))
    is_first = True
    for number, text in enumerate(lines, 1):
        if not text.strip() and number not in lines.bad:
            continue
        name, size = row_name(label, number), len(text)
        if is_first and text.lstrip().startswith("["):
            raise InvalidInput("holds a JSON array: expected an object a line, as jq -c '.[]' FILE makes them")
        is_first = False
        problem, row = lines.bad.pop(number, None), None
        try:
            row = None if problem else parsed_json(text)
        except InvalidInput as told:
            problem = f"the line {told}"
        if problem is None and not isinstance(row, dict):
            problem = f"the line holds a {type(row).__name__}: expected an object"
        yield _Line(name, references, size, row if isinstance(row, dict) else {}, problem)


def _first(lines: Iterator[_Line]) -> list[_Line]:
    """Return the lines that tell the columns."""
    seen: list[_Line] = []
    size = 0
    for line in lines:
        seen.append(line)
        size += line.size
        if len(seen) == _SEEN or size > _SEEN_BYTES:
            break
    return seen


def _types(rows: Iterable[Mapping[str, Any]]) -> dict[str, pa.DataType]:
    """Return a type for each field; texts and pictures go first where there are several."""
    types: dict[str, pa.DataType] = {}
    for row in rows:
        for name, value in row.items():
            kind = (
                _PICTURE if isinstance(value, dict) and {"bytes", "path"} & set(value) else _TYPES.get(type(value), pa.null())
            )
            if not fields.is_unicode(name) or (len(types) == _MOST_FIELDS and name not in types):
                continue
            if types.get(name, pa.null()) == pa.null() or kind in (_PICTURE, pa.string()):
                types[name] = kind
    return types


def _text(value: Any) -> tuple[str | None, str | None]:
    """Return a caption, and the reason why there is none."""
    if value is not None and not isinstance(value, str | int | float):
        return None, f"its caption is a {type(value).__name__}, and is left away: expected a text"
    text = None if value is None else str(value)
    if text is not None and not fields.is_unicode(text):
        return None, "its caption has half of a surrogate pair, and is left away"
    return text, None
