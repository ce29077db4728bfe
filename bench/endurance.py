"""A search sidecar under mixed load for half an hour: memory and its slope, descriptors, threads, files, upserts a second.

    python bench/endurance.py --minutes 30

Rows and queries come with seeded vectors, so no Triton is needed. What the sidecar takes is measured first and last.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from tqdm import tqdm

from clip_client import Search, Unavailable
from clip_client.search import Term
from results import Result, Table, publish
from rows import NAME, Floats, clustered, rows
from serving import CLIPSERVE, free_ports

ROWS, SIZE, CLIENTS, TOGETHER = 5_000, 256, 4, 3
SHARE, START_S, FULL_S, SAMPLE_S, SETTLING_S = 0.7, 60.0, 30.0, 5.0, 300.0
NOTE = (
    f"{ROWS:,} rows of {SIZE} numbers. {CLIENTS} clients send in turns a search by vector, {TOGETHER} rows in the place of "
    f"others, a search with a filter, and a deletion of a row that comes back; they pause between, for {SHARE:.0%} of what the "
    f"sidecar took at first. The slope is that of a line through the memory after the first {SETTLING_S / 60:.0f} minutes."
)


@dataclass(frozen=True)
class Sidecar:
    """A running one."""

    search: Search
    process: psutil.Process
    folder: Path

    def sample(self) -> list[float]:
        """Megabytes resident, descriptors, threads, files of the database and the indexes."""
        files = sum(path.is_file() for path in self.folder.rglob("*"))
        return [self.process.memory_info().rss / 1e6, self.process.num_fds(), self.process.num_threads(), files]

    def request(self, n: int, vectors: Floats) -> None:
        """Send request ``n``."""
        at = n * 7 % (ROWS - TOGETHER)
        if n % 4 == 1:
            self.search.add(NAME, rows(vectors, at, TOGETHER, "r"), on_conflict="replace")
        elif n % 4 == 3:
            self.search.delete(NAME, [f"r{at}"])
            self.search.add(NAME, rows(vectors, at, 1, "r"), on_conflict="replace")
        else:
            self.search.query(NAME, Term(vector=vectors[at]), where="year > 50" if n % 4 else "")


def main() -> None:
    """Fill, measure, load, measure again, publish."""
    minutes = parser().parse_args().minutes
    vectors = clustered(ROWS, SIZE)
    with running() as sidecar:
        sidecar.search.create(NAME, dimension=SIZE, fingerprint="", columns={"year": "int", "caption": "string"})
        for start in range(0, ROWS, 500):
            sidecar.search.add(NAME, rows(vectors, start, 500, "r"))
        first = taken(sidecar, vectors, FULL_S)
        samples = sampled(sidecar, vectors, SHARE * first, minutes * 60)
        last = taken(sidecar, vectors, FULL_S)
    publish(Result("endurance", "A sidecar under load for long", [NOTE], tables(samples, first, last), {"minutes": minutes}))


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--minutes", type=float, default=30, help="of load; the slope is of those after the first 5")
    return made


@contextlib.contextmanager
def running() -> Iterator[Sidecar]:
    """A sidecar with nothing in it, and without Triton."""
    [port] = free_ports(1)
    with tempfile.TemporaryDirectory() as folder:
        command = [CLIPSERVE, "search", "serve", "--data", folder, "--triton", "127.0.0.1:9", "--port", str(port)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            with Search(f"http://127.0.0.1:{port}") as search:
                wait_open(search)
                yield Sidecar(search, psutil.Process(process.pid), Path(folder))
        finally:
            process.terminate()
            process.wait()


def wait_open(search: Search) -> None:
    """Wait until it answers; it isn't ready without Triton."""
    deadline = time.monotonic() + START_S
    while True:
        try:
            search.collections()
            return
        except Unavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def taken(sidecar: Sidecar, vectors: Floats, seconds: float, per_s: float = float("inf")) -> float:
    """Requests a second that are answered for so long, at most ``per_s`` being sent."""
    numbers, start = itertools.count(), time.monotonic()

    def client(_: int) -> int:
        done = 0
        while (n := next(numbers)) / per_s < seconds and time.monotonic() < start + seconds:
            time.sleep(max(0.0, start + n / per_s - time.monotonic()))
            sidecar.request(n, vectors)
            done += 1
        return done

    with ThreadPoolExecutor(CLIENTS) as pool:
        return sum(pool.map(client, range(CLIENTS))) / (time.monotonic() - start)


def sampled(sidecar: Sidecar, vectors: Floats, per_s: float, seconds: float) -> Floats:
    """State of a sidecar under load: time in seconds, then as :meth:`Sidecar.sample`, float32 [N, 5]."""
    load = threading.Thread(target=taken, args=(sidecar, vectors, seconds, per_s))
    load.start()
    start, samples = time.monotonic(), []
    for _ in tqdm(range(int(seconds / SAMPLE_S)), desc="load", unit=f" x {SAMPLE_S:.0f} s"):
        samples.append([time.monotonic() - start, *sidecar.sample()])
        time.sleep(SAMPLE_S)
    load.join()
    return np.array(samples, np.float32)


def tables(samples: Floats, first: float, last: float) -> Sequence[Table]:
    """The state at times, the slope of the memory, and what is taken at the start and the end."""
    points = samples[np.linspace(0, len(samples) - 1, min(7, len(samples))).astype(int)]
    states = [[f"after {at / 60:.1f} min", round(mb), *map(int, rest)] for at, mb, *rest in points.tolist()]
    most = [round(number) for number in samples[:, 1:].max(axis=0).tolist()]
    settled = samples[samples[:, 0] >= min(SETTLING_S, samples[-1, 0] / 2)]
    slope, error = line(settled[:, 0] / 60, settled[:, 1])
    return [
        Table(["", "memory, MB", "descriptors", "threads", "files"], [*states, ["highest", *most]]),
        Table(["memory, MB a minute", "standard error"], [[f"{slope:.3f}", f"{error:.3f}"]]),
        Table(["requests a second at first", "at the end", "share"], [[f"{first:.1f}", f"{last:.1f}", f"{last / first:.2f}"]]),
    ]


def line(x: Floats, y: Floats) -> tuple[float, float]:
    """The slope of a line through points, and its standard error."""
    slope, x = np.polyfit(x, y, 1)[0], x - x.mean()
    rest = y - y.mean() - slope * x
    return float(slope), float(np.sqrt((rest @ rest) / max(1, len(x) - 2) / (x @ x)))


if __name__ == "__main__":
    main()
