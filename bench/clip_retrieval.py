"""clip-retrieval's back over the same vectors, out of an environment of its own (version 2.45.0)."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from rows import NAME
from serving import free_ports
from work import ARTIFACTS

_START_S = 300
_QUIET = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "CUDA_VISIBLE_DEVICES": ""}
_INDEX = ["--max_index_memory_usage", "4G", "--current_memory_available", "16G", "--nb_cores", str(os.cpu_count())]
_BACK = ["--enable_mclip_option", "False", "--provide_aesthetic_embeddings", "False"]


@contextlib.contextmanager
def back(peers: Path, checkpoint: str, vectors: npt.NDArray[np.float32]) -> Iterator[str]:
    """Serve ``vectors`` [N, D]; gives the URL of its knn-service. The index is built the first time, with its own defaults."""
    command = str(peers / "clip-retrieval" / "bin" / "clip-retrieval")
    paths, [port] = _indexed(command, vectors), free_ports(1)
    options = ["--port", str(port), "--indices-paths", str(paths), "--clip_model", f"hf_clip:{checkpoint}", *_BACK]
    with (paths.parent / "back.log").open("w") as log:
        process = subprocess.Popen([command, "back", *options], stdout=log, stderr=log, env=os.environ | _QUIET)
    try:
        _wait(process, f"http://127.0.0.1:{port}/indices-list", Path(log.name))
        yield f"http://127.0.0.1:{port}/knn-service"
    finally:
        process.terminate()
        process.wait()


def _indexed(command: str, vectors: npt.NDArray[np.float32]) -> Path:
    """The file that names the index."""
    folder = ARTIFACTS / f"clip-retrieval-{len(vectors)}x{vectors.shape[1]}"
    paths, embeddings = folder / "indices.json", folder / "embeddings"
    if not paths.exists():
        _write_embeddings(embeddings, vectors)
        where = ["--embeddings_folder", str(embeddings), "--index_folder", str(folder / "index")]
        subprocess.run([command, "index", *where, *_INDEX], check=True, env=os.environ | _QUIET)
        paths.write_text(json.dumps({NAME: str(folder / "index")}), encoding="utf-8")
    return paths


def _write_embeddings(folder: Path, vectors: npt.NDArray[np.float32]) -> None:
    for name in ("img_emb", "metadata"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    np.save(folder / "img_emb" / "img_emb_0.npy", vectors.astype(np.float16))
    captions = [f"picture {n}" for n in range(len(vectors))]
    pq.write_table(pa.table({"caption": captions}), folder / "metadata" / "metadata_0.parquet")


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            urllib.request.urlopen(url, timeout=5).close()  # noqa: S310  (http, of our own)
            return
        time.sleep(0.5)
    raise SystemExit(f"clip-retrieval's back didn't start: {log} says why")
