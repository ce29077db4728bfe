"""Lives of a collection under a mixed load, each in a process that is killed: python killed_collection.py.

It reads orders from stdin, one life each, and answers with how that ended, both as JSON in a line; it ends when stdin does.
Each life is a fork of this process, which has imported everything and does nothing else.

    {"folder": …, "seed": 1, "death": ["files", 3, "half"], "kill_s": null, "vandal": 0}     the third file is cut in half
    {"folder": …, "seed": 1, "death": null, "kill_s": 0.3, "vandal": 9}      kill -9 from outside after 0.3 s,
                                                                            while files are damaged 9 times a second
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import threading
import time
import traceback
import warnings
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
from kill_ledger import TOWERS, Change, Ledger, differences, vector
from kill_points import Death, kill

from clip_client import Unavailable
from clip_search import upkeep
from clip_search.collection import Collection
from clip_search.index import block_checks
from clip_search.options import IndexOptions
from clip_search.storage.database import Database
from clip_search.storage.rows import NewRow
from clip_search.storage.schema import About

SIZE, CLIENTS, IDS = 12, 3, 40
LIES, BROKEN, HANGS = 3, 4, 5
"""Statuses of a life that told something wrong, one in which something failed without a reason, one that never opened."""
_OPENING_S = 60
_LONGEST_S = 1.0
_RENAME = os.replace  # without the points of death
UPKEEP = {"upkeep": {"_PAUSE_S": 0.01, "_OPTIMIZE_COMMITS": 8}, "checks": {"_PASS_S": 0.1}}


def opened(folder: Path, ledger: Ledger) -> tuple[Any, Any]:
    """The database of a folder and its collection; made if it was never whole."""
    store = Database(str(folder / "db"), folder / "indexes")
    try:
        table = store.open("a")
    except Exception:
        if not ledger.is_new:
            raise
        store.drop("a")
        table = store.create("a", About(SIZE, "model1"), {"serial": "int"})

    def texts(count: int, space: str, size: int) -> tuple[np.ndarray, str]:
        return np.stack([vector(n, "text", size) for n in range(count)]), "texts"

    return store, Collection("a", table, folder / "indexes" / "a", IndexOptions(exact_rows=60, tail_rows=25), texts)


class Load:
    """Random changes of a client's own ids, some at the same time."""

    def __init__(self, collection: Any, ledger: Ledger, owner: int, seed: int) -> None:
        self._collection, self._ledger = collection, ledger
        self._ids = [f"{owner}-{n}" for n in range(IDS)]
        self._draw = random.Random(f"{seed} {owner}")

    def go_on(self) -> None:
        """Change until the process ends."""
        while True:
            ids = self._draw.sample(self._ids, self._draw.choice((3, 12, IDS)))
            parts = [ids[n::3] for n in range(self._draw.choice((1, 3)))]
            begun = [self._begun(part) for part in parts if part]
            for name, future in begun:
                future.result(60)
                self._ledger.end(name)

    def _begun(self, ids: list[str]) -> tuple[int, Future[Any]]:
        there = [id for id in ids if self._ledger.now(id) is not None]
        kind = self._draw.choice(("replace", "replace", "skip", "error", "delete", "where"))
        if kind == "where" and there:
            serials = ", ".join(str(self._ledger.now(id)) for id in there)
            name = self._ledger.begin(dict.fromkeys(there))
            return name, self._collection.delete(where=f"serial IN ({serials})")
        if kind in ("delete", "where"):
            return self._ledger.begin(dict.fromkeys(ids)), self._collection.delete(ids=ids)
        new = ids if kind == "replace" else [id for id in ids if id not in there] or ids
        kind = "replace" if new is ids else kind
        sent = new if kind == "error" else ids
        serials_of = {id: self._ledger.serial() for id in sent}
        change: Change = {id: serials_of[id] for id in new}
        return self._ledger.begin(change), self._add(serials_of, kind)

    def _add(self, serials: dict[str, int], kind: str) -> Future[Any]:
        rows = [NewRow(id, **self._ledger.row(serial)) for id, serial in serials.items()]
        return self._collection.add(rows, on_conflict=kind, fingerprint="")


def rebuilding(collection: Any, seed: int, excuse: tuple[type[Exception], ...]) -> None:
    """Index everything anew now and then."""
    draw = random.Random(seed)
    while True:
        time.sleep(draw.random() * 0.4)
        with contextlib.suppress(*excuse):
            collection.rebuild_soon().result(60)


def reading(collection: Any, ledger: Ledger, seed: int, folder: Path) -> None:
    """Search; a row's card and score belong to its vector, whatever is changed meanwhile."""
    draw = random.Random(f"{seed} reads")
    while True:
        serials = [serial for serial in list(ledger.settled.values()) if serial is not None]
        query, tower = vector(draw.choice(serials or [1]), draw.choice(TOWERS), SIZE), draw.choice(TOWERS)
        scores, rows = collection.search(query, tower, 20, draw.choice(("", "serial >= 0")))
        for score, card in zip(scores, collection.cards.take(rows), strict=True):
            if card and abs(vector(card["serial"], tower, SIZE) @ query - score) > 3e-3:
                lied(folder, [f"{card} has a score of {score} in {tower}"])


def vandalising(folder: Path, seed: int, rate: float) -> None:
    """Put a damaged copy in the place of a derived file, so many times a second."""
    draw, copy = random.Random(f"{seed} damages"), folder / "vandal"
    while True:
        time.sleep(draw.random() * 2 / rate)
        with contextlib.suppress(OSError, LookupError, ValueError):  # gone, none, or empty
            files = sorted(path for path in (folder / "indexes" / "a").rglob("*.*") if path.is_file())
            path = draw.choice(files)
            content = bytearray(path.read_bytes())
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
            copy.write_bytes(content[: draw.choice((len(content), len(content) // 2))])
            _RENAME(copy, path)


def lied(folder: Path, wrong: list[str]) -> None:
    """Write down what was told that isn't so, and end."""
    with open(folder / "lies", "w") as file:
        file.write("\n".join(wrong))
    os._exit(LIES)


def live(order: dict[str, Any], ready: int) -> None:
    """Open, compare with the ledger, change until death."""
    for module, values in ((upkeep, UPKEEP["upkeep"]), (block_checks, UPKEEP["checks"])):
        for name, value in values.items():
            assert hasattr(module, name), f"{module.__name__} has no {name} any more: name its new place here"
            setattr(module, name, value)
    folder = Path(order["folder"])
    os.write(ready, b"!")
    ledger = Ledger(folder / "ledger", SIZE)
    opening = threading.Timer(_OPENING_S, os._exit, [HANGS])
    opening.start()
    if order["death"]:
        Death(*order["death"]).install()
    _store, opened_now = opened(folder, ledger)
    if wrong := differences(opened_now, ledger, SIZE):
        lied(folder, wrong)
    opening.cancel()
    threading.Timer(_LONGEST_S, kill).start()
    loads = [Load(opened_now, ledger, n, order["seed"]).go_on for n in range(CLIENTS)]
    pool = ThreadPoolExecutor(CLIENTS + 3)  # not left in order: who fails ends the process
    running = [
        *map(pool.submit, loads),
        pool.submit(rebuilding, opened_now, order["seed"], (Unavailable,) if order["vandal"] else ()),
    ]
    running.append(pool.submit(reading, opened_now, ledger, order["seed"], folder))
    if order["vandal"]:
        running.append(pool.submit(vandalising, folder, order["seed"], order["vandal"]))
    for future in wait(running, return_when="FIRST_EXCEPTION").done:
        future.result()


def born(order: dict[str, Any]) -> int:
    """Fork a life; returns its process once it is about to open."""
    waiting, ready = os.pipe()
    if process := os.fork():
        os.close(ready)
        os.read(waiting, 1)
        os.close(waiting)
        return process
    status = BROKEN
    try:
        os.dup2(os.open(Path(order["folder"]) / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        live(order, ready)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    """One life after the other."""
    warnings.filterwarnings("ignore", "lancedb fork")
    for line in sys.stdin:
        order = json.loads(line)
        process = born(order)
        if order["kill_s"] is not None:
            time.sleep(order["kill_s"])
            os.kill(process, signal.SIGKILL)
        status = os.waitpid(process, 0)[1]
        print(json.dumps({"status": os.waitstatus_to_exitcode(status)}), flush=True)


if __name__ == "__main__":
    main()
