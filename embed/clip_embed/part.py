"""One part of a run: read, embedded, written, and recorded last."""

from __future__ import annotations

import json
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clip_client.comparison import Floats
from clip_client.embedded_files import FINGERPRINT, RUN, THUMBNAIL
from clip_client.errors import ClipError, InvalidInput
from clip_client.file_names import as_id, as_source
from clip_client.spec import Tower
from clip_client.thumbnails import thumbnail
from clip_embed.chunks import Chunk, SourceProblem
from clip_embed.engines.base import Engine
from clip_embed.fetch import Contents, Fetcher, is_far
from clip_embed.inputs.base import Input
from clip_embed.manifest import Manifest
from clip_embed.outputs.base import CAPTION, NAME, Output, Rows
from clip_embed.places import OWN, Place

DONE, ERRORS = f"{OWN}/done", f"{OWN}/errors"
Vectors = Sequence[Floats | None]
"""An embedding [D] for each item of a chunk, None where there is none."""

_AHEAD = 6
"""Chunks that are fetched, decoded and encoded at once: an engine has one batch while the next are made."""
_FAR_AHEAD = 64
"""Chunks under way where pictures are downloaded, so that the others go on while some hosts are slow."""
_PRECISIONS = {"float16": (pa.float16(), np.float16), "float32": (pa.float32(), np.float32)}
_ERROR_SCHEMA = pa.schema([("part", pa.int64()), ("item", pa.string()), ("reason", pa.string()), ("kind", pa.string())])
LEFT_OUT, PARTIAL, SOURCE = "left out", "partial", "input"
"""Kinds of errors: of an item that isn't in, of one that is in without a part of it, of a file that ended early."""


@dataclass
class Books:
    """Counts of a part: ``read = taken + left_out``."""

    read: int = 0
    taken: int = 0
    left_out: int = 0
    partial: int = 0  # items that are in without a part of them
    bare: int = 0  # items that are in, with no caption to embed
    broken: int = 0  # files that ended early
    output: dict[str, object] = field(default_factory=dict)  # of the kind of output


class PartUnread(Exception):
    """A part of the input can't be read now; other parts may be.

    Args:
        problem: OSError or ClipError.

    Attributes:
        may_pass: another try may succeed.
    """

    def __init__(self, problem: Exception) -> None:
        super().__init__(str(problem))
        self.may_pass = isinstance(problem, OSError) and not isinstance(problem, FileNotFoundError)


@dataclass
class _Embedded:
    """A chunk and its embeddings."""

    chunk: Chunk
    embeddings: dict[Tower, Vectors]
    problems: dict[int, str]
    thumbnails: Sequence[bytes | None] = ()


class PartRunner:
    """Runner of parts of one run.

    Args:
        place: of the output.
        manifest: of the run.
        source: the input.
        output: kind of the output.
        engine: embeds.
        fetcher: gets pictures that are named by a path or a URL.
    """

    def __init__(
        self, place: Place, manifest: Manifest, source: Input, output: Output, *, engine: Engine, fetcher: Fetcher
    ) -> None:
        self._place, self._manifest, self._source, self._output = place, manifest, source, output
        self._engine, self._fetcher = engine, fetcher
        self._vector = _vector_type(manifest, engine.spec.embedding_size)

    def run(self, number: int, progress: Callable[[int], object] = lambda items: None) -> Books:
        """Do a part and record it; after an error, nothing of it counts.

        Raises:
            PartUnread: its input can't be read.
            ClipError: the engine fails, or the place can't be used.
            OSError: a file can't be written.
        """
        label = self._manifest.label(number)
        books, errors = Books(), list[tuple[str, str, str]]()
        with tempfile.TemporaryDirectory(prefix=f"part-{label}-", dir=scratch(self._place)) as name:
            folder = Path(name)
            rows = Rows(
                folder / "rows.arrow", self._spool(number, folder / "rows.arrow", books, errors, progress), self._towers
            )
            books.output = self._output.write(self._place, label, rows, folder)
            if errors:
                self._place.take(_error_file(folder / "errors.parquet", number, errors), f"{ERRORS}/{label}.parquet")
        self._place.create(f"{DONE}/{label}.json", json.dumps(asdict(books)).encode())
        return books

    @property
    def _towers(self) -> tuple[Tower, ...]:
        return self._manifest.towers

    def _spool(
        self, number: int, file: Path, books: Books, errors: list[tuple[str, str, str]], progress: Callable[[int], object]
    ) -> int:
        """Write the rows of a part into a file; return their number."""
        schema = self._schema()
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            try:
                for embedded in self._embedded(number):
                    self._enter(embedded, books, errors)
                    batch = self._rows(embedded, schema)
                    books.taken += len(batch)
                    if len(batch):
                        writer.write_batch(batch)
                    progress(len(embedded.chunk))
            except SourceProblem as problem:
                books.broken += 1
                errors.append((problem.name, problem.reason, SOURCE))
        return books.taken

    def _embedded(self, number: int) -> Iterator[_Embedded]:
        """Yield the chunks of a part in order, a few of which are under way at a time."""
        waiting = deque[Future[_Embedded]]()
        chunks = self._source.chunks(self._manifest.parts[number], self._manifest.schema, self._place)
        problem: SourceProblem | None = None
        with ThreadPoolExecutor(_AHEAD, thread_name_prefix="chunk") as pool:
            try:
                while True:
                    try:
                        chunk = next(chunks)
                        waiting.append(pool.submit(self._embed, chunk, self._begun(chunk)))
                    except StopIteration:
                        break
                    except SourceProblem as told:
                        problem = told
                        break
                    except (OSError, ClipError) as told:
                        raise PartUnread(told) from told
                    ahead = _FAR_AHEAD if any(map(is_far, chunk.pictures)) and not self._fetcher.is_full else _AHEAD
                    while len(waiting) > ahead:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            except KeyboardInterrupt:
                self._engine.give_up()
                raise
            finally:
                pool.shutdown(cancel_futures=True)
        if problem:
            raise problem

    def _begun(self, chunk: Chunk) -> Contents | None:
        return self._fetcher.begin(chunk) if "image" in self._towers else None

    def _embed(self, chunk: Chunk, contents: Contents | None) -> _Embedded:
        problems = dict(chunk.problems)
        embeddings: dict[Tower, Vectors] = {}
        thumbnails: Sequence[bytes | None] = [None] * len(chunk)
        if contents:
            pictures = contents.wait(problems)
            embeddings["image"] = self._of_tower("image", pictures, problems)
            if self._manifest.identity.thumbnails:
                thumbnails = [None if n in problems else _thumbnail(picture) for n, picture in enumerate(pictures)]
        if "text" in self._towers:
            texts = [None if n in problems else text for n, text in enumerate(chunk.texts)]
            if "image" not in self._towers:
                problems |= {n: "has no text" for n, text in enumerate(chunk.texts) if text is None and n not in problems}
            embeddings["text"] = self._of_tower("text", texts, problems)
        return _Embedded(chunk, embeddings, problems, thumbnails)

    def _of_tower(self, tower: Tower, items: Sequence[object | None], problems: dict[int, str]) -> Vectors:
        """Embed what there is; note the reasons of what failed."""
        there = [n for n, item in enumerate(items) if item is not None]
        if not there:
            return [None] * len(items)
        answer = self._engine.embed(tower, [items[n] for n in there])
        problems.update({there[position]: str(problem) for position, problem in answer.errors.items()})
        vectors: list[Floats | None] = [None] * len(items)
        for n, vector in zip(there, answer, strict=True):
            vectors[n] = vector
        return vectors

    def _enter(self, embedded: _Embedded, books: Books, errors: list[tuple[str, str, str]]) -> None:
        chunk = embedded.chunk
        books.read += len(chunk)
        books.left_out += len(embedded.problems)
        errors += [(chunk.names[n], reason, LEFT_OUT) for n, reason in sorted(embedded.problems.items())]
        notes = {n: note for n, note in chunk.notes.items() if n not in embedded.problems}
        books.partial += len(notes)
        errors += [(chunk.names[n], note, PARTIAL) for n, note in sorted(notes.items())]
        if "text" in self._towers:
            books.bare += sum(text is None and n not in embedded.problems for n, text in enumerate(chunk.texts))

    def _schema(self) -> pa.Schema:
        captions = [pa.field(CAPTION, pa.string())] if self._has_captions else []
        towers = [pa.field(tower, self._vector) for tower in self._towers]
        origin = {FINGERPRINT: self._manifest.identity.fingerprint, RUN: self._manifest.run}
        small = [pa.field(THUMBNAIL, pa.binary())] if self._manifest.identity.thumbnails else []
        return pa.schema([pa.field(NAME, pa.string()), *captions, *self._manifest.schema, *small, *towers], origin)

    @property
    def _has_captions(self) -> bool:
        return self._manifest.has_texts

    def _rows(self, embedded: _Embedded, schema: pa.Schema) -> pa.RecordBatch:
        chunk = embedded.chunk
        kept = [n for n in range(len(chunk)) if n not in embedded.problems]
        own = chunk.own if len(kept) == len(chunk) else chunk.own.take(pa.array(kept, pa.int64()))
        columns = [pa.array([_path(chunk, n) for n in kept], pa.string())]
        if self._has_captions:
            columns.append(pa.array([chunk.texts[n] for n in kept], pa.string()))
        columns += own.columns
        if self._manifest.identity.thumbnails:
            columns.append(pa.array([embedded.thumbnails[n] for n in kept], pa.binary()))
        columns += [self._vectors(embedded.embeddings[tower], kept) for tower in self._towers]
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    def _vectors(self, embeddings: Vectors, kept: Sequence[int]) -> pa.Array:
        _, dtype = _PRECISIONS[self._manifest.identity.precision]
        values = np.zeros((len(kept), self._vector.list_size), dtype)
        missing = np.zeros(len(kept), bool)
        for row, n in enumerate(kept):
            if (vector := embeddings[n]) is None:
                missing[row] = True
            else:
                values[row] = vector
        return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), type=self._vector, mask=pa.array(missing))


def _thumbnail(picture: bytes | None) -> bytes | None:
    """Return a small JPEG; None where there is no picture, or only the towers can read it."""
    try:
        return thumbnail(picture) if picture else None
    except InvalidInput:
        return None


def _path(chunk: Chunk, n: int) -> str:
    """Return the place of an item's picture, or its name where the picture came with the item."""
    picture = chunk.pictures[n]
    return as_source(picture) if isinstance(picture, str) else as_id(chunk.names[n])


def scratch(place: Place) -> Path | None:
    """Return the folder for files on the way: beside the output, so that renaming is one step; else the system's."""
    if place.local is None:
        return None
    folder = place.local / OWN / "tmp"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _vector_type(manifest: Manifest, size: int) -> pa.DataType:
    return pa.list_(_PRECISIONS[manifest.identity.precision][0], size)


def _error_file(file: Path, part: int, errors: Sequence[tuple[str, str, str]]) -> Path:
    pq.write_table(error_table(part, errors), file)
    return file


def error_table(part: int | None, errors: Sequence[tuple[str, str, str]]) -> pa.Table:
    """Return errors as a table: number of the part, item, reason, kind."""
    rows = [{"part": part, "item": as_id(item), "reason": as_id(reason), "kind": kind} for item, reason, kind in errors]
    return pa.Table.from_pylist(rows, _ERROR_SCHEMA)
