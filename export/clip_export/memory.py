"""Memory of towers: read once, and given back as soon as nobody holds them.

A checkpoint of 4 GB is exported in less than twice its weights only if neither the file's pages nor the towers of the step
before lie beside the tower at work.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

LARGE_BYTES = 2**30
"""Of an artefact; the towers of a ViT-L in float32 are just below and above."""


@contextmanager
def unmapped() -> Iterator[None]:
    """Let transformers read weights instead of mapping them, as it does on Windows.

    The pages of a mapped file stay in memory until the last tensor was copied from it: twice the weights.
    """
    from transformers import modeling_utils

    mapped = modeling_utils.safe_open

    def read(file: Any, **options: Any) -> Any:
        return mapped(file, **{**options, "backend": "pread"})

    modeling_utils.safe_open = read
    try:
        yield
    finally:
        modeling_utils.safe_open = mapped


def give_back() -> None:
    """Return memory to the operating system: towers that exporters leave in circles, and pages that glibc keeps for later."""
    gc.collect()
    if sys.platform == "linux" and (malloc_trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        malloc_trim(0)
