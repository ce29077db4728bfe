"""Processes that run tests side by side, and what they share."""

from __future__ import annotations

import itertools
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock

_PORTS = range(10_000, 30_000)
"""Below those that the kernel gives to outgoing connections."""
_PORTS_EACH = 4_000

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
"""Name of this process, gw0, gw1, …; empty where there is only one."""


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first process to ask for it fills, and that all of them read."""
    base = factory.getbasetemp().parent if WORKER else factory.getbasetemp()
    folder, made = base / name, base / f"{name}.made"
    with FileLock(base / f"{name}.lock"):
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            made.touch()
    return folder


def ports() -> Iterator[int]:
    """Ports from a range of this process's own, in an order that another run on this machine doesn't share."""
    number = int(WORKER.removeprefix("gw") or 0) % (len(_PORTS) // _PORTS_EACH)
    own = _PORTS[number * _PORTS_EACH : (number + 1) * _PORTS_EACH]
    return itertools.cycle(random.SystemRandom().sample(own, _PORTS_EACH))
