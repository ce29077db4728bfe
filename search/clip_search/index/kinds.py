"""Kinds of an index, and the choice among them by the number of vectors and by memory."""

from __future__ import annotations

import math
from typing import Literal

Kind = Literal["flat", "ivf1", "ivf2", "ivf", "hnsw", "ivf8", "ivfpq"]
"""Exact; inverted lists of 1 or 2 bits a number, or of half precision; and what older versions built."""

_PROBES = (
    *(1, 2, 3, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 32, 36, 40, 44, 48, 56, 64, 80, 96, 112),
    *(128, 160, 192, 256, 320, 384, 448, 520, 576, 640, 768, 896, 1024, 1280, 1536, 1792, 2048, 2560, 3072, 4096, 6144, 8192),
)
_CANDIDATES = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 576, 768, 1024, 2048, 4096)
UNTUNED = 768
"""Effort, of any kind, while nothing is known: more than is likely to be needed."""

LISTS: tuple[Kind, ...] = ("ivf1", "ivf2", "ivf")
"""Kinds of inverted lists that are built, the fastest first, each more precise than those before."""
INVERTED: tuple[Kind, ...] = (*LISTS, "ivf8", "ivfpq")
"""Kinds of inverted lists that are searched."""
EFFORTS: dict[Kind, tuple[int, ...]] = {"flat": (1,), "hnsw": _CANDIDATES, **dict.fromkeys(INVERTED, _PROBES)}
"""Search efforts of each kind, ascending: lists probed, candidates of a search in a graph."""

PIECES: dict[Kind, int] = {"ivf1": 4, "ivf2": 2}
"""Kinds of product codes, 4 bits for a piece of so many numbers, which faiss looks up in registers (Andre et al. 2015)."""
CODES = 16
"""Codes of a piece, and the fewest vectors that they can be trained on."""
_RERANKED: dict[Kind, int] = {"ivf1": 30, "ivf2": 10, "ivf8": 3, "ivfpq": 20}
RERANKED: frozenset[Kind] = frozenset(_RERANKED)
"""Kinds whose hits are compared again by half-precision vectors."""

NUMBERED_BYTES = 8  # of a vector's number beside its code
PROCESS_BYTES = 450 * 2**20
"""Memory of the sidecar with its libraries, an empty collection and a search under way."""
_RERANKED_AT = 10
"""Hits at which there are so many candidates for each of them as ``_RERANKED`` tells."""
ROW_BYTES = 64
"""Memory of a row beside its index: hash of its id 8, number in the row cache 8, in the index 13; as much in reading."""
_LEAST_ROOM = 8  # of the memory, an eighth is for rows, however little there is
_TRAINING_ROWS_PER_LIST, _LEAST_ROWS_PER_LIST = 32, 8  # of k-means; faiss warns below 39 rows a list
_TRAINING_SHARE = 12
"""Part of the memory that a training sample may take: faiss holds it three times at most, beside what is served."""


def code_bytes(kind: Kind, size: int) -> int:
    """Return the bytes of a vector's code in lists that are built."""
    return (pieces(kind, size) + 1) // 2 if kind in PIECES else 2 * size


def pieces(kind: Kind, size: int) -> int:
    """Return the number of pieces of a vector's product code; an odd size is cut as it can be."""
    return size // math.gcd(size, PIECES[kind])


def candidates(kind: Kind, k: int) -> int:
    """Return the hits of codes that are compared again for ``k``: their margin grows with the square root of ``k``."""
    return k + math.ceil((_RERANKED[kind] - 1) * math.sqrt(_RERANKED_AT * k))


def kinds_for(rows: int, size: int, *, exact_rows: int, memory_bytes: int) -> tuple[Kind, ...]:
    """Return the kinds for a size, the fastest first: exact, else lists of which two fit: one is served while one is built."""
    if rows <= max(exact_rows, CODES):
        return ("flat",)
    room = room_for_rows(memory_bytes) - rows * ROW_BYTES
    return (LISTS[0], *(kind for kind in LISTS[1:] if 2 * rows * (code_bytes(kind, size) + NUMBERED_BYTES) <= room))


def room_for_rows(memory_bytes: int) -> int:
    """Return the bytes that the process leaves to rows and indexes."""
    return max(memory_bytes - PROCESS_BYTES, memory_bytes // _LEAST_ROOM)


def too_many(vectors: int, size: int, memory_bytes: int) -> str:
    """Return the reason why so many vectors can't be served within the memory; empty if they can."""
    needed = vectors * (ROW_BYTES + code_bytes(LISTS[0], size) + NUMBERED_BYTES)
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
    if kind not in INVERTED:
        return min(rows, 1)
    least, most = (lists_for(rows) * each for each in (_LEAST_ROWS_PER_LIST, _TRAINING_ROWS_PER_LIST))
    return min(rows, max(least, min(most, memory_bytes // _TRAINING_SHARE // (4 * size))))
