"""Figures of two models on the same queries: their difference, its interval, and the verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from clip_export.baseline import bootstrap
from clip_export.baseline.candidates import Candidates
from clip_export.baseline.clicks import Clicks
from clip_export.evaluation import retrieval
from clip_export.evaluation.gate import Allowed
from clip_export.evaluation.items import Evaluation
from clip_export.evaluation.retrieval import IMAGE_TO_TEXT, TEXT_TO_IMAGE, ZERO_SHOT, Embeddings

CLICKS, CLICKS_FIRST, CLICKS_FOUND = "clicks_dcg", "clicks_first", "clicks_found"
"""Names of the figures on clicks; the first one decides."""

_TOP = 10
_TEXTS = 64  # queries whose similarities to all pictures are held at once
_WORTH_TELLING = 1_000_000  # queries; beyond, a difference is none

Floats = npt.NDArray[np.float64]
Pair = tuple[Embeddings, Embeddings]
"""Embeddings of pictures and of texts, float32 [N, D] and [M, D]."""


@dataclass(frozen=True)
class Figure:
    """One score of both models.

    Attributes:
        name: of the score.
        queries: number of groups of queries that were drawn anew: different texts of clicks, pictures of the general set.
        parent: score of the baseline, 0 to 1.
        this: score of the checkpoint, 0 to 1.
        low: least difference in points (hundredths) within the interval.
        high: greatest.
        verdict: a word or two; empty for a figure that is told for information.
        objection: the reason not to publish; empty for none.
    """

    name: str
    queries: int
    parent: float
    this: float
    low: float
    high: float
    verdict: str = ""
    objection: str = ""

    @property
    def change(self) -> float:
        """Difference in points."""
        return 100 * (self.this - self.parent)

    @property
    def interval(self) -> str:
        """Difference with its interval, for a sentence."""
        return f"{points(self.change)} points (95 % interval {points(self.low)} to {points(self.high)})"


@dataclass(frozen=True)
class Seen:
    """Clicks as one model ranks them: vectors of the texts, by text, and of the pictures."""

    texts: Mapping[str, Embeddings]
    pictures: Candidates


def of_clicks(clicks: Clicks, parent: Seen, this: Seen) -> list[Figure]:
    """Score both models on clicks; the first figure decides.

    Each choice counts its weight, the inverse of the probability that its position was looked at: such a sum estimates what it
    would be had all shown pictures been looked at, whichever model ordered them (Joachims, Swaminathan, Schnabel: Unbiased
    Learning-to-Rank with Biased Feedback, WSDM 2017). The sum is of DCG's discounts, 1 / log2(1 + rank) of each chosen picture
    among the shown ones in the model's own order (Agarwal, Takatsu, Zaitsev, Joachims: A General Framework for Counterfactual
    Learning-to-Rank, SIGIR 2019), and it is divided by the sum of the weights (Swaminathan, Joachims: The Self-Normalized
    Estimator for Counterfactual Learning, NIPS 2015).
    """
    topics = {topic: n for n, topic in enumerate(sorted({row.topic for row in clicks.rows}))}
    weights = np.zeros(len(topics))
    for row in clicks.rows:
        weights[topics[row.topic]] += sum(row.weights)
    before, after = (_sums(clicks, seen, topics) for seen in (parent, this))
    low, high = 100 * bootstrap.interval(after - before, weights)
    theirs, ours = (sums.sum(axis=0) / weights.sum() for sums in (before, after))
    figures = [
        Figure(name, len(topics), float(theirs[n]), float(ours[n]), float(low[n]), float(high[n]))
        for n, name in enumerate((CLICKS, CLICKS_FIRST, CLICKS_FOUND))
    ]
    return [_on_clicks(figures[0]), *figures[1:]]


def _sums(clicks: Clicks, seen: Seen, topics: Mapping[str, int]) -> Floats:
    """Return the weighted sums of each topic [T, 3]: discounts, first places, places among the first ten of all pictures."""
    sums = np.zeros((len(topics), 3))
    of_text: dict[str, list[int]] = {}
    for n, row in enumerate(clicks.rows):
        of_text.setdefault(row.text, []).append(n)
    texts = [*of_text]
    for start in range(0, len(texts), _TEXTS):
        some = texts[start : start + _TEXTS]
        similarities = np.stack([seen.texts[text] for text in some]) @ seen.pictures.embeddings.T
        for text, similarity in zip(some, similarities, strict=True):
            for n in of_text[text]:
                row = clicks.rows[n]
                places = np.array([seen.pictures.positions[id] for id in row.shown])
                for position, weight in zip(row.chosen, row.weights, strict=True):
                    among_shown = retrieval.rank(similarity[places], position)
                    among_all = retrieval.rank(similarity, int(places[position]))
                    gained = (1 / math.log2(2 + among_shown), among_shown < 1, among_all < _TOP)
                    sums[topics[row.topic]] += weight * np.array(gained, np.float64)
    return sums


def _on_clicks(figure: Figure) -> Figure:
    if figure.low > 0:
        return replace(figure, verdict="gain")
    if figure.high < 0:
        return replace(figure, verdict="worse", objection=f"held-out clicks fall: {figure.interval}")
    return replace(figure, verdict="no gain", objection=f"no gain on held-out clicks: {figure.interval}{_enough(figure)}")


def _enough(figure: Figure) -> str:
    """Return the number of queries that would tell a difference like this one from none, where it isn't absurd."""
    if not figure.change > 0:
        return ""
    needed = math.ceil(figure.queries * ((figure.high - figure.low) / 2 / figure.change) ** 2)
    if needed > _WORTH_TELLING:
        return ""
    return (
        f" is within noise; {max(needed, figure.queries + 1):,} queries instead of {figure.queries:,} might tell it from none"
    )


def of_general(evaluation: Evaluation, parent: Pair, this: Pair, allowed: Allowed) -> list[Figure]:
    """Score both models on a labelled set of pictures."""
    before, after = (retrieval.hits(*pair, evaluation) for pair in (parent, this))
    figures = []
    for kind in (TEXT_TO_IMAGE, IMAGE_TO_TEXT, ZERO_SHOT):
        names = [name for name in after if name.startswith(kind)]
        if names:
            theirs, ours = (np.stack([hits[name] for name in names], axis=1) for hits in (before, after))
            groups = evaluation.owners if kind == TEXT_TO_IMAGE else np.arange(len(ours))
            figures += [_on_general(figure, len(ours), allowed) for figure in _changes(names, theirs, ours, groups)]
    return figures


def _changes(
    names: Sequence[str], theirs: npt.NDArray[np.bool_], ours: npt.NDArray[np.bool_], groups: npt.NDArray[np.int64]
) -> list[Figure]:
    """Return figures of hits [Q, K]; captions of one picture are drawn together, since they aren't independent."""
    _, group = np.unique(groups, return_inverse=True)
    changes = ours.astype(np.float64) - theirs  # [Q, K]
    sums: Floats = np.stack([np.bincount(group, weights=column) for column in changes.T], axis=1).astype(np.float64)  # [G, K]
    low, high = 100 * bootstrap.interval(sums, np.bincount(group).astype(np.float64))
    return [
        Figure(name, len(sums), float(theirs[:, n].mean()), float(ours[:, n].mean()), float(low[n]), float(high[n]))
        for n, name in enumerate(names)
    ]


def _on_general(figure: Figure, queries: int, allowed: Allowed) -> Figure:
    if allowed.too_much(-figure.change, queries):
        objection = f"{title(figure.name)} falls by more than --max-loss {allowed.lost_points:g}: {figure.interval}"
        return replace(figure, verdict="falls too far", objection=objection)
    if figure.high < 0:
        return replace(figure, verdict="falls a little")
    return replace(figure, verdict="rises" if figure.low > 0 else "within noise")


def title(name: str) -> str:
    """Return a figure's name for people."""
    titles = {
        CLICKS: "held-out clicks: place among those shown, DCG",
        CLICKS_FIRST: "held-out clicks: first of those shown",
        CLICKS_FOUND: f"held-out clicks: among the first {_TOP} of all pictures",
    }
    return titles.get(name) or short_title(name)


def short_title(name: str) -> str:
    """Return a figure's name for a narrow table."""
    titles = {CLICKS: "clicks: DCG", CLICKS_FIRST: "clicks: first", CLICKS_FOUND: f"clicks: all, R@{_TOP}"}
    return titles.get(name) or name.replace("_r@", " R@").replace("_", " ").replace("zero shot", "zero-shot")


def points(number: float) -> str:
    """Return points with their sign."""
    return f"{number:+.1f}".replace("-", "−")
