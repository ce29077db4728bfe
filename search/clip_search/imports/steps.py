"""Import of a folder step by step: batches go in one after the other, and each step tells the outcome of its rows."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import pyarrow as pa

from clip_search.imports.batches import Batch, Reasons, row_name
from clip_search.imports.chunks import TOGETHER, Chunk, Source
from clip_search.imports.columns import ForeignColumns
from clip_search.storage.kinds import word

_AHEAD = 1  # groups that are read while one is added
_GROUP_ROWS, _GROUP_BYTES = 8_000, 10 * 2**20
"""Rows that are added at once, and the bytes from which on they are fewer: each commit has a cost of its own."""


@dataclass(frozen=True)
class Sent:
    """Outcome of a batch: counts, the reason by position of each row left out, positions of rows whose id is another's."""

    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    errors: dict[int, str] = field(default_factory=dict)
    others: tuple[int, ...] = ()


@dataclass
class Step:
    """Outcome of some rows of a folder.

    Attributes:
        rows: of the folder that the step took.
        left_out: rows that aren't in, with the reason.
        notes: rows and columns of which a part isn't in, with the reason.
    """

    rows: int = 0
    added: int = 0
    unchanged: int = 0
    replaced: int = 0
    left_out: Reasons = field(default_factory=list)
    notes: Reasons = field(default_factory=list)


Send = Callable[[pa.RecordBatch], Sent]
"""Addition of a batch, called in another thread, one after the other: rows keep their order."""


@dataclass(frozen=True)
class Import:
    """Import of one folder.

    Args:
        source: the folder.
        columns: of the collection, for the folder's.
        prefix: in front of each row's number, which together are its id.
        other: reason for a row whose id has another vector in the collection, with ``{id}``.
    """

    source: Source
    columns: ForeignColumns
    prefix: str
    other: str

    def steps(self, send: Send) -> Generator[Step]:
        """Send all rows; yield the outcomes in their order.

        Whoever stops early closes the iterator: what is under way is finished, and nothing else begins.
        """
        waiting: deque[tuple[_Group, Future[Sent]]] = deque()
        threads = ThreadPoolExecutor(1, thread_name_prefix="import")
        try:
            for group in self._groups():
                rows = group.rows()
                waiting.append((group, threads.submit(send, rows) if rows else _nothing()))
                if len(waiting) > _AHEAD:
                    yield self._ended(*waiting.popleft())
            while waiting:
                yield self._ended(*waiting.popleft())
        finally:
            threads.shutdown(cancel_futures=True)
        lost = [(column, reason, count) for column in self.columns for reason, count in column.lost.items()]
        yield Step(notes=[(f"column {word(column.key[0])}", f"{count} values: {reason}") for column, reason, count in lost])

    def _chunks(self) -> Iterator[Chunk]:
        """Yield the folder's chunks; a file that can't be read is many rows, which come in parts."""
        for chunk in map(self._of_one_size, self.source.chunks()):
            cuts = range(TOGETHER, len(chunk.numbers), TOGETHER) if chunk.problem else ()
            for first, end in itertools.pairwise([0, *cuts, len(chunk.numbers)]):
                yield replace(chunk, numbers=chunk.numbers[first:end]) if cuts else chunk

    def _of_one_size(self, chunk: Chunk) -> Chunk:
        """Return a chunk, with a problem if its vectors aren't as long as the folder's first."""
        sizes = {vectors.matrix.shape[1] for vectors in chunk.vectors.values()} - {self.source.size}
        return replace(chunk, problem=f"its vector has shape {[*sizes]}, others [{self.source.size}]") if sizes else chunk

    def _groups(self) -> Iterator[_Group]:
        """Yield the chunks as batches, as many together as are added at once."""
        group = _Group()
        for chunk in self._chunks():
            batch = None if chunk.problem else Batch(chunk, self.columns, self.prefix)
            if not group.has_room_for(batch):
                yield group
                group = _Group()
            group.members.append((chunk, batch))
        if group.members:
            yield group

    def _ended(self, group: _Group, sent: Future[Sent]) -> Step:
        outcome = sent.result()
        step = Step(0, outcome.added, outcome.unchanged, outcome.replaced)
        first = 0  # position of a batch's first row in the group
        for chunk, batch in group.members:
            step.rows += len(chunk.numbers)
            if batch is None:
                names = [row_name(chunk.id(position)) for position in range(len(chunk.numbers))] or [chunk.name]
                step.left_out += [(name, chunk.problem) for name in names]
                continue
            here = range(first, first := first + (len(batch.rows) if batch.rows else 0))
            step.left_out += batch.left_out
            step.notes += batch.notes
            refused = sorted((n, reason) for n, reason in outcome.errors.items() if n in here)
            step.left_out += [(batch.name(n - here.start), reason) for n, reason in refused]
            others = [n - here.start for n in outcome.others if n in here]
            ids = batch.rows["id"].to_pylist() if batch.rows and others else []
            step.left_out += [(batch.name(n), self.other.format(id=ids[n])) for n in others]
        return step


@dataclass(frozen=True)
class _Group:
    """Chunks that are added at once, each with its batch; None for one that can't be read."""

    members: list[tuple[Chunk, Batch | None]] = field(default_factory=list)

    def has_room_for(self, batch: Batch | None) -> bool:
        """Tell if the rows of a batch may be added with those that are here."""
        here, more = self._batches(), batch.rows if batch else None
        if not self.members or sum(len(chunk.numbers) for chunk, _ in self.members) >= _GROUP_ROWS:
            return not self.members
        if not here or more is None:
            return True
        together = [*here, more]
        is_small = sum(map(len, together)) <= _GROUP_ROWS and sum(rows.nbytes for rows in together) <= _GROUP_BYTES
        return is_small and more.schema == here[0].schema

    def rows(self) -> pa.RecordBatch | None:
        """Return the rows of all batches, which are kept once; None if there are none."""
        if not (batches := self._batches()):
            return None
        together, first = pa.concat_batches(batches), 0
        for batch, rows in zip((batch for _, batch in self.members if batch and batch.rows), batches, strict=True):
            batch.rows = together.slice(first, len(rows))
            first += len(rows)
        return together

    def _batches(self) -> list[pa.RecordBatch]:
        return [batch.rows for _, batch in self.members if batch and batch.rows]


def _nothing() -> Future[Sent]:
    """Return the outcome of no rows."""
    nothing: Future[Sent] = Future()
    nothing.set_result(Sent())
    return nothing
