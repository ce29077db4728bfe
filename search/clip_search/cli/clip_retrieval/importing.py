"""``clipserve search import``: the rows of a folder that ``clipserve embed`` or clip-retrieval wrote; the books balance."""

import argparse
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from clip_client.counting import counted
from clip_client.embedded_files import FOLDERS
from clip_client.errors import ClipError, ContractMismatch, InvalidInput
from clip_client.progress_bars import ProgressBar, say
from clip_client.search import Added, OnConflict, Row, Search
from clip_client.spec import Tower
from clip_search.arrays import Floats
from clip_search.cli.books import Books
from clip_search.cli.clip_retrieval import runs
from clip_search.cli.clip_retrieval.chunks import Chunk, Source
from clip_search.cli.clip_retrieval.columns import ForeignColumns
from clip_search.cli.clip_retrieval.sources import opened
from clip_search.cli.clip_retrieval.values import is_string, values
from clip_search.cli.commands import batches, client, ensure
from clip_search.storage.kinds import word

_SOURCES = ("image_path", "url")
_LONGEST_SOURCE = 4096  # PATH_MAX of Linux
_NO_DIRECTION = "NaN, infinity or length 0"
_APART = "--prefix TEXT gives the rows of each folder ids of their own, --replace takes these instead"
_LOOKED_UP = 1_000  # rows, of which a sidecar tells at once
_SAME = 0.999  # least cosine of a vector and itself after an export in half precision


def import_(arguments: argparse.Namespace) -> int:
    """Add the vectors and metadata of a folder; a row's id is its number there, behind the prefix."""
    source = opened(arguments.folder)
    fingerprint = runs.fingerprint(source.schemas(), arguments.fingerprint, arguments.folder)
    with client(arguments) as search, Books(arguments.errors, say) as books:
        ensure(search, arguments.collection, dimension=source.size, fingerprint=fingerprint or None)
        runs.check(arguments.folder, fingerprint, arguments.collection, _holds(search, arguments.collection))
        try:
            _Import(arguments, search, books, fingerprint).run(source)
        except (ClipError, KeyboardInterrupt):
            print(f"stopped; what is in stays, run it again for the rest\n{books.closing()}")
            raise
        if told := runs.unfinished(arguments.folder):
            print(f"{arguments.folder} isn't whole yet: {told}, and import again")
        print(f"{counted(books.read - books.left_out, 'row')} imported into {arguments.collection}")
        print(books.closing())
        return books.status()


class _Import:
    """One run of the command."""

    def __init__(self, arguments: argparse.Namespace, search: Search, books: Books, fingerprint: str) -> None:
        self._search, self._books = search, books
        self._collection, self._fingerprint = arguments.collection, fingerprint
        self._prefix: str = arguments.prefix
        self._on_conflict: OnConflict = "replace" if arguments.replace else "skip"

    def run(self, folder: Source) -> None:
        """Send all rows; print the columns and values that changed."""
        about = self._search.stats(self._collection)
        if about["dimension"] != folder.size:
            raise InvalidInput(
                f"the folder has vectors of {folder.size}, collection {self._collection} holds {about['dimension']}: "
                "import it into another, --collection NAME"
            )
        columns = ForeignColumns(folder.schemas(), about["columns"])
        for told in filter(None, (column.told() for column in columns)):
            say(told)
        with ProgressBar(desc="importing", total=folder.rows, unit=" rows") as bar:
            for chunk in folder.chunks():
                self._take(chunk, columns)
                bar.update(len(chunk.numbers))
        for column in columns:
            for reason, count in column.lost.items():
                self._books.note(f"column {word(column.key[0])}", f"{count} values: {reason}")

    def _take(self, chunk: Chunk, columns: ForeignColumns) -> None:
        rows = [] if chunk.problem else self._rows(chunk, columns)
        for position in range(len(chunk.numbers)) if chunk.problem else ():
            self._books.leave_out(_name(chunk.id(position)), chunk.problem)
        if chunk.problem and not chunk.numbers:
            self._books.leave_out(chunk.name, chunk.problem)
        if not rows:
            return
        added = self._sent(rows, columns.kinds())
        others = self._others(rows) if added.skipped else []
        self._books.added += added.added
        self._books.replaced += added.replaced
        self._books.unchanged += added.skipped - len(others)
        for n, reason in sorted(added.errors.items()):
            self._books.leave_out(self._named(rows[n]), reason)
        for row in others:
            self._books.leave_out(self._named(row), f"id {row.id} has another vector in {self._collection}: {_APART}")

    def _others(self, rows: Sequence[Row]) -> list[Row]:
        """Enter rows whose ids belong to others: of a folder imported before, or of other programs."""
        there: dict[str, Mapping[str, Any]] = {}
        for part in batches([str(row.id) for row in rows], _LOOKED_UP):
            there |= {row["id"]: row for row in self._search.get(self._collection, part, vectors=True)}
        return [row for row in rows if row.id in there and not _is_same(row, there[row.id])]

    def _named(self, row: Row) -> str:
        return _name(str(row.id).removeprefix(self._prefix))

    def _rows(self, chunk: Chunk, columns: ForeignColumns) -> list[Row]:
        """Return the rows with a vector; name the others."""
        metadata = columns.rows(chunk.metadata) if chunk.metadata else [{} for _ in chunk.numbers]
        sources = _sources(chunk.metadata) if chunk.metadata else [None] * len(chunk.numbers)
        own_id, rows = columns.name("id"), []
        for position in range(len(chunk.numbers)):
            number = chunk.id(position)
            vectors = self._vectors(number, {tower: embeddings[position] for tower, embeddings in chunk.vectors.items()})
            id = f"{self._prefix}{number}"
            if metadata[position].get(own_id) == id:
                del metadata[position][own_id]
            if vectors:
                image, text = vectors.get("image"), vectors.get("text")
                small = chunk.thumbnails[position] if chunk.thumbnails and image is not None else None
                about, source = metadata[position], sources[position]
                rows.append(Row(id, vector=image, text_vector=text, image=small, metadata=about, source=source))
        return rows

    def _vectors(self, n: str, vectors: Mapping[Tower, Floats | None]) -> dict[Tower, Floats]:
        there = {tower: vector for tower, vector in vectors.items() if vector is not None}
        good = {tower: vector for tower, vector in there.items() if _has_direction(vector)}
        bad = ", ".join(f"{FOLDERS[tower]} has {_NO_DIRECTION} there" for tower in there if tower not in good)
        if bad and good:
            self._books.note(_name(n), f"{bad}: the row goes in without")
        elif not good:
            self._books.leave_out(_name(n), bad or "has no vector")
        return good

    def _sent(self, rows: list[Row], kinds: Mapping[str, str]) -> Added:
        """Send rows; halve a request that is too large; enter a single row that is refused."""
        try:
            return self._search.add(
                self._collection, rows, on_conflict=self._on_conflict, fingerprint=self._fingerprint, columns=kinds
            )
        except ContractMismatch:
            raise
        except InvalidInput as problem:
            if problem.errors or len(rows) == 1:
                return Added(0, 0, 0, [], problem.errors or {0: str(problem)})
        half = len(rows) // 2
        first, second = self._sent(rows[:half], kinds), self._sent(rows[half:], kinds)
        errors = {**first.errors, **{half + n: reason for n, reason in second.errors.items()}}
        added, replaced = first.added + second.added, first.replaced + second.replaced
        return Added(added, replaced, first.skipped + second.skipped, first.ids + second.ids, errors)


def _holds(search: Search, collection: str) -> str:
    """Return the checkpoint of a collection's vectors; empty if nobody said."""
    return str(search.stats(collection)["fingerprint"] or "")


def _name(row: str) -> str:
    return f"row {row}"


def _is_same(row: Row, there: Mapping[str, Any]) -> bool:
    """Tell if a row in the collection has the vectors of one that was sent."""
    pairs = [(row.vector, there.get("vector_image")), (row.text_vector, there.get("vector_text"))]
    return all(_are_close(ours, theirs) for ours, theirs in pairs if ours is not None)


def _are_close(ours: Any, theirs: Floats | None) -> bool:
    if theirs is None:
        return False
    a, b = np.asarray(ours, np.float64), theirs.astype(np.float64)
    return float(a @ b / math.sqrt(float(a @ a) * float(b @ b))) >= _SAME


def _has_direction(vector: Floats) -> bool:
    with np.errstate(over="ignore", invalid="ignore"):
        norm = math.sqrt(float(vector.dot(vector))) if np.isfinite(vector).all() else math.nan
    return math.isfinite(norm) and norm >= 1e-12


def _sources(batch: pa.RecordBatch) -> list[str | None]:
    """Return the path or URL of each row; a key of a shard only where there is no URL beside it."""
    names = [name for name in _SOURCES if batch.schema.names.count(name) == 1 and is_string(batch.schema.field(name).type)]
    texts = [values(batch.column(name), "string", Counter()) for name in names]
    rows = zip(*texts, strict=True) if texts else [()] * len(batch)
    return [_source([text for text in row if text and len(text) <= _LONGEST_SOURCE]) for row in rows]


def _source(places: Sequence[str]) -> str | None:
    return next((place for place in places if place.startswith("/") or "://" in place), next(iter(places), None))
