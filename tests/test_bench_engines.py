"""The bench of engines: the same effort rule for each, engines that can't be had, rows as PostgreSQL reads them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "bench"))

import engines
from lib import results
from lib.text_like import Floats, World
from lib.vector_engines import engine, faiss_alone, postgres
from lib.vector_engines.engine import Answers, Filled, K, Memory, Missing

WORLD = World(rows=2_000, size=16)


class Graded:
    """An engine that finds as many of the true nearest as its effort."""

    efforts = (1, 4, 9, 10)

    def __init__(self) -> None:
        self.queries = WORLD.queries(20)
        self.truth = WORLD.nearest(self.queries, K)
        self.asked: list[int] = []

    def fill(self) -> Filled:
        return Filled(1000.0, 1.0)

    def search(self, queries: Floats, effort: int) -> Answers:
        self.asked.append(effort)
        hits = WORLD.nearest(queries, K)
        hits[:, effort:] = -1
        return Answers(np.full(len(queries), float(effort)), hits)

    def setting(self, effort: int) -> str:
        return f"effort {effort}"

    def memory(self) -> Memory:
        return Memory(1.0, 2.0)

    def disk_mb(self) -> float:
        return 3.0


class Absent(Graded):
    """One that isn't installed."""


class Broken(Graded):
    """One that fails while it is filled."""

    def fill(self) -> Filled:
        raise ValueError("no\nroom")


@pytest.mark.parametrize(("recall", "effort"), [(0.35, 4), (0.85, 9), (0.95, 10), (0.1, 1)])
def test_each_is_searched_with_the_least_effort_that_reaches_the_recall(recall: float, effort: int) -> None:
    graded = Graded()
    assert engine.least_effort(graded, graded.queries, graded.truth, recall) == effort


def test_an_engine_that_chooses_by_itself_is_asked_nothing() -> None:
    graded = Graded()
    graded.efforts = (0,)  # type: ignore[assignment]
    assert engine.least_effort(graded, graded.queries, graded.truth, 0.98) == 0
    assert not graded.asked


def test_only_the_question_is_timed_and_missing_hits_are_told() -> None:
    answers = engine.timed(lambda query: [7] if query[0] else [], np.array([[1], [0]], np.float32), lambda hits: hits)
    assert answers.hits[0].tolist() == [7] + [-1] * 9
    assert answers.hits[1].tolist() == [-1] * 10
    assert answers.times_ms.shape == (2,)


def test_faiss_alone_finds_what_exact_search_does() -> None:
    queries = WORLD.queries(50)
    with faiss_alone.faiss_alone("faiss, lists of short codes", Path(), WORLD) as alone:
        filled = alone.fill()
        hits = alone.search(queries, max(alone.efforts)).hits
        memory = alone.memory()
        size_mb = alone.disk_mb()
    assert filled.rows_per_s is None
    assert filled.index_s > 0
    assert np.mean([len(set(hit) & set(true)) / K for hit, true in zip(hits, WORLD.nearest(queries, K), strict=True)]) > 0.95
    assert memory.resident_mb >= memory.anonymous_mb > 10
    assert WORLD.rows * WORLD.size * 2 / 1e6 < size_mb < 1  # half precision, codes, numbers


def test_rows_are_as_postgresql_takes_them() -> None:
    vectors = np.array([[0.5, -2.0], [1.0, 0.25]], np.float32)
    content = postgres._copied(vectors, first=258)
    assert len(content) == 2 * (2 + 4 + 8 + 4 + 4 + 2 * 2)
    assert content[:14] == b"\0\2\0\0\0\x08\0\0\0\0\0\0\x01\x02"
    assert content[14:26] == b"\0\0\0\x08\0\2\0\0\x38\x00\xc0\x00"  # IEEE 754: 0.5 is 0x3800, -2 is 0xc000


def test_engines_that_cannot_be_had_are_rows_with_their_reasons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "benchmarks.md").write_text("# Benchmarks\n")
    monkeypatch.setattr(results, "PAGE", tmp_path / "benchmarks.md")
    monkeypatch.setattr(results, "FOLDER", tmp_path / "benchmarks")
    closed: list[type[Graded]] = []

    @contextmanager
    def opened(kind: type[Graded], folder: Path, world: World) -> Iterator[Graded]:
        if kind is Absent:
            raise Missing("it isn't installed")
        try:
            yield kind()
        finally:
            closed.append(kind)

    kinds = {"absent": Absent, "broken": Broken, "graded": Graded, "clipserve, graded": Graded}
    monkeypatch.setattr(engines, "ENGINES", {name: partial(opened, kind) for name, kind in kinds.items()})
    monkeypatch.setattr(sys, "argv", ["engines.py", "--rows", "2000", "--size", "16", "--queries", "20", "--tuning", "20"])
    engines.main()
    assert closed == [Broken, Graded, Graded]
    [table] = json.loads((tmp_path / "benchmarks" / "engines-2k.json").read_text())["tables"]
    rows = {row[0]: dict(zip(table["columns"], row, strict=True)) for row in table["rows"]}
    assert list(rows) == ["clipserve, graded", "graded", "absent", "broken"]
    assert rows["absent"]["setting"] == "it isn't installed"
    assert rows["broken"]["setting"] == "ValueError: no room"
    assert rows["broken"]["p50 ms"] is None
    assert (rows["graded"]["setting"], rows["graded"]["p50 ms"], rows["graded"]["recall@10"]) == ("effort 10", 10, 1)
