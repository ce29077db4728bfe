"""A real search sidecar in a process of its own."""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import psutil
import urllib3
from servers import CLIPSERVE, free_ports

from clip_client import Search
from pictures import jpegs

SIZE = 32
PICTURES = jpegs(12)
"""Pictures of the fixture ``photos``."""


@dataclass
class Sidecar:
    """One ``clipserve search serve``."""

    data: Path
    triton: str
    options: tuple[str, ...] = ()
    port: int = field(default_factory=lambda: free_ports(1)[0])
    log: IO[str] | None = None

    def __post_init__(self) -> None:
        where = ["--data", self.data, "--triton", self.triton, "--port", str(self.port)]
        command = [CLIPSERVE, "search", "serve", *where, *self.options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=self.log)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, **options: Any) -> Search:
        return Search(self.url, **options)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and JSON of a raw request; bytes go as they are."""
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        answer = urllib3.request(method, self.url + path, body=content, headers=headers, retries=False, timeout=30)
        return answer.status, json.loads(answer.data) if answer.data[:1] in (b"{", b"[") else answer.data

    def rss(self) -> int:
        """Resident memory in bytes."""
        return psutil.Process(self.process.pid).memory_info().rss

    def wait_open(self, timeout_s: float = 120) -> float:
        """Wait until all collections are open; seconds since this was called."""
        start = time.monotonic()
        while "collections" in self.missing() and time.monotonic() - start < timeout_s:
            time.sleep(0.05)
        assert "collections" not in self.missing()
        return time.monotonic() - start

    def ready_again(self, timeout_s: float = 10) -> float:
        """Wait until nothing is missing; seconds since this was called."""
        start = time.monotonic()
        while self.missing() and time.monotonic() - start < timeout_s:
            time.sleep(0.05)
        return time.monotonic() - start

    def missing(self) -> dict[str, str]:
        """Return the parts that aren't ready, with reasons."""
        try:
            return self.ask("GET", "/health/ready")[1]["not_ready"]
        except urllib3.exceptions.HTTPError:
            assert self.process.poll() is None
            return {"collections": "no answer yet"}

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(15)


@contextlib.contextmanager
def running(data: Path, triton: str, *options: str) -> Iterator[Sidecar]:
    """A sidecar whose collections are open, stopped at the end."""
    sidecar = Sidecar(data, triton, options)
    try:
        sidecar.wait_open()
        yield sidecar
    finally:
        sidecar.stop()


def unit(count: int, size: int = SIZE, seed: int = 0) -> np.ndarray:
    """Random directions, float32 [count, size]."""
    vectors = np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()
