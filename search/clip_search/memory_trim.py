"""Free memory of the C library's allocator, given back to the operating system."""

from __future__ import annotations

import ctypes
import sys


def trim() -> None:
    """Give back what glibc keeps for later, some milliseconds' work; nothing where there is another C library."""
    if sys.platform == "linux" and (found := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        found(0)
