"""Kinds of an index, and the choice among them by the number of vectors and by memory."""

from __future__ import annotations

import math
from typing import Literal

Kind = Literal["flat", "ivf", "hnsw", "ivf8", "ivfpq"]
"""Exact; inverted lists of half-precision vectors; a graph (of older versions); lists of 8 bits, or of 1 bit, a number."""

_PROBES = (
    *(1, 2, 3, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 32, 36, 40, 44, 48, 56, 64, 80, 96, 112),
    *(128, 160, 192, 256, 320, 384, 448, 576, 768, 1024, 2048, 4096),
)
EFFORTS: dict[Kind, tuple[int, ...]] = {
    "flat": (1,),
    "ivf": _PROBES,
    "hnsw": (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 576, 768, 1024, 2048, 4096),
    "ivf8": _PROBES,
    "ivfpq": _PROBES,
}
"""Search efforts of each kind, ascending: lists probed of an IVF, candidates of an HNSW search."""

LISTS: tuple[Kind, ...] = ("ivf", "ivf8", "ivfpq")
"""Kinds of inverted lists, the most precise first."""
RERANKED: dict[Kind, int] = {"ivf8": 3, "ivfpq": 20}
"""Kinds whose hits are compared again by half-precision vectors: candidates for each hit that is wanted."""

NUMBERED_BYTES = 8  # of a vector's number beside its code
PROCESS_BYTES = 450 * 2**20
"""Memory of the sidecar with its libraries, an empty collection and a search under way."""
ROW_BYTES = 64
"""Memory of a row beside its index: hash of its id 8, number in the row cache 8, in the index 13; as much in reading."""
_LEAST_ROOM = 8  # of the memory, an eighth is for rows, however little there is
_TRAINING_ROWS_PER_LIST, _LEAST_ROWS_PER_LIST = 32, 8  # of k-means; faiss warns below 39 rows a list
_TRAINING_SHARE = 12
"""Part of the memory that a training sample may take: faiss holds it three times at most, beside what is served."""


def code_bytes(kind: Kind, size: int) -> int:
    """Return the bytes of a vector's code in inverted lists."""
    return {"ivf": 2 * size, "ivf8": size, "ivfpq": pieces(size)}[kind]


def pieces(size: int) -> int:
    """Return the number of pieces of a product-quantised vector, a byte each: of 8 numbers where that divides it."""
    return size // math.gcd(size, 8)


def kind_for(rows: int, size: int, *, exact_rows: int, memory_bytes: int) -> Kind:
    """Return the kind for a size: exact, else the most precise lists of which two fit: one is served while one is built."""
    if rows <= exact_rows:
        return "flat"
    room = room_for_rows(memory_bytes) - rows * ROW_BYTES
    fitting = (kind for kind in LISTS if 2 * rows * (code_bytes(kind, size) + NUMBERED_BYTES) <= room)
    return next(fitting, LISTS[-1])


def room_for_rows(memory_bytes: int) -> int:
    """Return the bytes that the process leaves to rows and indexes."""
    return max(memory_bytes - PROCESS_BYTES, memory_bytes // _LEAST_ROOM)


def too_many(vectors: int, size: int, memory_bytes: int) -> str:
    """Return the reason why so many vectors can't be served within the memory; empty if they can."""
    needed = vectors * (ROW_BYTES + code_bytes(LISTS[-1], size) + NUMBERED_BYTES)
    if needed <= room_for_rows(memory_bytes):
        return ""
    return (
        f"{vectors:,} vectors of {size} take {(needed + PROCESS_BYTES) / 2**30:.2f} GB of memory at least, --memory is "
        f"{memory_bytes / 2**30:g}: pass more, or --engine lancedb, which searches on disk"
    )


def lists_for(rows: int) -> int:
    """Return the number of inverted lists for so many vectors."""
    return max(1, int(4 * math.sqrt(rows)))


def training_rows(kind: Kind, rows: int, size: int, memory_bytes: int) -> int:
    """Return the number of vectors that a build takes as its sample."""
    if kind not in LISTS:
        return min(rows, 1)
    least, most = (lists_for(rows) * each for each in (_LEAST_ROWS_PER_LIST, _TRAINING_ROWS_PER_LIST))
    return min(rows, max(least, min(most, memory_bytes // _TRAINING_SHARE // (4 * size))))
