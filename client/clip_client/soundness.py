"""Check of the embeddings that a server answers: finite, and of unit length."""

import numpy as np
import numpy.typing as npt

LENGTH_TOLERANCE = 1e-2
"""Most that a length may be off 1. Measured: 1e-6 where a graph normalises in float32, 3e-4 in float16, 3e-3 in bfloat16."""


def flaws(embeddings: npt.NDArray[np.floating]) -> list[str]:
    """Return the flaw of each row of embeddings [N, D]; an empty string where it has none."""
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(embeddings.astype(np.float64), axis=1)
    return [_flaw(float(length)) for length in lengths]


def _flaw(length: float) -> str:
    if abs(length - 1) <= LENGTH_TOLERANCE:
        return ""
    got = f"has length {length:.4g}" if np.isfinite(length) else "holds numbers that aren't finite"
    return f"the model's embedding of it {got}, expected length 1: publish another variant, or export the checkpoint again"
