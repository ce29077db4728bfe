"""Verdicts on the variants of a tower."""

from __future__ import annotations

from dataclasses import dataclass

from clip_client.spec import Tower
from clip_export.evaluation.gate import Scores
from clip_export.evaluation.retrieval import Embeddings
from clip_export.variants.base import Artefact


@dataclass(frozen=True)
class Cost:
    """Cost and gain of an approximation.

    Attributes:
        cosine_mean: to torch, all items.
        lost_points: of the recall or accuracy that lost most; None where nothing is labelled.
        times: as fast as the variant that it approximates, one item at a time, median of turns in one process.
    """

    cosine_mean: float
    lost_points: float | None
    times: float


@dataclass(frozen=True)
class Try:
    """One recipe and the gate's objections to it; none if it passed.

    Attributes:
        recipe: its name.
        failures: scores below the gate, with figure and limit.
        cost: what an approximation costs and gains; None for other variants.
    """

    recipe: str
    failures: list[str]
    cost: Cost | None = None


@dataclass(frozen=True)
class Judged:
    """One tower of one variant, built and measured.

    Attributes:
        tower: image or text.
        variant: its name.
        artefact: its folder, ready to be opened.
        key: changes when it is built anew.
        size_bytes: of all its files.
        embeddings: of the evaluation, float32 [N, D].
        scores: from the gate.
        failures: scores below the gate, with figure and limit; empty if it passed.
        tries: recipes in the order of the attempts; the last one, or the best, was kept.
        recipe: name of the kept one; empty where nothing was quantised.
    """

    tower: Tower
    variant: str
    artefact: Artefact
    key: str
    size_bytes: int
    embeddings: Embeddings
    scores: Scores
    failures: list[str]
    tries: list[Try]
    recipe: str


@dataclass(frozen=True)
class Missing:
    """One tower of a variant that can't be built here, and the reason."""

    tower: Tower
    variant: str
    reason: str
