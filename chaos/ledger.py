"""Ledger of what a database has acknowledged, and its judgement of what is there."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Mapping, Sequence

Change = dict[str, int | None]
"""Ids, each with the serial number of the row that it gets; None if its row goes."""


class Ledger:
    """Changes that were begun, acknowledged, refused, or broken off without an answer; safe to use from several threads.

    An id belongs to one request at a time. Those of a change whose outcome nobody knows are kept until the database was read.
    """

    def __init__(self, ids: int) -> None:
        self._lock = threading.Lock()
        self._free = {f"r{n:04}" for n in range(ids)}
        self._settled: dict[str, int] = {}
        self._open: dict[int, Change] = {}  # without an answer
        self._names, self._serials = itertools.count(), itertools.count(1)
        self._under_way: dict[int, Change] = {}
        self._owners: dict[int, str] = {}  # id by serial number, of all rows that were ever sent
        self._gone: dict[int, float] = {}  # time at which a row's end was acknowledged
        self.acknowledged = self.unanswered = 0
        self.feedback: set[str] = set()  # names of answers whose feedback was acknowledged

    def claim(self, draw: random.Random, most: int, there: bool) -> list[str]:
        """Take up to so many ids that have a row, or that have none, for one request."""
        with self._lock:
            ids = sorted(id for id in self._free if (id in self._settled) == there)
            chosen = draw.sample(ids, min(len(ids), draw.randint(1, most)))
            self._free -= {*chosen}
            return chosen

    def release(self, ids: Sequence[str]) -> None:
        """Give ids back."""
        with self._lock:
            self._free |= {*ids}

    def serial(self, pictured: bool) -> int:
        """Return a serial number that no row had: an odd one for a picture."""
        return 2 * next(self._serials) + pictured

    def now(self, id: str) -> int:
        """Return the row of an id that was claimed as having one."""
        return self._settled[id]

    def any_serial(self, draw: random.Random) -> int:
        """Return a row that is there, or was there a moment ago; 0 for none."""
        with self._lock:
            return draw.choice([*self._settled.values()] or [0])

    def begin(self, change: Change) -> int:
        """Note a change of claimed ids before it is sent; return its name."""
        name = next(self._names)
        with self._lock:
            self._under_way[name] = change
            self._owners |= {serial: id for id, serial in change.items() if serial is not None}
        return name

    def end(self, name: int, at: float) -> None:
        """Note that a change was acknowledged at a time."""
        with self._lock:
            change = self._under_way.pop(name)
            for id, serial in change.items():
                before = self._settled.pop(id, None)
                if before is not None:
                    self._gone[before] = at
                if serial is not None:
                    self._settled[id] = serial
            self._free |= change.keys()
            self.acknowledged += 1

    def refuse(self, name: int) -> None:
        """Note that a change was answered with an error that says that it wasn't made."""
        with self._lock:
            self._free |= self._under_way.pop(name).keys()

    def leave_open(self, name: int) -> None:
        """Note that a change has no answer, or one that says that nobody knows."""
        with self._lock:
            self._open[name] = self._under_way.pop(name)
            self.unanswered += 1

    def misplaced(self, id: str, serial: int, asked_at: float | None) -> str:
        """Return a fault in a hit of a search that was sent at a time; without one its age isn't judged."""
        with self._lock:
            if self._owners.get(serial) != id:
                return f"{id!r} is shown as row {serial}, which is of {self._owners.get(serial)!r}"
            if asked_at is not None and self._gone.get(serial, asked_at) < asked_at:
                return f"{id!r} is shown as row {serial}, whose end was acknowledged before"
            return ""

    def judge(self, there: Mapping[str, int]) -> list[str]:
        """Name what differs in what is there, serial number by id, while no request is under way."""
        with self._lock:
            may: dict[str, set[int | None]] = {id: {serial} for id, serial in self._settled.items()}
            for change in self._open.values():
                for id, serial in change.items():
                    may.setdefault(id, {None}).add(serial)
            wrong = [_difference(id, there.get(id), rows) for id, rows in may.items() if there.get(id) not in rows]
            wrong += [f"{id!r} is back as row {there[id]}, or was never sent" for id in there.keys() - may.keys()]
            return wrong + self._halves(there)

    def settle(self, there: Mapping[str, int], at: float) -> None:
        """Take what is there as the truth from now on; frees the ids that were kept back."""
        with self._lock:
            for serial in set(self._settled.values()) - set(there.values()):
                self._gone.setdefault(serial, at)
            self._settled = dict(there)
            for change in self._open.values():
                self._gone |= {serial: at for id, serial in change.items() if serial is not None and there.get(id) != serial}
                self._free |= change.keys()
            self._open.clear()

    def _halves(self, there: Mapping[str, int]) -> list[str]:
        """Return the changes without an answer of which a part alone was made."""
        wrong = []
        for change in self._open.values():
            made = {there.get(id) == serial for id, serial in change.items() if self._settled.get(id) != serial}
            if len(made) > 1:
                wrong.append(f"half of the change {change} was made")
        return wrong


def _difference(id: str, serial: int | None, allowed: set[int | None]) -> str:
    expected = " or ".join(sorted("none" if one is None else str(one) for one in allowed))
    if serial is None:
        return f"{id!r} was lost: expected row {expected}"
    return f"{id!r} is row {serial}: expected {expected}"
