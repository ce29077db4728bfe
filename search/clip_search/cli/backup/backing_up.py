"""Command ``clipserve search backup``: hold a version of each table, copy the files that are new, write the snapshot."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import time
from collections.abc import Iterator, Sequence

from clip_client.counting import counted
from clip_client.errors import InvalidInput, NotFound, Unavailable
from clip_client.progress_bars import ProgressBar
from clip_search.cli.backup import snapshots
from clip_search.cli.backup.snapshots import Snapshot, StoredFile, StoredTable
from clip_search.errors import disk_problem
from clip_search.storage import held_tables as tables
from clip_search.storage import lance_manifest
from clip_search.storage.file_places import Folder, Place, is_remote, local, place
from clip_search.storage.held_tables import Pinned
from clip_search.storage.lock import owned
from clip_search.storage.permissions import UMASK
from clip_search.storage.vector_sets import collection_of

_LOCK = ".clipserve-backup-lock"
_NEVER_CHANGES = ("data/", "_indices/", "_deletions/")  # files whose names are drawn anew for each content
_TRIES = 5  # a table's owner may drop a version before its tag is seen


def back_up(arguments: argparse.Namespace) -> int:
    """Back up, and print what is in the backup."""
    os.umask(UMASK)
    if not is_remote(arguments.data) and not local(arguments.data).is_dir():
        raise NotFound(f"{arguments.data}: there is no such database")
    target = place(arguments.target)
    with contextlib.ExitStack() as stack:
        if isinstance(target, Folder):
            check_apart(arguments.data, arguments.target)
            _lock(stack, target)
        with snapshots.carried_on("the backup isn't whole"):
            snapshot, copied = _Backup(arguments.data, target, arguments.collection, stack).run()
    _tell(arguments, snapshot, copied)
    return 0


def check_apart(data: str, backup: str) -> None:
    """Raise InvalidInput for a backup within its database, or the other way round."""
    if is_remote(data):
        return
    one, other = local(data).resolve(), local(backup).resolve()
    if one == other or one in other.parents or other in one.parents:
        raise InvalidInput(f"{backup} and the database {data} lie within each other: name a folder elsewhere")


class _Backup:
    """One run of the command."""

    def __init__(self, data: str, target: Place, wanted: Sequence[str], stack: contextlib.ExitStack) -> None:
        self._data, self._target, self._stack = data, target, stack
        self._source = place(data)
        self._there = target.sizes("objects")
        self._known = _known(target)
        there = tables.names(data)
        collections = sorted(set(map(collection_of, there)))
        if missing := sorted(set(wanted) - set(collections)):
            raise NotFound(f"no collection {missing[0]} in {data}: there is {', '.join(collections) or 'none'}")
        self._names = [name for name in there if not wanted or collection_of(name) in wanted]
        self.copied = 0  # bytes

    def run(self) -> tuple[Snapshot, int]:
        """Return the snapshot, and the bytes that were copied for it."""
        moment = time.strftime("%Y-%m-%dT%H-%M-%SZ", time.gmtime())
        pinned = [self._pinned(name) for name in self._names]
        for pin, _ in pinned:
            pin.count()
        sizes = sum(size for _, files in pinned for size in files.values())
        with ProgressBar(desc="backing up", total=sizes, unit="B", unit_scale=True) as bar:
            stored = {pin.name: self._stored(pin, files, bar) for pin, files in pinned}
        if not self._target.sizes("snapshots").keys().isdisjoint({f"snapshots/{moment}.json"}):
            moment += f"-{secrets.token_hex(2)}"
        snapshot = Snapshot(moment, stored)
        snapshots.save(self._target, snapshot)
        return snapshot, self.copied

    def _pinned(self, name: str) -> tuple[Pinned, dict[str, int]]:
        """Return a version of a table that stays, and the sizes of its files by path."""
        for left in reversed(range(_TRIES)):
            pin = Pinned(self._data, name)
            try:
                files = self._files(pin)
                self._stack.callback(pin.close)
                return pin, files
            except FileNotFoundError as problem:
                pin.close()
                if not left:
                    raise Unavailable(f"collection {name} changes too fast to be held: try again") from problem
        raise AssertionError

    def _files(self, pin: Pinned) -> dict[str, int]:
        """Return the sizes of a version's files; raise FileNotFoundError if one is gone."""
        folder = f"{pin.name}.lance/"
        sizes = {path.removeprefix(folder): size for path, size in self._source.sizes(folder.rstrip("/")).items()}
        manifest = next((name for name in lance_manifest.names_of(pin.version) if name in sizes), None)
        if manifest is None:
            raise FileNotFoundError(folder)
        contents = lance_manifest.contents(b"".join(self._source.read(folder + manifest)))
        pin.told_rows = contents.rows
        wanted = [manifest, *contents.files, *(path for path in sizes if path.startswith(contents.indexes or ("/",)))]
        wanted += [contents.transaction] if contents.transaction in sizes else []
        if gone := set(wanted) - sizes.keys():
            raise FileNotFoundError(min(gone))
        return {path: sizes[path] for path in wanted}

    def _stored(self, pin: Pinned, files: dict[str, int], bar: ProgressBar) -> StoredTable:
        stored = []
        for path, size in sorted(files.items()):
            stored.append(self._store(pin, path, size))
            bar.update(size)
        return StoredTable(pin.identity, pin.version, pin.rows, pin.ids, tuple(stored))

    def _store(self, pin: Pinned, path: str, size: int) -> StoredFile:
        """Copy a file unless its content is there."""
        known = self._known.get((pin.identity, path, size)) if path.startswith(_NEVER_CHANGES) else None
        sha256 = known or snapshots.hashed(self._source.read(f"{pin.name}.lance/{path}"))[0]
        file, target = StoredFile(path, size, sha256), snapshots.object_path(sha256)
        if self._there.get(target) != size:
            self._target.write(target, snapshots.checked(self._source.read(f"{pin.name}.lance/{path}"), file))
            self._there[target] = size
            self.copied += size
        return file


def _known(target: Place) -> dict[tuple[str, str, int], str]:
    """Return the checksums of the latest snapshot's files."""
    with contextlib.suppress(InvalidInput):  # none yet, or damaged: all files are read then
        latest = snapshots.load(target)
        return {
            (table.identity, file.path, file.size): file.sha256 for table in latest.collections.values() for file in table.files
        }
    return {}


def _lock(stack: contextlib.ExitStack, target: Folder) -> None:
    try:
        stack.enter_context(owned(target.path, _LOCK))
    except Unavailable as problem:
        raise Unavailable(f"{target.path} is being written by another backup: wait for it") from problem
    except OSError as problem:
        raise disk_problem(problem, f"{target.path} can't be written") from problem


def _tell(arguments: argparse.Namespace, snapshot: Snapshot, copied: int) -> None:
    rows = {name: table.rows for name, table in snapshot.collections.items()}
    if arguments.json:
        print(json.dumps({"snapshot": snapshot.name, "rows": rows, "bytes": snapshot.size, "copied_bytes": copied}))
        return
    print("\n".join(_lines(arguments, snapshot, copied)))


def _lines(arguments: argparse.Namespace, snapshot: Snapshot, copied: int) -> Iterator[str]:
    for name, table in snapshot.collections.items():
        yield f"{name}: {counted(table.rows, 'row')}, version {table.version}"
    yield f"snapshot {snapshot.name} is in {arguments.target}: {snapshot.size:,} bytes, of which {copied:,} are new"
