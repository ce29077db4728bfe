"""Tensors that a step of a server answers beside what it makes of images or texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from clip_client.checksums import checksum_tensor, of_strings
from clip_client.error_tensor import error_tensor
from clip_client.origins import origin_tensor
from clip_client.spec import CHECKSUMS, ERROR, ORIGIN


def told_tensors(
    sources: Sequence[bytes], errors: Sequence[str], origin: str, made: npt.NDArray[Any]
) -> dict[str, npt.NDArray[Any]]:
    """Return the errors and origins BYTES [N, 1], and the checksums INT64 [N, 2], of N sources and what was made of them."""
    messages, origins = error_tensor(errors), origin_tensor(origin, len(sources))
    came = of_strings(sources, messages.ravel(), origins.ravel())
    return {ERROR: messages, ORIGIN: origins, CHECKSUMS: checksum_tensor(came, made)}
