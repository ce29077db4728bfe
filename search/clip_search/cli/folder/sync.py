"""Plan of a sync: files of a folder and rows of a collection in, steps out."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from typing import Any, Literal

from clip_client.file_names import as_id, source_path

BELOW = "~"  # suffix of a description's digest from a folder below, which knows no tables of the one above
Kind = Literal["new", "changed", "moved", "described", "unchanged"]


@dataclass(frozen=True)
class State:
    """State of a row's file when the row was written; kept in the row."""

    digest: str  # of the file's bytes
    size: int  # as long as size and time are the same, the file isn't read
    mtime_ns: int
    described: str = ""  # digest of the metadata that the folder gave
    fields: tuple[str, ...] = ()  # columns of that metadata
    folder: str = ""  # what was added
    given: str = ""  # digest of what another table gave, which need not be there each time
    given_fields: tuple[str, ...] = ()  # columns of that

    def to_text(self) -> str:
        """Return the state as JSON."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str | None) -> State | None:
        """Read a state from JSON; None if it can't be read."""
        try:
            state = json.loads(text or "null")
            numbers = int(state["size"]), int(state["mtime_ns"])
            own, given = (tuple(str(name) for name in state[key]) for key in ("fields", "given_fields"))
            digest, described, folder, table = (str(state[key]) for key in ("digest", "described", "folder", "given"))
            return cls(digest, *numbers, described, own, folder, table, given)
        except (ValueError, KeyError, TypeError, OverflowError):
            return None


@dataclass(frozen=True)
class Known:
    """Row of the collection."""

    id: str
    source: str | None
    state: State | None


@dataclass(frozen=True)
class Wanted:
    """File that belongs into the collection."""

    name: str  # below the folder
    source: str  # its absolute path as rows have it
    size: int
    mtime_ns: int
    described: str  # digest of the metadata that the folder gives
    given: str | None = None  # of another table's; None where there is no such table this time


@dataclass(frozen=True)
class Step:
    """Step of a plan for one file."""

    number: int  # of the file
    kind: Kind  # `moved` is a file whose content is that of a row whose own file is gone
    id: str  # of its row
    row: Known | None = None  # the row that it replaces or comes from; None for a new one
    digest: str = ""  # of its content; empty where it wasn't read


@dataclass
class Plan:
    """Steps in the order of the files, rows whose files are gone, and taken ids with their owners."""

    steps: list[Step] = field(default_factory=list)
    gone: list[Known] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Disk:
    """Questions of a plan about the files.

    Attributes:
        root: absolute path of the folder.
        digest: of a file by its number; empty where it can't be read.
        is_gone: true if nothing is at a path any more; with True, also if a link leads from there to something, or a folder is
            there: a row with a state has the place of the file itself.
    """

    root: str
    digest: Callable[[int], str]
    is_gone: Callable[[str, bool], bool]


def plan(files: Sequence[Wanted], rows: Iterable[Known], disk: Disk) -> Plan:
    """Compare files with rows.

    A file's row is the one with its source; else one with its id that has no source, or a relative one that fits. Content is
    compared where size and time differ. A file without a row, whose content is that of a row whose file is gone, was moved.
    """
    return _Planner(files, rows, disk).plan()


def is_below(source: str, folder: str) -> bool:
    """Tell if a source is a folder, or something in it."""
    return f"{source_path(source)}/".startswith(f"{source_path(folder).rstrip('/')}/")


def is_above(folder: str, root: str) -> bool:
    """Tell if a root lies in a folder of a row that isn't the root itself."""
    return folder != "" and source_path(folder) != root and is_below(root, folder)


def digest_of(content: bytes) -> str:
    """Return a 128-bit digest of a content."""
    return blake2b(content, digest_size=16).hexdigest()


def described(metadata: dict[str, Any]) -> str:
    """Return a 64-bit digest of metadata."""
    return blake2b(json.dumps(metadata, sort_keys=True).encode(), digest_size=8).hexdigest()


class _Planner:
    def __init__(self, files: Sequence[Wanted], rows: Iterable[Known], disk: Disk) -> None:
        self._files, self._disk = files, disk
        self._ids: dict[str, Known] = {row.id: row for row in rows}
        self._digests: dict[int, str] = {}
        self._taken: set[str] = set()

    def plan(self) -> Plan:
        pairs = self._paired()
        moved = self._moved(pairs)
        planned = Plan()
        for number, row in enumerate(pairs):
            planned.steps.append(self._step(number, row, moved.get(number), planned.renamed))
        matched = {row.id for row in (*pairs, *moved.values()) if row}
        planned.gone = [
            row for row in self._ids.values() if row.id not in matched and self._is_below(row) and self._is_gone(row)
        ]
        return planned

    def _step(self, number: int, row: Known | None, origin: Known | None, renamed: dict[str, str]) -> Step:
        if origin:
            id = row.id if row else self._free_id(number, renamed, origin)
            return Step(number, "moved", id, origin, self._digest(number))
        if row is None:
            return Step(number, "new", self._free_id(number, renamed))
        if row.state is None or not self._is_same(number, row.state):
            return Step(number, "changed", row.id, row, self._digests.get(number, ""))
        file = self._files[number]
        same = self._told(row.state) == file.described and file.given in (None, row.state.given)
        kind: Kind = "unchanged" if same else "described"
        return Step(number, kind, row.id, row, row.state.digest)

    def _told(self, state: State) -> str:
        """Return the digest of a file's description, as far as this folder gives it."""
        return state.described.removesuffix(BELOW) if is_above(state.folder, self._disk.root) else state.described

    def _paired(self) -> list[Known | None]:
        """Return the row of each file; None for a new file."""
        by_source: dict[str, Known] = {}
        wishes = {file.source: as_id(file.name) for file in self._files}
        for row in self._ids.values():
            if row.source in wishes and (row.source not in by_source or row.id == wishes[row.source]):
                by_source[row.source] = row
        sources = {row.id for row in by_source.values()}
        return [by_source.get(file.source) or self._adopted(file, sources) for file in self._files]

    def _adopted(self, file: Wanted, paired: set[str]) -> Known | None:
        """Return the row with a file's id, unless it is another file's."""
        row = self._ids.get(as_id(file.name))
        if row is None or row.id in paired:
            return None
        if row.source is None:
            return row
        relative = not os.path.isabs(source_path(row.source)) and "://" not in row.source
        fits = relative and f"/{file.source}".endswith(f"/{os.path.normpath(row.source)}")
        return row if fits or (row.state is None and self._is_gone(row)) else None

    def _moved(self, pairs: Sequence[Known | None]) -> dict[int, Known]:
        """Return rows of gone files by the number of the file with their content; one of the same name goes first."""
        there = {row.id for row in pairs if row}
        waiting = [n for n, row in enumerate(pairs) if row is None or (row.state and not self._is_same(n, row.state))]
        sizes = {self._files[n].size for n in waiting}
        lost: dict[tuple[int, str], list[Known]] = {}
        for row in self._ids.values():
            if row.state and row.state.size in sizes and row.id not in there and self._is_gone(row):
                lost.setdefault((row.state.size, row.state.digest), []).append(row)
        lost_sizes = {size for size, _ in lost}
        waiting = [n for n in waiting if self._files[n].size in lost_sizes]
        matches: dict[int, Known] = {}
        for any_name in (False, True):
            for n in waiting:
                candidates = lost.get((self._files[n].size, self._digest(n)), [])
                name = os.path.basename(self._files[n].source)
                chosen = next((row for row in candidates if any_name or os.path.basename(row.source or "") == name), None)
                if chosen and n not in matches:
                    candidates.remove(chosen)
                    matches[n] = chosen
        return matches

    def _is_same(self, number: int, state: State) -> bool:
        file = self._files[number]
        if (file.size, file.mtime_ns) == (state.size, state.mtime_ns):
            return True
        return file.size == state.size and self._digest(number) == state.digest

    def _digest(self, number: int) -> str:
        if number not in self._digests:
            self._digests[number] = self._disk.digest(number)
        return self._digests[number]

    def _free_id(self, number: int, renamed: dict[str, str], own: Known | None = None) -> str:
        """Return the name below the folder; with the folder's and its parents' names in front if another file has it."""
        wish = as_id(self._files[number].name)
        id = next(id for id in self._wishes(self._files[number].name) if self._is_free(id, own))
        self._taken.add(id)
        if id != wish:
            renamed[id] = wish
        return id

    def _is_free(self, id: str, own: Known | None) -> bool:
        return id not in self._taken and (id not in self._ids or (own is not None and id == own.id))

    def _wishes(self, name: str) -> Iterator[str]:
        yield as_id(name)
        folders = [part for part in self._disk.root.split("/") if part]
        for n in range(1, len(folders) + 1):
            yield as_id("/".join([*folders[-n:], name]))
        for number in itertools.count(2):
            yield as_id(f"{name} ({number})")

    def _is_below(self, row: Known) -> bool:
        return any(is_below(place, self._disk.root) for place in (row.source or "", row.state.folder if row.state else ""))

    def _is_gone(self, row: Known) -> bool:
        path = source_path(row.source or "")
        return os.path.isabs(path) and self._disk.is_gone(path, row.state is not None)
