"""``clipserve search import``: the rows of a folder that ``clipserve embed`` or clip-retrieval wrote; the books balance."""

import argparse
import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pyarrow as pa

from clip_client.counting import counted
from clip_client.errors import ClipError, ContractMismatch, InvalidInput, NotFound, Unavailable
from clip_client.host_names import is_loopback
from clip_client.progress_bars import ProgressBar, say
from clip_client.search import OnConflict, Search
from clip_search import memory_trim
from clip_search.cli.books import Books
from clip_search.cli.clip_retrieval.json_rows import JsonRows
from clip_search.cli.commands import client, ensure
from clip_search.imports import runs
from clip_search.imports.chunks import Source
from clip_search.imports.columns import ForeignColumns
from clip_search.imports.sources import opened
from clip_search.imports.steps import Import, Send, Sent, Step

_APART = "--prefix TEXT gives the rows of each folder ids of their own, --replace takes these instead"


def import_(arguments: argparse.Namespace) -> int:
    """Add the vectors and metadata of a folder; a row's id is its number there, behind the prefix."""
    memory_trim.return_at_once()
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
        self._folder: Path = arguments.folder
        self._may_lie_there = not arguments.send and is_loopback(urlsplit(search.url).hostname or "")
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
        with (
            ProgressBar(desc="importing", total=folder.rows, unit=" rows") as bar,
            contextlib.closing(self._steps(folder, columns)) as steps,
        ):
            for step in steps:
                self._enter(step)
                bar.update(step.rows)

    def _steps(self, folder: Source, columns: ForeignColumns) -> Generator[Step]:
        """Yield the outcomes: of the sidecar that reads the folder itself where it may, else of what is sent to it."""
        if self._may_lie_there:
            read_there = self._read_there()
            with contextlib.closing(read_there), contextlib.suppress(InvalidInput):
                first = next(read_there)
                say(f"the sidecar reads {self._folder} itself")
                yield first
                try:
                    yield from read_there
                except InvalidInput as problem:
                    raise Unavailable(str(problem)) from problem
                return
        sending = Import(folder, columns, self._prefix, f"id {{id}} has another vector in {self._collection}: {_APART}")
        yield from sending.steps(self._sender())

    def _read_there(self) -> Generator[Step]:
        lines = self._search.import_folder(
            self._collection,
            self._folder,
            prefix=self._prefix,
            on_conflict="replace" if self._on_conflict == "replace" else "skip",
            fingerprint=self._fingerprint,
        )
        with contextlib.closing(cast("Generator[dict[str, Any]]", lines)):
            for line in lines:
                yield Step(**line)

    def _enter(self, step: Step) -> None:
        self._books.added += step.added
        self._books.unchanged += step.unchanged
        self._books.replaced += step.replaced
        for item, reason in step.left_out:
            self._books.leave_out(item, reason)
        for item, reason in step.notes:
            self._books.note(item, reason)

    def _sender(self) -> Send:
        """Return what sends rows to this sidecar; one that knows no Arrow gets JSON."""
        try:
            next(iter(self._search.arrow_rows(self._collection, page=1)), None)
        except NotFound:
            in_json = JsonRows(self._search, self._collection, self._on_conflict, self._fingerprint)
            return lambda rows: _in_parts(rows, in_json.add)
        return lambda rows: _in_parts(rows, self._added)

    def _added(self, rows: pa.RecordBatch) -> Sent:
        added = self._search.add_arrow(
            self._collection,
            rows,
            on_conflict=self._on_conflict,
            fingerprint=self._fingerprint,
            compare=self._on_conflict == "skip",
        )
        return Sent(added.added, added.replaced, added.skipped - len(added.others), added.errors, tuple(added.others))


def _in_parts(rows: pa.RecordBatch, add: Send) -> Sent:
    """Add rows; halve a request that is too large; enter a single row that is refused."""
    try:
        return add(rows)
    except ContractMismatch:
        raise
    except InvalidInput as problem:
        if problem.errors or len(rows) == 1:
            return Sent(errors=problem.errors or {0: str(problem)})
    half = len(rows) // 2
    first, second = _in_parts(rows.slice(0, half), add), _in_parts(rows.slice(half), add)
    return Sent(
        first.added + second.added,
        first.replaced + second.replaced,
        first.unchanged + second.unchanged,
        {**first.errors, **{half + n: reason for n, reason in second.errors.items()}},
        (*first.others, *(half + n for n in second.others)),
    )


def _holds(search: Search, collection: str) -> str:
    """Return the checkpoint of a collection's vectors; empty if nobody said."""
    return str(search.stats(collection)["fingerprint"] or "")
