"""One step's loss: chosen pictures before all others, marked ones behind, and replayed texts where they were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax

from clip_export.learning.examples import Example
from clip_export.learning.replay import Replay

BATCH = 64
"""Queries, and replayed texts, of a step."""

_SCALE = 20.0  # on cosines before the softmax; with 50, other queries of the same meanings gained less
_KEPT = 5.0  # weight of the distance of replayed texts to where the parent had them
_CANDIDATES = 4096  # pictures that compete in a step, beside those that were shown


@dataclass(frozen=True)
class Lesson:
    """Source of a training's steps.

    Attributes:
        examples: queries with what was chosen.
        replay: texts that keep their meaning.
        parent: the parent's vectors of the replayed texts, float32 [R, D].
        vectors: of all pictures, float32 [N, D].
        seed: with a step's number it gives what the step draws.
    """

    examples: Sequence[Example]
    replay: Replay
    parent: Tensor
    vectors: Tensor
    seed: int

    def draw(self, step: int) -> Draw:
        """Draw the queries, the replayed texts and the pictures of a step."""
        random = np.random.default_rng([self.seed, step])
        taught = np.array([example.weight + (not example.chosen) for example in self.examples])
        queries = random.choice(len(self.examples), BATCH, p=taught / taught.sum())
        replayed = random.integers(0, len(self.replay.texts), BATCH)
        return Draw(queries, replayed, self._candidates(queries, replayed, random))

    def texts(self, drawn: Draw) -> list[str]:
        """Return the queries of a step, then its replayed texts."""
        return [*(self.examples[n].text for n in drawn.queries), *(self.replay.texts[n] for n in drawn.replayed)]

    def _candidates(self, queries: Ints, replayed: Ints, random: np.random.Generator) -> Ints:
        """Return the numbers of the pictures that compete, in order."""
        count = len(self.vectors)
        if count <= _CANDIDATES:
            return np.arange(count)
        own = [self.examples[query] for query in queries]
        needed = {number for example in own for number in (*example.chosen, *example.passed, *example.wrong)}
        needed |= {self.replay.pictures[text] for text in replayed} - {-1}
        return np.union1d(random.integers(0, count, _CANDIDATES), np.array(sorted(needed), np.int64))

    def losses(self, drawn: Draw, queries: Tensor, replayed: Tensor, vectors: Tensor) -> dict[str, Tensor]:
        """Return the losses by name.

        Args:
            drawn: the step's draw.
            queries, replayed: vectors of its texts, float32 [B, D].
            vectors: of its candidates, float32 [C, D].
        """
        place = {int(number): n for n, number in enumerate(drawn.candidates)}
        logs = log_softmax(_SCALE * queries @ vectors.T, 1)  # [B, C]
        own = [self.examples[query] for query in drawn.queries]
        chosen = _matrix([example.chosen for example in own], place)
        wrong = _matrix([dict.fromkeys(example.wrong, 1.0) for example in own], place)
        ranking = -(chosen * logs).sum() / BATCH
        unwanted = -(wrong * torch.log1p(-logs.exp().clamp(max=1 - 1e-6))).sum() / BATCH
        kept = 1 - (replayed * self.parent[drawn.replayed]).sum(1).mean()
        described = torch.tensor([place.get(self.replay.pictures[text], -1) for text in drawn.replayed])
        captions = cross_entropy(_SCALE * replayed @ vectors.T, described, ignore_index=-1, reduction="sum") / BATCH
        return {"chosen": ranking, "wrong": unwanted, "replay": _KEPT * kept, "captions": captions}


@dataclass(frozen=True)
class Draw:
    """Numbers of a step's queries, replayed texts and competing pictures."""

    queries: Ints
    replayed: Ints
    candidates: Ints


Ints = npt.NDArray[np.int64]


def _matrix(rows: Sequence[Mapping[int, float]], place: Mapping[int, int]) -> Tensor:
    """Return the shares of each row's weights by candidate, float32 [B, C]."""
    shares = torch.zeros(len(rows), len(place))
    for row, weights in enumerate(rows):
        total = sum(weights.values())
        for number, weight in weights.items():
            shares[row, place[number]] = weight / total
    return shares
