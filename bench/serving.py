"""A Triton of our own for the length of a bench."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from clip_client.triton import Triton

CLIPSERVE = Path(sys.executable).with_name("clipserve")


@dataclass(frozen=True)
class Serving:
    """A running server.

    Attributes:
        address: of its gRPC endpoint.
        http, metrics: URLs of the others.
        pid: of the launcher, whose children are tritonserver and its Python processes.
    """

    address: str
    http: str
    metrics: str
    pid: int

    def family(self) -> list[psutil.Process]:
        """The launcher, tritonserver, and the Python process of each model."""
        launcher = psutil.Process(self.pid)
        return [launcher, *launcher.children(recursive=True)]

    def memory_bytes(self) -> dict[str, int]:
        """Resident in each of them, by name or model; pages that several share are counted once, in parts (PSS)."""
        return {_called(process): process.memory_full_info().pss for process in self.family()}

    def cpu_s(self) -> float:
        """CPU seconds that all of them have used."""
        return sum(sum(process.cpu_times()[:2]) for process in self.family())

    def statistics(self) -> dict[str, Any]:
        """Triton's inference statistics of each model, by its name: counts and nanoseconds, which only ever grow."""
        with Triton(self.address, timeout_s=10) as triton:
            return {model.name: {"inference_stats": _parts(model.inference_stats)} for model in triton.statistics().model_stats}


def _parts(statistics: Any) -> dict[str, dict[str, int]]:
    durations = {field.name: getattr(statistics, field.name) for field in statistics.DESCRIPTOR.fields}
    return {name: {"count": duration.count, "ns": duration.ns} for name, duration in durations.items()}


def _called(process: psutil.Process) -> str:
    """The model of a Python process, which its first argument names: <model>/<version>/<file>; otherwise the program."""
    command = process.cmdline()
    return Path(command[1]).parents[1].name if command[0].endswith("_stub") else process.name()


@contextlib.contextmanager
def served(repository: Path, *flags: str) -> Iterator[Serving]:
    """Serve a repository on free ports of the loopback address, and stop at the end."""
    ports = free_ports(3)
    options = zip(("--http-port", "--grpc-port", "--metrics-port"), map(str, ports), strict=True)
    command = [CLIPSERVE, "serve", "--repository", repository, *(part for option in options for part in option), *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout  # noqa: S101  (a pipe)
    try:
        if not process.stdout.readline().startswith("ready"):
            raise SystemExit("the server didn't start")
        http, grpc, metrics = (f"127.0.0.1:{port}" for port in ports)
        yield Serving(grpc, f"http://{http}", f"http://{metrics}/metrics", process.pid)
    finally:
        process.terminate()
        process.wait()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
