"""Tables of vectors and metadata: parquet files and Lance data sets, as ``clipserve embed`` writes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as is_type

from clip_client.errors import InvalidInput, Unavailable
from clip_client.spec import TOWERS, Tower
from clip_search.imports.chunks import BUFFER_BYTES, TOGETHER, Chunk, Vectors, origin
from clip_search.imports.runs import part_of, plain_schema, run_of, without_thumbnails
from clip_search.storage.kinds import word

_NOT_ROWS = ("errors.parquet",)
_READ_AHEAD = 64 * 2**20  # bytes, of Lance

Rows = tuple[Sequence[int], pa.RecordBatch | None, str]
"""Numbers of rows in their file, the rows, and the reason why they can't be read."""


class Piece(Protocol):
    """File of rows.

    Attributes:
        name: for messages.
        part: number of the part, as the file's name has it.
        schema: None for a file that can't be read, whose number of rows nobody knows.
        count: of the rows.
        problem: the reason why it can't be read.
    """

    name: str
    part: str
    schema: pa.Schema | None
    count: int
    problem: str

    def read(self) -> Iterator[Rows]:
        """Yield the rows; those that can't be read leave the others."""


class Tables:
    """Pieces of one folder; all have a column of vectors for a tower, ``image`` or ``text``.

    Args:
        folder: for messages.
        pieces: in their order.
    """

    def __init__(self, folder: Path, pieces: Sequence[Piece]) -> None:
        self._folder, self._pieces = folder, pieces
        readable = [piece.schema for piece in pieces if piece.schema is not None]
        if not readable:
            raise InvalidInput(f"nothing in {folder} can be imported: {pieces[0].problem}")
        if not any(_towers(schema) for schema in readable):
            columns = ", ".join(map(word, readable[0].names))
            raise InvalidInput(f"{folder} has the columns {columns}: expected vectors in image or text, lists of one size")
        self._schemas = readable

    @cached_property
    def size(self) -> int:
        """Size D of the vectors of the first piece that has some."""
        return int(next(_sizes(schema)[0] for schema in self._schemas if _sizes(schema)))

    @property
    def rows(self) -> int:
        """Number of all rows that are known of."""
        return sum(piece.count for piece in self._pieces)

    def schemas(self) -> list[pa.Schema]:
        """Return the schemas of the metadata."""
        return [_without_vectors(schema) for schema in self._schemas]

    def chunks(self) -> Iterator[Chunk]:
        """Yield all rows."""
        for piece in self._pieces:
            start = origin(run_of(piece.schema), piece.part)
            if piece.schema is None:
                yield Chunk((), problem=piece.problem, name=piece.name)
                continue
            problem = self._problem(piece.schema)
            for numbers, batch, reason in piece.read():
                if batch is None or problem:
                    yield Chunk(numbers, problem=reason or f"{piece.name} {problem}", origin=start)
                else:
                    yield _chunk(numbers, batch, start)

    def _problem(self, schema: pa.Schema) -> str:
        sizes = set(_sizes(schema))
        if not sizes:
            return "has no vectors in image or text"
        return f"has vectors of {', '.join(map(str, sizes))}, others of {self.size}" if sizes != {self.size} else ""


class ParquetPiece:
    """Parquet file."""

    def __init__(self, file: Path) -> None:
        self._file, self.name, self.part = file, file.name, part_of(file.stem)
        self.schema: pa.Schema | None = None
        self.count, self.problem = 0, ""
        try:
            with pq.ParquetFile(file) as opened:
                self.schema, self.count = opened.schema_arrow, opened.metadata.num_rows
        except (pa.ArrowException, OSError, ValueError) as problem:
            self.problem = f"{file.name} can't be read ({problem})"

    def read(self) -> Iterator[Rows]:
        """Yield the rows, group by group."""
        first = 0
        with pq.ParquetFile(self._file, buffer_size=BUFFER_BYTES) as opened:
            for group in range(opened.num_row_groups):
                end = first + opened.metadata.row_group(group).num_rows
                try:
                    for batch in opened.iter_batches(TOGETHER, row_groups=[group]):
                        yield range(first, first + len(batch)), batch, ""
                        first += len(batch)
                except (pa.ArrowException, OSError, ValueError) as problem:
                    yield range(first, end), None, f"{self.name} can't be read ({problem})"
                first = end


class LancePiece:
    """Fragment of a Lance data set."""

    def __init__(self, dataset: Any, fragment: Any) -> None:
        self._dataset, self._fragment = dataset, fragment
        files = fragment.metadata.files
        self.part = part_of(Path(files[0].path).stem) if files else str(fragment.fragment_id)
        self.name, self.schema, self.problem = f"part {self.part}", dataset.schema, ""
        self.count = fragment.count_rows()

    def read(self) -> Iterator[Rows]:
        """Yield the rows that aren't deleted, by their number in the fragment."""
        seen = 0
        try:
            for batch in self._dataset.scanner(
                fragments=[self._fragment],
                batch_size=TOGETHER,
                batch_readahead=2,
                io_buffer_size=_READ_AHEAD,
                scan_in_order=True,
                with_row_address=True,
            ).to_batches():
                numbers = (batch.column("_rowaddr").to_numpy() & 0xFFFFFFFF).tolist()
                seen += len(numbers)
                yield numbers, batch.drop_columns(["_rowaddr"]), ""
        except (pa.ArrowException, OSError, ValueError, RuntimeError) as problem:
            yield range(seen, self.count), None, f"{self.name} can't be read ({problem})"


def parquet_tables(folder: Path) -> Tables | None:
    """Return the parquet files of a folder, without hidden ones and the list of errors; None if there are none."""
    files = sorted(path for path in folder.glob("[!._]*.parquet") if path.is_file() and path.name not in _NOT_ROWS)
    return Tables(folder, [ParquetPiece(file) for file in files]) if files else None


def lance_tables(folder: Path) -> Tables:
    """Return the fragments of a Lance data set.

    Raises:
        InvalidInput: it can't be opened, or has no rows.
        Unavailable: the library isn't installed.
    """
    try:
        import lance
    except ImportError as problem:
        raise Unavailable(f"a Lance data set needs another package ({problem}): pip install 'clipserve[embed]'") from problem
    try:
        dataset = lance.dataset(str(folder))
        pieces = [LancePiece(dataset, fragment) for fragment in dataset.get_fragments()]
    except (ValueError, OSError, RuntimeError) as problem:
        raise InvalidInput(f"the Lance data set {folder} can't be opened ({_first_line(problem)}): is it whole?") from problem
    if not pieces:
        raise InvalidInput(f"the Lance data set {folder} has no rows: errors.parquet there says why, if all were left out")
    return Tables(folder, pieces)


def _first_line(problem: Exception) -> str:
    return next(iter(str(problem).splitlines()), type(problem).__name__)


def _towers(schema: pa.Schema) -> list[Tower]:
    return [tower for tower in TOWERS if schema.names.count(tower) == 1 and _is_vectors(schema.field(tower).type)]


def _is_vectors(type: pa.DataType) -> bool:
    return bool(is_type.is_fixed_size_list(type) and is_type.is_floating(type.value_type))


def _sizes(schema: pa.Schema) -> list[int]:
    return [schema.field(tower).type.list_size for tower in _towers(schema)]


def _without_vectors(schema: pa.Schema) -> pa.Schema:
    towers = _towers(schema)
    return plain_schema(pa.schema([column for column in schema if column.name not in towers], schema.metadata))


def _chunk(numbers: Sequence[int], batch: pa.RecordBatch, start: str) -> Chunk:
    vectors: dict[Tower, Vectors] = {tower: _vectors(batch.column(tower)) for tower in _towers(batch.schema)}
    metadata, thumbnails = without_thumbnails(batch.drop_columns([*vectors]))
    return Chunk(numbers, vectors, metadata, origin=start, thumbnails=thumbnails)


def _vectors(column: pa.Array) -> Vectors:
    size = column.type.list_size
    values = np.asarray(column.values)[column.offset * size : (column.offset + len(column)) * size]
    with np.errstate(over="ignore"):  # becomes infinity, which is refused
        matrix = values.reshape(-1, size).astype(np.float32)  # [n * D] -> [n, D]
    return Vectors(matrix, np.asarray(column.is_valid()))
