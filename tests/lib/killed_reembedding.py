"""Lives of a collection that goes over from model to model under changes, each killed at a step: python killed_reembedding.py.

Arguments: a folder, then deaths as POINT:NUMBER:WHEN. Each life is a fork of this process, which has imported everything and
does nothing else. It prints a line for each, then one for what differs from the ledger; nothing may.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from two_models import World, until

from clip_search.collection import Collection
from clip_search.errors import Conflict, Moved, NotFound
from clip_search.reembedding.going_over import GoingOver
from clip_search.reembedding.second_life import SecondLife
from clip_search.reembedding.second_set import SecondSet
from clip_search.reembedding.second_sets import Wish
from clip_search.storage.database import Database
from clip_search.storage.table import Table

POINTS: dict[str, tuple[type, str]] = {
    "create": (Database, "create_set"),
    "fill": (SecondSet, "fill"),
    "take": (SecondSet, "take"),
    "remove": (SecondSet, "remove"),
    "append": (Table, "append"),
    "index": (Collection, "rebuild"),
    "commit": (GoingOver, "_commit"),
    "shown": (SecondLife, "_shown"),
    "drop": (Database, "drop_set"),
}
_FIRST, _LIFE_S = 20, 40.0


def main() -> int:
    folder, deaths = Path(sys.argv[1]), sys.argv[2:]
    for number, death in enumerate([*deaths, ""]):
        if not (child := os.fork()):
            _live(folder, number, death)
        status = os.waitpid(child, 0)[1]
        ended = "killed" if os.WIFSIGNALED(status) else f"ended with {os.waitstatus_to_exitcode(status)}"
        print(f"{death or 'the last'}: {ended}", flush=True)
    return 0


def _live(folder: Path, number: int, death: str) -> None:
    """Go over once, or die; never returns."""
    try:
        if death:
            _die_at(*death.split(":"))
        world = World(folder)
        if not death:
            until(lambda: world.state()["state"] in ("none", "kept"), _LIFE_S)
            print(_differences(folder / "ledger", world), flush=True)
            os._exit(0)
        _change(world, folder / "ledger", number)
    except BaseException:
        traceback.print_exc()
        os._exit(9)
    os._exit(0)


def _die_at(point: str, number: str, when: str) -> None:
    owner, name = POINTS[point]
    real: Callable[..., Any] = getattr(owner, name)
    calls = [0]

    def dying(self: Any, *arguments: Any) -> Any:
        if name == "append" and "." not in self.name:
            return real(self, *arguments)
        calls[0] += 1
        if calls[0] == int(number) and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        outcome = real(self, *arguments)
        if calls[0] == int(number):
            os.kill(os.getpid(), signal.SIGKILL)
        return outcome

    setattr(owner, name, dying)


def _change(world: World, ledger: Path, number: int) -> None:
    """Add and delete rows while the collection goes over; drop the old set, begin with the other model."""
    note = ledger.open("a")

    def told(word: str, n: int) -> None:
        note.write(f"{word} {n}\n")
        note.flush()

    if "a" not in world.sidecar.names():
        world.sidecar.create("a", None, None, {"n": "int"})
    ended = threading.Event()

    def changes() -> None:
        for n in range(1000 * number, 1000 * number + 500):
            told("adding", n)
            world.add(n)
            told("added", n)
            if n % 4 == 1:
                told("deleting", n - 1)
                _deleted(world, n - 1)
                told("deleted", n - 1)
            if ended.wait(0.02) and n % 1000 >= _FIRST:
                return

    changing = threading.Thread(target=changes)
    changing.start()
    until(lambda: len(world.sidecar.collection("a").table) >= _FIRST // 2, _LIFE_S)
    deadline = time.monotonic() + _LIFE_S
    while time.monotonic() < deadline and not ended.is_set():
        target = "new" if world.sidecar.collection("a").about.space == "old" else "old"
        if world.state()["state"] == "kept":
            world.sidecar.seconds.drop("a")
        elif world.state()["state"] in ("none", "failed", "refused"):
            try:
                world.sidecar.seconds.start(world.sidecar.collection("a"), Wish(target, cores=1.0))
            except (Conflict, NotFound):
                continue
            world.settled("kept", "failed")
            if world.state()["state"] == "failed":
                raise AssertionError(world.state())
            world.sidecar.seconds.drop("a")
            ended.set()
        time.sleep(0.02)
    changing.join()
    world.close()


def _deleted(world: World, n: int) -> None:
    try:
        world.sidecar.collection("a").delete(ids=[f"r{n}"]).result()
    except Moved:
        world.sidecar.collection("a").delete(ids=[f"r{n}"]).result()


def _differences(ledger: Path, world: World) -> str:
    """Compare what is there, every vector of it, with what was acknowledged."""
    must: dict[int, set[bool]] = {}
    for line in ledger.read_text().splitlines():
        word, _, n = line.partition(" ")
        must[int(n)] = {"adding": {True, False}, "added": {True}, "deleting": {True, False}, "deleted": {False}}[word]
    space, there = world.answers()
    lost = [n for n, may in must.items() if (f"r{n}" in there) not in may]
    odd = [id for id in there if int(id[1:]) not in must]
    return f"{space}: {len(there)} rows, {len(must)} in the ledger, differences: {sorted(lost)} {odd}"


if __name__ == "__main__":
    sys.exit(main())
