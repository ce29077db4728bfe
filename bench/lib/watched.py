"""Run of a command with its CPU time and its memory, those of all processes that it starts included."""

import contextlib
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from lib.processes import cpu_s, family

_LOOK_S = 0.1


@dataclass(frozen=True)
class Watched:
    """Outcome of a command.

    Attributes:
        output: on its standard output.
        cpu_s: seconds of all cores, as they were last seen.
        peak_mb: most memory at one time; what processes share counts once for each.
    """

    output: str
    cpu_s: float
    peak_mb: float


def watched(command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> Watched:
    """Run a command to its end."""
    process = subprocess.Popen([*command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    seconds, peaks = dict[int, float](), [0.0]
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(psutil.Process(process.pid), ended, seconds, peaks))
    watcher.start()
    output, said = process.communicate()
    ended.set()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"{command[0]} failed ({process.returncode}): {said[-2000:]}")
    return Watched(output, sum(seconds.values()), peaks[0])


def _watch(process: psutil.Process, ended: threading.Event, seconds: dict[int, float], peaks: list[float]) -> None:
    while not ended.is_set():
        memory = 0.0
        with contextlib.suppress(psutil.NoSuchProcess):
            for member in family(process):
                with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                    seconds[member.pid] = cpu_s(member)
                    memory += member.memory_info().rss / 1e6
        peaks[0] = max(peaks[0], memory)
        time.sleep(_LOOK_S)
