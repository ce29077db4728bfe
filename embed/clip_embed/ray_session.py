"""Connection to Ray: to a cluster, or to one that is started on this machine for the time of the run."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from clip_client.cores import cores
from clip_client.errors import Unavailable

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is told to Ray's makers
    "RAY_SCHEDULER_EVENTS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
_ALONE = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray listens on 127.0.0.1: https://github.com/ray-project/ray/issues/18730
    "RAY_gcs_rpc_server_reconnect_timeout_s": "10",  # or what a killed driver leaves stays for minutes
}
_CONNECT_S = 5.0
_STORE_BYTES = 80 * 2**20  # of shared memory, which parts don't use; 75 MB is Ray's least
_WORKER_CPUS = 2


@dataclass(frozen=True)
class RayOptions:
    """Workers on Ray.

    Attributes:
        address: of a cluster, as Ray has it (``host:6379``, ``auto``); None for the one that ``RAY_ADDRESS`` names, else
            for one of this machine's own.
        workers: None for as many as there is room for now.
        cpus: of each worker; None for an equal share of this machine, or 2 on a cluster.
        gpus: of each worker.
    """

    address: str | None = None
    workers: int | None = None
    cpus: int | None = None
    gpus: float = 0.0


@dataclass(frozen=True)
class Room:
    """Workers to start, and the CPUs and GPUs of each."""

    workers: int
    cpus: int
    gpus: float


@contextlib.contextmanager
def session(options: RayOptions) -> Iterator[tuple[Any, Room]]:
    """Connect, and disconnect at the end; gives the module ``ray`` and the room. What was started here is stopped.

    Raises:
        Unavailable: Ray isn't installed, nobody is at the address, or Ray doesn't start.
    """
    address = options.address or os.environ.get("RAY_ADDRESS") or "local"
    ray = _imported(is_alone=address == "local")
    # Ray prints what happens to workers on standard output, where the outcome goes; whatever matters comes as exceptions, too.
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        try:
            yield ray, _begun(ray, address, options)
        finally:
            ray.shutdown()


def _imported(*, is_alone: bool) -> Any:
    alone = {**_ALONE, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}  # others of this machine are kept out
    for name, value in {**_QUIET, **(alone if is_alone else {})}.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as problem:
        raise Unavailable(f"--engine ray needs another package ({problem}): pip install 'clipserve[ray]'") from problem
    return ray


def _begun(ray: Any, address: str, options: RayOptions) -> Room:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    try:
        if address != "local":
            _check_listens(address)
            with _nothing_on_stderr():
                ray.init(address=address, **quiet)
            return _room_of_cluster(ray.cluster_resources(), options)
        room = _room_here(options)
        ray.init(
            address="local",
            num_cpus=room.workers * room.cpus,
            include_dashboard=False,
            object_store_memory=_STORE_BYTES,
            **quiet,
        )
        return room
    except (OSError, RuntimeError, ValueError, AssertionError, ray.exceptions.RayError) as problem:
        where = "doesn't start here" if address == "local" else f"can't be reached at {address}"
        lines = str(problem).strip().splitlines() or [type(problem).__name__]
        cure = "look at its logs" if address == "local" else "is it up? if it asks for a token, set RAY_AUTH_MODE=token"
        raise Unavailable(f"Ray {where} ({lines[0][:300]}): {cure}") from problem


@contextlib.contextmanager
def _nothing_on_stderr() -> Iterator[None]:
    """Keep what Ray's native part prints while it connects, a line a second where a token is missing; an exception follows."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _check_listens(address: str) -> None:
    """Raise OSError if nobody listens there: Ray would end this process."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()


def _room_here(options: RayOptions) -> Room:
    here = cores()
    workers = options.workers or max(1, here // (options.cpus or _WORKER_CPUS))
    return Room(workers, options.cpus or max(1, here // workers), options.gpus)


def _room_of_cluster(resources: dict[str, float], options: RayOptions) -> Room:
    cpus = options.cpus or _WORKER_CPUS
    fitting = resources.get("CPU", 0) // cpus
    if options.gpus:
        fitting = min(fitting, resources.get("GPU", 0) // options.gpus)
    return Room(options.workers or max(1, int(fitting)), cpus, options.gpus)
