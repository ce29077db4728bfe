"""``search compare-models``: clicks and ranks by the model that answered, with intervals by bootstrap over clients."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from clip_client.errors import InvalidInput
from clip_client.feedback_answers import Answer, answers
from clip_client.progress_bars import say
from clip_client.terminal import print_table
from clip_search.cli.commands import client
from clip_search.cli.feedback.showing import events_of

Numbers = npt.NDArray[np.float64]
Verdict = Literal["higher", "lower", "within noise", "too little"]

LEAST = 20  # clients, or answers of unknown ones, below which an interval says nothing
_DRAWS, _LEVEL = 2_000, 0.95
_TOGETHER = 2**21  # numbers drawn at once: 16 MB
_MOST_MODELS = 20  # of those with most answers; others would be forged, or long gone
MEASURES = {
    "clicks": "chosen rows of an answer",
    "reciprocal_rank": "1 / place of the best chosen row, of answers with one",
    "wrong": "rows of an answer that were marked as wrong",
}
"""Measures, each a mean over the answers that somebody gave feedback on."""


@dataclass(frozen=True)
class Estimate:
    """Mean over answers, with the interval that 95 % of the draws lie in; None where there is no answer, or too little."""

    mean: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Model:
    """Model that answered: how often, for how many clients (an answer of an unknown one counts as one), and how well."""

    model: str
    space: str
    answers: int
    clients: int
    measures: dict[str, Estimate]


@dataclass(frozen=True)
class Difference:
    """Difference of a model to the one that is compared with, in one measure."""

    model: str
    measure: str
    estimate: Estimate
    verdict: Verdict


def compare_models(arguments: argparse.Namespace) -> int:
    """Print clicks and ranks of each model that answered, and the differences that are more than noise."""
    with client(arguments) as search:
        every = answers(events_of(search, arguments.collection))
    models, differences = compared(every, arguments.to)
    if arguments.json:
        told = {"models": list(map(asdict, models)), "differences": list(map(asdict, differences)), "level": _LEVEL}
        print(json.dumps(told))
    elif models:
        heading = ("model", "answers", "clients", "clicks", "reciprocal rank", "wrong")
        print_table(heading, [_row(model) for model in models], figures=("answers", "clients"))
        for difference in differences:
            print(_told(difference, models[0].model))
    _explain(models)
    return 0


def compared(every: Iterable[Answer], to: str = "") -> tuple[list[Model], list[Difference]]:
    """Return the models, the one that is compared with first, and the others' differences to it.

    Clients are drawn with replacement, with all their answers, for each model by itself: answers of one person aren't
    independent of each other. Intervals are percentiles of the draws (Efron & Tibshirani 1993, chapter 13).

    Args:
        to: fingerprint, or its beginning, of the model to compare with; the one with most answers if empty.

    Raises:
        InvalidInput: no model, or several, begin so.
    """
    groups: dict[tuple[str, str], list[Answer]] = {}
    for answer in every:
        groups.setdefault((answer.first.model, answer.first.space), []).append(answer)
    ranked = sorted(groups, key=lambda key: (-len(groups[key]), key))[:_MOST_MODELS]
    if to:
        first = _named(to, ranked)
        ranked.sort(key=lambda key: key != first)
    draws = {key: _draws(groups[key], n) for n, key in enumerate(ranked)}
    models = [_model(key, groups[key], draws[key]) for key in ranked]
    differences = [
        _difference(model.model, measure, draws[key][measure], draws[ranked[0]][measure])
        for key, model in zip(ranked[1:], models[1:], strict=True)
        for measure in MEASURES
    ]
    return models, differences


def _named(to: str, keys: Sequence[tuple[str, str]]) -> tuple[str, str]:
    matching = [key for key in keys if key[0].startswith(to)]
    if len(matching) != 1:
        there = ", ".join(model or "unknown" for model, _ in keys) or "none"
        raise InvalidInput(f"--to {to}: {len(matching)} models with feedback begin so, expected one of {there}")
    return matching[0]


def _draws(every: Sequence[Answer], seed: int) -> dict[str, tuple[float | None, Numbers]]:
    """Return mean and draws [n] of the mean by measure; no draws if there are too few clients."""
    names = [answer.first.client or f"answer {n}" for n, answer in enumerate(every)]
    number = {name: n for n, name in enumerate(dict.fromkeys(names))}
    client = np.array([number[name] for name in names])  # [answers]
    values = {
        "clicks": np.array([len(answer.chosen) for answer in every], float),
        "reciprocal_rank": np.array([1 / (1 + min(answer.chosen)) if answer.chosen else np.nan for answer in every]),
        "wrong": np.array([len(answer.marked_wrong) for answer in every], float),
    }
    return {measure: _drawn(client, values[measure], seed) for measure in MEASURES}


def _drawn(client: npt.NDArray[np.int64], values: Numbers, seed: int) -> tuple[float | None, Numbers]:
    there = ~np.isnan(values)
    if not there.any():
        return None, np.empty(0)
    _, number = np.unique(client[there], return_inverse=True)
    sums, counts = np.bincount(number, values[there]), np.bincount(number)  # [clients]
    mean = float(sums.sum() / counts.sum())
    if len(counts) < LEAST:
        return mean, np.empty(0)
    random, step = np.random.default_rng(seed), max(1, _TOGETHER // len(counts))
    means = []
    for start in range(0, _DRAWS, step):
        drawn = random.integers(len(counts), size=(min(step, _DRAWS - start), len(counts)))
        means.append(sums[drawn].sum(1) / counts[drawn].sum(1))
    return mean, np.concatenate(means)


def _estimate(mean: float | None, draws: Numbers) -> Estimate:
    if not len(draws):
        return Estimate(mean, None, None)
    low, high = np.quantile(draws, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Estimate(mean, float(low), float(high))


def _model(key: tuple[str, str], every: Sequence[Answer], draws: Mapping[str, tuple[float | None, Numbers]]) -> Model:
    known = {answer.first.client for answer in every} - {None}
    clients = len(known) + sum(answer.first.client is None for answer in every)
    return Model(*key, len(every), clients, {measure: _estimate(*draws[measure]) for measure in MEASURES})


def _difference(
    model: str, measure: str, own: tuple[float | None, Numbers], others: tuple[float | None, Numbers]
) -> Difference:
    if not len(own[1]) or not len(others[1]):
        return Difference(model, measure, Estimate(None, None, None), "too little")
    assert own[0] is not None  # noqa: S101  (there are draws)
    assert others[0] is not None  # noqa: S101
    estimate = _estimate(own[0] - others[0], own[1] - others[1])
    verdict: Verdict = "within noise"
    if estimate.low is not None and estimate.low > 0:
        verdict = "higher"
    elif estimate.high is not None and estimate.high < 0:
        verdict = "lower"
    return Difference(model, measure, estimate, verdict)


def _row(model: Model) -> tuple[str, ...]:
    measures = [_cell(model.measures[measure]) for measure in MEASURES]
    return (model.model or "unknown", str(model.answers), str(model.clients), *measures)


def _cell(estimate: Estimate) -> str:
    if estimate.mean is None:
        return "–"
    interval = "" if estimate.low is None else f" ({estimate.low:.3f} to {estimate.high:.3f})"
    return f"{estimate.mean:.3f}{interval}"


def _told(difference: Difference, other: str) -> str:
    name, measure = difference.model[:8] or "unknown", difference.measure.replace("_", " ")
    start = f"{name} against {other[:8] or 'unknown'}, {measure}"
    if difference.estimate.mean is None:
        return f"{start}: too little feedback, {LEAST} clients or answers of each are needed"
    estimate = difference.estimate
    return f"{start}: {estimate.mean:+.3f} ({estimate.low:+.3f} to {estimate.high:+.3f}), {difference.verdict}"


def _explain(models: Sequence[Model]) -> None:
    if not models:
        say("there is no feedback yet: nothing can be compared")
    elif len(models) == 1:
        say("one model has answered: nothing can be compared")
