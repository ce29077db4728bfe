"""Cases in child processes with a time limit: a crash or a hang of one ends no other."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

from case import Row

Case = Callable[[str, Path], Row]


def run(case: Case, name: str, limit_s: float) -> Row:
    """Run a case in a copy of this process, with a folder that is gone afterwards; what it prints is kept for its last line."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="coverage-") as folder:
        log = Path(folder) / "log"
        ours, theirs = multiprocessing.Pipe(duplex=False)
        child = multiprocessing.get_context("fork").Process(target=_child, args=(case, name, Path(folder), log, theirs))
        child.start()
        theirs.close()
        row = _received(ours, name, limit_s)
        child.join(1)
        if child.is_alive():
            os.killpg(child.pid or 0, signal.SIGKILL)
            child.join()
        if row.why == _CRASHED:
            row = replace(row, why=f"the process ended with {child.exitcode}: {_last_line(log)}")
    return replace(row, seconds=time.monotonic() - start)


_CRASHED = "crashed"


def _received(pipe: Connection, name: str, limit_s: float) -> Row:
    if not pipe.poll(limit_s):
        return Row(name, "failed", why=f"takes longer than {limit_s:.0f} s")
    try:
        row: Row = pipe.recv()
    except EOFError:
        return Row(name, "failed", why=_CRASHED)
    return row


def _child(case: Case, name: str, folder: Path, log: Path, answer: Connection) -> None:
    os.setpgid(0, 0)
    faulthandler.disable()  # of pytest, which would have the last word
    with log.open("wb") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    answer.send(case(name, folder))


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1][:200] if lines else "nothing was printed"
