"""Command ``clipserve search copy``: rows that the target lacks are sent, then both are compared; the books balance."""

import argparse
import contextlib
import json
import os
import random
from collections.abc import Iterator

import numpy as np

from clip_client.counting import counted
from clip_client.errors import ClipError, ContractMismatch, InvalidInput, NotFound
from clip_client.progress_bars import ProgressBar, say
from clip_search.cli.books import Books
from clip_search.cli.copying.database_end import DatabaseEnd
from clip_search.cli.copying.ends import TOGETHER, CopiedRow, Description, End, is_sidecar, parted
from clip_search.cli.copying.sidecar_end import SidecarEnd
from clip_search.cli.token_file import read_token
from clip_search.storage.permissions import UMASK

_SAMPLE = 1_000  # rows that are compared in full
_NAMED = 20  # different rows that are named
_TOLERANCE = 1e-5  # of a vector's numbers: a sidecar scales to unit length again


def copy(arguments: argparse.Namespace) -> int:
    """Copy a collection and compare."""
    os.umask(UMASK)
    with contextlib.ExitStack() as stack:
        source, target = _ends(arguments, stack)
        books = stack.enter_context(Books(arguments.errors, say))
        about = source.describe()
        if about is None:
            raise NotFound(f"{arguments.source}: there is no such collection")
        _prepare(target, about, arguments.target)
        run = _Copy(source, target, about, books)
        try:
            run.copy(replace=arguments.replace)
        except (ClipError, KeyboardInterrupt):
            say(f"stopped; what is copied stays, run it again for the rest\n{books.closing()}")
            raise
        run.compare()
        print(json.dumps(run.told()) if arguments.json else "\n".join(run.lines(arguments)))
        return 1 if books.status() or run.different or run.missing else 0


class _Copy:
    """One run of the command."""

    def __init__(self, source: End, target: End, about: Description, books: Books) -> None:
        self._source, self._target, self._about, self._books = source, target, about, books
        self._draw, self._seen = random.Random(0), 0  # noqa: S311  (a sample)
        self._sample: list[str] = []
        self._compared = 0
        self.missing: list[str] = []
        self.different: list[str] = []

    def copy(self, *, replace: bool) -> None:
        """Send the rows that the target lacks, or all."""
        with ProgressBar(desc="copying", total=self._about.rows, unit=" rows") as bar:
            for ids in self._source.ids():
                there = set() if replace else set(self._target.present(ids))
                self._books.unchanged += len(there)
                wanted = [id for id in ids if id not in there]
                if wanted:
                    self._send(wanted, replace=replace)
                bar.update(len(ids))

    def _send(self, ids: list[str], *, replace: bool) -> None:
        rows = self._source.get(ids)
        for id in sorted(set(ids) - {row.id for row in rows}):
            self._books.leave_out(id, "it was deleted meanwhile")
        if not rows:
            return
        written = self._target.add(rows, self._about, replace=replace)
        self._books.added += written.added
        self._books.replaced += written.replaced
        self._books.unchanged += (
            len(rows) - written.added - written.replaced - len(written.errors)
        )  # others added them meanwhile
        for id, reason in written.errors.items():
            self._books.leave_out(id, reason)

    def compare(self) -> None:
        """Look for each id of the source in the target, and compare a sample of rows in full."""
        for ids in self._source.ids():
            there = set(self._target.present(ids))
            self.missing += [id for id in ids if id not in there]
            for id in ids:
                self._consider(id)
        for start in range(0, len(self._sample), TOGETHER):
            part = self._sample[start : start + TOGETHER]
            copies = {row.id: row for row in self._target.get(part)}
            for row in self._source.get(part):
                if row.id in copies:
                    self._compared += 1
                    if why := _difference(row, copies[row.id]):
                        self.different.append(f"{row.id}: {why}")

    def _consider(self, id: str) -> None:
        """Draw a sample (algorithm R, Vitter 1985)."""
        self._seen += 1
        if len(self._sample) < _SAMPLE:
            self._sample.append(id)
        elif (place := self._draw.randrange(self._seen)) < _SAMPLE:
            self._sample[place] = id

    def told(self) -> dict[str, object]:
        """Return the outcome, ready for JSON."""
        books = self._books
        counts = {name: getattr(books, name) for name in ("read", "added", "unchanged", "replaced", "left_out")}
        return {**counts, "ids_compared": self._seen, "missing": self.missing[:_NAMED], "missing_count": len(self.missing),
                "rows_compared": self._compared, "different": self.different[:_NAMED]}  # fmt: skip

    def lines(self, arguments: argparse.Namespace) -> Iterator[str]:
        """Yield the outcome in words."""
        yield f"{arguments.source} is copied to {arguments.target}"
        missing = f"{len(self.missing)} aren't there, {', '.join(self.missing[:_NAMED])}" if self.missing else "all are there"
        yield f"compared by id: {counted(self._seen, 'row')}, {missing}"
        different = f"{len(self.different)} differ" if self.different else "all are the same"
        yield f"compared in vectors, columns, source and thumbnail: {counted(self._compared, 'row')}, {different}"
        yield from self.different[:_NAMED]
        yield self._books.closing()


def _ends(arguments: argparse.Namespace, stack: contextlib.ExitStack) -> tuple[End, End]:
    """Open source and target; collections of one database share it."""
    (where, _), (to, name) = parted(arguments.source), parted(arguments.target)
    if parted(arguments.source) == (to, name):
        raise InvalidInput(f"{arguments.source} is both: name another collection to copy to")
    source = stack.enter_context(contextlib.closing(_opened(arguments, is_source=True)))
    if where == to and isinstance(source, DatabaseEnd):
        return source, stack.enter_context(contextlib.closing(source.beside(name)))
    target = _opened(arguments, is_source=False)
    return source, stack.enter_context(contextlib.closing(target))


def _opened(arguments: argparse.Namespace, *, is_source: bool) -> End:
    place = arguments.source if is_source else arguments.target
    token_file = arguments.source_token_file if is_source else arguments.target_token_file
    where, name = parted(place)
    if is_sidecar(where):
        return SidecarEnd(where, read_token(token_file), name, timeout_s=arguments.timeout)
    if token_file:
        raise InvalidInput(f"{place} is a database, which asks for no token: leave the token file out")
    return DatabaseEnd(where, name, is_source=is_source)


def _prepare(target: End, about: Description, place: str) -> None:
    """Make the target's collection unless it is there; raise InvalidInput or ContractMismatch if it is of another kind."""
    there = target.describe()
    if there is None:
        return target.make(about)
    if there.size != about.size:
        raise InvalidInput(f"{place} holds vectors of {there.size}, not of {about.size}: copy to another collection")
    if there.fingerprint and about.fingerprint and there.fingerprint != about.fingerprint:
        raise ContractMismatch(f"{place} holds vectors of model {there.fingerprint}, not {about.fingerprint}: copy to another")


def _difference(row: CopiedRow, copy: CopiedRow) -> str:
    """Return what differs; empty if nothing does. Of thumbnails it counts if there is one: a sidecar makes its own of it."""
    if row.vectors.keys() != copy.vectors.keys():
        return f"vectors of {', '.join(row.vectors)}, the copy has {', '.join(copy.vectors) or 'none'}"
    for tower, vector in row.vectors.items():
        if not np.allclose(vector, copy.vectors[tower], atol=_TOLERANCE):
            return f"another vector of {tower}"
    if row.metadata != copy.metadata:
        names = [name for name in {**row.metadata, **copy.metadata} if row.metadata.get(name) != copy.metadata.get(name)]
        return f"other values of {', '.join(names)}"
    if (row.source, row.source_state) != (copy.source, copy.source_state):
        return "another source"
    return "" if (row.thumbnail is None) == (copy.thumbnail is None) else "a thumbnail on one side alone"
