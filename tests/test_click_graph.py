"""Stray choices against the truth they were drawn with; walks against powers of dense matrices; a step's targets."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clip_export.learning import click_graph, lesson, stray_choices
from clip_export.learning.click_graph import ClickGraph
from clip_export.learning.examples import Example
from clip_export.learning.lesson import Lesson
from clip_export.learning.replay import Replay
from clip_export.learning.stray_choices import Choices

SHOWN = 50


def visits(stray: float, seed: int = 0, count: int = 3000, queries: int = 300) -> tuple[list[Choices], list[np.ndarray]]:
    """Let people look for one picture a query, where it is looked at; return their choices, and if each was meant."""
    draw = np.random.default_rng(seed)
    looks = 1 / np.arange(1, SHOWN + 1)
    wanted = np.minimum(np.exp(draw.uniform(0, np.log(SHOWN), queries)).astype(int), SHOWN - 1)
    chosen: list[list[int]] = [[] for _ in range(queries)]
    meant: list[list[bool]] = [[] for _ in range(queries)]
    while sum(map(len, chosen)) < count:
        query = int(draw.integers(queries))
        if draw.random() < looks[wanted[query]]:
            meant[query].append(bool(draw.random() >= stray))
            place = wanted[query] if meant[query][-1] else draw.choice(SHOWN, p=looks / looks.sum())
            chosen[query].append(int(place))
    some = [query for query in range(queries) if chosen[query]]
    return [choices(chosen[query], looks) for query in some], [np.array(meant[query]) for query in some]


def choices(positions: list[int], looks: np.ndarray) -> Choices:
    """Choices among the same pictures each time."""
    at, count = looks[positions], len(positions)
    return Choices(np.array(positions), at, np.minimum(1 / at, 20), np.full(count, SHOWN), np.full(count, looks.sum()))


class TestStrayChoices:
    """Probabilities that choices were meant."""

    @pytest.mark.parametrize("stray", [0.0, 0.1, 0.3])
    def test_their_share_is_that_of_the_clicks(self, stray: float) -> None:
        queries, _ = visits(stray)
        assert 1 - np.concatenate(stray_choices.meant(queries)).mean() == pytest.approx(stray, abs=0.1)

    def test_they_lose_most_of_their_weight(self) -> None:
        queries, truth = visits(0.1)
        probabilities, meant = np.concatenate(stray_choices.meant(queries)), np.concatenate(truth)
        weights = np.concatenate([some.weights for some in queries])
        assert probabilities[meant].mean() > 0.9
        assert probabilities[~meant].mean() < 0.5
        before, after = ((some * ~meant).sum() / some.sum() for some in (weights, weights * probabilities))
        assert after < before / 3

    def test_choices_at_random_are_taken_for_stray(self) -> None:
        queries, _ = visits(1.0)
        assert np.concatenate(stray_choices.meant(queries)).mean() < 0.5

    def test_queries_without_choices_have_none(self) -> None:
        empty = np.zeros(0)
        assert [some.size for some in stray_choices.meant([Choices(empty.astype(int), empty, empty, empty, empty)])] == [0]
        assert stray_choices.meant([]) == []


REPLAY = Replay("captions", ["cat", "kitten", "rain"], [[0, 1], [1], []])
EXAMPLES = [
    Example("Kitten", {2: 6.0}, frozenset({0}), frozenset({3}), 1.0),
    Example("pet", {1: 1.0, 4: 3.0}, frozenset(), frozenset(), 3.0),
    Example("wrong", {}, frozenset(), frozenset({0}), 0.0),
]


class TestWalks:
    """Targets of texts."""

    def test_they_are_those_of_dense_matrices(self) -> None:
        texts = np.zeros((3, 6))  # cat, kitten, pet
        texts[0, [0, 1]] = 1
        usual = (6 * 6 + 1 * 1 + 3 * 3) / (6 + 1 + 3)
        texts[1, 1], texts[1, 2] = 1, click_graph.CHOICE * 6 / usual
        texts[2, [1, 4]] = np.array([1, 3]) * click_graph.CHOICE / usual
        leave = texts / np.maximum(texts.sum(0), 1e-9)
        walk = leave.T @ (texts / texts.sum(1, keepdims=True))
        own = np.array([[0.5, 0.5, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0]])  # the last one's has no other text
        ends = np.where(own > 0, 0, own @ walk + own @ walk @ walk) ** 1.5
        others = ends / np.maximum(ends.sum(1, keepdims=True), 1e-9)
        expected = (1 - click_graph.WALKED) * own + click_graph.WALKED * others
        graph = ClickGraph.of(EXAMPLES, REPLAY, 6)
        assert graph.targets(torch.tensor(own, dtype=torch.float32)).numpy() == pytest.approx(expected, abs=1e-6)

    def test_a_word_reaches_what_was_chosen_for_its_synonym(self) -> None:
        graph = ClickGraph.of(EXAMPLES, REPLAY, 6)
        cat = torch.tensor([[0.5, 0.5, 0, 0, 0, 0]])
        assert graph.targets(cat)[0, 2] > 0
        assert (ClickGraph.of(EXAMPLES[1:], REPLAY, 6).targets(cat)[0, 2]) == 0

    def test_of_many_pictures_the_likeliest_compete(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lesson, "_CANDIDATES", 10)
        replay = Replay("captions", ["rare", "all"], [[7], range(500)])
        graph = ClickGraph.of(EXAMPLES, replay, 500)
        vectors = torch.nn.functional.normalize(torch.randn(500, 8, generator=torch.Generator().manual_seed(0)))
        drawn = Lesson(EXAMPLES, replay, graph, torch.zeros(2, 8), vectors, 0).draw(0)
        assert len(drawn.candidates) < 100
        assert {0, 1, 2, 3, 4, 7} <= {*drawn.candidates.tolist()}
        sums = drawn.targets.chunk(2)[1].sum(1)
        assert sums.numpy() == pytest.approx(1)

    def test_what_was_marked_as_wrong_is_no_target_and_texts_without_pictures_have_none(self) -> None:
        vectors = torch.nn.functional.normalize(torch.randn(6, 8, generator=torch.Generator().manual_seed(0)))
        graph = ClickGraph.of([*EXAMPLES, Example("pet", {3: 1.0}, frozenset(), frozenset(), 9.0)], REPLAY, 6)
        drawn = Lesson(EXAMPLES, REPLAY, graph, torch.zeros(3, 8), vectors, 0).draw(0)
        queries, replayed = drawn.targets.chunk(2)
        assert (queries[drawn.queries == 0][:, 3] == 0).all()
        assert (queries[drawn.queries == 2] == 0).all()
        assert (replayed[drawn.replayed == 2] == 0).all()
        assert replayed[drawn.replayed == 0].sum(1).numpy() == pytest.approx(1)
