"""CPU time on this machine: of the load generator, of each model's process, of the rest."""

import contextlib
from collections.abc import Iterator, Mapping
from urllib.parse import SplitResult, urlsplit

import psutil

from lib import processes

CLIENT, TRITON, SIDECAR, OTHERS = "the load generator", "tritonserver", "the search sidecar", "other work on this machine"

_LOCAL = ("localhost", "127.0.0.1", "::1")
_PROXY = "docker-proxy"  # listens in the place of a container


def cpu_s(servers: Mapping[str, str]) -> dict[str, float]:
    """Return CPU seconds by name since each process began; the last, OTHERS, is the rest of the whole machine.

    Args:
        servers: host:port or URLs by name; those elsewhere are left out.
    """
    used: dict[str, float] = {}
    for name, process in _processes(servers):
        with contextlib.suppress(psutil.NoSuchProcess):
            used[name] = used.get(name, 0.0) + processes.cpu_s(process)
    times = psutil.cpu_times()
    return used | {OTHERS: sum(times) - times.idle - times.iowait - times.guest - times.guest_nice - sum(used.values())}


def is_local(address: str) -> bool:
    """Return True if a host:port or URL is of this machine."""
    return _parts(address).hostname in _LOCAL


def _processes(servers: Mapping[str, str]) -> Iterator[tuple[str, psutil.Process]]:
    yield from ((CLIENT, process) for process in processes.family(psutil.Process()))
    for name, address in servers.items():
        listener = _listener(_parts(address).port) if is_local(address) else None
        for process in processes.family(listener) if listener else ():
            yield processes.model_of(process) or name, process


def _parts(address: str) -> SplitResult:
    return urlsplit(address if "://" in address else f"//{address}")


def _listener(port: int | None) -> psutil.Process | None:
    """Return the process that listens on a port; None where it isn't ours to see, a container's for one."""
    listening = (each for each in psutil.net_connections("tcp") if each.status == "LISTEN" and each.laddr.port == port)
    pid = next((each.pid for each in listening), None)
    process = psutil.Process(pid) if pid else None
    return None if process and process.name() == _PROXY else process
