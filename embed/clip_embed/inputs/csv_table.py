"""CSV and its like: any separator, quoted cells over several lines, rows of any length."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from clip_client.csv_rows import CsvReader, separator
from clip_client.errors import ClipError, InvalidInput
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

ENDINGS = tuple(f"{ending}{packed}" for ending in (".csv", ".tsv") for packed in ("", ".gz", ".bz2", ".xz"))
_LONGEST_ROW = 1_000  # lines of one row; a quote that isn't closed costs its own line
_WHOLE = r"^-?(0|[1-9][0-9]{0,17})$"
_DECIMAL = r"^-?(0|[1-9][0-9]{0,17})(\.[0-9]+)?([eE][+-]?[0-9]{1,2})?$"
_KINDS = ((_WHOLE, pa.int64()), (_DECIMAL, pa.float64()))
"""Types of columns in which all cells look so; numbers with a zero in front are names."""

Cells = Sequence[str | None]


class Csv(Table):
    """CSV files with a column of pictures, of captions, or both."""

    kind = "csv"

    def plan(self, part_items: int) -> Plan:
        """Read the files once; their rows become lists."""
        files = table_files(self.location, ENDINGS)
        reader = _Reader(self.location, Named(self.image_column, self.caption_column), part_items)
        left_out: dict[str, str] = {}
        for file in files:
            try:
                reader.read(file)
            except FileNotFoundError:
                left_out[label_of(file, self.location)] = NOTHING
            except (InvalidInput, SourceProblem) as problem:
                left_out[label_of(file, self.location)] = getattr(problem, "reason", str(problem))
        return reader.plan(left_out)

    def chunks(self, part: PartOf, schema: pa.Schema, place: Place) -> Iterator[Chunk]:
        """Read a list."""
        return listed_chunks(part, schema, place)


@dataclass
class _Reader:
    location: str
    named: Named
    part_items: int
    has_pictures: bool = False
    has_texts: bool = False
    own: dict[str, int] = field(default_factory=dict)  # positions by name, of all files
    kinds: list[int] = field(default_factory=list)  # positions in _KINDS, of the columns; beyond them for texts
    filled: set[int] = field(default_factory=set)  # columns with a value

    def __post_init__(self) -> None:
        self.listing: Listing[Cells] = Listing(self.part_items, self._arrays)

    def read(self, file: str) -> None:
        """List the rows of a file; raises InvalidInput if it lacks a column."""
        lines = TextLines(file)
        source = iter(lines)
        delimiter, first = separator(next(source, ""))
        reader = CsvReader(itertools.chain(first, source), delimiter, _LONGEST_ROW)
        rows = iter(reader)
        names = [name.strip() for name in next((row for row in rows if row), [])]
        if lines.bad:
            raise InvalidInput(f"has no header that can be read: {lines.bad[min(lines.bad)]}")
        if not names:
            raise InvalidInput("is empty: expected a header and rows")
        columns = chosen(pa.schema([(name, pa.string()) for name in names]), self.named)
        self.has_pictures |= columns.image is not None
        self.has_texts |= columns.caption is not None
        width = len(names)
        own = self._places(columns)
        label, references = label_of(file, self.location), References(folder_of(file))
        for row in rows:
            if row:
                item = _item(row, columns, references, row_name(label, reader.line), width)
                item = self._marked(item, reader, lines)
                self.listing.add(
                    item, self._own(row, own, columns.image if isinstance(item.picture, bytes) else None), sum(map(len, row))
                )

    def plan(self, left_out: dict[str, str]) -> Plan:
        """Return the plan of all files."""
        parts = self.listing.end()
        if not parts:
            reasons = [f"{name} {reason}" for name, reason in left_out.items()]
            raise InvalidInput(reasons[0] if reasons else f"{shown(self.location)} has no rows: expected some below the header")
        types = [
            _KINDS[kind][1] if kind < len(_KINDS) and n in self.filled else pa.string() for n, kind in enumerate(self.kinds)
        ]
        schema = pa.schema(list(zip(self.own, types, strict=True)))
        return Plan(
            parts, schema, self.has_pictures, self.has_texts, self.listing.tables(lambda own: _fitted(own, types)), left_out
        )

    def _places(self, columns: Columns) -> list[tuple[int, int]]:
        """Return the position of each own column among those of all files, and in this one."""
        for name in columns.own:
            if name not in self.own:
                self.own[name] = len(self.own)
                self.kinds.append(0)
        return [(self.own[name], position) for name, position in columns.own.items()]

    def _own(self, row: Sequence[str], own: Sequence[tuple[int, int]], encoded: int | None) -> Cells:
        """Return the cells that are kept, by their places; an encoded picture isn't."""
        cells: list[str | None] = [None] * len(self.own)
        for place, position in own:
            if position < len(row) and position != encoded:
                cells[place] = row[position] or None
        return cells

    def _arrays(self, rows: Sequence[Cells]) -> list[pa.Array]:
        """Return columns of texts, and look at what they could be."""
        arrays = []
        for position in range(len(self.own)):
            array = pa.array([row[position] if position < len(row) else None for row in rows], pa.string())
            while self.kinds[position] < len(_KINDS) and not _looks_so(array, _KINDS[self.kinds[position]][0]):
                self.kinds[position] += 1
            if array.null_count < len(array):
                self.filled.add(position)
            arrays.append(array)
        return arrays

    def _marked(self, item: Item, reader: CsvReader, lines: TextLines) -> Item:
        """Return an item with the problems of its lines."""
        if reader.problems:
            item = item._replace(note=reader.problems.pop())
        if lines.bad:
            reasons = [lines.bad.pop(n) for n in sorted(lines.bad) if n <= reader.last_line]
            item = item._replace(problem=reasons[0] if reasons else item.problem)
        return item


def _item(row: Sequence[str], columns: Columns, references: References, name: str, width: int) -> Item:
    text = row[columns.caption] if columns.caption is not None and columns.caption < len(row) else None
    written = row[columns.image] if columns.image is not None and columns.image < len(row) else None
    note = f"has {len(row)} cells, the header {width}: the last ones are left away" if len(row) > width else None
    try:
        picture, name = picture_of(written, references, name)
    except ClipError as problem:
        return Item(name, None, text, str(problem))
    return Item(name, picture, text, None, note)


def _looks_so(column: pa.Array, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(column, pattern), skip_nulls=True, min_count=0).as_py())


def _fitted(columns: Sequence[pa.ChunkedArray], types: Sequence[pa.DataType]) -> list[Any]:
    """Return columns in their final types; those that only later files have are null."""
    rows = len(columns[0]) if columns else 0
    there = [column.cast(kind) for column, kind in zip(columns, types, strict=False)]
    return [*there, *(pa.nulls(rows, kind) for kind in types[len(there) :])]
