"""Command ``clipserve search restore``: check and copy the files of a snapshot; tables appear when they are whole."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from clip_client.counting import counted
from clip_client.errors import Conflict, InvalidInput, NotFound
from clip_client.progress_bars import ProgressBar
from clip_search.cli.backup import snapshots
from clip_search.cli.backup.backing_up import check_apart
from clip_search.cli.backup.snapshots import Snapshot, StoredFile, StoredTable
from clip_search.storage import held_tables as tables
from clip_search.storage.database import Database
from clip_search.storage.file_places import Place, is_remote, local, place, sync_folder
from clip_search.storage.permissions import UMASK
from clip_search.storage.vector_sets import collection_of

_STAGING = ".clipserve-restore"  # no name of a collection
_MANIFESTS = "_versions/"


def restore(arguments: argparse.Namespace) -> int:
    """Restore or check, and print what was."""
    os.umask(UMASK)
    if not is_remote(arguments.backup) and not local(arguments.backup).is_dir():
        raise NotFound(f"{arguments.backup}: there is no such backup")
    source = place(arguments.backup)
    snapshot = _chosen(snapshots.load(source, arguments.snapshot), arguments.collection)
    if arguments.data is None and not arguments.verify:
        raise InvalidInput("there is no database to restore to: name one, or pass --verify to check the backup alone")
    with snapshots.carried_on("the restore isn't whole"):
        if arguments.data is None:
            _check_files(source, snapshot)
        else:
            _restore(arguments, source, snapshot)
    _tell(arguments, snapshot)
    return 0


def _restore(arguments: argparse.Namespace, source: Place, snapshot: Snapshot) -> None:
    """Copy a snapshot's collections into a database that nobody else has open."""
    if not is_remote(arguments.backup):
        check_apart(arguments.data, arguments.backup)
    with contextlib.ExitStack() as stack:
        indexes = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="clipserve-restore-")))
        stack.enter_context(contextlib.closing(Database(arguments.data, indexes)))
        restoring = (_Remote if is_remote(arguments.data) else _Local)(arguments.data, source, snapshot)
        if taken := sorted(set(restoring.taken()) & snapshot.collections.keys()):
            raise Conflict(
                f"collection {taken[0]} is there already: drop it, or restore into another database; nothing was restored"
            )
        with ProgressBar(desc="restoring", total=snapshot.size, unit="B", unit_scale=True) as bar:
            for name, table in snapshot.collections.items():
                restoring.copy(name, table, bar)
                restoring.show(name, table, verify=arguments.verify)


class _Restore:
    """Tables that are copied to a place beside others, and the checks before they are shown."""

    def __init__(self, data: str, source: Place, snapshot: Snapshot) -> None:
        self._data, self._source, self._snapshot = data, source, snapshot
        self._place = place(data)

    def _copy(self, folder: str, table: StoredTable, bar: ProgressBar) -> None:
        """Copy the files that aren't there, manifests last: without one there is no table."""
        wanted = {folder + file.path: file for file in table.files}
        there = self._place.sizes(folder.rstrip("/"))
        for path in there.keys() - wanted.keys():
            self._place.remove(path)  # of a run that was stopped
        for path, file in sorted(wanted.items(), key=lambda entry: (entry[1].path.startswith(_MANIFESTS), entry[0])):
            if there.get(path) != file.size or snapshots.hashed(self._place.read(path))[0] != file.sha256:
                self._place.write(path, snapshots.checked(_content(self._source, file), file))
            bar.update(file.size)

    @staticmethod
    def _check(uri: str, name: str, table: StoredTable, *, verify: bool) -> None:
        opened = tables.opened(uri, name)
        tables.check(opened, name, table.rows, table.ids)
        if verify:
            tables.read_all(opened, name)
        tables.part_from_original(opened)


class _Local(_Restore):
    """Restore to a folder: each table appears by a rename."""

    def taken(self) -> list[str]:
        return [path.name.removesuffix(".lance") for path in local(self._data).glob("*.lance")]

    def copy(self, name: str, table: StoredTable, bar: ProgressBar) -> None:
        self._copy(f"{_STAGING}/{name}.lance/", table, bar)

    def show(self, name: str, table: StoredTable, *, verify: bool) -> None:
        folder = local(self._data)
        self._check(str(folder / _STAGING), name, table, verify=verify)
        (folder / _STAGING / f"{name}.lance").rename(folder / f"{name}.lance")
        sync_folder(folder)
        with contextlib.suppress(OSError):  # other tables are still in it
            (folder / _STAGING).rmdir()


class _Remote(_Restore):
    """Restore to an object store: each table appears with its manifest, and a note tells until then that it isn't whole."""

    def taken(self) -> list[str]:
        return [name for name in tables.names(self._data) if not self._is_ours(name)]

    def copy(self, name: str, table: StoredTable, bar: ProgressBar) -> None:
        self._place.write(self._note(name), [self._snapshot.name.encode()])
        self._copy(f"{name}.lance/", table, bar)

    def show(self, name: str, table: StoredTable, *, verify: bool) -> None:
        self._check(self._data, name, table, verify=verify)
        self._place.remove(self._note(name))

    def _note(self, name: str) -> str:
        return f"{_STAGING}/{name}"

    def _is_ours(self, name: str) -> bool:
        """Tell if a table was left by a restore of this snapshot that was stopped."""
        try:
            return b"".join(self._place.read(self._note(name))).decode() == self._snapshot.name
        except FileNotFoundError:
            return False


def _chosen(snapshot: Snapshot, wanted: list[str]) -> Snapshot:
    collections = dict.fromkeys(map(collection_of, snapshot.collections))
    if missing := sorted(set(wanted) - collections.keys()):
        there = ", ".join(collections) or "none"
        raise NotFound(f"no collection {missing[0]} in snapshot {snapshot.name}: there is {there}")
    chosen = {name: table for name, table in snapshot.collections.items() if not wanted or collection_of(name) in wanted}
    return Snapshot(snapshot.name, chosen)


def _check_files(source: Place, snapshot: Snapshot) -> None:
    """Read all files of a snapshot; raise InvalidInput for the first that is damaged or missing."""
    with ProgressBar(desc="checking", total=snapshot.size, unit="B", unit_scale=True) as bar:
        for table in snapshot.collections.values():
            for file in table.files:
                for _ in snapshots.checked(_content(source, file), file):
                    pass
                bar.update(file.size)


def _content(source: Place, file: StoredFile) -> Iterator[bytes]:
    try:
        yield from source.read(snapshots.object_path(file.sha256))
    except FileNotFoundError as problem:
        raise InvalidInput(f"{file.path} is missing in the backup: restore another snapshot") from problem


def _tell(arguments: argparse.Namespace, snapshot: Snapshot) -> None:
    rows: Mapping[str, int] = {name: table.rows for name, table in snapshot.collections.items()}
    if arguments.json:
        print(json.dumps({"snapshot": snapshot.name, "rows": rows, "bytes": snapshot.size}))
        return
    outcome = f"is whole: {snapshot.size:,} bytes" if arguments.data is None else f"is restored to {arguments.data}"
    print(
        "\n".join(
            [*(f"{name}: {counted(count, 'row')}" for name, count in rows.items()), f"snapshot {snapshot.name} {outcome}"]
        )
    )
