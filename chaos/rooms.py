"""Mount namespace of a rehearsal: a disk and a /dev/shm that can be full without harm to anybody else on the machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  (where Linux keeps it)
_MARK = "CLIPSERVE_CHAOS_ROOM"
_DISK_MB, _SHARED_MB = 256, 320
_FILLER = "filler"
_BLOCK = bytes(256 * 1024)
_WAYS = (["unshare", "--mount"], ["unshare", "--user", "--map-root-user", "--mount"])


def enter() -> bool:
    """Go on in a mount namespace, in which this process begins anew; return False where the machine allows none."""
    if os.environ.get(_MARK):
        return os.environ[_MARK] == "own"
    for way in _WAYS:
        if not _runs([*way, "mount", "-t", "tmpfs", "none", str(SHARED_MEMORY)]):
            continue
        os.environ[_MARK] = "own"
        os.execvp(way[0], [*way, sys.executable, *sys.orig_argv[1:]])  # noqa: S606  (no shell)
    return False


def mount(folder: Path) -> None:
    """Give a folder a small disk of its own, and this namespace a small /dev/shm."""
    for place, size_mb in ((folder, _DISK_MB), (SHARED_MEMORY, _SHARED_MB)):
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "none", place], check=True)  # noqa: S607


def unmount(folder: Path) -> None:
    """Take a folder's disk away."""
    subprocess.run(["umount", "-l", folder], check=False)  # noqa: S607


@contextlib.contextmanager
def full(folder: Path) -> Iterator[None]:
    """Fill the disk of a folder to the last byte, and make room again."""
    path = folder / _FILLER
    try:
        with contextlib.suppress(OSError), open(path, "wb", buffering=0) as file:
            while file.write(_BLOCK):
                pass
        yield
    finally:
        path.unlink(missing_ok=True)


def _runs(command: Sequence[str]) -> bool:
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        return shutil.which(command[0]) is not None and subprocess.run(command, capture_output=True, timeout=30).returncode == 0
    return False
