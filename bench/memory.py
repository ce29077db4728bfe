"""A large collection within --memory: import, build, compaction, restart, searches by vector; memory by phase.

    python bench/memory.py                                                # 300,000 vectors of the usual size, 2 GB
    python bench/memory.py --rows 1000000 --memory 4
    python bench/memory.py --rows 10000000 --memory 12 --no-changes --scratch FOLDER   # hours; 60 GB of disk, 90 with changes
    python bench/memory.py --engine lancedb --memory 2

No Triton runs: the index is tuned on queries of its own. Queries lie as far from the vectors as texts do from pictures.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from clip_client import Search, Unavailable
from clip_client.search import Row, Term
from lib.results import Result, publish
from lib.serving import CLIPSERVE, NOBODY, free_ports, stopped
from lib.tables import Table
from lib.text_like import Floats, World

NAME, K = "bench", 10
SETTLE_S, LOOK_S, PAUSE_S = 48 * 3600.0, 0.05, 1.0
REST_S, IDLE_SHARE = 40.0, 0.1  # longer than a sidecar waits before it merges parts; of a core
CHANGED, WARM_UP, SETTLED_ROWS = 2_000, 50, 8_192
NOTE = (
    "Synthetic clustered vectors, about 100 to a cluster, imported from files of half precision by `clipserve search import`; "
    "queries have a cosine of about 0.3 to their nearest, as texts have to pictures. *Anonymous* is memory that the system "
    "can't take back, *resident* has the pages of mapped files, too. One client, queries by vector, one after the other."
)


@dataclass
class Watch:
    """Peaks of a process by phase, looked at 20 times a second."""

    process: psutil.Process
    peaks: dict[str, tuple[float, float, float]] = field(default_factory=dict)  # seconds, anonymous MB, resident MB
    now: tuple[float, float] = (0.0, 0.0)  # anonymous and resident MB
    client_mb: float = 0.0  # of the import's own process, resident at most

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Note the peaks of a phase."""
        over, start, most = threading.Event(), time.monotonic(), [0.0, 0.0]

        def look() -> None:
            while not over.wait(LOOK_S):
                self.now = memory_mb(self.process)
                most[:] = np.maximum(most, self.now).tolist()

        looking = threading.Thread(target=look)
        looking.start()
        try:
            yield
        finally:
            over.set()
            looking.join()
            self.peaks[name] = (time.monotonic() - start, *most)
            print(f"{name}: {self.peaks[name][0]:.1f} s, {most[0]:,.0f} MB anonymous, {most[1]:,.0f} resident", flush=True)


def main() -> None:
    """Import, build, change, start again, search."""
    options = parser().parse_args()
    world = World(options.rows, options.size)
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch, ExitStack() as stack:
        folder = Path(scratch)
        world.write(folder / "files")
        search, watch = stack.enter_context(sidecar(folder / "data", options))
        filled(search, watch, folder / "files", changes=options.changes)
        index_mb = size_mb(folder / "data" / "indexes")
        stack.close()
        start = time.monotonic()
        search, again = stack.enter_context(sidecar(folder / "data", options))
        with again.phase("opening"):
            until(lambda: NAME in {collection["name"] for collection in search.collections()})
        restart_s = time.monotonic() - start
        queries = world.queries(options.queries)
        with again.phase("searches"):
            rows, times_ms = searched(search, queries)
        stats = search.stats(NAME)["indexes"]["image"]
        recall = float(
            np.mean([len(set(row) & set(true)) / K for row, true in zip(rows, world.nearest(queries, K), strict=True)])
        )
        peaks = {**watch.peaks, **again.peaks}
    table = Table(["phase", "seconds", "anonymous MB at most", "resident MB at most"], [[n, *p] for n, p in peaks.items()])
    figures = Table(["figure", "value"], [
        ["recall at 10", recall], *([f"p{percent} ms", float(np.percentile(times_ms, percent))] for percent in (50, 95)),
        ["restart s", restart_s], ["files of the index MB", index_mb], ["index", described(stats)],
        ["rows imported a second", options.rows / peaks["import"][0]], ["import's own process, MB at most", watch.client_mb],
    ])  # fmt: skip
    name = f"memory-{options.rows // 1000}k" + ("" if options.engine == "faiss" else f"-{options.engine}")
    note = f"{options.rows:,} vectors of {options.size}, `--engine {options.engine} --memory {options.memory:g}`. {NOTE}"
    publish(Result(name, f"Memory: {options.rows:,} vectors", [note], [table, figures], conditions(options)))


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rows", type=int, default=300_000, metavar="N", help="vectors (default: %(default)s)")
    made.add_argument("--size", type=int, default=2**9, metavar="N", help="numbers in a vector (default: %(default)s)")
    made.add_argument("--memory", type=float, default=2, metavar="GB", help="of the sidecar (default: %(default)s)")
    made.add_argument("--engine", default="faiss", help="of the sidecar (default: %(default)s)")
    made.add_argument("--queries", type=int, default=500, metavar="N", help="for recall and latency (default: %(default)s)")
    made.add_argument("--no-changes", dest="changes", action="store_false", help="import, build, start again and search only")
    made.add_argument("--scratch", type=Path, metavar="FOLDER", help="where files and database are made (default: temporary)")
    return made


def conditions(options: argparse.Namespace) -> dict[str, object]:
    """Return the conditions of the run."""
    return {name: value for name, value in vars(options).items() if name != "scratch"}


@contextmanager
def sidecar(data: Path, options: argparse.Namespace) -> Iterator[tuple[Search, Watch]]:
    """Start a sidecar on a database; stop it at the end."""
    [port] = free_ports(1)
    where = ["--data", str(data), "--triton", NOBODY, "--port", str(port)]
    what = ["--engine", options.engine, "--memory", str(options.memory), "--log-level", "warning"]
    command = [str(CLIPSERVE), "search", "serve", *where, *what]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    with stopped(process), Search(f"http://127.0.0.1:{port}", timeout_s=SETTLE_S) as search:
        wait_listening(search)
        yield search, Watch(psutil.Process(process.pid))


def filled(search: Search, watch: Watch, files: Path, *, changes: bool) -> None:
    """Import, and wait for the index; with changes, index anew, change rows and compact."""
    with watch.phase("import"):
        imported = [str(CLIPSERVE), "search", "import", str(files), "--url", search.url, "--collection", NAME]
        watch.client_mb = peak_mb(imported)
    shutil.rmtree(files)
    with watch.phase("first build"):
        settle(search, watch.process)
    if not changes:
        return
    with watch.phase("rebuild and compaction"):
        search.rebuild(NAME, wait=True)
    size = search.stats(NAME)["dimension"]
    vectors = World(CHANGED, size).queries(CHANGED)
    with watch.phase(f"{CHANGED:,} rows added and deleted"):
        for n, vector in enumerate(vectors):
            search.add(NAME, [Row(id=f"new{n}", vector=vector)])
        search.delete(NAME, ids=[f"new{n}" for n in range(CHANGED)])
    with watch.phase("compaction"):
        search.rebuild(NAME, wait=True)


def peak_mb(command: list[str]) -> float:
    """Run a command; return its resident memory at most. What the system counts of a child has its parent's size in it."""
    process, most = subprocess.Popen(command, stdout=subprocess.DEVNULL), 0
    while process.poll() is None:
        with suppress(psutil.Error):
            most = max(most, psutil.Process(process.pid).memory_info().rss)
        time.sleep(LOOK_S)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return most / 1e6


def wait_listening(search: Search) -> None:
    """Wait until the sidecar answers; without Triton it never says that it is ready."""

    def answers() -> bool:
        try:
            search.collections()
        except Unavailable:
            return False
        return True

    until(answers)


def settle(search: Search, process: psutil.Process) -> None:
    """Wait until nearly all rows are indexed, and the sidecar has nothing to do: parts are merged once no more rows come."""

    def settled() -> bool:
        index, before = search.stats(NAME)["indexes"]["image"], sum(process.cpu_times()[:2])
        if not index.get("indexed", True) or index.get("tail_rows", 0) > SETTLED_ROWS:
            return False
        time.sleep(REST_S)
        return sum(process.cpu_times()[:2]) - before < IDLE_SHARE * REST_S

    until(settled)


def until(condition: Callable[[], bool]) -> None:
    """Wait for something, two days at most."""
    deadline = time.monotonic() + SETTLE_S
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("the sidecar didn't come to rest in two days")
        time.sleep(PAUSE_S)


def searched(search: Search, queries: Floats) -> tuple[list[list[int]], list[float]]:
    """Search by each vector; return the positions of the hits, and the time of each search in milliseconds."""
    hits, times_ms = [], []
    for n, query in enumerate([*queries[:WARM_UP], *queries]):
        start = time.perf_counter()
        result = search.query(NAME, Term(vector=query), k=K)
        if n >= min(WARM_UP, len(queries)):
            times_ms.append(1000 * (time.perf_counter() - start))
            hits.append([int(hit.metadata["caption"].removeprefix("picture ")) for hit in result])
    return hits, times_ms


def described(index: Mapping[str, Any]) -> str:
    """Return kinds, sizes and efforts of an index's parts."""
    parts = [f"{part['kind']} {part['rows']:,} effort {part['effort']} ({part['source']})" for part in index.get("parts", [])]
    return ", ".join(parts) or str(index.get("engine"))


def memory_mb(process: psutil.Process) -> tuple[float, float]:
    """Return anonymous and resident memory."""
    lines = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8").splitlines()
    sizes = {name: int(value.split()[0]) / 1000 for name, _, value in (line.partition(":") for line in lines) if "kB" in value}
    return sizes["RssAnon"], sizes["VmRSS"]


def size_mb(folder: Path) -> float:
    """Return the size of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


if __name__ == "__main__":
    main()
