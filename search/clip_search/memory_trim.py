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


_STREAM_BYTES = 2**18  # as above, where rows stream through


def limit_heaps(own_pages_bytes: int = _OWN_PAGES_BYTES) -> None:
    """Let all threads share few heaps without large blocks; with another C library than glibc, do nothing.

    Call it before threads start.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        mallopt(_M_ARENA_MAX, _ARENAS)
        mallopt(_M_MMAP_THRESHOLD, own_pages_bytes)


def return_at_once() -> None:
    """Let memory go as soon as it is free, in a process that rows stream through.

    Arrow's own pool grew by a megabyte for each 2,000 rows of 512.
    """
    limit_heaps(_STREAM_BYTES)
    pa.set_memory_pool(pa.system_memory_pool())


def trim() -> None:
    """Return what Arrow and glibc keep for later, in some milliseconds; with another C library, Arrow's alone."""
    pa.default_memory_pool().release_unused()
    if sys.platform == "linux" and (malloc_trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        malloc_trim(0)
