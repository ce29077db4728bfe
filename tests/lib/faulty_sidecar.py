"""A search sidecar with small indexes, whose storage fails on command: python faulty_sidecar.py DATA PORT ENGINE.

It reads orders from stdin and answers each with a line on stdout, both JSON; it ends when stdin does.

    {"do": "arm", "point": "add", "mode": "full"}     the next write of this kind fails
    {"do": "disarm"}                                  nothing fails any more
    {"do": "report"}                                  what failed and when, answers of 500, requests that are done with
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import uvicorn
from lancedb.merge import LanceMergeInsertBuilder
from lancedb.query import LanceEmptyQueryBuilder
from lancedb.table import LanceTable

from clip_search import upkeep
from clip_search.index import kinds
from clip_search.options import IndexOptions, Options
from clip_search.sidecar import Sidecar
from clip_search.web.app import app

NOWHERE = "127.0.0.1:9"
INDEX = {"exact_rows": 150, "tail_rows": 60}
UPKEEP = {"_PAUSE_S": 0.05, "_OPTIMIZE_COMMITS": 25}
"""Upkeep a hundred times as often as in life, so that some thousand rows see all of it."""
FULL = "lance error: LanceError(IO): No space left on device (os error 28)"
SLOW_S = 0.15

POINTS: dict[str, list[tuple[Any, str]]] = {
    "add": [(LanceTable, "add")],
    "upsert": [(LanceMergeInsertBuilder, "execute")],
    "delete": [(LanceTable, "delete")],
    "columns": [(LanceTable, "add_columns"), (LanceTable, "alter_columns")],
    "compaction": [(LanceTable, "optimize"), (LanceTable, "create_index")],
    "read": [(LanceEmptyQueryBuilder, "to_batches")],
    "files": [(faiss, "write_index"), (np, "save"), (pa, "OSFile")],
}


class Faults:
    """Failures that wait for their calls; ``fired`` has point, mode and time of those that came."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._armed: dict[str, str] = {}
        self.fired: list[tuple[str, str, float]] = []

    def arm(self, point: str, mode: str) -> None:
        with self._lock:
            self._armed[point] = mode

    def disarm(self) -> None:
        with self._lock:
            self._armed.clear()

    def install(self) -> None:
        for point, places in POINTS.items():
            for owner, name in places:
                setattr(owner, name, self._failing(point, getattr(owner, name)))

    def _failing(self, point: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def replaced(*arguments: Any, **options: Any) -> Any:
            mode = self._taken(point)
            if mode in ("full", "fails"):
                raise OSError(28, FULL) if mode == "full" else RuntimeError("lance error: injected: input/output error")
            if mode == "slow":
                time.sleep(SLOW_S)
            answer = call(*arguments, **options)
            if mode == "durable":
                self.fired.append((point, mode, time.monotonic()))
                raise RuntimeError("lance error: injected: connection reset after the commit")
            return answer

        return replaced

    def _taken(self, point: str) -> str | None:
        with self._lock:
            mode = self._armed.pop(point, None)
            if mode:
                self.fired.append((point, mode, time.monotonic()))
            return mode


class Watched:
    """The application, with a count of answers of 500, and the tags of requests that it is done with."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self.started: set[str] = set()
        self.done: set[str] = set()
        self.failures: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        tag = dict(scope.get("headers", ())).get(b"x-tag", b"").decode()
        self.started |= {tag} - {""}

        async def watched(message: Any) -> None:
            if message.get("status") == 500:
                self.failures.append(f"{scope['method']} {scope['path']}")
            await send(message)

        try:
            await self._application(scope, receive, watched)
        finally:
            self.done |= {tag} - {""}


def obey(faults: Faults, watched: Watched) -> None:
    """Answer orders until there are no more; the process doesn't outlive who started it."""
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "arm":
            faults.arm(order["point"], order["mode"])
        if order["do"] == "disarm":
            faults.disarm()
        answer = {"fired": faults.fired, "failures": watched.failures}
        answer |= {"started": [*watched.started], "done": [*watched.done]}
        print(json.dumps(answer if order["do"] == "report" else {}), flush=True)
    os._exit(1)


def main(data: str, port: str, engine: str) -> None:
    """Serve as ``clipserve search serve`` does."""
    sys.setswitchinterval(0.0001)
    for name, value in UPKEEP.items():
        assert hasattr(upkeep, name), f"clip_search.upkeep has no {name} any more: name its new place here"
        setattr(upkeep, name, value)
    kinds.EFFORTS.update({kind: efforts[-1:] for kind, efforts in kinds.EFFORTS.items()})  # all lists: answers are exact
    faults = Faults()
    faults.install()
    options = Options(data, triton=NOWHERE, index=IndexOptions(engine=engine, **INDEX))  # type: ignore[arg-type]
    watched = Watched(app(Sidecar(options)))
    threading.Thread(target=obey, args=(faults, watched), daemon=True).start()
    listening = socket.create_server(("127.0.0.1", int(port)))
    config = uvicorn.Config(watched, log_level="warning", access_log=False, loop="uvloop", http="httptools")
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
    main(*sys.argv[1:])
