"""Servers for the length of a bench: Triton, the search sidecar, other programs."""

import contextlib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from clip_client import Search, Unavailable
from clip_client.triton import Triton
from lib import processes
from lib.triton_work import Work, work

CLIPSERVE = Path(sys.executable).with_name("clipserve")
NOBODY = "127.0.0.1:9"  # address without a Triton, for sidecars that are only given vectors

_START_S = 300.0  # a busy machine takes long
_TIMEOUT_S = 3600.0  # indexing of a large collection is one request


@dataclass(frozen=True)
class Serving:
    """Running Triton."""

    address: str  # host:port of its gRPC endpoint
    http: str  # URL of its HTTP endpoint
    pid: int  # of the launcher, whose children are tritonserver and its Python processes

    def family(self) -> list[psutil.Process]:
        """Return the launcher, tritonserver, and the Python process of each model."""
        return processes.family(psutil.Process(self.pid))

    def memory_bytes(self) -> dict[str, int]:
        """Return resident memory by model or program; pages that processes share are divided among them (PSS)."""
        return {processes.model_of(process) or process.name(): process.memory_full_info().pss for process in self.family()}

    def cpu_s(self) -> float:
        """Return the CPU seconds of the whole family so far."""
        return sum(map(processes.cpu_s, self.family()))

    def steps(self, ensemble: str) -> list[str]:
        """Return the models that an ensemble calls, in order."""
        with Triton(self.address, timeout_s=10) as triton:
            return [step.model_name for step in triton.config(ensemble).ensemble_scheduling.step]

    def work(self) -> dict[str, Work]:
        """Return the work of each model since the start."""
        with Triton(self.address, timeout_s=10) as triton:
            return work(triton)


@dataclass(frozen=True)
class Sidecar:
    """Running search sidecar."""

    search: Search
    process: psutil.Process
    folder: Path  # of its database and indexes

    def memory_mb(self) -> float:
        """Return resident memory."""
        return float(self.process.memory_info().rss / 1e6)


@contextlib.contextmanager
def served(repository: Path) -> Iterator[Serving]:
    """Serve a repository on free ports of the loopback address; stop at the end."""
    http, grpc, metrics = map(str, free_ports(3))
    ports = ["--http-port", http, "--grpc-port", grpc, "--metrics-port", metrics]
    process = subprocess.Popen([CLIPSERVE, "serve", "--repository", repository, *ports], stdout=subprocess.PIPE, text=True)
    assert process.stdout  # noqa: S101  (a pipe)
    with stopped(process):
        if not process.stdout.readline().startswith("ready"):
            raise SystemExit("the server didn't start")
        yield Serving(f"127.0.0.1:{grpc}", f"http://127.0.0.1:{http}", process.pid)


@contextlib.contextmanager
def sidecar(triton: str, *flags: str) -> Iterator[Sidecar]:
    """Start an empty sidecar on a free port of the loopback address; stop it at the end."""
    [port] = free_ports(1)
    with tempfile.TemporaryDirectory() as folder:
        command = [str(CLIPSERVE), "search", "serve", "--data", folder, "--triton", triton, "--port", str(port), *flags]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        with stopped(process), Search(f"http://127.0.0.1:{port}", timeout_s=_TIMEOUT_S) as search:
            _wait_open(search)
            yield Sidecar(search, psutil.Process(process.pid), Path(folder))


@contextlib.contextmanager
def stopped(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> Iterator[None]:
    """End a process when the block ends."""
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _wait_open(search: Search) -> None:
    """Wait until a sidecar answers; without Triton it never says that it is ready."""
    deadline = time.monotonic() + _START_S
    while True:
        try:
            search.collections()
            return
        except Unavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
