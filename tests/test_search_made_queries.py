"""Queries that are made for want of texts: as hard as texts, on vectors of several shapes, and whole where vectors are odd."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sidecars import unit

from clip_search.index.faiss_index import VectorIndex
from clip_search.index.tuning import AT, QUERIES, Tuned, made, made_of, recalls, tuned

ROWS, SIZE, TARGET = 3_000, 256, 0.98
Made = tuple[np.ndarray, np.ndarray]  # pictures and texts


def length_1(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def about(subjects: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Texts at a cosine of 0.3 to what they are about."""
    return (0.3 * length_1(subjects) + np.sqrt(0.91) * length_1(rest)).astype(np.float32)


def things(draw: np.random.Generator) -> Made:
    """Pictures of a hundred things, which differ in every direction; a text names a thing."""
    centres, which = draw.standard_normal((ROWS // 40, SIZE)), draw.integers(0, ROWS // 40, ROWS)
    pictures = centres[which] + 0.7 * draw.standard_normal((ROWS, SIZE))
    return pictures, about(centres[which[:300]], draw.standard_normal((300, SIZE)))


def few_directions(draw: np.random.Generator) -> Made:
    """Pictures that differ in 24 directions, beside what all have in common; texts differ there, too."""
    span = draw.standard_normal((24, SIZE))
    subjects, which = draw.standard_normal((ROWS // 20, 24)), draw.integers(0, ROWS // 20, ROWS)
    pictures = 3 * draw.standard_normal(SIZE) + (subjects[which] + 0.6 * draw.standard_normal((ROWS, 24))) @ span
    return pictures, about(subjects[which[:300]] @ span, draw.standard_normal((300, 24)) @ span)


def no_structure(draw: np.random.Generator) -> Made:
    """Pictures in any direction, each of which has its text."""
    pictures = draw.standard_normal((ROWS, SIZE))
    return pictures, about(pictures[:300], draw.standard_normal((300, SIZE)))


def index_of(vectors: np.ndarray) -> VectorIndex:
    return VectorIndex.build("ivf", vectors.shape[1], len(vectors), [vectors], vectors, 1)


def effort_of(index: VectorIndex, queries: np.ndarray) -> Tuned:
    return tuned(index, queries, "made", TARGET)


@pytest.mark.parametrize("world", [things, few_directions, no_structure])
def test_texts_get_the_recall_that_made_queries_claim(world: Callable[[np.random.Generator], Made]) -> None:
    pictures, texts = world(np.random.default_rng(0))
    index = index_of(length_1(pictures).astype(np.float32))
    claim = effort_of(index, made(index, QUERIES))
    truth = index.exact_of_many(texts, AT)[1]
    assert claim.recall >= TARGET
    assert recalls(index.search(texts, AT, claim.effort)[1], truth).mean() >= TARGET - 0.01


def test_they_are_no_harder_than_texts_where_pictures_are_alike() -> None:
    pictures, texts = things(np.random.default_rng(0))
    index = index_of(length_1(pictures).astype(np.float32))
    needed = effort_of(index, texts).effort
    assert effort_of(index, made(index, QUERIES)).effort <= needed


def test_their_cosine_to_what_they_are_about_is_that_of_texts() -> None:
    stored = np.zeros((2_000, SIZE), np.float32)
    stored[:, :16] = unit(2_000, 16)
    groups = np.split(stored, 200)
    queries, means = made_of(groups), length_1(np.stack(groups).mean(1))
    np.testing.assert_allclose(np.linalg.norm(queries, axis=1), 1, atol=1e-5)
    assert np.einsum("ij,ij->i", queries, means).mean() == pytest.approx(0.3, abs=0.05)
    outside = np.linalg.norm(queries[:, 16:], axis=1)
    assert outside[:100].min() > 0.8  # the first half: in any direction
    assert outside[100:].max() < 1e-6  # the others: where neighbours differ


@pytest.mark.parametrize("vectors", [np.repeat(unit(1, 32), 40, axis=0), np.repeat(unit(2, 32), 20, axis=0), unit(20, 32)])
def test_vectors_that_are_all_alike_or_few_make_queries_too(vectors: np.ndarray) -> None:
    index = VectorIndex.build("ivf", 32, len(vectors), [vectors], vectors, 1)
    queries = made(index, 20)
    assert queries.shape == (20, 32)
    np.testing.assert_allclose(np.linalg.norm(queries, axis=1), 1, atol=1e-5)
