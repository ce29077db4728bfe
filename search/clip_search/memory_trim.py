"""Free memory goes back to the operating system."""

from __future__ import annotations

import ctypes
import sys

import pyarrow as pa

_M_ARENA_MAX, _M_MMAP_THRESHOLD = -8, -3  # of glibc's <malloc.h>
_ARENAS = 2
"""Heaps of glibc: threads of LanceDB come and go, and each of 8 heaps a core kept its peak."""


_OWN_PAGES_BYTES = 4 * 2**20
"""Size of a block from which on it has pages of its own, which are free as soon as it is: a picture's come in 16 MB.

glibc would raise the bound to the size of the first such block that is freed, and keep what lies in heaps.
"""


def limit_heaps() -> None:
    """Let all threads share few heaps without large blocks; with another C library than glibc, do nothing.

    Call it before threads start.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        mallopt(_M_ARENA_MAX, _ARENAS)
        mallopt(_M_MMAP_THRESHOLD, _OWN_PAGES_BYTES)


def trim() -> None:
    """Return what Arrow and glibc keep for later, in some milliseconds; with another C library, Arrow's alone."""
    pa.default_memory_pool().release_unused()
    if sys.platform == "linux" and (malloc_trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        malloc_trim(0)
