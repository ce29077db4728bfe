"""Exports in less time: variants are timed briefly and in this process, int8 sees few pictures.

No test looks at these speeds. Exports by the command and those of `make test-all` take their time.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from clip_client import ModelSpec
from clip_client.spec import Tower
from clip_export import pipeline
from clip_export.builds import speed
from clip_export.builds.verdicts import Judged
from clip_export.evaluation import items
from clip_export.progress import Progress
from clip_export.variants.base import Artefact, Variant

CALIBRATION_ITEMS = 32


class _Here:
    """An artefact that is opened and run in this process."""

    def __init__(self, variant: Variant, artefact: Artefact) -> None:
        start = time.perf_counter()
        self._encode = variant.load(artefact)
        self.load_s = time.perf_counter() - start

    def run(self, batch: np.ndarray) -> list[float]:
        start = time.perf_counter()
        self._encode(batch)
        return [time.perf_counter() - start]

    def memory_bytes(self) -> int:
        return 1


@contextlib.contextmanager
def _opened(variant: Variant, artefact: Artefact) -> Iterator[_Here]:
    yield _Here(variant, artefact)


def _measure(rows: list[Judged], tower: Tower, spec: ModelSpec, folder: Path, progress: Progress) -> Mapping[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "_worker", _opened)
        patch.setattr(speed, "_ROUNDS", 1)
        return speed.measure(rows, tower, spec, folder, progress)


@contextlib.contextmanager
def quick() -> Iterator[None]:
    """Let exports of this process be quick."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "speed", SimpleNamespace(measure=_measure))
        patch.setattr(items, "_CALIBRATION_ITEMS", CALIBRATION_ITEMS)
        yield
