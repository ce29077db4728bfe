"""Triton and the sidecar under mixed load for half an hour: do memory, descriptors, threads, files or latency grow?

    make soak                          # some 35 minutes; the report goes to artifacts/soak
    make soak ARGS='--minutes 3'       # all times in proportion; a short one tells less

The load is 70 % of the knee, which is looked for first. Ends with 1 if a slope isn't within its error of 0, p99 grew, or the
throughput fell.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import psutil

from clip_client import Clip
from clip_client.progress_bars import ProgressBar
from lib import soak_report
from lib.clustered_rows import NAME, clustered
from lib.load import Request, load
from lib.mixed_requests import FILL, Mix
from lib.paced_load import PacedLoad
from lib.results import Result, plot_path, publish
from lib.samples import ROOT, photos
from lib.server_state import State, state
from lib.serving import served, sidecar
from lib.soak_report import Plan, Soak

SHARE, CLIENTS, KNEE_GAIN, ROUNDS, PATIENT = 0.7, (1, 2, 4, 8, 16), 1.05, 3, 4
CACHED_TEXTS = 500
"""Entries of the sidecar's cache of texts: full before the warm-up is over, since a cache that fills is memory that grows."""
REPORT = ROOT / "artifacts" / "soak"
TITLE = "Half an hour of mixed load"


def main() -> int:
    """Serve, look for the knee, load, measure again, report; return 1 if anything grew."""
    options = parser().parse_args()
    plan = Plan(options.minutes)
    with mixed(options) as (mix, servers, folder, count):
        mix.fill()
        soak = soaked(plan, mix, partial(state, servers, folder), count)
    conditions = {"minutes": plan.minutes, "rows": options.rows, "repository": options.repository.name}
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
    made.add_argument("--minutes", type=float, default=30.0, metavar="N", help="of load (default: %(default)g)")
    made.add_argument("--rows", type=int, default=20_000, metavar="N", help="in the collection (default: %(default)s)")
    made.add_argument(
        "--repository", type=Path, default=ROOT / "model_repository", metavar="DIR", help="of a published checkpoint"
    )
    made.add_argument("--photos", type=Path, metavar="FOLDER", help="JPEG files (default: collages of the bundled drawings)")
    made.add_argument(
        "--page", action=argparse.BooleanOptionalAction, default=True, help="write the section of docs/benchmarks.md, too"
    )
    return made


@contextlib.contextmanager
def mixed(
    options: argparse.Namespace,
) -> Iterator[tuple[Mix, Mapping[str, psutil.Process], Path, Callable[[], int]]]:
    """Start the servers; give the requests, the servers by name, the folder of the sidecar's files, a count of its rows."""
    pictures = [path.read_bytes() for path in photos(options.photos)]
    with served(options.repository) as triton, Clip(triton.address) as clip:
        with sidecar(triton.address, "--text-cache", str(CACHED_TEXTS), "--log-level", "warning") as running:
            running.search.wait_ready()
            vectors = clustered(options.rows // FILL * FILL, clip.spec.embedding_size)
            servers = {"search": running.process, "Triton": psutil.Process(triton.pid)}
            yield Mix(running.search, clip, vectors, pictures), servers, running.folder, lambda: int(running.search.stats(NAME)["rows"])


def soaked(plan: Plan, mix: Mix, look: Callable[[], State], count: Callable[[], int]) -> Soak:
    """Look for the knee, load at a share of it, measure the throughput before and after."""
    numbers = itertools.count()
    send: Request = lambda _: mix.send(next(numbers))  # noqa: E731  (texts are new ones in each load)
    round_s = plan.bin_s / 3
    knee, clients = found_knee(send, round_s)
    before = [load(send, clients, seconds=round_s).per_s for _ in range(ROUNDS)]
    per_s = SHARE * sorted(before)[ROUNDS // 2]
    with PacedLoad(mix.send, per_s, PATIENT * clients, plan.seconds) as paced:
        samples = sampled(plan, look)
    paced.check()
    after = [load(send, clients, seconds=round_s).per_s for _ in range(ROUNDS)]
    return Soak(plan, samples, paced.answers, knee, clients, before, after, per_s, (mix.rows, count()))


def found_knee(send: Request, seconds: float) -> tuple[dict[int, float], int]:
    """Return the throughput by clients, and the fewest clients from which on more gain hardly anything."""
    knee: dict[int, float] = {}
    for clients in CLIENTS:
        knee[clients] = load(send, clients, seconds=seconds).per_s
    return knee, next(few for few in CLIENTS if KNEE_GAIN * knee[few] >= max(knee.values()))


def sampled(plan: Plan, look: Callable[[], State]) -> Sequence[tuple[float, State]]:
    """Return the state of the servers over the length of a load, by seconds since its start."""
    start, samples = time.monotonic(), list[tuple[float, State]]()
    for n in ProgressBar(range(round(plan.seconds / plan.sample_s)), desc="load", unit=f" x {plan.sample_s:g} s"):
        time.sleep(max(0.0, start + n * plan.sample_s - time.monotonic()))
        samples.append((time.monotonic() - start, look()))
    return samples


if __name__ == "__main__":
    sys.exit(main())
