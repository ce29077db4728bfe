"""Interface of an engine that is compared, the least effort at which it reaches a recall, its memory and its disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import psutil

from clip_search.index import tuning
from lib.text_like import Floats

K = 10
LINKS, CANDIDATES = 16, 128
"""Neighbours of a vector in a graph, and candidates while it is built: the same for each engine that has one."""

Positions = npt.NDArray[np.int64]
Hit = TypeVar("Hit")

_BLOCK_BYTES = 2**9  # in which stat(2) counts
_IN_MEMORY = ("Pss_Anon", "Pss_Shmem")  # memory that the system can't take back; what processes share is divided among them


class Missing(Exception):
    """Reason that an engine can't be had here."""


@dataclass(frozen=True)
class Filled:
    """Outcome of filling an engine."""

    rows_per_s: float | None  # that were stored; None for an engine that stores nothing
    index_s: float  # of the index's build over all of them


@dataclass(frozen=True)
class Answers:
    """Answers to queries that were asked one after the other."""

    times_ms: npt.NDArray[np.float64]  # [Q], as the client saw them
    hits: Positions  # [Q, K], -1 where there were fewer


@dataclass(frozen=True)
class Memory:
    """Memory of the processes of an engine."""

    anonymous_mb: float  # that the system can't take back, shared memory included
    resident_mb: float  # with pages of mapped files

    @classmethod
    def of(cls, processes: Sequence[psutil.Process]) -> Memory:
        """Add up what these processes have."""
        maps = [_rollup(process.pid) for process in processes]
        anonymous = sum(size for each in maps for name, size in each.items() if name in _IN_MEMORY)
        return cls(anonymous, sum(each.get("Pss", 0.0) for each in maps))


class Engine(Protocol):
    """Engine with vectors; :meth:`fill` comes first."""

    efforts: Sequence[int]
    """Efforts of a search, ascending; one alone where the engine chooses it."""

    def fill(self) -> Filled:
        """Store all vectors and index them, until they are searched through the index."""

    def search(self, queries: Floats, effort: int) -> Answers:
        """Ask for the nearest ``K`` of each query [Q, D], one after the other."""

    def setting(self, effort: int) -> str:
        """Describe the index and the effort."""

    def memory(self) -> Memory:
        """Return the memory of the engine's processes."""

    def disk_mb(self) -> float:
        """Return the disk that the vectors and their index take."""


def timed(ask: Callable[[Floats], Hit], queries: Floats, positions: Callable[[Hit], Sequence[int]]) -> Answers:
    """Ask each query [D] and take the time; ``positions`` of the hits of an answer are read afterwards."""
    times_ms, answers = np.empty(len(queries)), list[Hit]()
    for n, query in enumerate(queries):
        start = perf_counter()
        answers.append(ask(query))
        times_ms[n] = 1000 * (perf_counter() - start)
    hits = np.full((len(queries), K), -1, np.int64)
    for n, answer in enumerate(answers):
        read = positions(answer)[:K]
        hits[n, : len(read)] = read
    return Answers(times_ms, hits)


def least_effort(engine: Engine, queries: Floats, truth: Positions, target: float) -> int:
    """Return the least effort that reaches a recall by the sidecar's own rule; else the least that finds as much."""
    if len(engine.efforts) == 1:
        return engine.efforts[0]
    return tuning.least_effort(
        engine.efforts, lambda effort: tuning.recalls(engine.search(queries, effort).hits, truth), target
    )


def disk_mb(folder: Path) -> float:
    """Return the disk that the files below a folder take; a file that goes meanwhile counts nothing."""
    return sum(_blocks_bytes(path) for path in folder.rglob("*")) / 1e6


def _blocks_bytes(path: Path) -> int:
    try:
        state = path.lstat()
    except FileNotFoundError:
        return 0
    return _BLOCK_BYTES * state.st_blocks if path.is_file() else 0


def _rollup(pid: int) -> dict[str, float]:
    """Return the sizes in MB that the system tells of a process; none of one that has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()[1:]
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return {name: int(size.split()[0]) / 1000 for name, _, size in (line.partition(":") for line in lines)}
