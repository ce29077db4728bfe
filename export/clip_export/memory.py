"""Memory of towers: read once, and given back as soon as nobody holds them.

A checkpoint of 4 GB is exported in less than twice its weights only if neither the file's pages nor the towers of the step
before lie beside the tower at work.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_KEPT_BYTES = 2**31  # that a process may have without looking for what it could give back, which takes it a third of a second


@contextmanager
def unmapped() -> Iterator[None]:
    """Let transformers read weights instead of mapping them, as it does on Windows.

    The pages of a mapped file stay in memory until the last tensor was copied from it: twice the weights.
    """
    modeling_utils: Any = importlib.import_module("transformers.modeling_utils")
    mapped = modeling_utils.safe_open

    def read(file: Any, **options: Any) -> Any:
        return mapped(file, **{**options, "backend": "pread"})

    modeling_utils.safe_open = read
    try:
        yield
    finally:
        modeling_utils.safe_open = mapped


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
