"""A Ray cluster of one machine, on loopback."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bulk_runs import wait_for
from servers import free_ports

ALONE = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "a" * 64,
}
"""Environment of a cluster that listens on this machine alone, and of those who come to it."""
RAY = Path(sys.executable).with_name("ray")


def workers_can_come(port: int) -> bool:
    """Tell if a cluster has begun."""
    status = [RAY, "status", "--address", f"127.0.0.1:{port}"]
    return subprocess.run(status, env={**os.environ, **ALONE}, capture_output=True, check=False).returncode == 0


@contextlib.contextmanager
def running() -> Iterator[str]:
    """A cluster that began; gives its address."""
    port, client_port = free_ports(2)
    options = ["--include-dashboard=false", "--num-cpus=3", "--num-gpus=0", "--object-store-memory=80000000", "--block"]
    ports = [f"--port={port}", f"--ray-client-server-port={client_port}", "--min-worker-port=0", "--max-worker-port=0"]
    head = subprocess.Popen(
        [RAY, "start", "--head", *ports, *options],
        env={**os.environ, **ALONE},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: workers_can_come(port))
        yield f"127.0.0.1:{port}"
    finally:
        head.terminate()
        head.wait(30)
