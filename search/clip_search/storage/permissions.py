"""Permissions: files and folders for their user alone, older ones too."""

import logging
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

_LOG = logging.getLogger(__name__)
UMASK = 0o077  # no rights for group and others


def keep_private(folder: Path, ours: Callable[[str], bool]) -> None:
    """Take all rights from other users to what is ours in a folder, by name, and to the folder if nothing else is in it.

    Links aren't followed, and what belongs to another user stays as it is. What can't be changed is named in the log.
    """
    try:
        names = os.listdir(folder)
        problems = [problem for name in filter(ours, names) for problem in _close_below(folder / name)]
        if all(map(ours, names)):
            problems += _tried(folder, None)
    except OSError as problem:
        problems = [problem]
    if problems:
        _LOG.warning("%d files of %s stay open to other users (%s): chmod -R go= it", len(problems), folder, problems[0])


def _close_below(path: Path) -> Iterator[OSError]:
    yield from _tried(path, None)
    problems: list[OSError] = []
    for _, folders, files, here in os.fwalk(path, onerror=problems.append):
        for name in (*folders, *files):
            yield from _tried(name, here)
    yield from problems


def _tried(name: str | Path, here: int | None) -> list[OSError]:
    """Take the rights of others; return the error if that fails."""
    try:
        status = os.stat(name, dir_fd=here, follow_symlinks=False)
        if _is_open(status):
            _close(name, here)
        return []
    except FileNotFoundError:
        return []
    except OSError as problem:
        return [problem]


def _close(name: str | Path, here: int | None) -> None:
    # By the open file: whatever comes into the place of the name meanwhile is left alone.
    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=here)
    try:
        status = os.fstat(file)
        if _is_open(status):
            os.fchmod(file, stat.S_IMODE(status.st_mode) & ~UMASK)
    finally:
        os.close(file)


def _is_open(status: os.stat_result) -> bool:
    """Say if others have rights to a file or folder of this user; one that is meant to be shared (sticky) isn't ours."""
    kind = stat.S_ISREG(status.st_mode) or (stat.S_ISDIR(status.st_mode) and not status.st_mode & stat.S_ISVTX)
    return kind and status.st_uid == os.geteuid() and bool(status.st_mode & UMASK)
