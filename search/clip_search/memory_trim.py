"""Return of free heap memory to the operating system."""

from __future__ import annotations

import ctypes
import sys


def trim() -> None:
    """Let glibc return the heap that it keeps for later, in some milliseconds; do nothing with another C library."""
    if sys.platform == "linux" and (malloc_trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        malloc_trim(0)
