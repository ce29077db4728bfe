"""A search sidecar under mixed load for half an hour: memory and its slope, descriptors, threads, files, requests a second.

    python bench/endurance.py --minutes 30

Rows and queries come with seeded vectors, so no Triton is needed. The sidecar's throughput is measured first and last.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Sequence
from functools import partial

import numpy as np
from clip_client.progress_bars import ProgressBar

from clip_client.search import Search, Term
from lib.clustered_rows import NAME, Floats, clustered, rows
from lib.load import Request, load
from lib.results import Result, publish
from lib.serving import NOBODY, Sidecar, sidecar
from lib.tables import Table

ROWS, SIZE, CLIENTS, REPLACED = 5_000, 256, 4, 3
FILL = 500  # rows in one request
SHARE, FULL_S, SAMPLE_S, SETTLING_S = 0.7, 30.0, 5.0, 300.0
NOTE = (
    f"{ROWS:,} rows of {SIZE} numbers. {CLIENTS} clients send in turns a search by vector, {REPLACED} rows in the place of "
    f"others, a search with a filter, and a deletion of a row that comes back; they are slowed down to {SHARE:.0%} of the "
    "sidecar's throughput at first. The slope is that of a line through the memory after the first "
    f"{SETTLING_S / 60:.0f} minutes."
)


def main() -> None:
    """Fill, measure, load, measure again, publish."""
    minutes = parser().parse_args().minutes
    vectors = clustered(ROWS, SIZE)
    with sidecar(NOBODY) as running:
        fill(running.search, vectors)
        send = partial(request, running.search, vectors)
        first = load(send, CLIENTS, seconds=FULL_S).per_s
        samples = sampled(running, send, SHARE * first, minutes * 60)
        last = load(send, CLIENTS, seconds=FULL_S).per_s
    publish(Result("endurance", "A sidecar under load for long", [NOTE], tables(samples, first, last), {"minutes": minutes}))


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--minutes", type=float, default=30, help="of load; the slope is of those after the first 5")
    return made


def fill(search: Search, vectors: Floats) -> None:
    """Make a collection of the vectors."""
    search.create(NAME, dimension=SIZE, fingerprint="", columns={"year": "int", "caption": "string"})
    for start in range(0, len(vectors), FILL):
        search.add(NAME, rows(vectors, start, FILL, "r"))


def request(search: Search, vectors: Floats, n: int) -> None:
    """Send request ``n``."""
    at = n * 7 % (ROWS - REPLACED)
    if n % 4 == 1:
        search.add(NAME, rows(vectors, at, REPLACED, "r"), on_conflict="replace")
    elif n % 4 == 3:
        search.delete(NAME, [f"r{at}"])
        search.add(NAME, rows(vectors, at, 1, "r"), on_conflict="replace")
    else:
        search.query(NAME, Term(vector=vectors[at]), where="year > 50" if n % 4 else "")


def sampled(running: Sidecar, send: Request, per_s: float, seconds: float) -> Floats:
    """Load a sidecar; return its state over time, float32 [N, 5]: seconds, then as :func:`sample`."""
    loading = threading.Thread(target=load, args=(send, CLIENTS), kwargs={"seconds": seconds, "per_s": per_s})
    loading.start()
    start, samples = time.monotonic(), []
    for _ in ProgressBar(range(int(seconds / SAMPLE_S)), desc="load", unit=f" x {SAMPLE_S:.0f} s"):
        samples.append([time.monotonic() - start, *sample(running)])
        time.sleep(SAMPLE_S)
    loading.join()
    return np.array(samples, np.float32)


def sample(running: Sidecar) -> list[float]:
    """Return resident megabytes, descriptors, threads, files of the database and the indexes."""
    files = sum(path.is_file() for path in running.folder.rglob("*"))
    return [running.memory_mb(), running.process.num_fds(), running.process.num_threads(), files]


def tables(samples: Floats, first: float, last: float) -> Sequence[Table]:
    """Return tables of the state at some times, the slope of the memory, and the throughput at the start and the end."""
    points = samples[np.linspace(0, len(samples) - 1, min(7, len(samples))).astype(int)]
    states = [[f"after {at / 60:.1f} min", round(mb), *map(int, rest)] for at, mb, *rest in points.tolist()]
    highest = [round(number) for number in samples[:, 1:].max(axis=0).tolist()]
    settled = samples[samples[:, 0] >= min(SETTLING_S, samples[-1, 0] / 2)]
    slope, error = line(settled[:, 0] / 60, settled[:, 1])
    return [
        Table(["", "memory, MB", "descriptors", "threads", "files"], [*states, ["highest", *highest]]),
        Table(["memory, MB a minute", "standard error"], [[f"{slope:.3f}", f"{error:.3f}"]]),
        Table(["requests a second at first", "at the end", "share"], [[f"{first:.1f}", f"{last:.1f}", f"{last / first:.2f}"]]),
    ]


def line(x: Floats, y: Floats) -> tuple[float, float]:
    """Return the slope of a line through points, and its standard error."""
    slope, x = np.polyfit(x, y, 1)[0], x - x.mean()
    rest = y - y.mean() - slope * x
    return float(slope), float(np.sqrt((rest @ rest) / max(1, len(x) - 2) / (x @ x)))


if __name__ == "__main__":
    main()
