"""Arrays by name, and lookups of sorted row numbers."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float32]  # vectors [D] or [n, D], or scores [n]
Positions: TypeAlias = npt.NDArray[np.int64]  # positions in an index
Rows: TypeAlias = npt.NDArray[np.int64]  # row numbers of a table
Codes: TypeAlias = npt.NDArray[np.uint8]  # vectors as an index keeps them [n, bytes]
Mask: TypeAlias = npt.NDArray[np.bool_]
Found: TypeAlias = tuple[Floats, Rows]  # scores and row numbers, both [n], best first


def present(known: Rows, rows: Rows) -> Mask:
    """Tell which of ``rows`` are in ``known`` (ascending), bool [n]."""
    if not len(known):
        return np.zeros(len(rows), bool)
    return np.asarray(known[np.minimum(np.searchsorted(known, rows), len(known) - 1)] == rows)


def positions(known: Rows, rows: Rows) -> Positions:
    """Return the positions in ``known`` (ascending) of those of ``rows`` that are in it."""
    return np.searchsorted(known, rows[present(known, rows)]).astype(np.int64)
