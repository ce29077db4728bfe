"""Texts and pictures, joined by choices and captions; walks on this graph tell what else a text is for.

From a text a walk goes to one of its pictures, from there to one of that picture's texts, and on to one of this text's
pictures: Craswell and Szummer, Random walks on the click graph, SIGIR 2007. So a word that nobody typed comes to a picture that
was chosen for its synonym: both stand beside other pictures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clip_export.learning.clicks import topic_of
from clip_export.learning.examples import Example
from clip_export.learning.replay import Replay

WALKED = 0.5
"""Share of a text's target that lies where walks from its own pictures end."""

CHOICE = 3.0
"""Weight of a picture that was often chosen for a query, where a caption has 1."""

_MOST = 3.0  # of it, where a picture was chosen more often than others
_ROUNDS = 2  # of a walk, each from pictures by way of texts to pictures; all rounds count alike
_ENDS = 32  # likeliest pictures where walks end: the rest is noise
_SHARPER = 1.5  # power of their probabilities, so that the likeliest ones stand out


@dataclass(frozen=True)
class ClickGraph:
    """Bipartite graph of T texts and N pictures.

    Attributes:
        leave: from pictures to texts, sparse float32 [T, N], columns sum to 1.
        arrive: from texts to pictures, sparse float32 [N, T], columns sum to 1.
    """

    leave: Tensor
    arrive: Tensor

    @classmethod
    def of(cls, examples: Sequence[Example], replay: Replay, pictures: int) -> ClickGraph:
        """Join examples and replayed texts; the same text, capitals and spaces aside, is one node."""
        nodes: dict[str, int] = {}
        edges: list[tuple[int, int, float]] = []
        for text, weighed in [*_choices(examples), *_captions(replay)]:
            node = nodes.setdefault(topic_of(text), len(nodes))
            edges += [(node, picture, weight) for picture, weight in weighed.items()]
        ends = torch.tensor([edge[:2] for edge in edges], dtype=torch.long).reshape(-1, 2).T
        weights = torch.tensor([edge[2] for edge in edges])
        joined = _sparse(ends, weights, (len(nodes), pictures))
        return cls(_scaled(joined), _scaled(joined.t().coalesce()))

    def targets(self, own: Tensor) -> Tensor:
        """Mix texts' own pictures with others, where walks from them end: float32 [B, N].

        Args:
            own: shares of the pictures of each text, float32 [B, N]; zeros for a text without.
        """
        ends, step = torch.zeros_like(own), own
        for _ in range(_ROUNDS):
            step = torch.sparse.mm(self.arrive, torch.sparse.mm(self.leave, step.T)).T  # [B, N]
            ends += step
        ends[own > 0] = 0
        values, places = ends.topk(min(_ENDS, ends.shape[1]), 1)
        values = (values / _not_zero(values.amax(1, keepdim=True))) ** _SHARPER
        others = torch.zeros_like(ends).scatter_(1, places, values / _not_zero(values.sum(1, keepdim=True)))
        return (1 - WALKED) * own + WALKED * others


def _not_zero(values: Tensor) -> Tensor:
    return values.clamp(min=1e-30)


def _choices(examples: Sequence[Example]) -> Iterable[tuple[str, Mapping[int, float]]]:
    """Yield queries with the weights of what was chosen for them."""
    weights = [weight for example in examples for weight in example.chosen.values()]
    usual = sum(weight * weight for weight in weights) / max(sum(weights), 1e-12)  # many small ones hardly count
    for example in examples:
        yield example.text, {n: CHOICE * min(weight / usual, _MOST) for n, weight in example.chosen.items()}


def _captions(replay: Replay) -> Iterable[tuple[str, Mapping[int, float]]]:
    for text, pictures in zip(replay.texts, replay.pictures, strict=True):
        yield text, dict.fromkeys(pictures, 1.0)


def _scaled(matrix: Tensor) -> Tensor:
    """Divide each column of a sparse matrix by its sum."""
    rows, columns = matrix.indices()
    sums = torch.zeros(matrix.shape[1]).index_add_(0, columns, matrix.values())
    return _sparse(torch.stack([rows, columns]), matrix.values() / sums[columns], matrix.shape)


def _sparse(places: Tensor, values: Tensor, shape: Sequence[int]) -> Tensor:
    """Return a sparse matrix; values at the same place are added up."""
    return torch.sparse_coo_tensor(places, values, (*shape,), check_invariants=False).coalesce()
