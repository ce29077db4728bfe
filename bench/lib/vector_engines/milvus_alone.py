"""Milvus by itself: the standalone server that the tests start, asked through pymilvus with the index of clipserve's engine."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import psutil

from clip_search.index.kinds import EFFORTS
from clip_search.index.milvus.rows import MilvusRows
from clip_search.options import MilvusOptions
from lib.processes import family
from lib.samples import ROOT
from lib.serving import free_ports, stopped
from lib.text_like import Floats, World
from lib.vector_engines.apart import Apart, apart
from lib.vector_engines.engine import LINKS, Answers, Filled, K, Memory, Missing, disk_mb, timed

_LAUNCHER = ROOT / "tests" / "lib" / "milvus_servers.py"
_INNER_PORT = 19530  # in the network of the server's own
_NEW_NET = 0x40000000  # of <sched.h>
_SENT = 8_192  # rows at once
_SETTLE_S = 3 * 3600.0


@dataclass(frozen=True)
class MilvusServer:
    """Running server in a network of its own; its launcher passes on what comes to a port of the loopback address."""

    port: int
    folder: Path
    launcher: psutil.Process

    def processes(self) -> Sequence[psutil.Process]:
        """Return the server's processes, without the launcher."""
        return family(self.launcher)[1:]


@contextmanager
def milvus_server(folder: Path) -> Iterator[MilvusServer]:
    """Start a server with its data in a folder; it ends with its launcher."""
    for module in ("milvus", "pymilvus"):
        if importlib.util.find_spec(module) is None:
            raise Missing(f"{module} isn't installed: pip install 'clipserve[engines]'")
    folder.mkdir(parents=True)
    [port] = free_ports(1)
    command = [sys.executable, str(_LAUNCHER), str(folder), str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout  # noqa: S101  (a pipe)
    with stopped(process):
        if process.stdout.readline() != b"ready\n":
            raise Missing("Milvus didn't start, or no network of its own can be had here: its log is above")
        yield MilvusServer(port, folder, psutil.Process(process.pid))


class MilvusAlone:
    """Collection of a server, which a process beside it asks."""

    efforts: Sequence[int] = EFFORTS["hnsw"]

    def __init__(self, other: Apart, server: MilvusServer) -> None:
        self._other, self._server = other, server
        self._empty_mb = disk_mb(server.folder)

    def fill(self) -> Filled:
        """As :meth:`lib.vector_engines.engine.Engine.fill`."""
        filled: Filled = self._other.ask("fill")
        return filled

    def search(self, queries: Floats, effort: int) -> Answers:
        """As :meth:`lib.vector_engines.engine.Engine.search`."""
        answers: Answers = self._other.ask("search", queries, effort)
        return answers

    def setting(self, effort: int) -> str:
        """As :meth:`lib.vector_engines.engine.Engine.setting`."""
        return f"{self._other.ask('about')}, ef {effort}"

    def memory(self) -> Memory:
        """As :meth:`lib.vector_engines.engine.Engine.memory`."""
        return Memory.of(self._server.processes())

    def disk_mb(self) -> float:
        """Return what the server's folder has grown by."""
        return disk_mb(self._server.folder) - self._empty_mb


@contextmanager
def milvus_alone(folder: Path, world: World) -> Iterator[MilvusAlone]:
    """Start a server, and give a collection in it."""
    with ExitStack() as stack:
        server = stack.enter_context(milvus_server(folder))
        yield MilvusAlone(stack.enter_context(apart(_Collection, server.launcher.pid, server.port, world)), server)


class _Collection:
    """Collection that this process fills and asks, in the server's network if that is allowed."""

    def __init__(self, launcher: int, port: int, world: World) -> None:
        self._world, self._way = world, ""
        try:
            _enter_network(launcher)
            port = _INNER_PORT
        except OSError as problem:
            self._way = f", through a relay ({problem.strerror})"
        self._rows = MilvusRows(MilvusOptions(f"http://127.0.0.1:{port}"), "bench", "bench", world.size)
        self._rows.open()

    def about(self) -> str:
        """Describe the index and the way to the server."""
        return f"HNSW{LINKS}{self._way}"

    def fill(self) -> Filled:
        """Send all vectors and wait for their index."""
        start, seconds = 0, 0.0
        for piece in self._world.pieces():
            before = perf_counter()
            for first in range(0, len(piece), _SENT):
                vectors = piece[first : first + _SENT]
                numbers = np.arange(start + first, start + first + len(vectors))
                self._rows.put(numbers, vectors, [{}] * len(vectors), anew=False)
            seconds += perf_counter() - before
            start += len(piece)
        before = perf_counter()
        self._rows.settle(_SETTLE_S)
        return Filled(start / seconds, perf_counter() - before)

    def search(self, queries: Floats, effort: int) -> Answers:
        """Ask for the nearest of each query."""
        return timed(lambda query: self._rows.nearest(query, K, effort, "")[1], queries, lambda rows: rows.tolist())


def _enter_network(launcher: int) -> None:
    """Move this thread, and those that it starts, to another process's network."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/proc/{launcher}/ns/net", "rb") as network:
        if libc.setns(network.fileno(), _NEW_NET):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
