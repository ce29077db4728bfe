"""Examples to learn from: for each query what was chosen, weighted, and what was marked as wrong."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clip_client.counting import counted
from clip_client.errors import InvalidInput
from clip_export.learning import propensities, stray_choices
from clip_export.learning.clicks import Row
from clip_export.learning.pictures import Pictures
from clip_export.learning.stray_choices import Choices

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

LEAST_QUERIES, LEAST_CHOICES = 20, 100
"""Different queries and choices below which a tower would learn them by heart, and nothing else."""


@dataclass(frozen=True)
class Example:
    """A query, and what people made of its pictures.

    Attributes:
        text: the query.
        chosen: weight of each picture that was chosen.
        passed: those shown above a choice, and not chosen.
        wrong: those marked as wrong.
        meant: number of choices that were meant, as expected.
    """

    text: str
    chosen: Mapping[int, float]
    passed: frozenset[int]
    wrong: frozenset[int]
    meant: float

    @property
    def weight(self) -> float:
        """Sum of its choices' weights."""
        return sum(self.chosen.values())

    def shares(self) -> dict[int, float]:
        """Return the share of each chosen picture in the weights."""
        return {number: weight / self.weight for number, weight in self.chosen.items()}


@dataclass(frozen=True)
class Judged:
    """A held-out row: the numbers of the pictures that were shown, in their order, and the chosen ones' places and weights."""

    row: Row
    shown: Sequence[int]
    chosen: Sequence[int]
    weights: Sequence[float]


def refuse_too_few(rows: Sequence[Row], held_out: Sequence[Row]) -> None:
    """Raise InvalidInput for too little to learn from."""
    queries, choices = len({row.topic for row in rows if row.chosen}), sum(len(row.chosen) for row in rows)
    if queries < LEAST_QUERIES or choices < LEAST_CHOICES:
        raise InvalidInput(
            f"there are {counted(choices, 'choice')} for {counted(queries, 'query', 'different queries')} to learn from "
            f"({len(held_out)} rows are held out), expected at least {LEAST_CHOICES} for {LEAST_QUERIES}: collect more feedback"
        )


def propensities_of(rows: Sequence[Row], pictures: Pictures, embed: Callable[[Sequence[str]], Floats]) -> Doubles:
    """Estimate the probability that each position is looked at: float64 [K], from 1.

    Args:
        rows: answers with their choices.
        pictures: those of the collection.
        embed: texts -> the parent's vectors, float32 [N, D].
    """
    chosen = [row for row in rows if row.chosen]
    texts = sorted({row.text for row in chosen})
    vectors = dict(zip(texts, embed(texts), strict=True))
    lists, clicks = [], []
    for row in chosen:
        numbers = [pictures.numbers.get(id, -1) for id in row.shown]
        cosines = (pictures.vectors[numbers] @ vectors[row.text]).astype(np.float64)
        cosines[np.array(numbers) < 0] = -np.inf  # deleted since
        if np.isfinite(cosines[0]):
            lists.append(cosines)
            clicks.append([n for n in row.chosen if np.isfinite(cosines[n])])
    return propensities.estimated(lists, clicks)


def examples(rows: Sequence[Row], pictures: Pictures, curve: Doubles) -> list[Example]:
    """Join the rows of each query, in the order in which queries came first; pictures that are gone are passed over."""
    by_topic: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_topic[row.topic].append(row)
    queries = [*by_topic.values()]
    meant = stray_choices.meant([_choices(some, pictures.numbers, curve) for some in queries])
    return [_joined(some, pictures.numbers, curve, real) for some, real in zip(queries, meant, strict=True)]


def _choices(rows: Sequence[Row], numbers: Mapping[str, int], curve: Doubles) -> Choices:
    """Return the choices of a query's rows, in their order."""
    each = [(row, position) for row in rows for position in row.chosen]
    looks, shown = np.array([_looks(row, curve) for row, _ in each]), np.array([len(row.shown) for row, _ in each], float)
    weights = [weight for row in rows for weight in propensities.weights(curve, row.chosen)]
    at = curve[np.minimum([position for _, position in each], len(curve) - 1).astype(int)]
    chosen = np.array([numbers[row.shown[position]] for row, position in each], np.int64)
    return Choices(chosen, at, np.array(weights), shown, looks)


def _looks(row: Row, curve: Doubles) -> float:
    """Return the sum of the propensities of all that a row showed."""
    beyond = max(len(row.shown) - len(curve), 0)
    return float(curve[: len(row.shown)].sum() + beyond * curve[-1])


def _joined(rows: Sequence[Row], numbers: Mapping[str, int], curve: Doubles, meant: Doubles) -> Example:
    chosen: dict[int, float] = defaultdict(float)
    passed, wrong = set[int](), set[int]()
    probabilities = iter(meant.tolist())
    for row in rows:
        for position, weight in zip(row.chosen, propensities.weights(curve, row.chosen), strict=True):
            chosen[numbers[row.shown[position]]] += weight * next(probabilities)
        above = row.shown[: max(row.chosen, default=0)]
        passed |= {numbers[id] for id in above if id in numbers}
        wrong |= {numbers[row.shown[position]] for position in row.wrong}
    text = Counter(row.text for row in rows).most_common(1)[0][0]
    others = frozenset(passed - chosen.keys()), frozenset(wrong - chosen.keys())
    return Example(text, dict(chosen), *others, float(meant.sum()))


def judged(rows: Sequence[Row], pictures: Pictures, curve: Doubles) -> list[Judged]:
    """Return the held-out rows with choices; weights have the mean 1."""
    chosen = [row for row in rows if row.chosen]
    raw = [propensities.weights(curve, row.chosen) for row in chosen]
    mean = float(np.mean([weight for some in raw for weight in some])) if raw else 1.0
    every = []
    for row, some in zip(chosen, raw, strict=True):
        shown = [pictures.numbers.get(id, -1) for id in row.shown]
        every.append(Judged(row, shown, row.chosen, [weight / mean for weight in some]))
    return every


def gain(rows: Sequence[Judged], texts: Mapping[str, Floats], vectors: Floats) -> float:
    """Return the weighted mean of ``1 / log2(1 + rank)`` of the chosen among what was shown; NaN without rows."""
    total, weights = 0.0, 0.0
    for row in rows:
        shown = np.array(row.shown)
        cosines = np.where(shown < 0, -np.inf, vectors[shown] @ texts[row.row.text])
        for position, weight in zip(row.chosen, row.weights, strict=True):
            rank = 1 + int((cosines > cosines[position]).sum())
            total += weight / np.log2(1 + rank)
            weights += weight
    return float(total / weights) if weights else float("nan")
