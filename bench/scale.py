"""The server as clients and cores grow: throughput, latency, CPU per thousand, and memory over many requests.

    python bench/scale.py                            # collages; --photos FOLDER for pictures of yours

For a number of cores the server and its clients share so many: the server is started there, so that all that it derives from
its cores follows.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from matplotlib.axes import Axes

import memory
import work
from clip_client import Clip
from clip_client.spec import TOWERS, Tower
from clip_export import hardware
from load import Load, Request, load, median_ms, median_per_s
from measuring import answers_in_turns
from plotting import plot
from results import Cell, Result, Table, publish
from serving import Serving, served

VARIANT = "openvino-int8"
CLIENTS = (1, 2, 4, 8, 16, 32, 64)
FEW, BULK_CLIENTS, BULK = (1, 16), 4, 32
ITEMS: dict[Tower, int] = {"image": 192, "text": 576}
PERCENTILES = (50, 95, 99)
NOTES = (
    "Single photos and single texts from several clients at once, each sending its next one when the last is answered; "
    f"{BULK_CLIENTS} × {BULK} are {BULK_CLIENTS} requests of {BULK} in flight, as the SDK sends a long list. Clients and "
    "server share the cores. *CPU-s* is what the server and its Python processes use for a thousand items.",
    memory.NOTE,
)


@dataclass(frozen=True)
class Run:
    """So many clients, each sending requests of so many items of one kind, on so many cores."""

    tower: Tower
    cores: int
    clients: int
    batch: int = 1

    @property
    def requests(self) -> int:
        """Enough to measure."""
        return max(ITEMS[self.tower] // self.batch, self.clients)


@dataclass(frozen=True)
class Measured:
    """What the clients saw, and CPU seconds of the server for each item."""

    load: Load
    cpu_s: float


def main() -> None:
    """Serve, load in turns, then look at memory."""
    options = parser().parse_args()
    photos = [path.read_bytes() for path in work.photos(options.photos)]
    _, repository = work.exported(work.checkpoint(options.model), options.photos, [VARIANT])
    found = on_all_cores(repository, photos, options.rounds)
    over_requests = memory.over(options.requests, repository, photos)
    tables = [*(table(tower, found) for tower in TOWERS), memory.table(over_requests)]
    drawn = [*plots(found), memory.line(over_requests)]
    publish(Result("scale", "Clients, cores, memory", NOTES, tables, work.setting(options), drawn))


def on_all_cores(repository: Path, photos: Sequence[bytes], rounds: int) -> dict[Run, list[Measured]]:
    """Measure each run in each round; the servers, one for each number of cores, stay up and are idle but for their turns."""
    counts = core_counts(hardware.cores())
    ways = {}
    with contextlib.ExitStack() as stack:
        for cores in counts:
            with on_cores(cores):
                serving = stack.enter_context(served(repository))
            clip = stack.enter_context(Clip(serving.address))
            for run in runs_on(cores, CLIENTS if cores == counts[-1] else FEW):
                ways[run] = partial(measured, run, serving, request_of(clip, run, photos))
        return answers_in_turns(ways, rounds, "scale")


def core_counts(cores: int) -> list[int]:
    """1, 2, 4, … and all of them."""
    return sorted({*(2**n for n in range(cores.bit_length())), cores})


def runs_on(cores: int, clients: Sequence[int]) -> list[Run]:
    """Single items from so many clients, and in bulk."""
    return [
        run for tower in TOWERS for run in (*(Run(tower, cores, n) for n in clients), Run(tower, cores, BULK_CLIENTS, BULK))
    ]


@contextlib.contextmanager
def on_cores(count: int) -> Iterator[None]:
    """Keep this thread to the first so many cores, with the threads and processes that it starts."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def request_of(clip: Clip, run: Run, photos: Sequence[bytes]) -> Request:
    """What a client sends: the next photos, or the next texts."""
    if run.tower == "image":
        return lambda n: clip.embed_image([photos[(n * run.batch + k) % len(photos)] for k in range(run.batch)])
    texts = itertools.cycle(work.texts(20_000))
    return lambda _: clip.embed_text([next(texts) for _ in range(run.batch)])


def measured(run: Run, serving: Serving, request: Request) -> Measured:
    """One run."""
    before = serving.cpu_s()
    with on_cores(run.cores):
        done = load(request, run.clients, run.requests)
    return Measured(done, (serving.cpu_s() - before) / (run.requests * run.batch))


def table(tower: Tower, found: Mapping[Run, Sequence[Measured]]) -> Table:
    """A row per run of one tower."""
    columns = [f"{tower}s", "cores", "a second", "p50 ms", "p95 ms", "p99 ms", "server CPU-s per 1,000"]
    return Table(columns, [row(run, each) for run, each in found.items() if run.tower == tower])


def row(run: Run, found: Sequence[Measured]) -> list[Cell]:
    """Medians of a run."""
    loads = [each.load for each in found]
    what = f"{run.clients} × {run.batch}" if run.batch > 1 else f"{run.clients} client{'s' if run.clients > 1 else ''}"
    latency_ms = [median_ms(loads, percent) for percent in PERCENTILES]
    return [what, run.cores, run.batch * median_per_s(loads), *latency_ms, 1000 * median(each.cpu_s for each in found)]


def plots(found: Mapping[Run, Sequence[Measured]]) -> list[Path]:
    """Throughput and latency over the number of clients, on all cores."""
    cores = max(run.cores for run in found)
    drawn = []
    for tower in TOWERS:
        runs = [each for run, each in found.items() if (run.tower, run.cores, run.batch) == (tower, cores, 1)]
        loads = [[each.load for each in run] for run in runs]
        latency_ms = {f"p{percent}": [median_ms(each, percent) for each in loads] for percent in PERCENTILES}
        drawn.append(curves(f"scale-{tower}", [median_per_s(each) for each in loads], latency_ms, f"single {tower}s"))
    return drawn


def curves(name: str, per_s: Sequence[float], latency_ms: Mapping[str, Sequence[float]], what: str) -> Path:
    """Throughput on the left axis, percentiles of latency on the right one."""

    def draw(axes: Axes) -> None:
        right = axes.twinx()
        axes.plot(CLIENTS, per_s, color="black", linewidth=3, alpha=0.4)
        for percentile, values in latency_ms.items():
            right.plot(CLIENTS, values, marker="o", label=percentile)
        axes.set(xlabel="clients", ylabel=f"{what} a second (grey)", xscale="log", ylim=(0, 1.1 * max(per_s)))
        axes.set_xticks(CLIENTS, [str(clients) for clients in CLIENTS])
        axes.minorticks_off()
        right.set(ylabel="ms", yscale="log")
        right.legend(loc="lower right", fontsize=8)

    return plot(name, draw, height=3.8)


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = work.parser(__doc__)
    made.add_argument("--rounds", type=int, default=3, metavar="N", help="turns of each (default: %(default)s)")
    made.add_argument(
        "--requests", type=int, default=20_000, metavar="N", help="over which memory is watched (default: %(default)s)"
    )
    return made


if __name__ == "__main__":
    main()
