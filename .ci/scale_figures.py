"""Figures of large collections, of engines beside each other, and of the plan for 10⁹ rows that is computed from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial

from measured import BENCHMARKS, cell, content, of_each


def collection(rows: str, figure: str) -> Callable[[], float]:
    """Return the source of a figure of a large collection, of ``200k`` rows or ``1000k``."""
    return partial(cell, f"memory-{rows}", "figure", (figure,), "value")


def phase(rows: str, name: str, column: str) -> Callable[[], float]:
    """Return the source of the seconds or the memory of a phase of a large collection."""
    return partial(cell, f"memory-{rows}", "phase", (name,), column)


def cached(rows: str) -> float:
    """Return the MB of an index's files that searches of a large collection had in memory."""
    return phase(rows, "searches", "resident MB at most")() - phase(rows, "searches", _ANONYMOUS)()


def engine(name: str, column: str) -> Callable[[], float]:
    """Return the source of a figure of an engine among others, with 200,000 rows."""
    return partial(cell, "engines-200k", "engine", (name,), column)


def billion(source: Callable[[], float], rows: float, unit: float = 1.0) -> Callable[[], float]:
    """Return the source of what 10⁹ rows take, if so many take a measured figure: in parts of that size it grows with them."""
    return lambda: source() * 1e9 / rows / unit


def core_hours(source: Callable[[], float], rows: float) -> Callable[[], float]:
    """Return the source of the core hours of 10⁹ rows, if so many take some seconds of the benchmarks' machine."""
    return lambda: billion(source, rows, 3600)() * content(BENCHMARKS / "peers.json")["machine"]["cores"]


def machines(held_tb: Callable[[], float]) -> Callable[[], float]:
    """Return the source of the number of machines whose memory holds so much."""
    return lambda: math.ceil(1000 * held_tb() / MACHINE_GB)


def added(*sources: Callable[[], float], times: float = 1.0) -> Callable[[], float]:
    """Return the source of a sum."""
    return lambda: times * sum(source() for source in sources)


MACHINE_GB, MACHINE_CORES, CORE_HOUR, BUSY = 128, 16, 0.05, 0.6
"""A machine of the plan for 10⁹ rows, the price of a core hour in dollars, which is a guess, and the share of cores at work."""
_ANONYMOUS = "anonymous MB at most"
_REBUILD = "rebuild and compaction"
_CURVES = ("200k", "1000k")
_CURVE: Mapping[str, tuple[Callable[[str], float], str]] = {
    "import": (lambda rows: collection(rows, "rows imported a second")(), ",.0f"),
    "build": (lambda rows: phase(rows, _REBUILD, "seconds")(), ".0f"),
    "peak": (lambda rows: of_each(max, f"memory-{rows}", "phase", _ANONYMOUS), ",.0f"),
    "serving": (lambda rows: phase(rows, "searches", _ANONYMOUS)(), ",.0f"),
    "cached": (cached, ",.0f"),
    "files": (lambda rows: collection(rows, "files of the index MB")(), ",.0f"),
    "restart": (lambda rows: collection(rows, "restart s")(), ".1f"),
    "recall": (lambda rows: collection(rows, "recall at 10")(), ".3f"),
    "p50": (lambda rows: collection(rows, "p50 ms")(), ".1f"),
    "p95": (lambda rows: collection(rows, "p95 ms")(), ".1f"),
}
"""Figures of large collections by name, for each size of ``_CURVES``."""
_ENGINES = {
    "ours": "clipserve, faiss",
    "ours-lancedb": "clipserve, lancedb",
    "ours-milvus": "clipserve, milvus",
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
    "p50": ("p50 ms", ".1f"),
    "p95": ("p95 ms", ".1f"),
}
_HOURS = {
    "import": core_hours(lambda: 1e6 / collection("1000k", "rows imported a second")(), 1e6),
    "index": core_hours(phase("1000k", _REBUILD, "seconds"), 1e6),
}
_FILES_TB = billion(collection("1000k", "files of the index MB"), 1e6, 1e6)
_PROCESSES_TB = billion(phase("1000k", "searches", _ANONYMOUS), 1e6, 1e6)
_QUERY_S = billion(collection("1000k", "p50 ms"), 1e6, 1000)
_MACHINES = machines(added(_FILES_TB, _PROCESSES_TB))
_CORES = added(_MACHINES, times=MACHINE_CORES)
_MILVUS_TB = billion(engine(_ENGINES["milvus"], "memory MB"), 2e5, 1e6)
_BILLION_ROWS: Mapping[str, tuple[Callable[[], float], str]] = {
    "machine-cores": (lambda: MACHINE_CORES, ".0f"),
    "machine-gb": (lambda: MACHINE_GB, ".0f"),
    "core-hour": (lambda: CORE_HOUR, ".2f"),
    "rows-import-hours": (_HOURS["import"], ",.0f"),
    "rows-index-hours": (_HOURS["index"], ",.0f"),
    "rows-disk-tb": (billion(engine(_ENGINES["ours"], "disk MB"), 2e5, 1e6), ".1f"),
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
    "rows-growth": (lambda: collection("1000k", "p50 ms")() / collection("200k", "p50 ms")(), ".1f"),
    "rows-milvus-tb": (_MILVUS_TB, ".1f"),
    "rows-milvus-machines": (machines(_MILVUS_TB), ".0f"),
    "rows-milvus-hours": (core_hours(engine(_ENGINES["milvus"], "index s"), 2e5), ",.0f"),
}

FIGURES: Mapping[str, tuple[Callable[[], float], str]] = {
    **{f"curve-{rows}-{name}": (partial(source, rows), form) for rows in _CURVES for name, (source, form) in _CURVE.items()},
    **{
        f"engine-{short}-{figure}": (engine(name, column), form)
        for short, name in _ENGINES.items()
        for figure, (column, form) in _OF_ENGINES.items()
    },
    **_BILLION_ROWS,
}
"""Name -> source and form of each, as in ``figures.py``."""
