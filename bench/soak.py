"""Triton and the sidecar under mixed load for half an hour: do memory, descriptors, threads, files or latency grow?

    make soak                          # some 35 minutes; the report goes to artifacts/soak
    make soak ARGS='--minutes 3'       # all times in proportion; a short one tells less

The load is 70 % of the throughput at the knee, which is looked for first. Ends with 1 if a slope isn't within its error of 0,
p99 grew, the throughput fell, or a request failed.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from clip_client import Clip, Search
from clip_client.errors import ClipError
from clip_client.progress_bars import ProgressBar
from lib import soak_report
from lib.checkpoints import exported
from lib.clustered_rows import NAME, clustered
from lib.load import Request, load
from lib.mixed_requests import FILL, Mix
from lib.paced_load import PacedLoad
from lib.results import Result, plot_path, publish
from lib.samples import COLLAGES, ROOT, photos
from lib.server_state import State, state
from lib.serving import served, sidecar
from lib.soak_figures import Plan, Soak

CLIENTS, KNEE_GAIN, ROUNDS, PATIENT = (1, 2, 4, 8, 16), 1.05, 3, 4
CACHED_TEXTS = 500
"""Entries of the sidecar's cache of texts: full before the warm-up is over, since a cache that fills is memory that grows."""
LEAST_MINUTES = 0.2  # each of the 30 parts has a dozen looks at the servers
BUNDLED = ROOT / "examples" / "emoji" / "emoji-clip"
REPORT = ROOT / "artifacts" / "soak"
TITLE = "Under load for long"


def main() -> int:
    """Serve, look for the knee, load, measure again, report; return 1 if anything grew."""
    options = parser().parse_args()
    plan = Plan(options.minutes)
    with world(options) as servers:
        soak = soaked(plan, servers, options.share)
    conditions = {"minutes": plan.minutes, "rows": options.rows, "photos": options.photos.name if options.photos else COLLAGES}
    soak_report.write(soak, REPORT, conditions)
    print(f"\n{soak_report.verdict(soak)}\nin {REPORT}")
    if options.page:
        shutil.copy(REPORT / "soak.png", plot_path("soak"))
        notes = [soak_report.verdict(soak), *soak_report.notes(soak)]
        publish(Result("soak", TITLE, notes, soak_report.tables(soak), conditions, [plot_path("soak")]))
    return 1 if soak.faults() else 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--minutes", type=length, default=30.0, metavar="N", help="of load (default: %(default)g)")
    made.add_argument(
        "--share", type=share, default=0.7, metavar="P", help="of the throughput at the knee (default: %(default)g)"
    )
    made.add_argument("--rows", type=int, default=20_000, metavar="N", help="in the collection (default: %(default)s)")
    made.add_argument("--repository", type=Path, metavar="DIR", help="of published models (default: the bundled checkpoint's)")
    made.add_argument("--photos", type=Path, metavar="FOLDER", help="JPEG files (default: collages of the bundled drawings)")
    made.add_argument(
        "--page", action=argparse.BooleanOptionalAction, default=True, help="write the section of docs/benchmarks.md, too"
    )
    return made


def share(text: str) -> float:
    """Return a share of the throughput, or refuse it."""
    return bounded(text, "share", 0.01, 1.0)


def length(text: str) -> float:
    """Return a length of the load in minutes, or refuse it."""
    return bounded(text, "number of minutes", LEAST_MINUTES, 100_000.0)


def bounded(text: str, name: str, least: float, most: float) -> float:
    """Return a number, or refuse it."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not least <= number <= most:
        raise argparse.ArgumentTypeError(f"{text[:20]!r}: expected a {name}, {least:g} to {most:,.6g}")
    return number


@dataclass(frozen=True)
class World:
    """Servers under load, and the requests to them."""

    mix: Mix
    search: Search
    servers: Mapping[str, psutil.Process]
    folder: Path  # of the sidecar's files

    def look(self) -> State:
        """Return the state of the servers."""
        return state(self.servers, self.folder)

    def rows(self) -> int:
        """Return the number of rows in the collection."""
        return int(self.search.stats(NAME)["rows"])


@contextlib.contextmanager
def world(options: argparse.Namespace) -> Iterator[World]:
    """Start the servers, and fill the collection; stop them at the end."""
    pictures = [path.read_bytes() for path in photos(options.photos)]
    flags = ["--text-cache", str(CACHED_TEXTS), "--log-level", "warning"]
    with contextlib.ExitStack() as stack:
        triton = stack.enter_context(served(options.repository or exported(str(BUNDLED), None)[1]))
        clip = stack.enter_context(Clip(triton.address))
        running = stack.enter_context(sidecar(triton.address, *flags))
        search = stack.enter_context(Search(running.search.url))
        search.wait_ready()
        mix = Mix(search, clip, clustered(options.rows // FILL * FILL, clip.spec.embedding_size), pictures)
        mix.fill()
        running.search.rebuild(NAME, wait=True)  # it has the time that this takes
        yield World(mix, search, {"search": running.process, "Triton": psutil.Process(triton.pid)}, running.folder)


def soaked(plan: Plan, world: World, share: float) -> Soak:
    """Look for the knee, load at a share of it, measure the throughput before and after."""
    numbers = itertools.count()

    def send(_: int) -> None:
        world.mix.send(next(numbers))

    round_s = plan.bin_s / 3
    knee, clients = found_knee(send, round_s)
    before = [load(send, clients, seconds=round_s).per_s for _ in range(ROUNDS)]
    per_s = share * sorted(before)[ROUNDS // 2]
    with PacedLoad(world.mix.send, first := next(numbers), per_s, PATIENT * clients, plan.seconds) as paced:
        samples = sampled(plan, world.look, paced)
    numbers = itertools.count(first + len(paced.answers))  # each text is a new one
    after = [load(send, clients, seconds=round_s).per_s for _ in range(ROUNDS)]
    return Soak(plan, samples, paced.answers, knee, clients, before, after, share, per_s, (world.mix.rows, world.rows()))


def found_knee(send: Request, seconds: float) -> tuple[dict[int, float], int]:
    """Return the throughput by clients, and the fewest clients from which on more gain hardly anything."""
    knee: dict[int, float] = {}
    for clients in CLIENTS:
        knee[clients] = load(send, clients, seconds=seconds).per_s
    return knee, next(few for few in CLIENTS if KNEE_GAIN * knee[few] >= max(knee.values()))


def sampled(plan: Plan, look: Callable[[], State], paced: PacedLoad) -> Sequence[tuple[float, State]]:
    """Return the state of the servers over the length of a load, by seconds since its start."""
    start, samples = time.monotonic(), list[tuple[float, State]]()
    for n in ProgressBar(range(round(plan.seconds / plan.sample_s)), desc="load", unit=f" x {plan.sample_s:.3g} s"):
        time.sleep(max(0.0, start + n * plan.sample_s - time.monotonic()))
        paced.check()
        samples.append((time.monotonic() - start, look()))
    return samples


def run() -> int:
    """Return the status of :func:`main`; 2, with the reason, if nothing could be measured."""
    try:
        return main()
    except (ClipError, psutil.NoSuchProcess) as problem:
        print(f"the soak ended early: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(run())
