"""Kills at any point and damaged files, under a mixed load; a ledger of what was acknowledged is the judge.

CLIPSERVE_KILLS=1000 CLIPSERVE_DAMAGES=200 python -m pytest tests/test_search_kills.py -s      more than the few of CI
CLIPSERVE_KILL_SEED=7 …                                              the same points, kinds of changes and damages again
"""

from __future__ import annotations

import collections
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

import killed_collection
import pytest
from kill_ledger import Ledger, differences
from kill_points import Death

KILLS = int(os.environ.get("CLIPSERVE_KILLS", "8"))
DAMAGES = int(os.environ.get("CLIPSERVE_DAMAGES", "4"))
SEED = int(os.environ.get("CLIPSERVE_KILL_SEED", "0"))
_FROM_OUTSIDE = 0.2
"""Share of the kills that come at a random time."""
_LIVES = 30
"""Lives of a collection; then comes a new one."""
_KILLED = -9


class Lives:
    """Lives of collections, one after the other, each of which ends with a kill."""

    def __init__(self, folder: Path) -> None:
        self._root, self._count = folder, 0
        self.draw = random.Random(SEED)
        self.books: collections.Counter[str] = collections.Counter()
        script = Path(killed_collection.__file__)
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._nursery = subprocess.Popen([sys.executable, str(script)], **pipes)
        self.begin()

    def begin(self) -> None:
        """Go on with a new collection."""
        self.folder = self._root / f"{self._count}"
        self.folder.mkdir()
        self.old = self.folder / "old"

    @property
    def files(self) -> Path:
        """The derived files."""
        return self.folder / "indexes" / "a"

    def live(self, vandal: float = 0) -> None:
        """Let one life go by, while files are damaged so many times a second."""
        if self._count and self._count % _LIVES == 0:
            self.check()
            shutil.rmtree(self.folder)
            self.begin()
        self._count += 1
        outside = self.draw.random() < _FROM_OUTSIDE
        death, kill_s = (None, self.draw.uniform(0, 1.2)) if outside else (astuple(Death.drawn(self.draw)), None)
        order = {
            "folder": str(self.folder),
            "seed": self.draw.randrange(10**9),
            "death": death,
            "kill_s": kill_s,
            "vandal": vandal,
        }
        self._nursery.stdin.write(json.dumps(order) + "\n")
        self._nursery.stdin.flush()
        status = json.loads(self._nursery.stdout.readline())["status"]
        assert status == _KILLED, f"life {self._count} {order} ended with {status}: {self._why(status)}"
        self.books["kill -9 at a random time" if outside else f"at a point: {death[2]}" if death else ""] += 1

    def damage(self) -> None:
        """Damage one derived file, if there is one; now and then keep all as they are, to come back later."""
        files = sorted(path for path in self.files.rglob("*") if path.is_file() and path.stat().st_size)
        if not files:
            return
        kinds = sorted({path.parent.name[:4] + path.suffix for path in files})
        kind, how = self.draw.choice(kinds), self.draw.choice([*_DAMAGES])
        path = self.draw.choice([path for path in files if path.parent.name[:4] + path.suffix == kind])
        copies = sorted(self.old.rglob(path.name)) or sorted(self.old.rglob(f"*{path.suffix}")) or [path]
        older = self.draw.choice(copies).read_bytes()
        if self.draw.random() < 0.3 or not self.old.exists():
            shutil.rmtree(self.old, ignore_errors=True)
            shutil.copytree(self.files, self.old)
        _DAMAGES[how](path, self.draw, older)
        self.books[f"damage: {how}"] += 1

    def check(self) -> None:
        """Open the collection here, and compare it with its ledger."""
        ledger = Ledger(self.folder / "ledger", killed_collection.SIZE)
        store, collection = killed_collection.opened(self.folder, ledger)
        try:
            wrong = differences(collection, ledger, killed_collection.SIZE)
            assert not wrong, f"seed {SEED}, life {self._count}: {wrong}"
            self.books["acknowledged changes"] += ledger.acknowledged
            self.books["opened"] += 1
        finally:
            collection.close()
            store.close()

    def close(self) -> None:
        """End the process that has them."""
        self._nursery.stdin.close()
        self._nursery.wait(30)
        print(f"seed {SEED}: {self._count} lives, {dict(self.books)}")

    def _why(self, status: int) -> str:
        what = self.folder / ("lies" if status == killed_collection.LIES else "log")
        return f"seed {SEED}\n{what.read_text(errors='replace')[-4000:] if what.exists() else 'nothing was said'}"


@pytest.fixture
def lives(tmp_path: Path) -> Iterator[Lives]:
    lives = Lives(tmp_path)
    yield lives
    lives.close()


@pytest.mark.timeout(120 + 10 * KILLS)
def test_no_kill_loses_changes_or_brings_rows_back(lives: Lives) -> None:
    for _ in range(KILLS):
        lives.live()
    lives.check()
    assert lives.books["acknowledged changes"] > 0


@pytest.mark.timeout(120 + 10 * DAMAGES)
def test_no_damaged_file_makes_it_lie(lives: Lives) -> None:
    lives.live()
    while sum(count for how, count in lives.books.items() if how.startswith("damage")) < DAMAGES:
        lives.damage()
        lives.live(vandal=lives.draw.choice((0, 20)))
    lives.damage()
    lives.check()


def _flip(path: Path, draw: random.Random, older: bytes) -> None:
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


_DAMAGES: dict[str, Callable[[Path, random.Random, bytes], Any]] = {
    "flip a bit": _flip,
    "truncate": lambda path, draw, older: os.truncate(path, draw.randrange(path.stat().st_size)),
    "empty": lambda path, draw, older: os.truncate(path, 0),
    "delete": lambda path, draw, older: path.unlink(),
    "an older version": lambda path, draw, older: path.write_bytes(older),
}
