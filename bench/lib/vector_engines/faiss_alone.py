"""faiss in a process of its own, without a server: inverted lists, the same of short codes, and a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from time import perf_counter
from typing import Any

import faiss
import numpy as np

from clip_client.cores import cores
from clip_search.index.kinds import EFFORTS, lists_for
from clip_search.memory_trim import trim
from lib.text_like import Floats, World
from lib.vector_engines.apart import Apart, apart
from lib.vector_engines.engine import CANDIDATES, LINKS, Answers, Filled, K, Memory, timed

_ROUNDS, _ROWS_PER_LIST = 8, 39  # of k-means
_REFINED = 30  # times K: candidates that are compared again


@dataclass(frozen=True)
class Kind:
    """Kind of an index: its description for faiss, and the efforts of its searches."""

    factory: Callable[[World], str]
    efforts: Sequence[int]
    effort: str  # name of the effort


KINDS = {
    "faiss, lists": Kind(lambda world: f"IVF{lists_for(world.rows)},SQfp16", EFFORTS["ivf"], "nprobe"),
    "faiss, lists of short codes": Kind(
        lambda world: f"IVF{lists_for(world.rows)},PQ{world.size // 4}x4fs,Refine(SQfp16)", EFFORTS["ivf1"], "nprobe"
    ),
    "faiss, graph": Kind(lambda world: f"HNSW{LINKS},Flat", EFFORTS["hnsw"], "efSearch"),
}


class FaissAlone:
    """Index in another process."""

    def __init__(self, other: Apart, world: World, kind: Kind) -> None:
        self._other, self._world, self._kind = other, world, kind
        self.efforts = kind.efforts

    def fill(self) -> Filled:
        """As :meth:`lib.vector_engines.engine.Engine.fill`."""
        return Filled(None, self._other.ask("build"))

    def search(self, queries: Floats, effort: int) -> Answers:
        """As :meth:`lib.vector_engines.engine.Engine.search`."""
        answers: Answers = self._other.ask("search", queries, effort)
        return answers

    def setting(self, effort: int) -> str:
        """As :meth:`lib.vector_engines.engine.Engine.setting`."""
        return f"{self._kind.factory(self._world)}, {self._kind.effort} {effort}"

    def memory(self) -> Memory:
        """As :meth:`lib.vector_engines.engine.Engine.memory`."""
        return Memory.of([self._other.process])

    def disk_mb(self) -> float:
        """Return the size of the index's file, if it were written."""
        return float(self._other.ask("file_mb"))


@contextmanager
def faiss_alone(name: str, folder: Path, world: World) -> Iterator[FaissAlone]:
    """Give an index of one of ``KINDS``, which keeps nothing in its folder."""
    kind = KINDS[name]
    with apart(_Index, kind.factory(world), world) as other:
        yield FaissAlone(other, world, kind)


class _Index:
    """Index in this process."""

    def __init__(self, factory: str, world: World) -> None:
        faiss.omp_set_num_threads(cores())
        self._world = world
        self._index = faiss.index_factory(world.size, factory, faiss.METRIC_INNER_PRODUCT)
        self._is_refined = isinstance(self._index, faiss.IndexRefine)
        self._inner = faiss.downcast_index(self._index.base_index if self._is_refined else self._index)

    def build(self) -> float:
        """Train and add, piece by piece; return the seconds without those in which the pieces are made."""
        pieces, seconds = self._world.pieces(), 0.0
        early = list[Floats]()
        if hasattr(self._inner, "nlist"):
            clustering, wanted = self._inner.cp, _ROWS_PER_LIST * self._inner.nlist
            clustering.niter, clustering.max_points_per_centroid, clustering.min_points_per_centroid = (
                _ROUNDS,
                _ROWS_PER_LIST,
                1,
            )
            self._inner.parallel_mode = 1  # the lists of one query are shared out among the threads
            while sum(map(len, early)) < min(wanted, self._world.rows):
                early.append(next(pieces))
            seconds += _seconds(lambda: self._index.train(np.concatenate(early)[:wanted]))
        else:
            self._inner.hnsw.efConstruction = CANDIDATES
        for piece in chain(early, pieces):
            seconds += _seconds(lambda piece=piece: self._index.add(piece))  # type: ignore[misc]
        trim()
        return seconds

    def search(self, queries: Floats, effort: int) -> Answers:
        """Search by each query alone."""
        parameters = self._parameters(effort)
        return timed(
            lambda query: self._index.search(query[None], K, params=parameters), queries, lambda hit: hit[1][0].tolist()
        )

    def file_mb(self) -> float:
        """Return the size of what faiss would write."""
        size = 0

        def count(content: bytes) -> int:
            nonlocal size
            size += len(content)
            return len(content)

        faiss.write_index(self._index, faiss.PyCallbackIOWriter(count, 2**20))
        return size / 1e6

    def _parameters(self, effort: int) -> Any:
        if not hasattr(self._inner, "nlist"):
            return faiss.SearchParametersHNSW(efSearch=effort)
        lists = faiss.SearchParametersIVF(nprobe=effort)
        return faiss.IndexRefineSearchParameters(k_factor=_REFINED, base_index_params=lists) if self._is_refined else lists


def _seconds(work: Callable[[], object]) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start
