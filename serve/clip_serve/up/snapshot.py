"""Snapshots of a folder: what a sync depends on, in which folders it lay, and what has gone since."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from clip_client.errors import InvalidInput
from clip_client.picture_files import Scan, scan

_TEXTS = (".txt", ".json", ".jsonl", ".csv", ".parquet")
_ROOT_UNREADABLE = "./"  # name of the folder itself among what a scan leaves out


@dataclass(frozen=True)
class Snapshot:
    """State of a folder.

    Attributes:
        states: by name, of all that a sync depends on: size and time of pictures and of texts, reasons of what is left out.
        pictures: path of each picture by its name.
        folders: device and inode of the folders of pictures, by name; "" is the folder itself.
    """

    states: Mapping[str, object]
    pictures: Mapping[str, str]
    folders: Mapping[str, tuple[int, int]]

    @property
    def is_empty(self) -> bool:
        """Tell if there is no picture, and nothing that looks like one."""
        return not self.pictures and not any(isinstance(state, str) for state in self.states.values())

    def changed(self, other: Snapshot) -> set[str]:
        """Return the names whose state isn't the same in another snapshot."""
        names = self.states.keys() | other.states.keys()
        return {name for name in names if self.states.get(name) != other.states.get(name)}


def taken(folder: Path) -> Snapshot | None:
    """Take a snapshot; None where the folder isn't there, can't be read, or became another one meanwhile."""
    before = identity(folder)
    try:
        listing = scan(folder)
    except InvalidInput:
        return None
    if before is None or before != identity(folder) or _ROOT_UNREADABLE in listing.left_out:
        return None
    states: dict[str, object] = {file.name: (file.size, file.mtime_ns) for file in listing.pictures}
    states |= listing.left_out
    states |= dict(_texts(folder, listing))
    pictures = {file.name: file.path for file in listing.pictures}
    parents = {parent for name in pictures for parent in _parents(name)}
    identities = {parent: identity(folder / parent) for parent in parents}
    return Snapshot(states, pictures, {"": before, **{name: key for name, key in identities.items() if key}})


def gone(before: Snapshot, now: Snapshot, folder: Path) -> dict[str, str]:
    """Return the paths of pictures that were taken out of a folder, by name.

    One counts as gone if nothing has its name any more, and the nearest folder above it that is still there is the same as
    before. A disk that was unmounted leaves another folder in its place; its pictures aren't gone.
    """
    present = set(now.pictures.values())
    lost = {name: path for name, path in before.pictures.items() if name not in now.pictures and path not in present}
    return {name: path for name, path in lost.items() if _is_missing(folder / name) and _stands(before, folder, name)}


def written(paths: Mapping[str, str]) -> set[str]:
    """Return the names of files, by name, that a process of this user has open for writing."""
    names = {path: name for name, path in paths.items()}
    return {names[path] for path in _open_for_writing() if path in names} if names else set()


def _open_for_writing() -> Iterator[str]:
    for process in psutil.process_iter():
        try:
            files = process.open_files()
        except (psutil.Error, OSError):  # another user's, or it ended
            continue
        yield from (file.path for file in files if file.mode not in ("r", "rt"))


def identity(folder: Path) -> tuple[int, int] | None:
    """Return device and inode of a folder; None where it can't be reached."""
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _texts(folder: Path, listing: Scan) -> Iterator[tuple[str, object]]:
    for name in listing.others:
        if name.lower().endswith(_TEXTS):
            try:
                status = os.stat(folder / name)
            except OSError:
                continue
            yield name, (status.st_size, status.st_mtime_ns)


def _parents(name: str) -> Iterator[str]:
    while name := os.path.dirname(name):
        yield name


def _is_missing(path: Path) -> bool:
    """Tell if nothing is at a path; false if that can't be found out."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False


def _stands(before: Snapshot, folder: Path, name: str) -> bool:
    parent = os.path.dirname(name)
    while parent and _is_missing(folder / parent):
        parent = os.path.dirname(parent)
    return identity(folder / parent) == before.folders.get(parent)
