"""The search sidecar at size: latency, throughput, recall, filters, adds beside searches, memory.

    clipserve serve &                                   # a Triton with the checkpoint to be asked
    python bench/search.py --triton localhost:8001      # --other http://…/knn-service: another server, with --other-index NAME

Vectors are seeded and clustered; queries are texts, all different, through the text tower, and no text embedding is remembered.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import psutil
from tqdm import tqdm

from clip_client import Clip, Search
from clip_client.search import Row, Term

NAME, K, PART, PER_CLIENT = "bench", 10, 2000, 200
WORDS = files("clip_search").joinpath("tuning_texts.txt").read_text(encoding="utf-8").split()


@dataclass(frozen=True)
class Measured:
    """Times of one kind of request, in milliseconds, and how many were answered a second."""

    what: str
    times_ms: np.ndarray
    per_s: float

    def __str__(self) -> str:
        p50, p95 = np.percentile(self.times_ms, [50, 95])
        return f"{self.what:<34} p50 {p50:8.2f} ms   p95 {p95:8.2f} ms   {self.per_s:8.1f}/s"


def main() -> None:
    """Load, index, measure."""
    options = parser().parse_args()
    with (
        Clip(options.triton) as clip,
        tempfile.TemporaryDirectory() as folder,
        sidecar(options, Path(folder)) as (search, process),
    ):
        vectors = clustered(options.rows, clip.spec.embedding_size)
        load(search, vectors, clip.spec.fingerprint)
        start = time.monotonic()
        index = search.rebuild(NAME, wait=True)["indexes"]["image"]
        print(f"indexed in {time.monotonic() - start:.0f} s: {index}")
        print(f"recall at {K} of text queries, against exact search: {recall(search, clip, vectors):.4f}")
        ours = f"{search.url}/v1/collections/{NAME}/search"
        knn = {"modality": "image", "num_images": K, "indice_name": options.other_index}
        for clients in (1, 8):
            print(measured(f"texts, {clients} clients", ours, clients, lambda text: {"text": text, "k": K}))
            if options.other:
                print(
                    measured(f"texts, {clients} clients, the other", options.other, clients, lambda text: {"text": text, **knn})
                )
        filters(search, ours, vectors)
        beside(search, ours, vectors)
        print(f"memory {psutil.Process(process.pid).memory_info().rss / 2**20:.0f} MB")


def clustered(rows: int, size: int) -> np.ndarray:
    """Unit vectors, float32 [rows, size], about 100 to a cluster."""
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(max(1, rows // 100), size)).astype(np.float32)
    vectors = centres[draw.integers(0, len(centres), rows)] + 0.3 * draw.normal(size=(rows, size)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@contextlib.contextmanager
def sidecar(options: argparse.Namespace, folder: Path) -> Iterator[tuple[Search, subprocess.Popen[bytes]]]:
    """A sidecar of our own, its client and its process."""
    command = [Path(sys.executable).with_name("clipserve"), "search", "serve", "--data", folder, "--triton", options.triton]
    process = subprocess.Popen([*command, "--port", str(options.port), "--text-cache", "0"], stdout=subprocess.PIPE)
    process.stdout.readline()
    try:
        with Search(f"http://127.0.0.1:{options.port}", timeout_s=3600) as search:
            yield search, process
    finally:
        process.terminate()
        process.wait()


def load(search: Search, vectors: np.ndarray, fingerprint: str) -> None:
    """Add all vectors, with a year that a filter can keep 1 % of."""
    search.create(NAME, dimension=vectors.shape[1], fingerprint=fingerprint)
    for start in tqdm(range(0, len(vectors), PART), desc="adding", unit=f" x {PART}"):
        search.add(NAME, rows(vectors, start, PART))


def rows(vectors: np.ndarray, start: int, count: int, prefix: str = "r") -> list[Row]:
    """Rows with metadata."""
    found = enumerate(vectors[start : start + count], start)
    return [Row(id=f"{prefix}{n}", vector=one, metadata={"year": n % 100, "caption": f"picture {n}"}) for n, one in found]


def recall(search: Search, clip: Clip, vectors: np.ndarray) -> float:
    """Share of the true nearest that text queries find; embedded one by one, since int8 may depend on its neighbours."""
    asked = [text(random.Random(n)) for n in range(200)]
    queries = np.stack([clip.embed_text(one) for one in asked])
    truth = np.argsort(-(queries @ vectors.T), axis=1)[:, :K]
    hits = [{hit.row for hit in search.query(NAME, Term(vector=one), k=K)} for one in queries]
    return sum(len(found & set(true.tolist())) for found, true in zip(hits, truth, strict=True)) / truth.size


def text(draw: random.Random) -> str:
    """Six words."""
    return " ".join(draw.choice(WORDS) for _ in range(6))


def measured(
    what: str, url: str, clients: int, body: Callable[[str], dict[str, object]], stop: threading.Event | None = None
) -> Measured:
    """Requests of several clients at once, each one after the other."""
    times_ms: list[float] = []

    def client(seed: int) -> None:
        draw, parts = random.Random(f"{what} {seed} {time.time()}"), urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname, parts.port)
        for _ in range(PER_CLIENT if stop is None else 10**9):
            if stop and stop.is_set():
                return
            start = time.perf_counter()
            connection.request("POST", parts.path, json.dumps(body(text(draw))))
            answer = connection.getresponse()
            content = answer.read()
            times_ms.append(1000 * (time.perf_counter() - start))
            if answer.status != 200:
                raise RuntimeError(f"{url} answers {answer.status}: {content[:300]!r}")

    threads = [threading.Thread(target=client, args=(n,)) for n in range(clients)]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Measured(what, np.array(times_ms), len(times_ms) / (time.monotonic() - start))


def filters(search: Search, url: str, vectors: np.ndarray) -> None:
    """A filter that keeps 1 %: right, and how much slower."""
    draw, wrong = np.random.default_rng(1), 0
    for year in range(20):
        query = vectors[draw.integers(len(vectors))] + 0.3 * draw.normal(size=vectors.shape[1]).astype(np.float32)
        kept = np.arange(year, len(vectors), 100)
        scores = vectors[kept] @ (query / np.linalg.norm(query))
        hits = search.query(NAME, Term(vector=query), k=K, where=f"year = {year}")
        wrong += [hit.row for hit in hits] != kept[np.argsort(-scores)[:K]].tolist()
    print(f"a filter that keeps 1 %: {20 - wrong} of 20 answers equal brute force")
    print(measured("texts, 1 client", url, 1, lambda text: {"text": text, "k": K}))
    keep = iter(range(10**9))
    print(
        measured(
            "texts, 1 client, filtered", url, 1, lambda text: {"text": text, "k": K, "filter": f"year = {next(keep) % 100}"}
        )
    )


def beside(search: Search, url: str, vectors: np.ndarray, seconds: int = 20) -> None:
    """Searches while 1,000 rows a second are added; how soon a row is found."""
    stop, late, delays = threading.Event(), [0.0], []

    def add() -> None:
        start = time.monotonic()
        for n in range(seconds * 10):
            time.sleep(max(0.0, start + n / 10 - time.monotonic()))
            late[0] = max(late[0], time.monotonic() - start - n / 10)
            search.add(NAME, rows(vectors, 100 * n, 100, "beside"))
            acknowledged = time.monotonic()
            while f"beside{100 * n}" not in {hit.id for hit in search.query(NAME, Term(vector=vectors[100 * n]), k=2)}:
                pass
            delays.append(time.monotonic() - acknowledged)
        stop.set()

    adding = threading.Thread(target=add)
    adding.start()
    print(measured("texts, 1 client, 1,000 adds a second", url, 1, lambda text: {"text": text, "k": K}, stop))
    adding.join()
    print(f"found {1000 * max(delays):.0f} ms after the acknowledgement at the latest; adds at most {late[0]:.1f} s late")
    start = time.monotonic()
    search.delete(NAME, ["r5"])
    gone = not any(hit.id == "r5" for hit in search.query(NAME, Term(vector=vectors[5]), k=50))
    print(f"a deleted row is {'gone' if gone else 'STILL THERE'} with the answer, {1000 * (time.monotonic() - start):.0f} ms")


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--triton", default="localhost:8001", metavar="HOST:PORT")
    made.add_argument("--rows", type=int, default=200_000)
    made.add_argument("--port", type=int, default=1299)
    made.add_argument("--other", metavar="URL", help="a knn-service to be measured in turns")
    made.add_argument("--other-index", default=NAME, metavar="NAME")
    return made


if __name__ == "__main__":
    main()
