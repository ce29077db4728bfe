"""Parquet: row groups are read where they lie; nothing of them is copied while planning."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clip_client.errors import ClipError, InvalidInput, Unavailable
from clip_embed.chunks import ROWS, Chunk
from clip_embed.inputs.base import PartOf, Plan
from clip_embed.inputs.columns import Columns, Named, chosen
from clip_embed.inputs.references import References
from clip_embed.inputs.table import Table
from clip_embed.inputs.table_files import NOTHING, folder_of, label_of, table_files
from clip_embed.inputs.table_rows import TableRows
from clip_embed.locations import open_remote, shown
from clip_embed.places import Place

ENDINGS = (".parquet", ".pq", ".parq")
_READERS = 16  # files whose footers are read at once
_BUFFER = 2**20  # bytes of a column that are read at once, instead of all that a row group has of it


@dataclass(frozen=True)
class _Footer:
    columns: Columns
    schema: pa.Schema  # of the own columns
    rows: Sequence[int]  # of each row group


class Parquet(Table):
    """Parquet files with a column of pictures, of captions, or both."""

    kind = "parquet"

    def plan(self, part_items: int) -> Plan:
        """Read the footers; make parts of row groups that follow each other."""
        files = table_files(self.location, ENDINGS)
        plan = Plan([], pa.schema([]), has_pictures=False, has_texts=False)
        with ThreadPoolExecutor(_READERS) as pool:
            for file, footer in zip(files, pool.map(self._footer, files), strict=True):
                self._take(file, footer, plan, part_items)
        if not plan.parts:
            reasons = [f"{name}: {reason}" for name, reason in plan.left_out.items()]
            raise InvalidInput(reasons[0] if reasons else f"{shown(self.location)} has no rows: expected a table with some")
        return plan

    def chunks(self, part: PartOf, schema: pa.Schema, place: Place) -> Iterator[Chunk]:
        """Read some row groups of a file; rows of a damaged one are left out by name."""
        label = label_of(part["file"], self.location)
        with _planned(label), _opened(part["file"]) as table:
            columns = chosen(table.schema_arrow, self._named)
            groups = range(part["first"], part["last"] + 1)
            if groups.stop > table.metadata.num_row_groups or sum(_rows(table, group) for group in groups) != part["rows"]:
                raise InvalidInput("has other row groups")
            rows = TableRows(label, columns, schema, References(folder_of(part["file"])))
            number = part["row"]
            for group in groups:
                yield from _group(table, group, rows, number)
                number += _rows(table, group)

    @property
    def _named(self) -> Named:
        return Named(self.image_column, self.caption_column)

    def _footer(self, file: str) -> _Footer | Exception:
        try:
            with _opened(file) as table:
                groups = [_rows(table, n) for n in range(table.metadata.num_row_groups)]
                columns = chosen(table.schema_arrow, self._named)
                return _Footer(columns, columns.schema(table.schema_arrow), groups)
        except FileNotFoundError:
            return InvalidInput(NOTHING)
        except (OSError, ClipError, pa.ArrowException) as problem:
            return problem

    def _take(self, file: str, footer: _Footer | Exception, plan: Plan, part_items: int) -> None:
        """Add a file to the plan, or to what is left out."""
        label = label_of(file, self.location)
        if isinstance(footer, Unavailable):
            raise footer
        if isinstance(footer, _Footer):
            try:
                plan.schema = pa.unify_schemas([plan.schema, footer.schema], promote_options="permissive")
            except pa.ArrowException as problem:
                footer = InvalidInput(f"its columns don't fit those of the files before ({problem}): convert them")
        if not isinstance(footer, _Footer):
            plan.left_out[label] = str(footer)
            return
        plan.has_pictures |= footer.columns.image is not None
        plan.has_texts |= footer.columns.caption is not None
        plan.parts += _parts(file, footer.rows, part_items)


def _parts(file: str, groups: Sequence[int], part_items: int) -> Iterator[PartOf]:
    first = row = rows = 0
    for group, count in enumerate(groups):
        rows += count
        if rows and (rows >= part_items or group == len(groups) - 1):
            yield {"file": file, "first": first, "last": group, "row": row + 1, "rows": rows}
            first, row, rows = group + 1, row + rows, 0


def _group(table: pq.ParquetFile, group: int, rows: TableRows, first: int) -> Iterator[Chunk]:
    """Read a row group; ``first`` is the number of its first row in the file."""
    count, seen = _rows(table, group), 0
    try:
        for batch in table.iter_batches(batch_size=ROWS, row_groups=[group]):
            chunk = rows.chunk(batch, first + seen)
            yield chunk
            seen += len(chunk)
    except (pa.ArrowException, OSError) as problem:
        if isinstance(problem, ClipError) or (isinstance(problem, OSError) and problem.errno is not None):
            raise
        reason = f"row group {group} of the file is damaged ({str(problem)[:200]}): write it again"
        for start in range(seen, count, ROWS):
            yield rows.lost(first + start, min(ROWS, count - start), reason)


def _rows(table: pq.ParquetFile, group: int) -> int:
    return int(table.metadata.row_group(group).num_rows)


@contextlib.contextmanager
def _planned(label: str) -> Iterator[None]:
    """Raise Unavailable for a file that isn't as it was when it was planned."""
    try:
        yield
    except (pa.ArrowException, InvalidInput) as problem:
        raise Unavailable(f"{label} isn't as it was planned ({problem}): put it back, or choose another output") from problem


@contextlib.contextmanager
def _opened(file: str) -> Iterator[pq.ParquetFile]:
    """Open a file; raises as pyarrow does, and Unavailable where another server can't be reached."""
    if "://" not in file:
        with pq.ParquetFile(file, buffer_size=_BUFFER) as table:
            yield table
        return
    with open_remote(file) as opened, _seekable(opened) as whole, pq.ParquetFile(whole, buffer_size=_BUFFER) as table:
        yield table


@contextlib.contextmanager
def _seekable(opened: Any) -> Iterator[Any]:
    """Return a file in which any place can be read: a copy, where a web server sends files as a whole only."""
    try:
        opened.seek(0, os.SEEK_END)
        opened.seek(0)
    except (ValueError, OSError):
        with tempfile.TemporaryFile(prefix="table-") as copy:
            shutil.copyfileobj(opened, copy, _BUFFER)
            copy.seek(0)
            yield copy
        return
    yield opened
