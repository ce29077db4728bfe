"""A server that speaks S3, and a sidecar whose lease is so short that a test can wait for its end."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import sidecars
import urllib3
from servers import free_ports

from clip_search.storage.lease import Times

SHORT = Times(lease_s=2.0, renew_s=0.3, margin_s=0.5)
_SERVE = f"""
import sys
from functools import partial
from clip_search.storage import lease
from clip_search.storage import database
from clip_search.cli.parser import main
database.Lease = partial(lease.Lease, times=lease.{SHORT})
sys.exit(main(sys.argv[1:]))
"""


@contextlib.contextmanager
def s3(environment: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket; this process and those that it starts find its server by the environment. Gives the bucket's URI."""
    port = free_ports(1)[0]
    server = subprocess.Popen([sys.executable, "-m", "moto.server", "-p", str(port)], stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    settings = {"ENDPOINT": url, "ALLOW_HTTP": "true", "ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "REGION": "us-east-1"}
    for name, value in settings.items():
        environment.setenv(f"AWS_{name}", value)
    try:
        _make_bucket(f"{url}/bucket")
        yield "s3://bucket"
    finally:
        server.kill()
        server.wait()


def _make_bucket(url: str) -> None:
    for _ in range(300):
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            assert urllib3.request("PUT", url, retries=False, timeout=10).status == 200
            return
        time.sleep(0.1)
    raise AssertionError("the server didn't start")


@dataclass
class Sidecar(sidecars.Sidecar):
    """One on an object store; ``data`` is its URI, of which a path keeps one slash."""

    def __post_init__(self) -> None:
        where = ["--data", str(self.data).replace(":/", "://"), "--triton", self.triton, "--port", str(self.port)]
        command = [sys.executable, "-c", _SERVE, "serve", *where, *self.options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
