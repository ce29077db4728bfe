"""Leftovers of killed launchers: found by their names, and removed at the next start.

Shared memory regions, run folders and the arguments of Python processes carry the launcher's process id and start time:
``clipserve-<pid>-<start>-…``.
"""

import contextlib
import os
import re
import shutil
import stat
import tempfile
from pathlib import Path

import psutil

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  (where Linux keeps it)
_NAME = re.compile(r"clipserve-(\d+)-(\d+)-\S*")
_NAME_LENGTH = 15  # of a process, as Linux keeps it
_PROGRAMS = ("tritonserver", "triton_python_b")


def prefix() -> str:
    """Return the prefix of the names of this process's files and regions."""
    return f"clipserve-{os.getpid()}-{_start(os.getpid())}-"


def run_folder() -> Path:
    """Make a fresh folder for this run."""
    return Path(tempfile.mkdtemp(prefix=prefix(), dir=_root()))


def remove_own() -> None:
    """Remove this process's files and regions."""
    for path in _paths():
        if path.name.startswith(prefix()):
            _remove(path)


def remove_own_memory() -> None:
    """Remove this process's regions, after the server that had them."""
    for path in SHARED_MEMORY.glob(f"{prefix()}*"):
        _remove(path)


def close_own() -> None:
    """Close this process's files and regions to other users; Triton's shared memory is readable for everyone at first."""
    for path in _paths():
        if path.name.startswith(prefix()):
            with contextlib.suppress(OSError):  # removed a moment ago, or a link of somebody else's
                _close(path)


def sweep() -> int:
    """End processes and remove files that dead launchers have left; return their number."""
    abandoned = [process for process in psutil.process_iter() if _is_abandoned(process)]
    for process in abandoned:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(abandoned, timeout=1)
    stale = [path for path in _paths() if not _alive(path.name)]
    for path in stale:
        _remove(path)
    return len(abandoned) + len(stale)


def _is_abandoned(process: psutil.Process) -> bool:
    """Return True for a process of this user whose arguments name a launcher that isn't among its parents any more."""
    try:
        if process.uids().real != os.getuid() or process.name()[:_NAME_LENGTH] not in _PROGRAMS:
            return False
        match = _NAME.search(" ".join(process.cmdline()))
        return match is not None and int(match[1]) not in {parent.pid for parent in process.parents()}
    except psutil.Error:
        return False


def _paths() -> list[Path]:
    return [path for root in (SHARED_MEMORY, _root()) for path in root.glob("clipserve-*-*-*")]


def _root() -> Path:
    """Return the folder of the run folders: a path that is safe in the shell through which Triton starts its workers.

    And short, since a Unix socket's has at most 107 bytes.
    """
    root = tempfile.gettempdir()
    return Path(root if re.fullmatch(r"[\w./-]{1,60}", root) else "/tmp")  # noqa: S108


def _alive(name: str) -> bool:
    match = _NAME.fullmatch(name)
    if match is None:
        return True  # not ours
    try:
        return _start(int(match[1])) == int(match[2])
    except (FileNotFoundError, ProcessLookupError):
        return False


def _start(pid: int) -> int:
    """Return the start of a process in clock ticks since the machine's: of a time of day, a clock that is set makes another.

    Field 22 of /proc/PID/stat (proc(5)); the name in field 2, in brackets, may hold anything.
    """
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return int(fields[19])


def _close(path: Path) -> None:
    """Take all rights from other users; links, which everybody may put into these folders, aren't followed."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        os.fchmod(file, 0o700 if stat.S_ISDIR(os.fstat(file).st_mode) else 0o600)
    finally:
        os.close(file)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):  # another user's
            path.unlink()
