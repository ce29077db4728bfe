"""Checks of answers: an embedding's shape and length, its direction for known items; hits and their scores."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from clip_client.errors import ClipError
from clip_client.search import Hit

Floats = npt.NDArray[np.float32]

HITS = 10  # that a search asks for

_LENGTH = 1e-3  # half precision in the graph ends about here
_FLOAT_SLACK = 1e-4  # of a cosine: more than other batches cost a float model
_FLOOR = 0.98  # the gate publishes nothing that falls below 0.99 on its own items; others may be a little worse
_MARGIN = 4  # a load mixes batches in more ways than were tried at the start


class WrongAnswer(ClipError):
    """The server answered, but wrongly."""


@dataclass(frozen=True)
class References:
    """Embeddings of known items, as a server without other requests makes them."""

    embeddings: Floats  # float32 [N, D], unit rows
    cosine_min: float  # of an answer to its reference, under load

    def check(self, answer: Floats | None, known: int | None) -> None:
        """Raise WrongAnswer for anything but an embedding, and that of the known item of this number, if it is one."""
        size = self.embeddings.shape[1]
        if answer is None or answer.shape != (size,):
            raise WrongAnswer(f"got an embedding of {None if answer is None else answer.shape}, expected {size} numbers")
        if not abs(float(np.linalg.norm(answer)) - 1) < _LENGTH:
            raise WrongAnswer("the embedding isn't of unit length")
        if known is not None and not float(answer @ self.embeddings[known]) >= self.cosine_min:
            raise WrongAnswer(f"the embedding isn't that of the item (cosine below {self.cosine_min:.4f})")


def references(embed: Callable[[Sequence[Any]], Floats], items: Sequence[Any]) -> References:
    """Embed items one by one, then in a batch; their difference is the base of the tolerance.

    The scale of int8 activations may depend on the whole batch, so a right answer varies with its neighbours there. In float
    it hardly does, and the check is as sharp as that.

    Raises:
        WrongAnswer: if the two differ by more than in any published variant.
    """
    alone, batch = np.concatenate([embed([item]) for item in items]), embed(items)
    lowest = float(np.min(np.sum(alone * batch, axis=1)))
    if lowest < _FLOOR:
        raise WrongAnswer(f"an item's embedding alone and in a batch have a cosine of {lowest:.3f}: see the export's report")
    return References(alone, 1 - max(_MARGIN * (1 - lowest), _FLOAT_SLACK))


def check_hits(hits: Sequence[Hit], first: str | None = None) -> None:
    """Raise WrongAnswer unless these are all hits, best first, led by the row ``first`` if it is given."""
    check_scores([hit.score for hit in hits])
    if first is not None and hits[0].id != first:
        raise WrongAnswer(f"the best hit is {hits[0].id}, expected {first}")


def check_scores(scores: Sequence[float]) -> None:
    """Raise WrongAnswer unless these are the scores of all hits: cosines, best first."""
    if len(scores) != HITS:
        raise WrongAnswer(f"got {len(scores)} hits, expected {HITS}")
    if list(scores) != sorted(scores, reverse=True) or not -1.01 <= scores[-1] <= scores[0] <= 1.01:
        raise WrongAnswer("the scores aren't cosines, best first")
