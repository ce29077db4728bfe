"""Rows that all clients change: what they must be once nothing is under way, by when each change began and ended."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stateful_client import WRITES, Client
from stateful_model import Sent

from clip_client import InvalidInput, Unavailable
from clip_client.search import OnConflict

OWNER, IDS = "shared", 8


@dataclass(frozen=True)
class Change:
    """A change of one row to ``row``, None for a deletion; ``sure`` if it was acknowledged."""

    id: str
    row: Sent | None
    sure: bool
    start: float
    end: float = math.inf


class Shared:
    """The shared rows as they were when nothing was under way, and what was done to them since."""

    def __init__(self) -> None:
        self.ids = [f"{OWNER}/{n}" for n in range(IDS)]
        self.rows: dict[str, Sent] = {}
        self._changes: list[Change] = []

    def write(self, client: Client, mode: OnConflict) -> None:
        """Add one row."""
        row = client.new_row(client.draw.choice(self.ids), OWNER)
        client.world.note(f"{client.owner} writes {(row.id, row.serial)}, {mode}")
        start = time.monotonic()
        try:
            done = client.attempt(lambda: client.search.add(client.world.name, [row.row()], on_conflict=mode), WRITES)
        except Unavailable:
            self._changes.append(Change(row.id, row, False, start))
        except InvalidInput:
            if mode != "error":
                raise
        else:
            assert (done.added + done.replaced, done.skipped) in ((1, 0), (0, mode == "skip")), f"{done} of 1 row"
            if not done.skipped:
                self._changes.append(Change(row.id, row, True, start, time.monotonic()))

    def delete(self, client: Client) -> None:
        """Delete one row."""
        id = client.draw.choice(self.ids)
        client.world.note(f"{client.owner} deletes {id!r}")
        start = time.monotonic()
        try:
            count = client.attempt(lambda: client.search.delete(client.world.name, [id]), WRITES)
        except Unavailable:
            self._changes.append(Change(id, None, False, start))
        else:
            assert count in (0, 1), f"{count} rows deleted by one id"
            self._changes.append(Change(id, None, True, start, time.monotonic()))

    def settle(self, listed: Iterable[Mapping[str, Any]]) -> None:
        """Compare with all rows, listed while nothing is under way; what is there is what there was to be from now on."""
        there = {row["id"]: row for row in listed if row["metadata"]["owner"] == OWNER}
        assert set(there) <= set(self.ids)
        for id in self.ids:
            choices = self._choices(id)
            fits = [one for one in choices if _serial(one) == (there[id]["metadata"]["serial"] if id in there else None)]
            assert fits, f"shared row {id!r} is {there.get(id)}: neither of {choices}"
            self.rows.pop(id, None)
            if fits[0]:
                wrong = fits[0].differences(there[id])
                assert not wrong, f"shared row {id!r}: {wrong}"
                self.rows[id] = fits[0]
        self._changes = []

    def _choices(self, id: str) -> list[Sent | None]:
        """Return the changes that may have been the last: none after which another began and was acknowledged."""
        changes = [change for change in self._changes if change.id == id]
        last = max((change.start for change in changes if change.sure), default=-math.inf)
        before = [] if any(change.sure for change in changes) else [self.rows.get(id)]
        return before + [change.row for change in changes if change.end >= last]


def _serial(row: Sent | None) -> int | None:
    return row.serial if row else None
