"""Confinement of a process that reads a file which nobody vouches for: no network, no writes but to one folder, little memory.

Nothing of it needs a privilege. Linux gives a network namespace to root, and to others where user namespaces are allowed;
Landlock is in kernels from 5.13 on. A container may refuse both, so the caller is told which of them hold.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from pathlib import Path

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000  # linux/sched.h
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38  # linux/prctl.h

# linux/landlock.h; the numbers of the calls are the same on all machines
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_OF_ABI, _PATH_BENEATH = 1, 1
_EXECUTE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 2, 1 << 3
_FS_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}  # by the ABI that has that many
_TCP, _TCP_ABI = 0b11, 4
_SCOPES, _SCOPES_ABI = 0b11, 6  # abstract sockets and signals beyond this process

_libc = ctypes.CDLL(None, use_errno=True)


class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


def cut_off() -> bool:
    """Leave the network, and end with the parent; return whether the network is gone. To be called before any thread starts."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")  # the first to go where memory ends
    return any(_libc.unshare(flags) == 0 for flags in (_CLONE_NEWNET, _CLONE_NEWUSER | _CLONE_NEWNET))


def limit(memory_bytes: int, file_bytes: int) -> None:
    """Limit the growth of this process's memory, and the size of files that it writes."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * os.sysconf("SC_PAGE_SIZE") + memory_bytes
    for kind, limit in ((resource.RLIMIT_AS, most), (resource.RLIMIT_FSIZE, file_bytes), (resource.RLIMIT_CORE, 0)):
        _, hard = resource.getrlimit(kind)
        least = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (least, least))


def confine(folder: Path) -> bool:
    """Let this process write into one folder only, start no program and open no TCP connection; return whether that holds."""
    abi = _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION_OF_ABI))
    if abi < 1:
        return False
    every = (1 << max(rights for since, rights in _FS_RIGHTS.items() if since <= abi)) - 1
    changes = every & ~(_READ_FILE | _READ_DIR)
    ruleset = _Ruleset(changes, _TCP, _SCOPES)
    size = 8 * (1 + (abi >= _TCP_ABI) + (abi >= _SCOPES_ABI))
    rules = _libc.syscall(_CREATE_RULESET, ctypes.byref(ruleset), ctypes.c_size_t(size), ctypes.c_uint32(0))
    place = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    beneath = _PathBeneath(changes & ~_EXECUTE, place)
    try:
        return bool(
            rules >= 0
            and _libc.syscall(_ADD_RULE, rules, _PATH_BENEATH, ctypes.byref(beneath), ctypes.c_uint32(0)) == 0
            and _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            and _libc.syscall(_RESTRICT_SELF, rules, ctypes.c_uint32(0)) == 0
        )
    finally:
        os.close(place)
        if rules >= 0:
            os.close(rules)
