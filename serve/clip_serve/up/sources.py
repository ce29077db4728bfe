"""Pictures of a run: a folder, or a list that becomes a folder of links."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from clip_client.errors import InvalidInput
from clip_client.picture_files import USUAL_ENDINGS
from clip_serve.up import listing
from clip_serve.up.embedding import Embedded, is_for_embed, told
from clip_serve.up.messages import remark
from clip_serve.up.options import Options
from clip_serve.up.ownership import Place
from clip_serve.up.snapshot import taken
from clip_serve.up.stop import Stop


class Pictures(Protocol):
    """Pictures to add.

    Attributes:
        folder: is added.
        shown: files and folders that the page may show in full.
        has_events: the system tells of changes below the folder.
    """

    @property
    def folder(self) -> Path: ...  # noqa: D102

    @property
    def shown(self) -> Sequence[Path]: ...  # noqa: D102

    @property
    def has_events(self) -> bool: ...  # noqa: D102

    def prepare(self, place: Place, stop: Stop) -> int:
        """Make the folder; return the number of entries left out."""

    def refresh(self, stop: Stop) -> None:
        """Bring the folder in line with what it is made of."""


def opened(options: Options) -> Pictures | Embedded | None:
    """Return the pictures of the options, before anything is started for them; None for none.

    Raises:
        InvalidInput: there is no such folder or list, or no picture in it.
    """
    if options.pictures is None:
        return None
    if options.reading or is_for_embed(str(options.pictures)):
        return _embedded(options)
    source = Path(options.pictures)
    if source.is_dir():
        return Folder(source, options.watch)
    if not os.path.lexists(source):
        raise InvalidInput(f"no folder {source}: expected a folder of pictures, a list of them, shards, a table or a data set")
    return List(source)


def _embedded(options: Options) -> Embedded:
    if options.watch:
        raise InvalidInput(
            f"--watch follows folders and lists, not {told(str(options.pictures))}: start again for what is new in it"
        )
    if options.metadata:
        raise InvalidInput(
            f"--metadata is for folders and lists, {told(str(options.pictures))} has columns of its own: leave it away"
        )
    return Embedded(str(options.pictures), options)


class Folder:
    """Folder of pictures."""

    has_events = True

    def __init__(self, folder: Path, watch: bool) -> None:
        self.folder = folder
        state = taken(folder)
        if state is None:
            raise InvalidInput(f"{folder} can't be read: look at its permissions")
        if state.is_empty and not watch:
            raise InvalidInput(f"no pictures in {folder}: expected files that end in {USUAL_ENDINGS}")

    @property
    def shown(self) -> Sequence[Path]:
        """Return the folder."""
        return [self.folder.resolve()]

    def prepare(self, place: Place, stop: Stop) -> int:
        """Leave it as it is."""
        return 0

    def refresh(self, stop: Stop) -> None:
        """Leave it as it is."""


class List:
    """List of pictures; its folder of links lies beside the database."""

    has_events = False  # of what links lead to

    def __init__(self, file: Path) -> None:
        self._file, self._state = file, _state(file)
        self._listed = listing.read(file)
        self.folder = Path()

    @property
    def shown(self) -> Sequence[Path]:
        """Return what is listed, and the folder of what is fetched."""
        return [*self._listed.shown, self.folder]

    def prepare(self, place: Place, stop: Stop) -> int:
        """Make links, and fetch pictures from the web."""
        name = hashlib.sha256(os.fsencode(os.path.realpath(self._file))).hexdigest()[:16]
        self.folder = place.folder.resolve() / "lists" / name
        return listing.stage(self._file, self._listed, self.folder, stop)

    def refresh(self, stop: Stop) -> None:
        """Follow the list once it was changed; one that can't be read any more changes nothing."""
        state = _state(self._file)
        if state == self._state:
            return
        self._state = state
        try:
            self._listed = listing.read(self._file)
            listing.stage(self._file, self._listed, self.folder, stop)
        except InvalidInput as problem:
            remark(f"{problem}; what it listed before stays")


def _state(file: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
