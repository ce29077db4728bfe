"""Free memory goes back to the operating system."""

from __future__ import annotations

import ctypes
import sys

import pyarrow as pa

_M_ARENA_MAX = -8  # of glibc's <malloc.h>
_ARENAS = 2
"""Heaps of glibc: threads of LanceDB come and go, and each of 8 heaps a core kept its peak."""


def limit_heaps() -> None:
    """Let all threads share few heaps; do nothing with another C library than glibc. Call it before threads start."""
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        mallopt(_M_ARENA_MAX, _ARENAS)


def trim() -> None:
    """Return what Arrow and glibc keep for later, in some milliseconds; with another C library, Arrow's alone."""
    pa.default_memory_pool().release_unused()
    if sys.platform == "linux" and (malloc_trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        malloc_trim(0)
