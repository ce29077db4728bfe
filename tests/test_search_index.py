"""The index: parts and tail against brute force, tuning, and what a filter or a deletion leaves."""

from __future__ import annotations

import dataclasses
import io
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from sidecars import SIZE, unit

from clip_search.arrays import positions
from clip_search.index.faiss_index import FlatFile, VectorIndex, nearest, stored_vectors, write_flat
from clip_search.index.kinds import LISTS, kinds_for
from clip_search.index.part import Part, Tail
from clip_search.index.snapshot import Index
from clip_search.index.tuning import AT, Tuned, least_effort, recalls, tuned
from clip_search.query import groups, mixed

COUNT = 3000
KINDS = ["flat", "ivf", "hnsw"]


def built(kind: str, vectors: np.ndarray) -> VectorIndex:
    return VectorIndex.build(kind, vectors.shape[1], len(vectors), [vectors[:1000], vectors[1000:]], vectors, 1)


def part(kind: str, vectors: np.ndarray, rows: np.ndarray) -> Part:
    index = built(kind, vectors)
    return Part.of(index, rows, tuned(index, unit(64, seed=9), "texts", 0.98))


def brute(vectors: np.ndarray, rows: np.ndarray, query: np.ndarray, k: int) -> list[int]:
    return rows[np.argsort(-(vectors @ query), kind="stable")[:k]].tolist()


def test_the_kind_follows_from_size_and_memory() -> None:
    assert kinds_for(1000, SIZE, exact_rows=1000, memory_bytes=2**30) == ("flat",)
    assert kinds_for(16, SIZE, exact_rows=0, memory_bytes=2**30) == ("flat",)  # too few for the codes of a piece
    assert kinds_for(1001, SIZE, exact_rows=1000, memory_bytes=2**30) == LISTS
    counts = {3 * 10**6: 3, 5 * 10**6: 2, 14 * 10**6: 2, 20 * 10**6: 1, 10**9: 1}
    kinds = {rows: kinds_for(rows, 256, exact_rows=1000, memory_bytes=4 * 2**30) for rows in counts}
    assert kinds == {rows: LISTS[:count] for rows, count in counts.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_tuning_reaches_its_target_on_queries_of_another_kind(kind: str) -> None:
    vectors, texts = unit(COUNT), unit(64, seed=3) + np.float32(0.2)
    index = built(kind, vectors)
    tuning = tuned(index, texts, "texts", 0.95)
    truth = np.argsort(-(texts @ vectors.T), axis=1)[:, :AT]
    assert recalls(index.search(texts, AT, tuning.effort)[1], truth).mean() >= 0.95
    assert tuning.recall >= 0.95
    assert tuning.source == "texts"


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_a_higher_target_takes_more_effort(kind: str) -> None:
    index = built(kind, unit(COUNT))
    efforts = [tuned(index, unit(128, seed=5), "texts", target).effort for target in (0.5, 0.9, 1.0)]
    assert efforts == sorted(efforts)
    assert efforts[0] < efforts[-1]


@pytest.mark.parametrize("order", [1, -1])
def test_easy_queries_dont_make_up_for_hard_ones(order: int) -> None:
    easy, hard = unit(64, seed=1), unit(64, seed=3)
    vectors = np.concatenate([np.repeat(easy, AT, axis=0), unit(COUNT)])  # one list holds an easy one's nearest
    index = built("ivf", vectors)
    tuning = tuned(index, np.concatenate([easy, hard][::order]), "texts", 0.9)
    assert recalls(index.search(hard, AT, tuning.effort)[1], index.exact(hard, AT)[1]).mean() >= 0.9


@pytest.mark.parametrize(("most", "effort"), [(0.98, 32), (0.9, 8), (0.0, 64)])
def test_where_no_effort_reaches_the_target_none_is_wasted(most: float, effort: int) -> None:
    """Short codes find no more in more lists once all that they can tell apart are found."""

    def shares(effort: int) -> np.ndarray:
        return np.full(100, min(most, {1: 0.5, 2: 0.7, 4: 0.85, 8: 0.9, 16: 0.97, 32: 0.9795, 64: 0.98}[effort]))

    assert least_effort((1, 2, 4, 8, 16, 32, 64), shares, 0.985) == effort


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.99, 1.0])
@pytest.mark.parametrize("k", [1, 10, 400])
def test_rows_that_dont_count_are_passed_over(share: float, k: int) -> None:
    vectors, query = unit(COUNT), unit(1, seed=11)[0]
    allowed = np.random.default_rng(2).random(COUNT) < share
    scores, found = nearest(query, vectors, k, allowed)
    assert found.tolist() == brute(vectors[allowed], np.flatnonzero(allowed), query, k)
    np.testing.assert_allclose(scores, vectors[found] @ query, atol=1e-6)


def test_a_vector_that_isnt_finite_is_nobodys_neighbour() -> None:
    vectors = unit(20)
    vectors[3] = np.nan
    scores, found = nearest(vectors[0], vectors, 20)
    assert sorted(found.tolist()) == [n for n in range(20) if n != 3]
    assert np.isfinite(scores).all()


def test_a_recall_that_some_queries_miss_is_short() -> None:
    assert Tuned(9, 0.981, 0.98, 500, "texts", 0.004).is_short
    assert Tuned(9, 0.979, 0.98, 500, "texts").is_short
    assert not Tuned(9, 0.984, 0.98, 500, "texts", 0.004).is_short
    assert not Tuned(9, 0.0, 0.98, 0, "vectors").is_short


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_without_queries_no_recall_is_claimed(kind: str) -> None:
    tuning = tuned(built(kind, unit(COUNT)), np.empty((0, SIZE), np.float32), "vectors", 0.98)
    assert (tuning.recall, tuning.queries, tuning.source) == (0.0, 0, "vectors")
    assert tuning.effort >= 256


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_a_filter_gives_only_what_it_keeps(kind: str, share: float) -> None:
    vectors, rows = unit(COUNT), np.arange(COUNT) * 3
    only = np.sort(np.random.default_rng(1).choice(rows, int(share * COUNT), replace=False))
    hits = part(kind, vectors, rows).search(unit(1, seed=7)[0], AT, only)[1]
    keep = np.isin(rows, only)
    expected = brute(vectors[keep], rows[keep], unit(1, seed=7)[0], AT)
    assert set(hits) <= set(only)
    assert len(set(hits) & set(expected)) >= AT - 1


def test_a_narrow_filter_is_exact() -> None:
    vectors, rows = unit(COUNT), np.arange(COUNT)
    made = part("hnsw", vectors, rows)
    only = rows[::100]
    for query in unit(20, seed=11):
        assert made.search(query, AT, only)[1].tolist() == brute(vectors[::100], only, query, AT)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_hidden_is_never_found(kind: str) -> None:
    vectors, rows = unit(COUNT), np.arange(COUNT)
    made, query = part(kind, vectors, rows), vectors[5]
    assert made.search(query, 1, None)[1].tolist() == [5]
    made.hide(np.array([5, 99_999]))
    assert 5 not in made.search(query, 50, None)[1]
    assert made.dead == 1


def test_parts_and_tail_are_searched_together() -> None:
    vectors = unit(COUNT)
    index = Index(
        SIZE, (part("hnsw", vectors[:1000], np.arange(1000)), part("flat", vectors[1000:2000], np.arange(1000, 2000)))
    )
    for start in range(2000, COUNT, 7):
        index.append(np.arange(start, min(start + 7, COUNT)), vectors[start : start + 7])
    hits = [index.search(vectors[n], 1)[1].tolist() for n in (3, 1500, 2000, 2999)]
    assert hits == [[3], [1500], [2000], [2999]]
    np.testing.assert_allclose(
        index.vectors(np.array([2500, 3, 77_777])), [vectors[2500], vectors[3], np.zeros(SIZE)], atol=1e-3
    )
    assert len(index) == COUNT


def test_a_part_of_which_nothing_is_left_is_dropped() -> None:
    vectors = unit(COUNT)
    rows = [np.arange(start, start + 1000) for start in (0, 1000, 2000)]
    index = Index(SIZE, tuple(part("flat", vectors[own], own) for own in rows[:2]))
    index.append(rows[2], vectors[rows[2]])
    assert not index.drop_hidden()
    index.hide(rows[1][1:])
    assert not index.drop_hidden()
    index.hide(rows[1])
    assert index.drop_hidden()
    assert ([len(left.rows) for left in index.snapshot.parts], len(index)) == ([1000], 2000)
    assert [index.search(vectors[n], 1)[1].tolist() for n in (3, 2999)] == [[3], [2999]]
    assert index.agree(np.arange(COUNT)).tolist() == rows[1].tolist()  # they would be taken in again


def test_a_swap_keeps_what_was_hidden_and_added_meanwhile() -> None:
    vectors, rows = unit(COUNT), np.arange(COUNT)
    index = Index(SIZE)
    index.append(rows[:2000], vectors[:2000])
    made = part("hnsw", vectors[:2000], rows[:2000])  # built from what was there ...
    index.hide(np.array([7]))  # ... while this was deleted
    index.append(rows[2000:], vectors[2000:])  # and these were added
    index.replace(made, first=0)
    assert index.snapshot.tail.count == COUNT - 2000
    assert 7 not in index.search(vectors[7], 20)[1]
    assert index.search(vectors[2500], 1)[1].tolist() == [2500]
    assert len(index) == COUNT - 1


def test_a_range_without_rows_leaves_the_others() -> None:
    vectors, rows = unit(COUNT), np.arange(COUNT)
    index = Index(SIZE, tuple(part("flat", vectors[n : n + 1000], rows[n : n + 1000]) for n in (0, 1000)))
    index.append(rows[2000:], vectors[2000:])
    index.clear(1000, 2499)
    assert [index.search(vectors[n], 1)[1].tolist() == [n] for n in (5, 1500, 2400, 2500)] == [True, False, False, True]
    assert len(index) == 1000 + 500


def test_as_many_are_found_as_there_are() -> None:
    vectors, rows = unit(COUNT), np.arange(COUNT)
    lists = part("ivf", vectors, rows)
    lists.tuned = dataclasses.replace(lists.tuned, effort=1)  # one list has a fraction of the rows
    lists.hide(rows[:100])
    query = unit(1, seed=5)[0]
    assert len(lists.search(query, 10, None)[1]) == 10
    assert sorted(lists.search(query, COUNT, None)[1].tolist()) == rows[100:].tolist()
    kept = rows[COUNT // 2 :]
    assert sorted(lists.search(query, COUNT, kept)[1].tolist()) == kept.tolist()


def test_nothing_is_found_in_nothing() -> None:
    assert Index(SIZE).search(unit(1)[0], 5)[1].tolist() == []


def test_a_saved_part_is_the_same(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).permutation(COUNT)  # a table needn't be in order
    made = part("hnsw", unit(COUNT), rows)
    made.save(tmp_path / "part")
    loaded = Part.load(tmp_path / "part", made.about())
    query = unit(1, seed=4)[0]
    assert loaded.search(query, AT, None)[1].tolist() == made.search(query, AT, None)[1].tolist()
    assert loaded.tuned == made.tuned
    assert (loaded.first, loaded.last) == (0, COUNT - 1)


def test_a_tail_that_is_read_while_it_grows_shows_whole_rows() -> None:
    tail = Tail.empty(SIZE, 4).append(np.arange(3), unit(3))
    same = tail.append(np.array([3]), unit(1))
    larger = same.append(np.array([9]), unit(1))
    assert same is tail
    assert larger is not tail
    assert (tail.count, larger.count) == (4, 5)
    assert larger.after(2).alive_rows().tolist() == [3, 9]


def test_rows_that_are_replaced_for_ever_leave_a_small_tail() -> None:
    count, index, vectors = 500, Index(SIZE), unit(500)
    index.append(np.arange(count), vectors)
    for turn in range(1, 20):
        new = turn * count + np.arange(count)
        index.append(new, vectors)
        index.hide(new - count)
        assert index.snapshot.tail.count <= 4 * count + 1024
        assert (len(index), index.snapshot.last) == (count, new[-1])
        assert index.search(vectors[7], 3)[1].tolist() == brute(vectors, new, vectors[7], 3)
    index.hide(new)
    assert (len(index), index.snapshot.last) == (0, new[-1])  # the next rows are numbered after it
    assert index.search(vectors[7], 3)[1].tolist() == []
    index.append(new[-1:] + 1, vectors[:1])
    assert index.search(vectors[0], 3)[1].tolist() == [new[-1] + 1]


def test_positions_of_rows() -> None:
    assert positions(np.array([2, 4, 9]), np.array([9, 3, 2])).tolist() == [2, 0]
    assert positions(np.empty(0, np.int64), np.array([1])).tolist() == []


def test_a_mix_is_the_weighted_sum_of_unit_length() -> None:
    first, other = unit(2)
    total = first - 0.5 * other
    np.testing.assert_allclose(mixed([first, other], [1, -0.5]), total / np.linalg.norm(total), atol=1e-6)
    with pytest.raises(ValueError, match="cancel each other out"):
        mixed([first, first], [1, -1])


def test_duplicates_are_groups_that_hang_together() -> None:
    angles = np.radians([0, 15, 30, 90, 100])  # neighbours are alike, the first and the third aren't
    vectors = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    assert [first for first, *_ in groups(vectors, 0.94)] == [0, 3]
    assert groups(vectors, 0.9999) == [[0], [1], [2], [3], [4]]


@pytest.mark.parametrize("count", [1, 1_000])
def test_an_exact_index_is_written_as_the_library_does(tmp_path: Path, count: int) -> None:
    file = io.BytesIO()
    write_flat(unit(count), file.write)
    built("flat", unit(count)).save(tmp_path / "index.faiss")
    assert file.getvalue() == (tmp_path / "index.faiss").read_bytes()


def test_index_files_of_others(tmp_path: Path) -> None:
    file = FlatFile(tmp_path / "image.index", unit(10).shape[1])
    file.add(unit(10))
    file.close()
    np.testing.assert_array_equal(stored_vectors(tmp_path / "image.index").reconstruct_n(0, 10), unit(10))
    (tmp_path / "broken.index").write_bytes(b"no index")
    with pytest.raises(ValueError, match="import the embeddings' folder instead"):
        stored_vectors(tmp_path / "broken.index")


def test_a_search_is_right_while_rows_of_the_tail_are_hidden() -> None:
    rows = np.arange(16_000)
    tail = Tail.empty(1, len(rows)).append(rows, np.ones((len(rows), 1), np.float32))
    kept, hidden = rows[1::100], rows[::100]
    over = threading.Event()

    def hide() -> None:
        while not over.is_set():
            tail.hide(hidden)
            tail.keep(rows)

    before, hiding = sys.getswitchinterval(), threading.Thread(target=hide)
    sys.setswitchinterval(1e-5)
    hiding.start()
    try:
        end = time.monotonic() + 3
        while time.monotonic() < end:
            _, hits = tail.search(np.ones(1, np.float32), len(rows), kept)
            assert np.sort(hits).tolist() == kept.tolist()
    finally:
        over.set()
        hiding.join()
        sys.setswitchinterval(before)
