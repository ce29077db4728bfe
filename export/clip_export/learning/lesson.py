"""One step's loss: chosen pictures before all others, marked ones behind, and replayed texts where they belong."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from clip_export.learning.click_graph import ClickGraph
from clip_export.learning.examples import Example
from clip_export.learning.replay import Replay

BATCH = 64
"""Queries, and replayed texts, of a step."""

_SCALE = 20.0  # on cosines before the softmax; with 50, other queries of the same meanings gained less
_KEPT = 5.0  # weight of the distance of replayed texts to where the parent had them
_KEPT_DESCRIBING = 1.0  # of those that have pictures: these hold them already
_CANDIDATES = 4096  # pictures that compete in a step, beside those that were shown and the likeliest ones of each text
_ENDS = 32  # likeliest pictures of a text

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Draw:
    """Numbers of a step's queries, replayed texts and competing pictures.

    Attributes:
        targets: share of each candidate in what the queries, then the replayed texts, are for, float32 [2 B, C].
    """

    queries: Ints
    replayed: Ints
    candidates: Ints
    targets: Tensor


@dataclass(frozen=True)
class Lesson:
    """Source of a training's steps.

    Attributes:
        examples: queries with what was chosen.
        replay: texts that keep their meaning.
        graph: of both.
        parent: the parent's vectors of the replayed texts, float32 [R, D].
        vectors: of all pictures, float32 [N, D].
        seed: with a step's number it gives what the step draws.
    """

    examples: Sequence[Example]
    replay: Replay
    graph: ClickGraph
    parent: Tensor
    vectors: Tensor
    seed: int

    def draw(self, step: int) -> Draw:
        """Draw the queries, the replayed texts and the pictures of a step."""
        random = np.random.default_rng([self.seed, step])
        taught = np.array([example.weight + (not example.chosen) for example in self.examples])
        queries = random.choice(len(self.examples), BATCH, p=taught / taught.sum())
        replayed = random.integers(0, len(self.replay.texts), BATCH)
        targets = self._targets(queries, replayed)
        candidates = self._candidates(queries, targets, random)
        chosen = targets[:, candidates]
        return Draw(queries, replayed, candidates, chosen / chosen.sum(1, keepdim=True).clamp(min=1e-12))

    def texts(self, drawn: Draw) -> list[str]:
        """Return the queries of a step, then its replayed texts."""
        return [*(self.examples[n].text for n in drawn.queries), *(self.replay.texts[n] for n in drawn.replayed)]

    def _targets(self, queries: Ints, replayed: Ints) -> Tensor:
        """Return the share of each picture in what texts are for: float32 [2 B, N]."""
        asked = [self.examples[query] for query in queries]
        described = [self.replay.pictures[text] for text in replayed]
        own = [example.shares() for example in asked]
        own += [_evenly(pictures) for pictures in described]
        targets = self.graph.targets(_matrix(own, len(self.vectors)))
        for row, example in enumerate(asked):
            targets[row, [*example.wrong]] = 0
        return targets

    def _candidates(self, queries: Ints, targets: Tensor, random: np.random.Generator) -> Ints:
        """Return the numbers of the pictures that compete, in order."""
        count = len(self.vectors)
        if count <= _CANDIDATES:
            return np.arange(count)
        own = [self.examples[query] for query in queries]
        shown = {number for example in own for number in (*example.passed, *example.wrong)}
        shares, ends = targets.topk(_ENDS, 1)
        needed = np.union1d(np.array(sorted(shown), np.int64), ends[shares > 0].numpy())
        return np.union1d(random.integers(0, count, _CANDIDATES), needed)

    def losses(self, drawn: Draw, queries: Tensor, replayed: Tensor) -> dict[str, Tensor]:
        """Return the losses by name.

        Args:
            drawn: the step's draw.
            queries, replayed: vectors of its texts, float32 [B, D].
        """
        vectors = self.vectors[drawn.candidates]
        asked, described = (log_softmax(_SCALE * texts @ vectors.T, 1) for texts in (queries, replayed))  # [B, C]
        wanted, meant = drawn.targets.chunk(2)
        chosen, captions = -(wanted * asked).sum() / BATCH, -(meant * described).sum() / BATCH
        moved = 1 - (replayed * self.parent[drawn.replayed]).sum(1)  # [B]
        held = torch.tensor([_KEPT_DESCRIBING if self.replay.pictures[text] else _KEPT for text in drawn.replayed])
        return {"chosen": chosen, "wrong": self._unwanted(drawn, asked), "replay": (held * moved).mean(), "captions": captions}

    def _unwanted(self, drawn: Draw, logs: Tensor) -> Tensor:
        """Return the loss of what was marked as wrong."""
        wrong = [_evenly(self.examples[query].wrong) for query in drawn.queries]
        shares = _matrix(wrong, len(self.vectors))
        return -(shares[:, drawn.candidates] * torch.log1p(-logs.exp().clamp(max=1 - 1e-6))).sum() / BATCH


def _evenly(pictures: Collection[int]) -> dict[int, float]:
    """Return the same share for each of a text's pictures."""
    return dict.fromkeys(pictures, 1 / max(len(pictures), 1))


def _matrix(rows: Sequence[Mapping[int, float]], count: int) -> Tensor:
    """Return rows of shares by picture, float32 [B, N]."""
    shares = torch.zeros(len(rows), count)
    for row, weights in enumerate(rows):
        shares[row, [*weights]] = torch.tensor([*weights.values()])
    return shares
