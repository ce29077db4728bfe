"""Crashes of Triton's processes: a fault of their own code ends them, and the server is started again."""

import contextlib
import signal
import time
from pathlib import Path

import psutil

from clip_client.errors import Unavailable

_FAULTS = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE)
_MOST, _WITHIN_S = 3, 600.0  # crashes after which starting again hardly helps


class Crashed(Unavailable):
    """A process of the server ended by a fault; nobody killed it."""


class Crashes:
    """Count of the crashes of a run."""

    def __init__(self) -> None:
        self._times: list[float] = []

    def note(self, problem: Crashed) -> None:
        """Count a crash; raise it if there were too many lately."""
        now = time.monotonic()
        self._times = [*(at for at in self._times if now - at < _WITHIN_S), now]
        if len(self._times) > _MOST:
            raise Unavailable(
                f"{problem}; that was crash {len(self._times)} within {_WITHIN_S / 60:g} minutes: stopping"
            ) from problem


def fault(number: int) -> str:
    """Return the name of the signal by which a process crashed; empty if it ended otherwise."""
    return signal.Signals(number).name if number in _FAULTS else ""


def fault_of(process: psutil.Process) -> str:
    """Return the same of a child of another process, as long as that one hasn't taken note of its end.

    The last field of /proc/PID/stat is its wait status (proc(5)): the low seven bits are the signal.
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        return fault(int(Path(f"/proc/{process.pid}/stat").read_bytes().split()[-1]) & 0x7F)
    return ""
