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

from clip_client.errors import InvalidInput, Unavailable
from clip_embed.locations import STORES, opened_url, shown

OWN = "_clipserve"
"""Folder of a place for records; readers of data sets pass over names that begin so."""


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


class StorePlace:
    """Prefix in an object store; credentials come from the environment, as obstore documents them."""

    local: Path | None = None

    def __init__(self, url: str) -> None:
        try:
            from obstore.store import from_url
        except ImportError as problem:
            raise Unavailable(f"{shown(url)} needs another package: pip install 'clipserve[object-store]'") from problem
        self.name = shown(url)
        try:
            self._store = from_url(url)
        except Exception as problem:  # obstore's errors have no base of their own
            raise InvalidInput(f"{self.name} can't be used ({problem}): expected e.g. s3://bucket/folder") from problem

    def read(self, name: str) -> bytes | None:
        """Return an object's content; None if there is none."""
        import obstore

        try:
            return bytes(obstore.get(self._store, name).bytes())
        except FileNotFoundError:
            return None
        except Exception as problem:
            raise self._unreachable(problem) from problem

    def create(self, name: str, content: bytes) -> bool:
        """Put with the condition that there is none."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        try:
            obstore.put(self._store, name, content, mode="create")
            return True
        except (AlreadyExistsError, PreconditionError):
            return False
        except Exception as problem:
            raise self._unreachable(problem) from problem

    def take(self, file: Path, name: str) -> None:
        """Upload; an object is there once all of it is."""
        import obstore

        try:
            obstore.put(self._store, name, file)
        except Exception as problem:
            raise self._unreachable(problem) from problem
        file.unlink()

    def names(self, folder: str) -> list[str]:
        """Return the names of the objects below a prefix."""
        import obstore

        try:
            listed = [entry["path"] for page in obstore.list(self._store, f"{folder}/") for entry in page]
        except Exception as problem:
            raise self._unreachable(problem) from problem
        return sorted(path.rpartition("/")[2] for path in listed)

    def remove(self, name: str) -> None:
        """Remove an object, if it is there."""
        import obstore

        try:
            obstore.delete(self._store, name)
        except FileNotFoundError:
            return
        except Exception as problem:
            raise self._unreachable(problem) from problem

    @contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """Claim nothing: two who do the same part write the same, and one record of it."""
        yield True

    def _unreachable(self, problem: Exception) -> Unavailable:
        first = str(problem).strip().splitlines()[0] if str(problem).strip() else type(problem).__name__
        return Unavailable(f"{self.name} can't be used ({first[:200]}): look at its address and credentials; then run again")


class OtherPlace:
    """Folder of another file system that fsspec knows, e.g. HDFS: files are written beside and moved."""

    local: Path | None = None

    def __init__(self, url: str) -> None:
        self.name = shown(url)
        self._files, self._folder = opened_url(url)
        self._files.makedirs(f"{self._folder}/{OWN}", exist_ok=True)

    def read(self, name: str) -> bytes | None:
        """Return a file's content; None if there is none."""
        try:
            return bytes(self._files.cat_file(f"{self._folder}/{name}"))
        except FileNotFoundError:
            return None

    def create(self, name: str, content: bytes) -> bool:
        """Write a file unless there is one; two who do that at once write the same."""
        if self._files.exists(f"{self._folder}/{name}"):
            return False
        self._put(name, lambda target: self._files.pipe_file(target, content))
        return True

    def take(self, file: Path, name: str) -> None:
        """Upload beside, and move."""
        self._put(name, lambda target: self._files.put_file(str(file), target))
        file.unlink()

    def names(self, folder: str) -> list[str]:
        """Return the names of the files in a folder."""
        try:
            return sorted(path.rpartition("/")[2] for path in self._files.ls(f"{self._folder}/{folder}", detail=False))
        except FileNotFoundError:
            return []

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        if self._files.exists(f"{self._folder}/{name}"):
            self._files.rm_file(f"{self._folder}/{name}")

    @contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """Claim nothing, as in an object store."""
        yield True

    def _put(self, name: str, write: Any) -> None:
        target = f"{self._folder}/{name}"
        parent, _, last = target.rpartition("/")
        self._files.makedirs(parent, exist_ok=True)
        beside = f"{parent}/.{last}.{secrets.token_hex(4)}"
        write(beside)
        self._files.mv(beside, target)
