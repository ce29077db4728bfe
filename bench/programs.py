"""clip-retrieval and infinity, each in an environment of its own, started as their documentation does."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import urllib3

from clip_export import hardware
from serving import free_ports

Vectors = npt.NDArray[np.float32]

START_S = 300
OFFLINE = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0", "CUDA_VISIBLE_DEVICES": ""}


def environment() -> dict[str, str]:
    """This process's variables, without those that would reach into another Python or its threads."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "OMP_"))} | OFFLINE


@dataclass(frozen=True)
class ClipRetrieval:
    """Its ``inference`` command, for a checkpoint in a folder."""

    program: Path
    checkpoint: str

    def embed(self, photos: Sequence[Path]) -> tuple[float, Vectors]:
        """Seconds by its own clock, which leaves out its start and the loading of the checkpoint; float32 [N, D]."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "photos").mkdir()
            for n, photo in enumerate(photos):
                (folder / "photos" / f"{n:06}.jpg").symlink_to(photo.resolve())
            self._run(folder)
            stats = json.loads((folder / "embeddings" / "stats" / "0.json").read_text(encoding="utf-8"))
            vectors = np.load(folder / "embeddings" / "img_emb" / "img_emb_0.npy").astype(np.float32)
        return stats["total_duration"], vectors

    def _run(self, folder: Path) -> None:
        options = {
            "input_dataset": folder / "photos",
            "output_folder": folder / "embeddings",
            "clip_model": f"hf_clip:{self.checkpoint}",
            "enable_text": False,
            "batch_size": 32,
            "num_prepro_workers": hardware.cores(),
        }
        flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        command = [self.program, "inference", *flags]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"clip-retrieval failed ({done.returncode}): {done.stderr[-2000:]}")


@dataclass(frozen=True)
class Infinity:
    """A running server; one connection per client is kept open."""

    url: str
    model: str
    pool: urllib3.PoolManager

    def body(self, modality: Literal["image", "text"], item: bytes | str) -> bytes:
        """A request for one photo or text, ready to be sent."""
        content = item if isinstance(item, str) else "data:image/jpeg;base64," + base64.b64encode(item).decode()
        fields = {"model": self.model, "modality": modality, "encoding_format": "base64", "input": [content]}
        return json.dumps(fields).encode()

    def embed(self, body: bytes) -> Vectors:
        """Send a request; float32 [D]."""
        headers = {"Content-Type": "application/json"}
        answer = self.pool.request("POST", f"{self.url}/embeddings", body=body, headers=headers, retries=False, timeout=120)
        if answer.status != 200:
            raise RuntimeError(f"infinity answers {answer.status}: {answer.data[:300]!r}")
        return np.frombuffer(base64.b64decode(answer.json()["data"][0]["embedding"]), np.float32)


@contextlib.contextmanager
def infinity(program: Path, checkpoint: str, clients: int) -> Iterator[Infinity]:
    """Its server on a free port of the loopback address, for so many clients; stopped at the end."""
    port = free_ports(1)[0]
    where = ["--host", "127.0.0.1", "--port", str(port)]
    how = ["--engine", "torch", "--device", "cpu", "--dtype", "float32", "--no-model-warmup"]
    with tempfile.TemporaryFile() as log:
        command = [program, "v2", "--model-id", checkpoint, *where, *how]
        process = subprocess.Popen(command, env=environment(), stdout=log, stderr=subprocess.STDOUT)
        try:
            pool = urllib3.PoolManager(maxsize=clients)
            models = _models(process, pool, f"http://127.0.0.1:{port}/models", log)
            yield Infinity(f"http://127.0.0.1:{port}", models["data"][0]["id"], pool)
        finally:
            process.terminate()
            process.wait()


def _models(process: subprocess.Popen[bytes], pool: urllib3.PoolManager, url: str, log: Any) -> Any:
    """What it serves, once it does."""
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            answer = pool.request("GET", url, retries=False, timeout=5)
            if answer.status == 200:
                return answer.json()
        time.sleep(0.5)
    log.seek(0)
    raise SystemExit(f"infinity didn't start: {log.read()[-2000:].decode(errors='replace')}")
