"""Who used the processors of this machine: the load generator, each model's process, the rest."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

import psutil

CLIENT, TRITON, SIDECAR, OTHERS = "the load generator", "tritonserver", "the search sidecar", "other work on this machine"

_LOCAL = ("localhost", "127.0.0.1", "::1")
_PROXY = "docker-proxy"  # listens in the place of a container
_INSTANCE = re.compile(r"(.+)_\d+_\d+")  # what Triton's Python backend calls the process of an instance


def cpu_s(servers: Mapping[str, str]) -> dict[str, float]:
    """CPU seconds by name since each process began; ``servers`` are host:port or URLs by name, those elsewhere are left out.

    The last, OTHERS, is what the whole machine has used beyond them.
    """
    used: dict[str, float] = {}
    for name, process in _processes(servers):
        with contextlib.suppress(psutil.NoSuchProcess):
            used[name] = used.get(name, 0.0) + sum(process.cpu_times()[:2])
    times = psutil.cpu_times()
    return used | {OTHERS: sum(times) - times.idle - times.iowait - times.guest - times.guest_nice - sum(used.values())}


def count() -> int:
    """Cores of this machine."""
    return psutil.cpu_count() or 1


def is_local(address: str) -> bool:
    """Whether host:port or a URL is of this machine."""
    return urlsplit(address if "://" in address else f"//{address}").hostname in _LOCAL


def _processes(servers: Mapping[str, str]) -> Iterator[tuple[str, psutil.Process]]:
    yield from ((CLIENT, process) for process in _family(psutil.Process()))
    for name, address in servers.items():
        if is_local(address):
            for process in _family(_listener(urlsplit(address if "://" in address else f"//{address}").port)):
                yield _model(process) or name, process


def _listener(port: int | None) -> psutil.Process | None:
    """The process that listens on a port; None where it isn't ours to see, a container's for one."""
    found = (one.pid for one in psutil.net_connections("tcp") if one.status == "LISTEN" and one.laddr.port == port)
    process = psutil.Process(pid) if (pid := next(found, None)) else None
    return None if process and process.name() == _PROXY else process


def _family(process: psutil.Process | None) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)] if process else []


def _model(process: psutil.Process) -> str:
    """The model that a process of Triton's Python backend runs; empty for any other process."""
    with contextlib.suppress(psutil.NoSuchProcess):
        if process.name().startswith("triton_python"):
            return next((found[1] for part in process.cmdline() if (found := _INSTANCE.fullmatch(part))), "")
    return ""
