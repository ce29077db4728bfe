"""The server as clients and cores grow: throughput, latency, CPU per thousand, and memory over many requests.

    python bench/scale.py                            # collages; --photos FOLDER for pictures of yours

The server and its clients share a number of cores; the server derives its settings from that number.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from matplotlib.axes import Axes

from clip_client import Clip
from clip_client.cores import cores
from clip_client.spec import TOWERS, Tower
from lib import server_memory
from lib.checkpoints import checkpoint, exported
from lib.load import Load, Request, load, median_ms, median_per_s
from lib.options import TURNS, parsed, setting
from lib.plotting import plot
from lib.results import Result, plot_path, publish
from lib.samples import photos
from lib.sdk_requests import sdk_request
from lib.serving import Serving, served
from lib.tables import Cell, Table
from lib.turns import answers_in_turns

CLIENTS = (1, 2, 4, 8, 16, 32, 64)
FEW, BULK_CLIENTS, BULK = (1, 16), 4, 32
ITEMS: dict[Tower, int] = {"image": 192, "text": 576}
PERCENTILES = (50, 95, 99)
NOTES = (
    "Single photos and single texts from several clients at once, each sending its next one when the last is answered; "
    f"{BULK_CLIENTS} × {BULK} are {BULK_CLIENTS} requests of {BULK} in flight, as the SDK sends a long list. Clients and "
    "server share the cores. *CPU-s* are CPU seconds of the server and its Python processes for a thousand items.",
    server_memory.NOTE,
)


@dataclass(frozen=True)
class Run:
    """One measurement: a number of clients, each sending requests with a batch of items of one kind, on a number of cores."""

    tower: Tower
    cores: int
    clients: int
    batch: int = 1

    @property
    def requests(self) -> int:
        """Number of requests, enough to measure."""
        return max(ITEMS[self.tower] // self.batch, self.clients)


@dataclass(frozen=True)
class Measured:
    """The clients' load, and CPU seconds of the server for each item."""

    load: Load
    cpu_s: float


def main() -> None:
    """Serve, load in turns, then look at memory."""
    options = parsed(__doc__, {"--rounds": (3, TURNS), "--requests": (20_000, "over which memory is watched")})
    files = [path.read_bytes() for path in photos(options.photos)]
    _, repository = exported(checkpoint(options.model), options.photos)
    runs = on_all_cores(repository, files, options.rounds)
    memory = server_memory.memory_over(options.requests, repository, files)
    tables = [*(table(tower, runs) for tower in TOWERS), server_memory.memory_table(memory)]
    drawn = [*plots(runs), server_memory.memory_plot(memory)]
    publish(Result("scale", "Clients, cores, memory", NOTES, tables, setting(options), drawn))


def on_all_cores(repository: Path, files: Sequence[bytes], rounds: int) -> dict[Run, list[Measured]]:
    """Measure each run in each round; there is a server for each number of cores, idle outside its turns."""
    counts = core_counts(cores())
    ways = {}
    with contextlib.ExitStack() as stack:
        for count in counts:
            with on_cores(count):
                serving = stack.enter_context(served(repository))
            clip = stack.enter_context(Clip(serving.address))
            for run in runs_on(count, CLIENTS if count == counts[-1] else FEW):
                ways[run] = partial(measured, run, serving, sdk_request(clip, run.tower, files, run.batch))
        return answers_in_turns(ways, rounds, "scale")


def core_counts(cores: int) -> list[int]:
    """Return 1, 2, 4, … and all cores."""
    return sorted({*(2**n for n in range(cores.bit_length())), cores})


def runs_on(cores: int, clients: Sequence[int]) -> list[Run]:
    """Return the runs on a number of cores: single items for each number of clients, and bulk."""
    return [
        run for tower in TOWERS for run in (*(Run(tower, cores, n) for n in clients), Run(tower, cores, BULK_CLIENTS, BULK))
    ]


@contextlib.contextmanager
def on_cores(count: int) -> Iterator[None]:
    """Keep this thread, and the threads and processes that it starts, to the first ``count`` cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def measured(run: Run, serving: Serving, request: Request) -> Measured:
    """Measure one run."""
    before = serving.cpu_s()
    with on_cores(run.cores):
        seen = load(request, run.clients, run.requests)
    return Measured(seen, (serving.cpu_s() - before) / (run.requests * run.batch))


def table(tower: Tower, runs: Mapping[Run, Sequence[Measured]]) -> Table:
    """Return a row per run of one tower."""
    columns = [f"{tower}s", "cores", "a second", "p50 ms", "p95 ms", "p99 ms", "server CPU-s per 1,000"]
    return Table(columns, [row(run, each) for run, each in runs.items() if run.tower == tower])


def row(run: Run, rounds: Sequence[Measured]) -> list[Cell]:
    """Return the medians of a run."""
    loads = [each.load for each in rounds]
    clients = f"{run.clients} × {run.batch}" if run.batch > 1 else f"{run.clients} client{'s' if run.clients > 1 else ''}"
    latency_ms = [median_ms(loads, percent) for percent in PERCENTILES]
    return [clients, run.cores, run.batch * median_per_s(loads), *latency_ms, 1000 * median(each.cpu_s for each in rounds)]


def plots(runs: Mapping[Run, Sequence[Measured]]) -> list[Path]:
    """Plot throughput and latency over the number of clients, on all cores."""
    cores = max(run.cores for run in runs)
    drawn = []
    for tower in TOWERS:
        single = [each for run, each in runs.items() if (run.tower, run.cores, run.batch) == (tower, cores, 1)]
        loads = [[each.load for each in run] for run in single]
        latency_ms = {f"p{percent}": [median_ms(each, percent) for each in loads] for percent in PERCENTILES}
        drawn.append(curves(f"scale-{tower}", [median_per_s(each) for each in loads], latency_ms, f"single {tower}s"))
    return drawn


def curves(name: str, per_s: Sequence[float], latency_ms: Mapping[str, Sequence[float]], items: str) -> Path:
    """Plot throughput on the left axis, percentiles of latency on the right one."""

    def draw(axes: Axes) -> None:
        right = axes.twinx()
        axes.plot(CLIENTS, per_s, color="black", linewidth=3, alpha=0.4)
        for percentile, values in latency_ms.items():
            right.plot(CLIENTS, values, marker="o", label=percentile)
        axes.set(xlabel="clients", ylabel=f"{items} a second (grey)", xscale="log", ylim=(0, 1.1 * max(per_s)))
        axes.set_xticks(CLIENTS, [str(clients) for clients in CLIENTS])
        axes.minorticks_off()
        right.set(ylabel="ms", yscale="log")
        right.legend(loc="lower right", fontsize=8)

    return plot(plot_path(name), draw, height=3.8)


if __name__ == "__main__":
    main()
