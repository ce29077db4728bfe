"""Figures of large collections, of engines beside each other, and of the plan for 10⁹ rows that is computed from them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import partial

from measured import BENCHMARKS, cell, content, of_each, rows


def measured(bench: str) -> list[int]:
    """Return the sizes that a bench was run with, in thousands of rows, ascending."""
    names = (re.fullmatch(rf"{bench}-(\d+)k", path.stem) for path in BENCHMARKS.glob(f"{bench}-*.json"))
    return sorted(int(name[1]) for name in names if name)


def compared(*names: str) -> list[int]:
    """Return the sizes, in thousands of rows, with which all of these engines were measured, ascending."""
    every = (
        (size, {row["engine"]: row["p50 ms"] for row in rows(f"engines-{size}k", "engine")}) for size in measured("engines")
    )
    return [size for size, p50_ms in every if all(p50_ms.get(name) is not None for name in names)]


def collection(size: str, figure: str) -> Callable[[], float]:
    """Return the source of a figure of a large collection, of ``100k`` rows or ``1000k``."""
    return partial(cell, f"memory-{size}", "figure", (figure,), "value")


def phase(size: str, name: str, column: str) -> Callable[[], float]:
    """Return the source of the seconds or the memory of a phase of a large collection."""
    return partial(cell, f"memory-{size}", "phase", (name,), column)


def cached(size: str) -> float:
    """Return the MB of an index's files that searches of a large collection had in memory."""
    return phase(size, "searches", "resident MB at most")() - phase(size, "searches", _ANONYMOUS)()


def engine(name: str, column: str, thousands: int = 0) -> Callable[[], float]:
    """Return the source of a figure of an engine, with the most rows that all were compared with unless others are told."""
    return partial(cell, f"engines-{thousands or _COMPARED[-1]}k", "engine", (name,), column)


def grown(name: str, column: str) -> Callable[[], float]:
    """Return the source of what a row adds to a figure of an engine, by the fewest and the most rows it was measured with."""
    least, *_, most = [0, *sizes] if len(sizes := compared(name)) == 1 else sizes
    before = engine(name, column, least) if least else float
    return lambda: (engine(name, column, most)() - before()) / (1e3 * (most - least))


def billion(source: Callable[[], float], of: float, unit: float = 1.0) -> Callable[[], float]:
    """Return the source of what 10⁹ rows take, if so many take a measured figure: in parts of that size it grows with them."""
    return lambda: source() * 1e9 / of / unit


def core_hours(source: Callable[[], float], of: float) -> Callable[[], float]:
    """Return the source of the core hours of 10⁹ rows, if so many take some seconds of the benchmarks' machine."""
    return lambda: billion(source, of, 3600)() * content(BENCHMARKS / "peers.json")["machine"]["cores"]


def machines(held_tb: Callable[[], float]) -> Callable[[], float]:
    """Return the source of the number of machines whose memory holds so much."""
    return lambda: math.ceil(1000 * held_tb() / MACHINE_GB)


def added(*sources: Callable[[], float], times: float = 1.0) -> Callable[[], float]:
    """Return the source of a sum."""
    return lambda: times * sum(source() for source in sources)


MACHINE_GB, MACHINE_CORES, CORE_HOUR, BUSY = 128, 16, 0.05, 0.6
"""A machine of the plan for 10⁹ rows, the price of a core hour in dollars, which is a guess, and the share of cores at work."""
_ANONYMOUS = "anonymous MB at most"
_BUILD = "first build"
_CURVES = [f"{thousands}k" for thousands in measured("memory")]
_PART = _CURVES[-1]
"""Sizes of the collections, and the largest of them, that of a part of 10⁹ rows."""
_CURVE: Mapping[str, tuple[Callable[[str], float], str]] = {
    "import": (lambda size: collection(size, "rows imported a second")(), ",.0f"),
    "build": (lambda size: phase(size, _BUILD, "seconds")(), ".0f"),
    "peak": (lambda size: of_each(max, f"memory-{size}", "phase", _ANONYMOUS), ",.0f"),
    "serving": (lambda size: phase(size, "searches", _ANONYMOUS)(), ",.0f"),
    "cached": (cached, ",.0f"),
    "files": (lambda size: collection(size, "files of the index MB")(), ",.0f"),
    "restart": (lambda size: collection(size, "restart s")(), ".1f"),
    "recall": (lambda size: collection(size, "recall at 10")(), ".3f"),
    "p50": (lambda size: collection(size, "p50 ms")(), ".1f"),
    "p95": (lambda size: collection(size, "p95 ms")(), ".1f"),
}
"""Figures of large collections by name, for each size of ``_CURVES``."""
_ENGINES = {
    "ours": "clipserve, faiss",
    "ours-lancedb": "clipserve, lancedb",
    "lists": "faiss, lists",
    "codes": "faiss, lists of short codes",
    "graph": "faiss, graph",
    "milvus": "Milvus",
    "pgvector": "PostgreSQL with pgvector",
}
_OF_ENGINES = {
    "index": ("index s", ".0f"),
    "memory": ("memory MB", ",.0f"),
    "disk": ("disk MB", ",.0f"),
    "recall": ("recall@10", ".3f"),
    "p50": ("p50 ms", ".2f"),
    "p95": ("p95 ms", ".1f"),
}
_COMPARED = compared(*_ENGINES.values())
_OF_MILVUS = compared(_ENGINES["milvus"])
_PART_ROWS = 1e3 * measured("memory")[-1]
_HOURS = {
    "import": core_hours(lambda: _PART_ROWS / collection(_PART, "rows imported a second")(), _PART_ROWS),
    "index": core_hours(phase(_PART, _BUILD, "seconds"), _PART_ROWS),
}
_FILES_TB = billion(collection(_PART, "files of the index MB"), _PART_ROWS, 1e6)
_PROCESSES_TB = billion(phase(_PART, "searches", _ANONYMOUS), _PART_ROWS, 1e6)
_QUERY_S = billion(collection(_PART, "p50 ms"), _PART_ROWS, 1000)
_MACHINES = machines(added(_FILES_TB, _PROCESSES_TB))
_CORES = added(_MACHINES, times=MACHINE_CORES)
_MILVUS_TB = billion(grown(_ENGINES["milvus"], "memory MB"), 1, 1e6)
_BILLION_ROWS: Mapping[str, tuple[Callable[[], float], str]] = {
    "part-rows": (lambda: _PART_ROWS, ",.0f"),
    "parts": (billion(lambda: 1.0, _PART_ROWS), ",.0f"),
    "compared-rows": (lambda: 1e3 * _COMPARED[-1], ",.0f"),
    "milvus-most-rows": (lambda: 1e3 * _OF_MILVUS[-1], ",.0f"),
    "row-disk": (lambda: 1e6 * grown(_ENGINES["ours"], "disk MB")(), ",.0f"),
    "row-milvus": (lambda: 1e6 * grown(_ENGINES["milvus"], "memory MB")(), ",.0f"),
    "machine-cores": (lambda: MACHINE_CORES, ".0f"),
    "machine-gb": (lambda: MACHINE_GB, ".0f"),
    "core-hour": (lambda: CORE_HOUR, ".2f"),
    "rows-import-hours": (_HOURS["import"], ",.0f"),
    "rows-index-hours": (_HOURS["index"], ",.0f"),
    "rows-disk-tb": (billion(grown(_ENGINES["ours"], "disk MB"), 1, 1e6), ".1f"),
    "rows-files-tb": (_FILES_TB, ".1f"),
    "rows-memory-tb": (_PROCESSES_TB, ".2f"),
    "rows-query-s": (_QUERY_S, ".1f"),
    "rows-machines": (_MACHINES, ".0f"),
    "rows-cores": (_CORES, ",.0f"),
    "rows-build-hours": (lambda: added(*_HOURS.values())() / _CORES(), ".1f"),
    "rows-build-dollars": (added(*_HOURS.values(), times=CORE_HOUR), ",.0f"),
    "rows-month-dollars": (added(_CORES, times=30 * 24 * CORE_HOUR), ",.0f"),
    "rows-queries": (lambda: BUSY * _CORES() / _QUERY_S(), ",.0f"),
    "rows-query-ms": (lambda: 1000 * _QUERY_S() / _CORES(), ",.0f"),
    "rows-milvus-tb": (_MILVUS_TB, ".1f"),
    "rows-milvus-machines": (machines(_MILVUS_TB), ".0f"),
    "rows-milvus-hours": (core_hours(grown(_ENGINES["milvus"], "index s"), 1), ",.0f"),
}

FIGURES: Mapping[str, tuple[Callable[[], float], str]] = {
    **{f"curve-{size}-{name}": (partial(source, size), form) for size in _CURVES for name, (source, form) in _CURVE.items()},
    **{
        f"engine-{short}-{figure}": (engine(name, column), form)
        for short, name in _ENGINES.items()
        for figure, (column, form) in _OF_ENGINES.items()
    },
    **{f"part-{name}": (partial(source, _PART), form) for name, (source, form) in _CURVE.items()},
    **_BILLION_ROWS,
}
"""Name -> source and form of each, as in ``figures.py``."""
