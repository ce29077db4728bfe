"""Servers of a rehearsal: Triton by its launcher, a sidecar on a folder, one that follows it, one on an object store."""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from chaos import clocks, rooms, samples
from chaos.asking import Door
from chaos.clocks import Clock
from chaos.kinds import COLLECTION, Requests
from chaos.ledger import Ledger
from chaos.load import Kind
from chaos.relay import Relay
from chaos.samples import Samples
from chaos.services import Exit, Service
from chaos.store import BUCKET, Store
from lib.serving import free_ports

CLIPSERVE = Path(sys.executable).with_name("clipserve")
WRITER, READER, STORED = "writer", "reader", "on the object store"
LAUNCHER = "launcher"
_IDS = 400
_START_S = 120.0
_FLAGS = ("--text-cache", "0", "--exact-rows", "100", "--log-level", "warning")


@dataclass
class World:
    """Everything that runs, with the ledgers of what was acknowledged.

    Attributes:
        has_rooms: disk and /dev/shm are this rehearsal's own, so they may be filled.
    """

    folder: Path
    repository: Path
    logs: Path
    seed: int
    has_rooms: bool
    services: dict[str, Service] = field(default_factory=dict)
    doors: dict[str, Door] = field(default_factory=dict)
    ledgers: dict[str, Ledger] = field(default_factory=dict)

    def start(self) -> None:
        """Start all servers, and make their collections."""
        http, grpc, metrics, *ports = free_ports(6)
        self.data = self.folder / "data"
        self.data.mkdir()
        if self.has_rooms:
            rooms.mount(self.data)
        command: list[str | Path] = [CLIPSERVE, "serve", "--repository", self.repository]
        triton_ports = ["--http-port", str(http), "--grpc-port", str(grpc), "--metrics-port", str(metrics)]
        self._run(LAUNCHER, [*command, *triton_ports])
        self.store = Store(self.folder / "store", self.logs / "store.log", self.seed)
        self.samples: Samples = samples.embedded(f"127.0.0.1:{grpc}")
        self.triton = Relay(grpc, self.seed)
        library = clocks.library(self.folder)
        self.clocks = {name: Clock(self.folder / f"{name}.clock", library) for name in (WRITER, READER)} if library else {}
        index = ["--index", str(self.folder / "reader"), "--read-only"]
        self._sidecar(WRITER, ports[0], ["--data", str(self.data)])
        self._wait(WRITER, make=True)
        self._sidecar(READER, ports[1], ["--data", str(self.data), *index])
        self._sidecar(STORED, ports[2], ["--data", f"s3://{BUCKET}/db", "--index", str(self.folder / "stored")])
        self._wait(STORED, make=True)
        self._wait(READER)
        self.ledgers = {name: Ledger(_IDS) for name in (WRITER, STORED)}

    def stop(self) -> None:
        """End all servers."""
        for service in reversed(self.services.values()):
            service.stop()
        for name in ("triton", "store"):
            if part := getattr(self, name, None):
                part.close() if name == "triton" else part.stop()
        if self.has_rooms:
            rooms.unmount(self.folder / "data")

    def kinds(self) -> list[Kind]:
        """Return the kinds of requests of the load."""
        writing = [Requests(self.doors[name], ledger, self.samples) for name, ledger in self.ledgers.items()]
        reading = Requests(self.doors[READER], self.ledgers[WRITER], self.samples, is_current=False)
        return [kind for requests in writing for kind in requests.kinds()] + reading.kinds_of_reader()

    def member(self, name: str, draw: random.Random) -> psutil.Process:
        """Return a service's process by its name, ``tritonserver``, or a Python process of that (``stub``), once there."""
        deadline = time.monotonic() + _START_S
        while True:
            with contextlib.suppress(psutil.Error, IndexError):
                if name in self.services:
                    return self.services[name].process
                beginning = {"tritonserver": "tritonserver", "stub": "triton_python"}[name]
                family = self.services[LAUNCHER].process.children(recursive=True)
                return draw.choice([member for member in family if member.name().startswith(beginning)])
            if time.monotonic() > deadline:
                raise SystemExit(f"there is no process {name} to be disturbed: {self.logs} says why")
            time.sleep(0.05)

    def exits(self) -> list[Exit]:
        """Return the ends of servers so far, in order."""
        return sorted((end for service in self.services.values() for end in service.exits), key=lambda end: end.at)

    def _run(self, name: str, command: list[str | Path], environment: dict[str, str] | None = None) -> None:
        self.services[name] = Service(name, command, self.logs / f"{name.replace(' ', '-')}.log", environment)

    def _sidecar(self, name: str, port: int, flags: list[str]) -> None:
        where = ["--triton", f"127.0.0.1:{self.triton.port}", "--port", str(port)]
        clock = self.clocks[name].environment() if name in self.clocks else {}
        environment = {**clock, **(self.store.environment() if name == STORED else {})}
        self._run(name, [CLIPSERVE, "search", "serve", *where, *flags, *_FLAGS], environment)
        self.doors[name] = Door(name, port)

    def _wait(self, name: str, make: bool = False) -> None:
        """Wait until a sidecar is ready, and has its collection."""
        door, deadline = self.doors[name], time.monotonic() + _START_S
        while not (door.is_ready() and (make or door.ask("GET", COLLECTION).is_good)):
            if time.monotonic() > deadline:
                raise SystemExit(f"{name} isn't ready: {self.logs} says why")
            time.sleep(0.1)
        if make:
            made = door.ask("POST", "/v1/collections", {"name": "chaos", "columns": {"serial": "int", "label": "string"}})
            if not made.is_good:
                raise SystemExit(f"{name} makes no collection: {made.message}")


@contextlib.contextmanager
def running(repository: Path, logs: Path, seed: int, has_rooms: bool) -> Iterator[World]:
    """Run a world in a folder that is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="clipserve-rehearsal-", ignore_cleanup_errors=True) as folder:
        shutil.rmtree(logs, ignore_errors=True)
        logs.mkdir(parents=True)
        world = World(Path(folder), repository, logs, seed, has_rooms)
        try:
            world.start()
            yield world
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):  # what was started is ended, however impatient somebody is
                signal.signal(number, signal.SIG_IGN)
            world.stop()
