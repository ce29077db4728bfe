"""Format of a backup: files by their SHA-256, and snapshots that name them.

``objects/ab/ab…`` has a file's content, ``snapshots/TIME.json`` what a snapshot consists of, with a checksum of its own. A
snapshot is written last, so it is whole or not there; files that no snapshot names are of a backup that was stopped.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from clip_client.errors import ClipError, InvalidInput, NotFound, Unavailable
from clip_search.errors import cleaned, disk_problem
from clip_search.storage.file_places import Place
from clip_search.storage.vector_sets import check_table

_PATH = re.compile(r"(data|_versions|_indices|_deletions|_transactions)(/[A-Za-z0-9._-]+)+")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SNAPSHOTS, _ENDING, _FORMAT = "snapshots/", ".json", 1


@dataclass(frozen=True)
class StoredFile:
    """File of a table."""

    path: str  # in the table's folder
    size: int
    sha256: str


@dataclass(frozen=True)
class StoredTable:
    """Version of a collection's table."""

    identity: str
    version: int
    rows: int
    ids: str  # digest of all ids, whatever their order; empty for a table without
    files: tuple[StoredFile, ...]


@dataclass(frozen=True)
class Snapshot:
    """Collections at one moment."""

    name: str
    collections: dict[str, StoredTable]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for table in self.collections.values() for file in table.files)


def object_path(sha256: str) -> str:
    """Return the path of a file's content."""
    return f"objects/{sha256[:2]}/{sha256}"


def names(place: Place) -> list[str]:
    """Return the names of the snapshots, the oldest first; raise Unavailable if the place can't be read."""
    try:
        paths = place.sizes(_SNAPSHOTS.rstrip("/"))
    except Exception as problem:  # obstore raises anything
        raise Unavailable(f"the backup can't be read ({cleaned(problem)}): look at its address and credentials") from problem
    return sorted(path.removeprefix(_SNAPSHOTS).removesuffix(_ENDING) for path in paths if path.endswith(_ENDING))


def load(place: Place, name: str | None = None) -> Snapshot:
    """Return a snapshot, the latest for None; raise NotFound if there is none, InvalidInput if it is damaged."""
    known = names(place)
    if not known or (name and name not in known):
        expected = ", ".join(known[-5:]) or "a folder or object store that backup wrote"
        raise NotFound(f"there is no snapshot{f' {name}' if name else ''} here: expected {expected}")
    chosen = name or known[-1]
    try:
        content = json.loads(b"".join(place.read(_SNAPSHOTS + chosen + _ENDING)))
        told = content["snapshot"]
        if content["format"] != _FORMAT or content["sha256"] != _checksum(told):
            raise ValueError("its checksum is another one")
        tables = {check_table(name): _table(table) for name, table in told["collections"].items()}
        return Snapshot(chosen, tables)
    except (ValueError, KeyError, TypeError) as problem:
        older = f", or --snapshot {known[-2]}" if len(known) > 1 and chosen == known[-1] else ""
        raise InvalidInput(f"snapshot {chosen} is damaged ({problem}): take another backup{older}") from problem


def save(place: Place, snapshot: Snapshot) -> None:
    """Write a snapshot, whose files are there."""
    told = {"collections": {name: asdict(table) for name, table in snapshot.collections.items()}}
    content = {"format": _FORMAT, "sha256": _checksum(told), "snapshot": told}
    place.write(_SNAPSHOTS + snapshot.name + _ENDING, [json.dumps(content).encode()])


def hashed(pieces: Iterable[bytes]) -> tuple[str, int]:
    """Return SHA-256 and size of a content."""
    digest, size = hashlib.sha256(), 0
    for piece in pieces:
        digest.update(piece)
        size += len(piece)
    return digest.hexdigest(), size


def checked(pieces: Iterable[bytes], file: StoredFile) -> Iterator[bytes]:
    """Yield a content; raise InvalidInput at its end if it isn't the file's."""
    digest, size = hashlib.sha256(), 0
    for piece in pieces:
        digest.update(piece)
        size += len(piece)
        yield piece
    if (digest.hexdigest(), size) != (file.sha256, file.size):
        raise InvalidInput(f"{file.path} is damaged: it has {size:,} bytes with another checksum, expected {file.size:,}")


def _table(told: dict[str, Any]) -> StoredTable:
    files = tuple(StoredFile(**file) for file in told["files"])
    for file in files:
        if not _PATH.fullmatch(file.path) or ".." in file.path or not _SHA256.fullmatch(file.sha256):
            raise ValueError(f"it names a file {file.path[:100]!r}")
    return StoredTable(**{**told, "files": files})


def _checksum(told: Any) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


@contextlib.contextmanager
def carried_on(failure: str) -> Iterator[None]:
    """Raise Unavailable, which says that the command is to be run again, for whatever a disk or a store raises."""
    advice = "run it again, what is copied stays"
    try:
        yield
    except ClipError:
        raise
    except OSError as problem:
        raise disk_problem(problem, f"{failure}; {advice}") from problem
    except Exception as problem:  # obstore raises anything
        raise Unavailable(f"{failure} ({cleaned(problem)}): {advice}") from problem
