"""Errors of a batch as the published ensembles answer them."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def error_tensor(errors: Sequence[str]) -> npt.NDArray[np.object_]:
    """Return a BYTES tensor [N, 1], in UTF-8, of an error for each item, empty where the item is good."""
    return np.array([error.encode("utf-8", "backslashreplace") for error in errors], np.object_).reshape(-1, 1)
