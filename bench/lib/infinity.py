"""infinity, another server of embeddings, started as its documentation does."""

import base64
import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import urllib3

from lib.other_programs import started
from lib.serving import free_ports

_OPTIONS = ["--engine", "torch", "--device", "cpu", "--dtype", "float32", "--no-model-warmup"]


@dataclass(frozen=True)
class Infinity:
    """Running server; one connection per client is kept open."""

    url: str
    model: str
    pool: urllib3.PoolManager

    def body(self, modality: Literal["image", "text"], item: bytes | str) -> bytes:
        """Return the body of a request for one photo or text."""
        content = item if isinstance(item, str) else "data:image/jpeg;base64," + base64.b64encode(item).decode()
        fields = {"model": self.model, "modality": modality, "encoding_format": "base64", "input": [content]}
        return json.dumps(fields).encode()

    def embed(self, body: bytes) -> npt.NDArray[np.float32]:
        """Send a request; return float32 [D]."""
        headers = {"Content-Type": "application/json"}
        answer = self.pool.request("POST", f"{self.url}/embeddings", body=body, headers=headers, retries=False, timeout=120)
        if answer.status != 200:
            raise RuntimeError(f"infinity answers {answer.status}: {answer.data[:300]!r}")
        return np.frombuffer(base64.b64decode(answer.json()["data"][0]["embedding"]), np.float32)


@contextlib.contextmanager
def infinity(program: Path, checkpoint: str, clients: int) -> Iterator[Infinity]:
    """Start a server on a free port of the loopback address, for a number of clients; stop it at the end."""
    [port] = free_ports(1)
    url, address = f"http://127.0.0.1:{port}", ["--host", "127.0.0.1", "--port", str(port)]
    with started(program, ["v2", "--model-id", checkpoint, *address, *_OPTIONS], f"{url}/models") as models:
        yield Infinity(url, models.json()["data"][0]["id"], urllib3.PoolManager(maxsize=clients))
