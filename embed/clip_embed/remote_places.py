"""Places that aren't folders of this machine: prefixes in object stores, folders of other file systems."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from clip_client.errors import InvalidInput, Unavailable
from clip_embed.leases import Leases
from clip_embed.locations import OWN, RETRIES, opened_url, shown, told


class StorePlace:
    """Prefix in an object store; credentials come from the environment, as obstore documents them."""

    local: Path | None = None

    def __init__(self, url: str) -> None:
        try:
            from obstore.store import from_url
        except ImportError as problem:
            raise Unavailable(f"{shown(url)} needs another package: pip install 'clipserve[embed]'") from problem
        self.name = shown(url)
        try:
            self._store = from_url(url, retry_config=RETRIES)
        except Exception as problem:  # obstore's errors have no base of their own
            raise InvalidInput(f"{self.name} can't be used ({problem}): expected e.g. s3://bucket/folder") from problem
        self._leases = Leases(self._store, f"{OWN}/claims")

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
        """Lease the name; a process that ended without a word is waited for, see :mod:`clip_embed.leases`."""
        with ExitStack() as stack:
            try:
                mine = stack.enter_context(self._leases.lease(name))
            except Exception as problem:
                raise self._unreachable(problem) from problem
            yield mine

    def _unreachable(self, problem: Exception) -> Unavailable:
        return Unavailable(f"{self.name} can't be used ({told(problem)}): look at its address and credentials; then run again")


class OtherPlace:
    """Folder of another file system that fsspec knows, e.g. HDFS: files are written beside and moved."""

    local: Path | None = None

    def __init__(self, url: str) -> None:
        self.name = shown(url)
        self._files, self._folder = opened_url(url)
        with self._guarded():
            self._files.makedirs(f"{self._folder}/{OWN}", exist_ok=True)

    def read(self, name: str) -> bytes | None:
        """Return a file's content; None if there is none."""
        with self._guarded():
            try:
                return bytes(self._files.cat_file(f"{self._folder}/{name}"))
            except FileNotFoundError:
                return None

    def create(self, name: str, content: bytes) -> bool:
        """Write a file unless there is one; of two runs at once, both may."""
        with self._guarded():
            if self._files.exists(f"{self._folder}/{name}"):
                return False
            self._put(name, lambda target: self._files.pipe_file(target, content))
            return True

    def take(self, file: Path, name: str) -> None:
        """Upload beside, and move."""
        with self._guarded():
            self._put(name, lambda target: self._files.put_file(str(file), target))
        file.unlink()

    def names(self, folder: str) -> list[str]:
        """Return the names of the files in a folder."""
        with self._guarded():
            try:
                listed = self._files.ls(f"{self._folder}/{folder}".rstrip("/"), detail=True)
            except FileNotFoundError:
                return []
        names = (entry["name"].rpartition("/")[2] for entry in listed if entry["type"] == "file")
        return sorted(name for name in names if not name.startswith("."))

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with self._guarded():
            if self._files.exists(f"{self._folder}/{name}"):
                self._files.rm_file(f"{self._folder}/{name}")

    @contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """Claim nothing: such a place is for one run at a time."""
        yield True

    def _put(self, name: str, write: Any) -> None:
        target = f"{self._folder}/{name}"
        parent, _, last = target.rpartition("/")
        self._files.makedirs(parent, exist_ok=True)
        beside = f"{parent}/.{last}.{secrets.token_hex(4)}"
        write(beside)
        self._files.mv(beside, target)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except Exception as problem:  # each file system has errors of its own
            raise Unavailable(
                f"{self.name} can't be used ({told(problem)}): look at its address and credentials; then run again"
            ) from problem
