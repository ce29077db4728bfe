"""Files of clip-retrieval's folders in shards of numbered rows; a file that can't be read is a problem of its shard."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clip_client.embedded_files import FOLDERS
from clip_client.errors import InvalidInput
from clip_client.spec import TOWERS, Tower
from clip_search.arrays import Floats, Mask
from clip_search.imports.chunks import BUFFER_BYTES, TOGETHER, Chunk, Vectors, origin
from clip_search.imports.runs import part_of, plain_schema, run_of, without_thumbnails

_NUMBER = re.compile(r"[0-9]{1,18}$")
_HEADERS: dict[tuple[int, int], Callable[[Any], Any]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclass(frozen=True)
class Part:
    """File of a shard."""

    path: Path
    rows: int | None  # how many it has, or says to have; None if that can't be told
    size: int = 0  # D, if it has vectors
    index: Any = None  # of faiss, that keeps the vectors; None for another file
    schema: pa.Schema | None = None  # of a table
    problem: str = ""  # why it can't be read; empty if it can

    @property
    def number(self) -> int | None:
        """Number at the end of the name."""
        match = _NUMBER.search(self.path.stem)
        return int(match[0]) if match else None

    def read(self, first: int, last: int) -> Floats:
        """Return the vectors of rows ``first`` to ``last`` (excluded), float32 [n, D].

        The file is mapped for this alone: pages that stay mapped count as memory of the process.
        """
        if self.index is not None:
            return np.asarray(self.index.reconstruct_n(first, min(last, self.rows or 0) - first), np.float32)
        return np.array(np.load(self.path, mmap_mode="r", allow_pickle=False)[first:last], np.float32)

    def label(self) -> str:
        """Return the name with the folder's."""
        return f"{self.path.parent.name}/{self.path.name}"

    def named(self) -> str:
        """Return the problem with the name."""
        return f"{self.label()} {self.problem}"


@dataclass(frozen=True)
class Shard:
    """Files of the same rows, from number ``first``; those of a kind follow each other.

    Attributes:
        origin: run and part of ``clipserve embed``, whose rows are numbered by part; empty for others.
    """

    first: int
    rows: int
    vectors: dict[Tower, list[Part]]
    metadata: list[Part]
    problem: str = ""
    origin: str = ""

    def chunks(self) -> Iterator[Chunk]:
        """Yield all rows, in order."""
        end = self.first + self.rows
        if self.problem and self.rows < 0:
            yield Chunk((), problem=self.problem, name=f"rows from {self.origin}{self.first}")
        elif self.problem:
            yield Chunk(range(self.first, end), problem=self.problem, origin=self.origin)
        elif not self.metadata:
            for start in range(self.first, end, TOGETHER):
                yield self._chunk(start, min(TOGETHER, end - start), None)
        else:
            yield from self._described()

    def _described(self) -> Iterator[Chunk]:
        start = self.first
        for part in self.metadata:
            for rows, batch, problem in _batches(part):
                yield self._chunk(start, rows, batch, problem)
                start += rows

    def _chunk(self, start: int, rows: int, metadata: pa.RecordBatch | None, problem: str = "") -> Chunk:
        numbers, first = range(start, start + rows), start - self.first
        if problem:
            return Chunk(numbers, problem=problem, origin=self.origin)
        stored = {tower: _vectors(parts, first, first + rows) for tower, parts in self.vectors.items()}
        vectors = {tower: Vectors(matrix, self._there(matrix)) for tower, matrix in stored.items()}
        plain, thumbnails = without_thumbnails(metadata) if self.origin and metadata is not None else (metadata, ())
        return Chunk(numbers, vectors, plain, origin=self.origin, thumbnails=thumbnails)

    def _there(self, matrix: Floats) -> Mask:
        """Tell which rows have a vector, bool [n]: zeros stand for none in folders of ``clipserve embed``."""
        return np.asarray(matrix.any(1)) if self.origin else np.ones(len(matrix), bool)


@dataclass(frozen=True)
class Folder:
    """Folder in clip-retrieval's format."""

    shards: list[Shard]

    @cached_property
    def size(self) -> int:
        """Size D of the first vectors that can be read."""
        readable = (part for shard in self.shards if not shard.problem for parts in shard.vectors.values() for part in parts)
        return next(readable).size

    @property
    def rows(self) -> int:
        """Number of all rows, readable or not."""
        return sum(max(0, shard.rows) for shard in self.shards)

    def chunks(self) -> Iterator[Chunk]:
        """Yield all rows, in order."""
        for shard in self.shards:
            yield from shard.chunks()

    def schemas(self) -> list[pa.Schema]:
        """Return the schemas of readable metadata."""
        parts = (part for shard in self.shards if not shard.problem for part in shard.metadata)
        return [plain_schema(part.schema) for part in parts if part.schema is not None]


def has_vectors(folder: Path) -> bool:
    """Tell if a folder has files of clip-retrieval's layout."""
    return any(_files(folder / FOLDERS[tower], "npy") or (folder / f"{tower}.index").is_file() for tower in TOWERS)


def open_folder(folder: Path) -> Folder:
    """Read the headers of a folder's files.

    Raises:
        InvalidInput: it has no vectors, nothing of it can be read, or its rows can't be numbered.
    """
    vectors = {tower: parts for tower in TOWERS if (parts := _vector_parts(folder, tower))}
    if not vectors:
        raise InvalidInput(f"no vectors in {folder}: expected img_emb, text_emb, image.index or text.index")
    metadata = [_parquet(path) for path in _files(folder / "metadata", "parquet")]
    run = next(filter(None, (run_of(part.schema) for part in metadata)), "")
    if run:  # whose metadata come last: what is there without them is of a part that isn't done
        numbers = {part.number for part in metadata}
        vectors = {tower: [part for part in parts if part.number in numbers] for tower, parts in vectors.items()}
    lengths = {len(parts) for parts in (*vectors.values(), *([metadata] if metadata else []))}
    if len(lengths) > 1:
        return Folder([_whole(folder, vectors, metadata)])
    vectors, metadata = _in_step(vectors, metadata)
    shards: list[Shard] = []
    count = lengths.pop()
    for n in range(count):
        first = shards[-1].first + shards[-1].rows if shards and not run else 0
        shard = _shard(first, {tower: parts[n] for tower, parts in vectors.items()}, metadata[n : n + 1], count == 1)
        shards.append(replace(shard, origin=origin(run, part_of(metadata[n].path.stem))) if run else shard)
    _check(folder, shards)
    return Folder(shards)


def _check(folder: Path, shards: Sequence[Shard]) -> None:
    if all(shard.problem for shard in shards):
        raise InvalidInput(f"nothing in {folder} can be imported: {shards[0].problem}")
    for shard in shards[:-1]:
        if shard.rows < 0 and not shard.origin:
            raise InvalidInput(f"{shard.problem}, and nothing tells how many rows it has: those after it can't be numbered")


def _shard(first: int, vectors: dict[Tower, Part], metadata: list[Part], is_only: bool) -> Shard:
    """Make a shard of one file of each kind; note a problem if they don't match."""
    parts = [*vectors.values(), *metadata]
    counts = [part.rows for part in parts if not part.problem] + [part.rows for part in parts if part.rows is not None]
    problem = next((part.named() for part in parts if part.problem), "")
    if not problem and not is_only and len({part.number for part in parts} - {None}) > 1:
        problem = f"{' and '.join(part.label() for part in parts)} have different numbers: which belongs to which can't be told"
    if not problem and len(set(counts)) > 1:
        told = ", ".join(f"{part.label()} has {part.rows} rows" for part in parts)
        problem = f"{told}: which belongs to which can't be told"
    rows = next((count for count in counts if count is not None), -1)
    return Shard(first, rows, {tower: [part] for tower, part in vectors.items()}, metadata, problem)


def _whole(folder: Path, vectors: dict[Tower, list[Part]], metadata: list[Part]) -> Shard:
    """Make one shard of all files, since their numbers differ; raise InvalidInput if anything is missing."""
    for part in (*(part for parts in vectors.values() for part in parts), *metadata):
        if part.problem:
            raise InvalidInput(f"{part.named()}: the folder isn't whole, and the rows after it can't be numbered")
    counts = {tower: sum(part.rows or 0 for part in parts) for tower, parts in vectors.items()}
    described = sum(part.rows or 0 for part in metadata)
    if len({*counts.values(), *([described] if metadata else [])}) > 1:
        told = ", ".join(f"{count} {tower} vectors" for tower, count in counts.items())
        raise InvalidInput(f"{folder} has {told}, {described} metadata: the folder isn't whole")
    return Shard(0, next(iter(counts.values())), vectors, metadata)


def _vector_parts(folder: Path, tower: Tower) -> list[Part]:
    parts = [_npy(path) for path in _files(folder / FOLDERS[tower], "npy")]
    index = folder / f"{tower}.index"
    return parts or ([_index(index)] if index.is_file() else [])


def _files(folder: Path, ending: str) -> list[Path]:
    """Return files in the order of their names, without hidden ones such as macOS's ``._img_emb_0.npy``."""
    return sorted(path for path in folder.glob(f"[!.]*.{ending}") if path.is_file())


def _in_step(vectors: dict[Tower, list[Part]], metadata: list[Part]) -> tuple[dict[Tower, list[Part]], list[Part]]:
    """Return files of each kind in the order of the first kind's numbers; unchanged if the kinds have different numbers."""
    order = [part.number for part in next(iter(vectors.values()))]
    kinds = [*vectors.values(), metadata] if metadata else [*vectors.values()]
    if len(set(order)) < len(order) or any({part.number for part in parts} != set(order) for parts in kinds):
        return vectors, metadata
    ranked = [sorted(parts, key=lambda part: order.index(part.number)) for parts in kinds]
    return dict(zip(vectors, ranked, strict=False)), ranked[-1] if metadata else []


def _npy(path: Path) -> Part:
    """Open a file of vectors; nothing in it is executed."""
    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError, SyntaxError, MemoryError, OverflowError) as problem:
        return Part(path, _header_rows(path), problem=f"can't be read ({problem})")
    if not isinstance(vectors, np.ndarray):
        return Part(path, None, problem="is an archive: expected one array")
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu":
        rows = len(vectors) if vectors.ndim > 1 else None
        return Part(path, rows, problem=f"holds {vectors.dtype} {list(vectors.shape)}: expected numbers [rows, D]")
    return Part(path, *vectors.shape)


def _header_rows(path: Path) -> int | None:
    """Return the number of rows in the header of a damaged file, as far as its size makes that credible."""
    try:
        with path.open("rb") as file:
            shape = _HEADERS[np.lib.format.read_magic(file)](file)[0]
        return int(shape[0]) if len(shape) > 1 and 0 <= shape[0] <= path.stat().st_size else None
    except (ValueError, OSError, EOFError, SyntaxError, KeyError, TypeError):
        return None


def _index(path: Path) -> Part:
    from clip_search.index.faiss_index import stored_vectors  # faiss takes 40 MB

    try:
        index = stored_vectors(path)
    except InvalidInput as problem:
        return Part(path, None, problem=f"can't be read ({problem})")
    return Part(path, index.ntotal, index.d, index=index)


def _parquet(path: Path) -> Part:
    try:
        with pq.ParquetFile(path) as file:
            return Part(path, file.metadata.num_rows, schema=file.schema_arrow)
    except (pa.ArrowException, OSError, ValueError) as problem:
        return Part(path, None, problem=f"can't be read ({problem})")


def _batches(part: Part) -> Iterator[tuple[int, pa.RecordBatch | None, str]]:
    """Yield rows, or a count of unreadable rows with the reason; a damaged group of rows leaves the others."""
    with pq.ParquetFile(part.path, buffer_size=BUFFER_BYTES) as file:
        for group in range(file.num_row_groups):
            left = file.metadata.row_group(group).num_rows
            try:
                for batch in file.iter_batches(TOGETHER, row_groups=[group]):
                    yield len(batch), batch, ""
                    left -= len(batch)
            except (pa.ArrowException, OSError, ValueError) as problem:
                yield left, None, f"metadata/{part.path.name} can't be read ({problem})"


def _vectors(parts: Sequence[Part], first: int, last: int) -> Floats:
    """Return rows ``first`` to ``last`` (excluded) of consecutive files, float32 [n, D]."""
    pieces: list[Floats] = []
    for part in parts:
        count = part.rows or 0
        if first < count and last > 0:
            with np.errstate(over="ignore"):  # becomes infinity, which is refused
                pieces.append(part.read(max(0, first), last))
        first, last = first - count, last - count
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
