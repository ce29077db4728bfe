"""Training of a tower: steps that depend on the seed and their number alone, and a state from which it goes on."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from clip_client.errors import InvalidInput
from clip_client.progress_bars import ProgressBar
from clip_export.learning.examples import Judged, gain
from clip_export.learning.lesson import Lesson

Floats = npt.NDArray[np.float32]
Embed = Callable[[Sequence[str]], Tensor]

_WARM_UP = 20  # steps up to the full rate
_WAY_DOWN = 0.6  # of the steps, down to a fiftieth of it
_SAVE_S = 20.0  # seconds of work that a kill may cost
_POINTS = 20  # of the learning curve
_GROUPS = 4  # of a step's texts, by length
_TOGETHER = 256  # texts that are embedded at once


@dataclass
class Point:
    """Point of the learning curve: losses of a step, and the held-out gain before it."""

    step: int
    losses: Mapping[str, float]
    held_out: float


@dataclass
class Training:
    """A tower that is taught, and what it needs.

    Attributes:
        embed: texts -> vectors of the tower, float32 [N, D].
        parameters: those that change, by name.
        lesson: queries, replay, pictures.
        judged: held-out rows, for the learning curve alone: nothing is chosen by it.
        steps, rate: of the whole training.
        state: file to go on from.
    """

    embed: Embed
    parameters: Mapping[str, nn.Parameter]
    lesson: Lesson
    judged: Sequence[Judged]
    steps: int
    rate: float
    state: Path
    points: list[Point] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._optimizer = torch.optim.AdamW(self.parameters.values(), lr=self.rate, betas=(0.9, 0.98), weight_decay=0.0)

    def run(self) -> None:
        """Take all steps, or those that an earlier run left."""
        first, saved = self._resumed(), time.monotonic()
        with ProgressBar(desc="learning", initial=first, total=self.steps, unit=" steps") as bar:
            for step in range(first, self.steps):
                losses = self._step(step)
                bar.update()
                bar.set_postfix({name: f"{loss:.3f}" for name, loss in losses.items()}, refresh=False)
                if time.monotonic() - saved > _SAVE_S:
                    self._save(step + 1)
                    saved = time.monotonic()
        self.points.append(Point(self.steps, {}, self._held_out_gain()))

    def _step(self, step: int) -> dict[str, float]:
        """Change the weights once."""
        point = step % max(self.steps // _POINTS, 1) == 0
        held_out = self._held_out_gain() if point else float("nan")
        drawn = self.lesson.draw(step)
        queries, replayed = self._embedded(self.lesson.texts(drawn)).chunk(2)
        losses = self.lesson.losses(drawn, queries, replayed)
        self._optimizer.zero_grad()
        torch.stack([*losses.values()]).sum().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        for group in self._optimizer.param_groups:
            group["lr"] = self.rate * self._share_of_rate(step)
        self._optimizer.step()
        told = {name: loss.item() for name, loss in losses.items()}
        if not np.isfinite([*told.values()]).all():
            raise InvalidInput(f"step {step} gave no finite loss: choose a lower --rate than {self.rate:g}")
        if point:
            self.points.append(Point(step, told, held_out))
        return told

    def _embedded(self, texts: Sequence[str]) -> Tensor:
        """Embed a step's texts, short and long ones apart, so that short ones aren't padded like long ones."""
        order = sorted(range(len(texts)), key=lambda n: len(texts[n]))
        size = -(-len(texts) // _GROUPS)
        parts = [self.embed([texts[n] for n in order[start : start + size]]) for start in range(0, len(order), size)]
        return torch.cat(parts)[torch.tensor(order).argsort()]

    def _share_of_rate(self, step: int) -> float:
        up, down = (step + 1) / _WARM_UP, (self.steps - step) / (_WAY_DOWN * self.steps)
        return max(0.02, min(1.0, up, down))

    def _held_out_gain(self) -> float:
        texts = sorted({row.row.text for row in self.judged})
        vectors = embedded(self.embed, texts)
        return gain(self.judged, dict(zip(texts, vectors, strict=True)), self.lesson.vectors.numpy())

    def _save(self, step: int) -> None:
        """Write the state after so many steps under another name, then rename it."""
        new = self.state.with_suffix(".new")
        weights = {name: parameter.detach() for name, parameter in self.parameters.items()}
        points = [(point.step, dict(point.losses), point.held_out) for point in self.points]
        torch.save({"step": step, "weights": weights, "optimizer": self._optimizer.state_dict(), "points": points}, new)
        os.replace(new, self.state)

    def _resumed(self) -> int:
        """Take up a saved state; return the number of steps that were taken."""
        if not self.state.exists():
            return 0
        try:
            state: dict[str, Any] = torch.load(self.state, weights_only=True)
            with torch.no_grad():
                for name, parameter in self.parameters.items():
                    parameter.copy_(state["weights"][name])
            self._optimizer.load_state_dict(state["optimizer"])
            self.points = [Point(*point) for point in state["points"]]
            return int(state["step"])
        except (OSError, RuntimeError, KeyError, ValueError, EOFError, TypeError, pickle.UnpicklingError) as problem:
            raise InvalidInput(
                f"{self.state} can't be read ({problem}): remove {self.state.parent}, and begin anew"
            ) from problem


def embedded(embed: Embed, texts: Sequence[str]) -> Floats:
    """Embed any number of texts: float32 [N, D]."""
    with torch.inference_mode():
        parts = [embed(texts[start : start + _TOGETHER]) for start in range(0, len(texts), _TOGETHER)]
        vectors: Floats = torch.cat(parts).numpy() if parts else np.zeros((0, 0), np.float32)
        return vectors
