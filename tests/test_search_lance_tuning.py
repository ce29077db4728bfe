"""Tuning of LanceDB's index: the exact pass, the choice of bits and effort, and notes that nobody can use."""

from __future__ import annotations

import numpy as np
import pytest
from sidecars import unit

from clip_search.index.lance_tuning import PROBES, REFINES, LanceTuned, exact, lance_tuned
from clip_search.storage.vector_index import Effort, bits_for, sample_rate

VECTORS, QUERIES = unit(500), unit(40, seed=3)
NUMBERS = np.arange(1000, 1500)
BATCHES = [(NUMBERS[start : start + 7], VECTORS[start : start + 7]) for start in range(0, 500, 7)]


def test_one_pass_finds_what_comparing_with_all_at_once_does() -> None:
    truth = NUMBERS[np.argsort(-(QUERIES @ VECTORS.T), axis=1)[:, :10]]
    assert [set(row) for row in exact(iter(BATCHES), QUERIES, 10).tolist()] == [set(row) for row in truth.tolist()]
    assert exact(iter(BATCHES[:1]), QUERIES, 10).shape == (40, 7)
    assert exact(iter(()), QUERIES, 10).shape == (40, 0)


def test_the_least_effort_is_chosen_first_of_lists_then_of_candidates() -> None:
    truth = exact(iter(BATCHES), QUERIES, 10)
    order = iter(range(10**6))

    def search(query: np.ndarray, effort: Effort) -> np.ndarray:
        row = int(np.argmax(QUERIES @ query))
        next(order)
        missed = (effort.probes < 32) * 3 + (effort.refine < 8) * 2
        return truth[row][missed:]

    effort, recall, queries = lance_tuned(search, iter(BATCHES), QUERIES, 0.98)
    assert (effort, recall, queries) == (Effort(32, 8), 1.0, 40)
    assert next(order) <= 40 * (len(PROBES) + len(REFINES)) / 2  # each is tried once, and not all
    effort, recall, _ = lance_tuned(lambda query, effort: truth[0][:0], iter(BATCHES), QUERIES, 0.98)
    assert (effort, recall) == (Effort(PROBES[-1], REFINES[-1]), 0.0)


@pytest.mark.parametrize(("queries", "batches"), [(QUERIES[:3], BATCHES), (QUERIES, BATCHES[:1])])
def test_few_queries_or_rows_claim_nothing(queries: np.ndarray, batches: list) -> None:
    assert lance_tuned(lambda query, effort: NUMBERS[:0], iter(batches), queries, 0.98)[1:] == (0.0, 0)


@pytest.mark.parametrize(
    ("rows", "gigabytes", "bits"), [(200_000, 4, 3), (10_000_000, 2, 1), (10_000_000, 5, 3), (10**9, 1, 1)]
)
def test_more_bits_are_taken_where_memory_allows(rows: int, gigabytes: float, bits: int) -> None:
    assert bits_for(rows, 512, int(gigabytes * 2**30)) == bits


@pytest.mark.parametrize(("rows", "gigabytes", "sample"), [(200_000, 4, 256), (10_000_000, 2, 32), (10**9, 1, 32)])
def test_k_means_is_trained_on_what_memory_holds(rows: int, gigabytes: float, sample: int) -> None:
    assert sample_rate(rows, 512, int(gigabytes * 2**30)) == sample


@pytest.mark.parametrize(
    "note", [{}, {"index": "x"}, {"index": "x", "built_rows": 1, "rows": 1, "probes": 0}, {"odd": 1},
             {"index": "x", "built_rows": 1, "rows": 1, "source": "nobody"},
             {"index": "x", "built_rows": 1, "rows": 1, "recall": "1"}]
)  # fmt: skip
def test_a_note_that_cannot_be_used_is_none(note: dict) -> None:
    assert LanceTuned.read(note) is None


def test_a_note_is_read_as_it_was_written() -> None:
    tuned = LanceTuned("x", 5, 6, 16, 3, 0.99, 0.98, 128, "asked")
    assert LanceTuned.read(tuned.note()) == tuned
