"""Points at which a process ends itself: before, in, or after a call that writes something; only in a child of a test."""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
from lancedb.db import LanceDBConnection
from lancedb.merge import LanceMergeInsertBuilder
from lancedb.table import LanceTable

WHEN = ("before", "in", "after", "half")
NAMES = ("files", "names", "add", "upsert", "delete", "compaction", "columns", "note", "create", "open", "any")


@dataclass
class Death:
    """End of a process at a call.

    Attributes:
        point: one of ``NAMES``.
        number: of the call, from 1.
        when: one of ``WHEN``; "half" leaves half of a file that was written.
    """

    point: str
    number: int
    when: str

    @classmethod
    def drawn(cls, draw: random.Random) -> Death:
        """Any of them."""
        point = draw.choice(NAMES)
        most = {"any": 150, "files": 25, "names": 25, "add": 25, "upsert": 25, "delete": 15, "compaction": 8}.get(point, 3)
        return cls(point, draw.randint(1, most), draw.choice(WHEN))

    def install(self) -> None:
        """Wait for the call."""
        self._lock, self._calls = threading.Lock(), 0
        for point, places in _points().items():
            for owner, name in places:
                setattr(owner, name, self._deadly(point, getattr(owner, name)))

    def _deadly(self, point: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **named: Any) -> Any:
            if not self._is_due(point):
                return call(*arguments, **named)
            if self.when == "before":
                kill()
            if self.when == "in":
                threading.Thread(target=_soon, args=(random.Random(self.number),), daemon=True).start()
            done = call(*arguments, **named)
            if self.when == "half":
                _halve(arguments)
            kill()
            return done

        return called

    def _is_due(self, point: str) -> bool:
        if self.point not in (point, "any"):
            return False
        with self._lock:
            self._calls += 1
            return self._calls == self.number


def kill() -> None:
    """Kill -9 of this process."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def _soon(draw: random.Random) -> None:
    time.sleep(draw.choice((0.0002, 0.001, 0.003, 0.01)))
    kill()


def _halve(arguments: tuple[Any, ...]) -> None:
    """Cut the files among the arguments."""
    for path in arguments:
        if isinstance(path, str | Path) and os.path.isfile(path):
            os.truncate(path, os.path.getsize(path) // 2)


def _points() -> dict[str, list[tuple[Any, str]]]:
    points = {
        "files": [(faiss, "write_index"), (np, "save"), (pa, "OSFile"), (Path, "write_text"), (pa.ipc, "new_file")],
        "names": [(Path, "replace"), (Path, "unlink"), (Path, "mkdir"), (shutil, "rmtree"), (os, "replace"), (os, "fsync")],
        "add": [(LanceTable, "add")],
        "upsert": [(LanceMergeInsertBuilder, "execute")],
        "delete": [(LanceTable, "delete")],
        "compaction": [(LanceTable, "optimize"), (LanceTable, "create_index")],
        "columns": [(LanceTable, "add_columns"), (LanceTable, "alter_columns"), (LanceTable, "drop_columns")],
        "note": [(LanceTable, "update_field_metadata")],
        "create": [(LanceDBConnection, "create_table")],
        "open": [(LanceDBConnection, "open_table"), (LanceTable, "checkout_latest")],
    }
    assert {*points, "any"} == {*NAMES}
    return points
