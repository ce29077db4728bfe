"""Limits of reading a pickle, for the process that reads it and the one that started it."""

from __future__ import annotations

MEMORY_TIMES, MEMORY_BYTES = 2, 2**30
"""Memory beyond that of an idle process: so many times the files' size, and so many bytes more."""

OUTPUT_TIMES, OUTPUT_BYTES = 4, 2**26
"""Size of the result, likewise: tied tensors are written once for each name."""

BYTES_PER_S, LEAST_S = 10e6, 300
"""Time: that of a slow disk on a busy machine."""


class Refused(Exception):
    """The file isn't read; the message says why and what to do."""


def memory_bytes(size: int) -> int:
    """Return the most memory that reading files of so many bytes may take."""
    return MEMORY_TIMES * size + MEMORY_BYTES


def output_bytes(size: int) -> int:
    """Return the most bytes that files of so many bytes may become."""
    return OUTPUT_TIMES * size + OUTPUT_BYTES


def timeout_s(size: int) -> float:
    """Return the most seconds that reading files of so many bytes may take."""
    return LEAST_S + size / BYTES_PER_S
