"""Memory of towers: given back as soon as nobody holds them.

A checkpoint of 4 GB is exported in less than twice its weights only if the towers of the step before don't lie beside the
tower at work.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from pathlib import Path

_KEPT_BYTES = 2**31  # that a process may have without looking for what it could give back, which takes it a third of a second


def resident_bytes() -> int:
    """Return this process's memory; 0 where the system doesn't tell it."""
    statistics = Path("/proc/self/statm")
    pages = int(statistics.read_text(encoding="ascii").split()[1]) if statistics.exists() else 0
    return pages * os.sysconf("SC_PAGE_SIZE") if pages else 0


def give_back() -> None:
    """Return memory to the operating system, if it is much: towers left in circles, and pages that glibc keeps for later."""
    if resident_bytes() < _KEPT_BYTES:
        return
    gc.collect()
    if sys.platform == "linux" and (malloc_trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        malloc_trim(0)
