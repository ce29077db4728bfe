"""A real HAProxy with the configuration that is shipped, in front of real Tritons."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from servers import Server, free_ports

CONFIG = Path(__file__).parents[2] / "deploy" / "haproxy.cfg"


def program() -> str:
    """HAProxy's path; without one on this machine the test is left out, but not in CI."""
    found = shutil.which("haproxy", path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"]))
    if not found and "CI" not in os.environ:
        pytest.skip("no HAProxy on this machine: install one, e.g. apt-get install haproxy")
    return found or "haproxy"


def complaints(config: Path) -> str:
    """HAProxy's own words against a configuration; none of a good one."""
    checked = subprocess.run([program(), "-c", "-f", config], capture_output=True, text=True, check=False)
    said = checked.stdout + checked.stderr
    return said if checked.returncode or "WARNING" in said else ""


@contextlib.contextmanager
def running(servers: Sequence[Server], folder: Path) -> Iterator[str]:
    """Address of gRPC in front of two servers."""
    grpc, health = free_ports(2)
    text = CONFIG.read_text().replace("127.0.0.1:9001", f"127.0.0.1:{grpc}").replace("127.0.0.1:9000", f"127.0.0.1:{health}")
    for number, server in enumerate(servers, 1):
        line = f"server triton-{number} {server.address} check port {server.ports[0]}"
        text, count = re.subn(rf"server triton-{number} \S+ check port \d+", line, text)
        assert count == 1
    (folder / "haproxy.cfg").write_text(text)
    with open(folder / "haproxy.log", "wb") as log:
        process = subprocess.Popen([program(), "-db", "-f", folder / "haproxy.cfg"], stdout=log, stderr=log)
        try:
            _wait_ready(f"http://127.0.0.1:{health}/health/ready", process, folder / "haproxy.log")
            yield f"127.0.0.1:{grpc}"
        finally:
            process.terminate()
            process.wait(30)


def _wait_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        with contextlib.suppress(urllib.error.URLError, ConnectionError), urllib.request.urlopen(url, timeout=10):
            return
        time.sleep(0.05)
