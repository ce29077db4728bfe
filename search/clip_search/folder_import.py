"""Import of a folder that the sidecar reads itself, below the folders that it was started with."""

from __future__ import annotations

import os
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from clip_client.errors import InvalidInput
from clip_search import fetch
from clip_search.collection import Collection
from clip_search.imports import runs
from clip_search.imports.columns import ForeignColumns
from clip_search.imports.sources import opened
from clip_search.imports.steps import Import, Sent, Step
from clip_search.items import AddOptions
from clip_search.options import FetchOptions
from clip_search.ready_rows import add_ready
from clip_search.sidecar import Sidecar
from clip_search.storage.rows import OnConflict
from clip_search.storage.schema import own_columns

_MOST_FILES = 100_000  # in a folder; each is looked at before anything is read

_APART = "a prefix of its own gives a folder's rows ids of their own, replacing takes these instead"


@dataclass(frozen=True)
class FolderImport:
    """Request to import a folder.

    Attributes:
        folder: absolute path.
        state: inode and time of change that the client sees there, in nanoseconds; empty if it can't look.
        prefix: in front of each row's number, which together are its id.
        fingerprint: of the model that made the vectors, if its files don't say.
    """

    folder: str
    state: tuple[int, ...] = ()
    prefix: str = ""
    on_conflict: OnConflict = "skip"
    fingerprint: str = ""


def begun(sidecar: Sidecar, collection: Collection, wanted: FolderImport) -> Generator[Step]:
    """Return the steps of an import, each of which adds some rows.

    Raises:
        InvalidInput: the folder may not be read, isn't the client's, or can't be imported.
        ContractMismatch: its vectors are of another model.
    """
    folder = _allowed(wanted, sidecar.options.fetch)
    source = opened(folder)
    fingerprint = runs.fingerprint(source.schemas(), wanted.fingerprint, folder)
    if not sidecar.is_kin(collection, fingerprint):
        runs.check(folder, fingerprint, collection.name, collection.about.fingerprint)
    if source.size != collection.about.size:
        raise InvalidInput(
            f"the folder has vectors of {source.size}, collection {collection.name} holds {collection.about.size}"
        )
    columns = ForeignColumns(source.schemas(), own_columns(collection.table.schema))
    options = AddOptions(wanted.on_conflict, fingerprint)

    def send(rows: pa.RecordBatch) -> Sent:
        return _sent(sidecar, collection, rows, options)

    other = f"id {{id}} has another vector in {collection.name}: {_APART}"
    return Import(source, columns, wanted.prefix, other).steps(send)


def _sent(sidecar: Sidecar, collection: Collection, rows: pa.RecordBatch, options: AddOptions) -> Sent:
    try:
        table = pa.Table.from_batches([rows])
        ready = add_ready(sidecar, collection, table, options, compare=options.on_conflict == "skip")
    except InvalidInput as problem:
        if not problem.errors:
            raise
        return Sent(errors=problem.errors)
    counts = ready.outcome.counts
    return Sent(counts.added, counts.replaced, counts.skipped - len(ready.others), ready.outcome.errors, ready.others)


def _allowed(wanted: FolderImport, options: FetchOptions) -> Path:
    """Return a folder that may be read, with links followed; no link in it leads out of the folders that may be."""
    if not os.path.isabs(wanted.folder):
        raise InvalidInput(f"{wanted.folder!r} is no absolute path: send one that begins with /")
    folder = fetch.contained(wanted.folder, options)
    if not folder.is_dir():
        raise InvalidInput(f"no folder {wanted.folder} here: check the path")
    if wanted.state and wanted.state != state_of(folder):
        raise InvalidInput(f"{wanted.folder} here is another folder than the client's: send its rows")
    for count, (parent, folders, files) in enumerate(os.walk(folder)):
        if count + len(files) > _MOST_FILES:
            raise InvalidInput(f"{wanted.folder} has more than {_MOST_FILES:,} files or folders: import them in parts")
        for name in (*folders, *files):
            if os.path.islink(path := os.path.join(parent, name)):
                fetch.contained(path, options)
    return folder


def state_of(folder: str | os.PathLike[str]) -> tuple[int, ...]:
    """Return inode and time of change of a folder, which tell it from a folder of the same name on another machine."""
    status = os.stat(folder)
    return status.st_ino, status.st_mtime_ns
