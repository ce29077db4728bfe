"""A ledger of what a collection has acknowledged, in a file that outlives the process that writes it; and its judge."""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

Change = dict[str, int | None]
"""Ids, each with the serial of the row that it gets; None if it goes."""
TOWERS = ("image", "text")


class Ledger:
    """Changes that were begun and those that were acknowledged; safe to use from several threads of one process."""

    def __init__(self, path: Path, size: int) -> None:
        self._lock, self._size = threading.Lock(), size
        whole = path.read_bytes() if path.exists() else b""
        whole = whole[: whole.rfind(b"\n") + 1]  # a kill may tear the last line
        self.is_new = not whole
        self.settled: Change = {}
        self.numbers: dict[int, int] = {}
        self.acknowledged = 0
        self._pending: dict[int, Change] = {}
        for line in whole.splitlines():
            self._take(json.loads(line))
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        os.ftruncate(self._file, len(whole))
        used = [serial for to in (self.settled, *self._pending.values()) for serial in to.values() if serial is not None]
        self._serials = itertools.count(max([0, *used, *self.numbers.values()]) + 1)
        self._names = itertools.count(time.time_ns())

    def serial(self) -> int:
        """Return one that no row had."""
        with self._lock:
            return next(self._serials)

    def begin(self, change: Change) -> int:
        """Note a change before it is sent; returns its name."""
        with self._lock:
            name = next(self._names)
        self._write({"begin": name, "change": change})
        return name

    def end(self, name: int) -> None:
        """Note that a change was acknowledged."""
        self._write({"end": name})

    def judge(self, there: Mapping[str, int]) -> list[str]:
        """Name what differs from the ledger in what is there, serial by id."""
        may: dict[str, set[int | None]] = {id: {serial} for id, serial in self.settled.items()}
        for change in self._pending.values():
            for id, serial in change.items():
                may.setdefault(id, {None}).add(serial)
        found = [
            f"{id!r} is row {there.get(id)}, expected {sorted(map(str, allowed))}"
            for id, allowed in may.items()
            if there.get(id) not in allowed
        ]
        return found + [f"{id!r} was never sent" for id in there.keys() - may.keys()] + self._halves(there)

    def seen(self, there: Mapping[str, int], numbers: Mapping[int, int]) -> list[str]:
        """Note what is there, from now on for good; names row numbers that came back with another row."""
        odd = [f"row number {n}: {self.numbers[n]}, then {s}" for n, s in numbers.items() if self.numbers.get(n, s) != s]
        self._write({"seen": dict(there), "numbers": {str(n): serial for n, serial in numbers.items()}})
        return odd

    def now(self, id: str) -> int | None:
        """The row that an id has; for one of whose changes none is under way."""
        return self.settled.get(id)

    def row(self, serial: int) -> dict[str, Any]:
        """Vectors by tower and metadata of a row."""
        towers = [tower for n, tower in enumerate(TOWERS) if serial % 5 != n]
        metadata = {"serial": serial, f"extra{serial // 400 % 60}": f"e{serial}"}
        metadata[f"wide{serial // 1000 % 20}"] = serial + (0.5 if serial % 9 == 0 else 0)
        return {"vectors": {tower: vector(serial, tower, self._size) for tower in towers}, "metadata": metadata}

    def _halves(self, there: Mapping[str, int]) -> list[str]:
        """Changes that were broken off, of which a part is there."""
        partly = []
        for change in self._pending.values():
            new = {there.get(id) == serial for id, serial in change.items() if self.settled.get(id) != serial}
            if len(new) > 1:
                partly.append(f"half of the change {change} is there")
        return partly

    def _write(self, line: dict[str, Any]) -> None:
        with self._lock:
            os.write(self._file, json.dumps(line).encode() + b"\n")
            self._take(line)

    def _take(self, line: dict[str, Any]) -> None:
        if "begin" in line:
            self._pending[line["begin"]] = line["change"]
        elif "end" in line:
            self.settled |= self._pending.pop(line["end"])
            self.acknowledged += 1
        else:
            ids = {id for change in (self.settled, *self._pending.values()) for id in change}
            self._pending.clear()
            self.settled = {id: line["seen"].get(id) for id in ids}
            self.numbers |= {int(n): serial for n, serial in line["numbers"].items()}


@lru_cache(20_000)
def vector(serial: int, tower: str, size: int) -> np.ndarray:
    """The vector of a row, float32 [size], of unit length."""
    drawn = np.random.default_rng((serial, TOWERS.index(tower))).normal(size=size).astype(np.float32)
    return np.asarray(drawn / np.linalg.norm(drawn), np.float32)


def differences(collection: Any, ledger: Ledger, size: int) -> list[str]:
    """Name what a collection tells that isn't so: by its table, its searches, its vectors, its cards."""
    rows = collection.table.page("", -1, 100_000, ["id", "serial", *(f"vector_{tower}" for tower in TOWERS)])
    there = {row["id"]: row["serial"] for row in rows}
    wrong = ledger.judge(there) + ([f"{len(rows)} rows, {len(there)} ids"] if len(rows) != len(there) else [])
    wrong += ledger.seen(there, {row["row"]: row["serial"] for row in rows})
    if collection.present([*ledger.settled]) != there.keys():
        wrong.append("ids that are there aren't those of the table")
    cards = collection.cards.take(np.array([row["row"] for row in rows], np.int64))
    for row, card in zip(rows, cards, strict=True):
        expected = {"id": row["id"], **ledger.row(row["serial"])["metadata"]}
        if card is None or {name: card.get(name) for name in expected} != expected:
            wrong.append(f"the card of {row['id']!r} {row['serial']} is {card}")
    return wrong + [one for tower in TOWERS for one in _wrong_vectors(collection, ledger, rows, tower, size)]


def _wrong_vectors(collection: Any, ledger: Ledger, rows: list[dict[str, Any]], tower: str, size: int) -> list[str]:
    engine = collection.engines[tower]
    having = [row for row in rows if tower in ledger.row(row["serial"])["vectors"]]
    wrong = [f"{row['id']!r}: {tower} is empty or not" for row in rows if (row[f"vector_{tower}"] is None) == (row in having)]
    if engine.size() != len(having):
        wrong.append(f"{engine.size()} vectors of {tower}, expected {len(having)}")
    held = engine.vectors(np.array([row["row"] for row in having], np.int64))
    for row, indexed in zip(having, held, strict=True):
        sent = vector(row["serial"], tower, size)
        stored = row[f"vector_{tower}"]
        if stored is None or not np.allclose(stored, sent, atol=1e-6) or not np.allclose(indexed, sent, atol=2e-3):
            wrong.append(f"{row['id']!r} {row['serial']} has another vector of {tower}")
        scores, found = collection.search(sent, tower, 1, "")
        if found.tolist() != [row["row"]] or abs(scores[0] - 1) > 2e-3:
            wrong.append(f"{tower} of {row['id']!r}, row {row['row']}: found {found.tolist()} at {scores.tolist()}")
    everything = set(collection.search(vector(1, tower, size), tower, len(rows) + 10, "serial >= 0")[1].tolist())
    if everything - {row["row"] for row in having}:
        wrong.append(f"{tower}: found rows that aren't there")
    return wrong
