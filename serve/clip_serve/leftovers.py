"""What a killed launcher leaves behind, found by the name it was given and removed at the next start.

Shared memory regions and run folders carry the launcher's process id and start time: ``clipserve-<pid>-<start>-…``.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from pathlib import Path

import psutil

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  (where Linux keeps it)
_NAME = re.compile(r"clipserve-(\d+)-(\d+)-.*")


def prefix() -> str:
    """What everything of this process is called, up to the last dash."""
    return f"clipserve-{os.getpid()}-{_start(psutil.Process())}-"


def run_folder() -> Path:
    """A fresh folder for this run."""
    return Path(tempfile.mkdtemp(prefix=prefix(), dir=_root()))


def remove_own() -> None:
    """Remove what this process made."""
    for path in _found():
        if path.name.startswith(prefix()):
            _remove(path)


def sweep() -> int:
    """Remove what launchers that are gone have left; returns how many things."""
    stale = [path for path in _found() if not _alive(path.name)]
    for path in stale:
        _remove(path)
    return len(stale)


def _found() -> list[Path]:
    return [path for root in (SHARED_MEMORY, _root()) for path in root.glob("clipserve-*-*-*")]


def _root() -> Path:
    """Where run folders are made: a path that is safe in the shell through which Triton starts its workers."""
    root = tempfile.gettempdir()
    return Path(root if re.fullmatch(r"[\w./-]+", root) else "/tmp")  # noqa: S108


def _alive(name: str) -> bool:
    match = _NAME.fullmatch(name)
    if match is None:
        return True  # not ours
    try:
        return _start(psutil.Process(int(match[1]))) == int(match[2])
    except psutil.NoSuchProcess:
        return False


def _start(process: psutil.Process) -> int:
    return int(process.create_time() * 100)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):  # another user's
            path.unlink()
