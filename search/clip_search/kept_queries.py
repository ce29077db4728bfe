"""Pictures of queries, kept for links to them: small JPEGs by the hash of their content, the oldest go first."""

import base64
import contextlib
import hashlib
import os
import re
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

from clip_client.errors import InvalidInput
from clip_client.regular_files import read_regular
from clip_client.thumbnails import thumbnail
from clip_search.budget import Budget
from clip_search.errors import NotFound, disk_problem

MOST_BYTES, _MOST_FILES = 200_000, 1_000  # of a picture; 200 MB in all
_SIDES = (640, 480, 320, 160)  # tried in turn, until one is small enough; towers see some hundred pixels
_ID = re.compile("[a-z2-7]{16}")


class KeptQueries:
    """Folder of pictures, of one process at a time; made with the first of them.

    A picture is there whole or not at all: it is written under another name first. One whose content isn't that of its
    name, after a power failure say, is removed when it is asked for.
    """

    def __init__(self, folder: Path, decoding: Budget) -> None:
        self._folder, self._decoding = folder, decoding
        self._lock = threading.Lock()
        self._is_tidy = False

    def keep(self, file: bytes) -> str:
        """Keep a picture, an encoded file; return its id.

        Raises:
            InvalidInput: it can't be decoded.
            Busy: others have the memory.
            StorageFull, Unavailable: it can't be written.
        """
        with self._lock:
            if self._touched(_id(file)):  # a link that was opened: its picture comes back
                return _id(file)
        picture = self._small(file)
        with self._lock:
            try:
                return self._written(picture)
            except OSError as problem:
                raise disk_problem(problem, "the picture isn't kept") from problem

    def get(self, id: str) -> bytes:
        """Return a picture; raise NotFound if there is none."""
        if not _ID.fullmatch(id):
            raise NotFound(f"no picture {id[:40]!r}: an id has 16 small letters and digits")
        path = self._folder / id
        try:
            picture = read_regular(path, MOST_BYTES)[0]
        except InvalidInput as problem:
            raise _gone(id) from problem
        if _id(picture) != id:
            with contextlib.suppress(OSError):
                path.unlink()
            raise _gone(id)
        return picture

    def _small(self, file: bytes) -> bytes:
        for side in _SIDES:
            picture = thumbnail(file, self._decoding, side)
            if len(picture) <= MOST_BYTES:
                return picture
        raise InvalidInput(f"the picture has more than {MOST_BYTES:,} bytes in {_SIDES[-1]} pixels: send another")

    def _written(self, picture: bytes) -> str:
        id = _id(picture)
        if self._touched(id):
            return id
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._make_room()
        new = self._folder / f"new-{uuid.uuid4().hex}"
        try:
            with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(picture)
            new.replace(self._folder / id)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        return id

    def _touched(self, id: str) -> bool:
        """Make a picture the newest; tell if it is there whole."""
        try:
            self.get(id)
        except NotFound:
            return False
        with contextlib.suppress(OSError):  # it stays as old as it was
            os.utime(self._folder / id)
        return True

    def _make_room(self) -> None:
        """Remove the oldest pictures beyond the most, and what a process that was killed left half written."""
        if not self._is_tidy:
            for path in self._folder.glob("new-*"):
                path.unlink(missing_ok=True)
            self._is_tidy = True
        by_age = sorted(self._pictures())
        for _, name in by_age[: len(by_age) - _MOST_FILES + 1]:
            (self._folder / name).unlink(missing_ok=True)

    def _pictures(self) -> Iterator[tuple[int, str]]:
        """Yield the time and the name of each picture."""
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if _ID.fullmatch(entry.name):
                    yield entry.stat(follow_symlinks=False).st_mtime_ns, entry.name


def _id(picture: bytes) -> str:
    return base64.b32encode(hashlib.sha256(picture).digest()[:10]).decode().lower()


def _gone(id: str) -> NotFound:
    return NotFound(f"no picture {id}: the last {_MOST_FILES:,} are kept; drop the picture on the page again")
