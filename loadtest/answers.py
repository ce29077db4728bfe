"""Whether an embedding is the right one: its shape, its length, and for known items its direction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from clip_client.errors import ClipError

Floats = npt.NDArray[np.float32]

_LENGTH = 1e-3  # half precision in the graph ends about here
_FLOAT_SLACK = 1e-4  # of a cosine: what other batches cost a float model, and more
_FLOOR = 0.98  # the gate publishes nothing that falls below 0.99 on its own items; others may be a little worse
_MARGIN = 4  # a load mixes batches in more ways than were tried at the start


class WrongAnswer(ClipError):
    """The server answered, but not what it should have."""


@dataclass(frozen=True)
class References:
    """Embeddings of known items as the server gives them when it is asked for nothing else.

    Attributes:
        embeddings: float32 [N, D], unit rows.
        cosine_min: of an answer to its reference, under load.
    """

    embeddings: Floats
    cosine_min: float

    def check(self, answer: Floats | None, known: int | None) -> None:
        """Raise WrongAnswer unless this is an embedding, and that of the known item, if it is one."""
        size = self.embeddings.shape[1]
        if answer is None or answer.shape != (size,):
            raise WrongAnswer(f"got an embedding of {None if answer is None else answer.shape}, expected {size} numbers")
        if not abs(float(np.linalg.norm(answer)) - 1) < _LENGTH:
            raise WrongAnswer("the embedding isn't of unit length")
        if known is not None and not float(answer @ self.embeddings[known]) >= self.cosine_min:
            raise WrongAnswer(f"the embedding isn't that of the item (cosine below {self.cosine_min:.4f})")


def references(embed: Callable[[Sequence[Any]], Floats], items: Sequence[Any]) -> References:
    """Embed items one by one, then together; the difference says how far apart two right answers may be.

    The scale of int8 activations may depend on the whole batch, so a right answer varies with its neighbours there. In float
    it hardly does, and the check is as sharp as that.

    Raises:
        WrongAnswer: alone and together differ by more than any published variant may.
    """
    alone, together = np.concatenate([embed([item]) for item in items]), embed(items)
    lowest = float(np.min(np.sum(alone * together, axis=1)))
    if lowest < _FLOOR:
        raise WrongAnswer(f"an item's embedding alone and in a batch have a cosine of {lowest:.3f}: see the export's report")
    return References(alone, 1 - max(_MARGIN * (1 - lowest), _FLOAT_SLACK))
