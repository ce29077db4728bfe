"""Places of outputs: a folder, a bucket, any file system of fsspec. Files come into them whole, records once."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from clip_client.errors import InvalidInput
from clip_embed.locations import OWN as OWN
from clip_embed.locations import STORES
from clip_embed.remote_places import OtherPlace, StorePlace


class Place(Protocol):
    """Files by name below one folder; names have slashes.

    Attributes:
        name: for messages.
        local: path of the folder, if it is one.
    """

    name: str
    local: Path | None

    def read(self, name: str) -> bytes | None:
        """Return a file's content; None if there is none."""

    def create(self, name: str, content: bytes) -> bool:
        """Make a file that isn't there, in one step; return false if it is."""

    def take(self, file: Path, name: str) -> None:
        """Put a local file in the place of whatever is there, in one step; the local one is gone."""

    def names(self, folder: str) -> list[str]:
        """Return the names of the files in a folder, sorted; none if there is no such folder."""

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""

    def claim(self, name: str) -> Any:
        """Return a context manager that gives false where another process of this machine has claimed the name."""


def place(output: str) -> Place:
    """Return the place of a path or a URL.

    Raises:
        InvalidInput: it is a file, or no folder can be made there.
        Unavailable: a package for its scheme isn't installed.
    """
    scheme, found, rest = output.partition("://")
    if not found or scheme == "file":
        return LocalPlace(Path(rest if found else output).expanduser())
    return StorePlace(output) if scheme in STORES else OtherPlace(output)


class LocalPlace:
    """Folder of this machine, or of a file system that others mount too."""

    def __init__(self, folder: Path) -> None:
        self.local: Path | None = folder
        self._folder, self.name = folder, str(folder)
        try:
            (folder / OWN).mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise InvalidInput(f"{folder} can't be made ({problem.strerror}): name a folder that can be written") from problem

    def read(self, name: str) -> bytes | None:
        """Return a file's content; None if there is none."""
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def create(self, name: str, content: bytes) -> bool:
        """Write beside, and give it the name unless that is taken."""
        path, beside = self._folder / name, self._beside(name)
        try:
            with beside.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.link(beside, path)
            return True
        except FileExistsError:
            return False
        finally:
            beside.unlink(missing_ok=True)

    def take(self, file: Path, name: str) -> None:
        """Rename; where the file lies elsewhere, copy it first."""
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if file.stat().st_dev != path.parent.stat().st_dev:
            beside = self._beside(name)
            shutil.copyfile(file, beside)
            file.unlink()
            file = beside
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
        os.replace(file, path)

    def names(self, folder: str) -> list[str]:
        """Return the names of the files in a folder."""
        path = self._folder / folder
        return sorted(entry.name for entry in path.iterdir() if not entry.name.startswith(".")) if path.is_dir() else []

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        (self._folder / name).unlink(missing_ok=True)

    @contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """Lock a file of that name; the system lets go of it when the process ends, however it does."""
        path = self._folder / OWN / "locks" / name
        path.parent.mkdir(exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def _beside(self, name: str) -> Path:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.with_name(f".{path.name}.{secrets.token_hex(4)}")
