"""Check that a second version fits beside the one that serves, before it is loaded."""

from __future__ import annotations

from pathlib import Path

import psutil

from clip_client.errors import Unavailable
from clip_client.spec import TOWERS
from clip_serve.versions.model_folders import weight_bytes

_CGROUP = Path("/sys/fs/cgroup")
_SPARE = 0.9  # share of the free memory that may be taken


def check(repository: Path, served: str, wanted: str, measured_bytes: int) -> None:
    """Raise Unavailable, with the figures, if the memory that is free can't hold another version.

    Args:
        repository: that both are in.
        served: name of the version whose processes were measured, ``clip`` or ``clip.2``.
        wanted: name of the version to load.
        measured_bytes: memory of the served version's processes.
    """
    here, there = (sum(weight_bytes(repository, name, tower) for tower in TOWERS) for name in (served, wanted))
    needed, free = round(measured_bytes * max(there / max(here, 1), 1)), free_bytes()
    if needed > _SPARE * free:
        raise Unavailable(
            f"two versions don't fit: {served} takes {_mb(measured_bytes)} for weights of {_mb(here)}, so {wanted} "
            f"({_mb(there)}) takes about {_mb(needed)}, and {_mb(free)} are free: pass --replace, to load one after the other"
        )


def free_bytes() -> int:
    """Return the memory that can be had: the machine's, or what the process's group may still take."""
    free = psutil.virtual_memory().available
    try:
        most = int((_CGROUP / "memory.max").read_text(encoding="ascii"))
        used = int((_CGROUP / "memory.current").read_text(encoding="ascii"))
        lines = (_CGROUP / "memory.stat").read_text(encoding="ascii").splitlines()
        files = next(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
    except (OSError, ValueError, StopIteration):  # no group, or one without a limit
        return int(free)
    return int(min(free, most - used + files))


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
