"""State of servers under load: memory, descriptors and threads of their processes, files that they wrote."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import psutil

from lib.processes import cpu_s, family

MEMORY = ("Pss_Anon", "Pss_Shmem")
"""Lines of /proc/PID/smaps_rollup: memory that the system can't take back. What processes share is divided among them; pages of
mapped files aren't in it, since they come and go with the system's cache."""

CPU = " CPU, s"
"""End of the names of what only grows: processor time so far."""

State = dict[str, float]


def state(servers: Mapping[str, psutil.Process], folder: Path) -> State:
    """Return the state of each server with all processes that it started, and of the files below a folder.

    Raises:
        psutil.NoSuchProcess: a server has ended.
    """
    measured: State = {}
    for name, process in servers.items():
        every = family(process)
        measured[f"{name} memory, MB"] = sum(map(memory_mb, every))
        measured[f"{name} descriptors"] = summed(psutil.Process.num_fds, every)
        measured[f"{name} threads"] = summed(psutil.Process.num_threads, every)
        measured[name + CPU] = summed(cpu_s, every)
    sizes = list(file_sizes(folder))
    return measured | {"files": len(sizes), "disk, MB": sum(sizes) / 1e6}


def memory_mb(process: psutil.Process) -> float:
    """Return the memory of a process that the system can't take back; 0 for one that has ended."""
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith(MEMORY)) * 1024 / 1e6
    return 0.0


def summed(count: Callable[[psutil.Process], float], processes: Sequence[psutil.Process]) -> float:
    """Return the sum of a count over processes; those that have ended count nothing, but the first has to be there."""
    total = count(processes[0])
    for process in processes[1:]:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += count(process)
    return total


def file_sizes(folder: Path) -> Iterable[int]:
    """Yield the sizes of all files below a folder, while others come and go."""
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                yield Path(parent, name).stat().st_size
