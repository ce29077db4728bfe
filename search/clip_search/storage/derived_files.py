"""Files derived from a table: a manifest names them with their checksums, so that a damaged one is noticed and made again."""

from __future__ import annotations

import io
import json
import os
import shutil
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MANIFEST = "current.json"
BLOCK_BYTES = 2**20  # read again in a millisecond, beside searches


class Damaged(Exception):
    """Damage of a derived file, which the message names."""


@dataclass(frozen=True)
class Sums:
    """Checksums of a file's content; as text, its length and CRC-32, since all of an index is read through at each opening.

    Attributes:
        running: CRC-32 of the content up to the end of each block, so that a block can be checked without the others.
    """

    size: int
    running: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.size}-{self.running[-1] if self.running else 0:08x}"

    @classmethod
    def of(cls, path: Path) -> Sums:
        """Read all of a file; raise Damaged if it isn't there, isn't a file, or can't be read."""
        check_file(path)
        sink = Sink()
        try:
            with path.open("rb") as file:
                while block := file.read(BLOCK_BYTES):
                    sink.write(block)
        except OSError as problem:
            raise _unreadable(path, problem) from problem
        return sink.sums()

    def check_block(self, path: Path, number: int) -> None:
        """Read a block of a file again; raise Damaged if it can't be read, or it or the length of the file is another."""
        check_file(path)
        try:
            with path.open("rb", buffering=0) as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(number * BLOCK_BYTES)
                block = file.read(BLOCK_BYTES)
        except OSError as problem:
            raise _unreadable(path, problem) from problem
        before = self.running[number - 1] if number else 0
        if size != self.size or (self.running and zlib.crc32(block, before) != self.running[number]):
            raise Damaged(f"{path} isn't any more what was opened")


class Sink(io.RawIOBase):
    """A file to write to that keeps the checksums alone."""

    def __init__(self) -> None:
        super().__init__()
        self._size = self._crc = 0
        self._running: list[int] = []

    def writable(self) -> bool:
        """Return True: it can be written to."""
        return True

    def tell(self) -> int:
        """Return the number of bytes written."""
        return self._size

    def write(self, content: Any) -> int:
        """Take the next bytes; return their number."""
        rest = memoryview(content)
        while len(rest):
            room = BLOCK_BYTES - self._size % BLOCK_BYTES
            self._crc = zlib.crc32(rest[:room], self._crc)
            self._size += len(rest[:room])
            rest = rest[room:]
            if self._size % BLOCK_BYTES == 0:
                self._running.append(self._crc)
        return len(content)

    def sums(self) -> Sums:
        """Return the checksums of what was written."""
        return Sums(self._size, (*self._running, *([self._crc] if self._size % BLOCK_BYTES else [])))


def check_file(path: Path) -> None:
    """Raise Damaged for anything but a regular file: reading a pipe never ends."""
    if not path.is_file():
        raise Damaged(f"{path} {'is not a file' if path.exists() else 'is missing'}")


def check(path: Path, expected: str) -> Sums:
    """Return the checksums of a file; raise Damaged if they aren't the expected ones, or it can't be read."""
    if str(sums := Sums.of(path)) != expected:
        raise Damaged(f"{path} isn't what was written")
    return sums


def state(path: Path) -> tuple[int, ...]:
    """Return numbers that change when somebody writes to a file, or removes it."""
    try:
        status = os.stat(path)
    except OSError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns


def write_manifest(folder: Path, content: Mapping[str, Any]) -> None:
    """Replace the manifest in one step; it is valid in this folder alone."""
    content = {**content, "of": folder.name}
    body = json.dumps(content, sort_keys=True)
    new = folder / f"{MANIFEST}.new"
    for path in (new, folder / MANIFEST):
        if path.is_dir():
            remove(path)
    new.write_text(json.dumps({"checksum": _checksum_of(body), "content": content}), encoding="utf-8")
    new.replace(folder / MANIFEST)


def read_manifest(folder: Path, table: str, empty: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what :func:`write_manifest` wrote for this table; ``empty`` in a folder where nothing was written yet.

    Raises:
        Damaged: it is broken, missing beside files, without checksums, of another table or folder, or lacks what ``empty`` has.
    """
    path = folder / MANIFEST
    try:
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            return empty
        check_file(path)
        content = _checked(path, json.loads(path.read_bytes()))
    except (OSError, ValueError, RecursionError) as problem:
        raise Damaged(f"{path} can't be read ({problem})") from problem
    if content.get("table") != table:
        raise Damaged(f"{path} is of another collection")
    if content.get("of", folder.name) != folder.name or not empty.keys() <= content.keys():
        raise Damaged(f"{path} is the one of another folder")
    return content


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder for derived files; remove what is in its way."""
    for path in (folder, *folder.parents[:1]):
        if (path.exists() or path.is_symlink()) and not path.is_dir():
            remove(path)
    folder.mkdir(parents=True, exist_ok=True)


def remove_others(folder: Path, keep: set[str]) -> None:
    """Remove files from a folder that the manifest doesn't name."""
    for path in folder.iterdir():
        if path.name not in keep | {MANIFEST}:
            remove(path)


def manifest_sums(folder: Path) -> dict[Path, Sums]:
    """Return the checksums of a folder's manifest by its path; none where it can't be read."""
    path = folder / MANIFEST
    try:
        return {path: Sums.of(path)}
    except Damaged:
        return {}


def _unreadable(path: Path, problem: OSError) -> Damaged:
    return Damaged(f"{path} can't be read ({problem.strerror or problem})")


def _checked(path: Path, manifest: Any) -> dict[str, Any]:
    if not isinstance(manifest, dict) or not isinstance(content := manifest.get("content"), dict):
        raise Damaged(f"{path} has no checksums, as older versions wrote it")
    if _checksum_of(json.dumps(content, sort_keys=True)) != manifest.get("checksum"):
        raise Damaged(f"{path} isn't what was written")
    return content


def _checksum_of(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"
