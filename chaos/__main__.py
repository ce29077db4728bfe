"""Rehearse faults on real servers: python -m chaos --minutes 5 --seed 7.

Triton by its launcher, a sidecar on a folder, one that follows it and one on an object store serve a mixed load, while
processes are killed and halted, disks fill up, networks and stores fail, clocks jump and files are damaged. A ledger of what
was acknowledged is the judge after each fault. Exits with 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import itertools
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "bench"))  # its lib is shared

from chaos import rooms, world
from chaos.faults import KILLS, OTHERS, Fault, Length
from chaos.load import Load
from chaos.rehearsal import Rehearsal, Rehearsed, plan, wanted
from chaos.report import Report
from chaos.world import CLIPSERVE, World
from lib.samples import DRAWINGS, ROOT

_FOLDER = ROOT / "artifacts" / "chaos"
_JUDGED = 32  # drawings that the checkpoint's variant is judged on: it is only to be served
_MOST_WRONG = 20
_LONG_MINUTES = 15.0  # from which on faults are made whose recovery takes a minute
_STOP_S = 60.0
_LEAST_S = 1.0  # that a fault lasts


def main() -> int:
    """Start everything, rehearse, report; return the exit status."""
    options = checked(parser())
    has_rooms = rooms.enter()
    seed = random.randrange(10**6) if options.seed is None else options.seed
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print(f"seed {seed}; {'' if has_rooms else 'no mount namespace; '}logs: {options.report / 'logs'}", flush=True)
    repository = options.repository or exported()
    start = time.monotonic()
    try:
        with world.running(repository, options.report / "logs", seed, has_rooms) as there:
            report = rehearsed(there, options, seed, start)
    except KeyboardInterrupt:
        print(f"stopped; seed {seed}", file=sys.stderr)
        return 130
    report.write(options.report)
    print(f"\n{report.markdown()}\n{options.report}/chaos.md, chaos.json, chaos.png")
    if report.wrong:
        print(f"wrong, seed {seed}: {len(report.wrong)} findings", file=sys.stderr)
    return 1 if report.wrong else 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options."""
    made = argparse.ArgumentParser("chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument(
        "--minutes", type=float, default=5.0, help="of faults; the one under way is brought to its end (default: 5)"
    )
    made.add_argument("--rounds", type=int, help="most rounds, each of which has each kind of fault once")
    made.add_argument("--seed", type=int, help="of the order of faults and all else that is drawn (default: another each time)")
    made.add_argument("--halt", type=float, default=20.0, metavar="S", help="most seconds that a fault lasts (default: 20)")
    made.add_argument(
        "--only", nargs="+", default=[], metavar="FAULT", help="kinds of faults, by the beginnings of their names"
    )
    made.add_argument("--repository", type=Path, help="published checkpoint (default: the bundled one, exported on first use)")
    made.add_argument("--report", type=Path, default=_FOLDER, metavar="FOLDER", help="default: artifacts/chaos")
    return made


def checked(commands: argparse.ArgumentParser) -> argparse.Namespace:
    """Return the options of the command line; end with 2 if one can't be used."""
    options = commands.parse_args()
    names = [fault.name for fault in (*KILLS, *OTHERS)]
    for beginning in options.only:
        if not any(name.startswith(beginning) for name in names):
            commands.error(f"--only {beginning!r} is the beginning of no fault: expected one of {', '.join(names)}")
    for name, least in (("minutes", 0), ("halt", _LEAST_S), ("rounds", 1)):
        if (value := getattr(options, name)) is not None and not least <= value < 10_000:
            commands.error(f"--{name} is {value}: expected {least:g} or more")
    return options


def exported() -> Path:
    """Return a model repository of the bundled checkpoint; made once, judged on a few drawings, without timing variants."""
    repository = _FOLDER / "model_repository"
    if not repository.exists():
        with tempfile.TemporaryDirectory() as judged:
            for n, drawing in enumerate(sorted(DRAWINGS.glob("*.webp"))[:_JUDGED]):
                shutil.copy(drawing, judged)
                Path(judged, drawing.name).with_suffix(".txt").write_text(f"picture {n}")
            command: list[str | Path] = [CLIPSERVE, "export", "--variants", "onnx-fp32", "--quick", "--eval", judged]
            subprocess.run([*command, "--artifacts", _FOLDER / "artifacts", "--repository", repository], check=True)
    return repository


def rehearsed(there: World, options: argparse.Namespace, seed: int, start: float) -> Report:
    """Run the load and the faults; return what was found."""
    load = Load(there.kinds(), seed)
    rehearsal = Rehearsal(there, load, Length(_LEAST_S, options.halt), seed)
    load.start()
    rehearsal.quiet()
    for one in rehearsal.run(chosen(there, options, seed)):
        tell(one)
        if sum(len(one.wrong) for one in rehearsal.rehearsed) > _MOST_WRONG:
            break
    wrong = [f"{one.fault}: {told}" for one in rehearsal.rehearsed for told in one.wrong] + rehearsal.feedback()
    load.stop(_STOP_S)
    ledgers = there.ledgers.values()
    totals = {
        "requests": len(load.outcomes),
        "acknowledged changes": sum(ledger.acknowledged for ledger in ledgers),
        "changes without an answer": sum(ledger.unanswered for ledger in ledgers),
        "acknowledged events of feedback": sum(len(ledger.feedback) for ledger in ledgers),
        "faults": len(rehearsal.rehearsed) - 1,
    }
    made = {one.fault for one in rehearsal.rehearsed}
    left_out = {fault.name: fault.lacks(there) or "more time" for fault in kinds(options) if fault.name not in made}
    return Report(seed, time.monotonic() - start, rehearsal.rehearsed[1:], load.outcomes, left_out, totals, wrong)


def kinds(options: argparse.Namespace) -> list[Fault]:
    """Return the kinds of faults that the options ask for."""
    return wanted(options.only, with_long=options.minutes >= _LONG_MINUTES)


def chosen(there: World, options: argparse.Namespace, seed: int) -> Iterator[Fault]:
    """Yield the faults that this machine can have made, until the time or the rounds are over, whichever comes first."""
    deadline = time.monotonic() + options.minutes * 60
    possible = [fault for fault in kinds(options) if not fault.lacks(there)]
    rounds = itertools.islice(plan(seed, possible), options.rounds) if possible else ()
    for fault in itertools.chain.from_iterable(rounds):
        if time.monotonic() > deadline:
            return
        yield fault


def tell(one: Rehearsed) -> None:
    """Print a line about a fault, and what was wrong."""
    errors = ", ".join(f"{count} x {status}" for status, count in one.errors.items()) or "no errors"
    back = f"back after {one.recovery_s:.1f} s ({one.slowest})" if one.slowest else "no request was disturbed"
    print(f"{one.fault}: {one.ended - one.began:.1f} s, {back}; {errors}", flush=True)
    for told in one.wrong:
        print(f"  WRONG: {told}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
