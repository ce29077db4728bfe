"""Places of files, a folder or an object store: read and written by path, piece by piece, whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from clip_client.errors import InvalidInput
from clip_search.storage import object_store

PIECE_BYTES = 4 * 2**20
_UNFINISHED = ".part"


class Place(Protocol):
    """Files below an address, by paths with ``/``.

    Methods raise OSErrors, of an object store Exceptions of any kind; :meth:`read` FileNotFoundError for no such file.
    """

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Return the size of each whole file in a folder and below it, by path."""

    def read(self, path: str) -> Iterator[bytes]:
        """Yield the content of a file, some megabytes at a time."""

    def write(self, path: str, pieces: Iterable[bytes]) -> None:
        """Make a file of pieces, in the place of one that is there; nothing changes if they end with an error."""

    def remove(self, path: str) -> None:
        """Remove a file, if it is there."""


class Folder:
    """Local folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Return sizes by path."""
        sizes = {}
        for here, _, names in os.walk(self.path / folder):
            for name in names:
                if not name.endswith(_UNFINISHED):
                    path = Path(here, name)
                    with contextlib.suppress(FileNotFoundError):  # gone meanwhile
                        sizes[path.relative_to(self.path).as_posix()] = path.stat().st_size
        return sizes

    def read(self, path: str) -> Iterator[bytes]:
        """Yield the content of a file."""
        with (self.path / path).open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece

    def write(self, path: str, pieces: Iterable[bytes]) -> None:
        """Write a file and make it durable."""
        target = self.path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(target.name + _UNFINISHED)
        try:
            with unfinished.open("wb") as file:
                file.writelines(pieces)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(target)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        sync_folder(target.parent)

    def remove(self, path: str) -> None:
        """Remove a file."""
        (self.path / path).unlink(missing_ok=True)


def place(address: str) -> Place:
    """Return the place at an address, a folder or an object store's URI; raise InvalidInput or Unavailable for any other."""
    if is_remote(address):
        return object_store.Bucket(address)
    if not address:
        raise InvalidInput("the address of a backup is empty: name a folder, or an object store's URI")
    return Folder(local(address))


def is_remote(address: str) -> bool:
    """Tell an object store's URI from a folder."""
    return "://" in address.removeprefix("file://")


def local(address: str) -> Path:
    """Return the path of a folder."""
    return Path(address.removeprefix("file://")).expanduser()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
