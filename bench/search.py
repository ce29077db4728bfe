"""The search sidecar at size: text queries, filters, adds beside searches, memory; with --peers beside clip-retrieval.

    python bench/search.py --peers FOLDER       # an environment clip-retrieval in it, with version 2.45.0

Vectors are seeded and clustered. Queries are texts, all different, through the text tower; no embedding of one is remembered.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import psutil
from tqdm import tqdm

import clip_retrieval
import work
from asking import Asked, Clients, Target
from clip_client import Clip, Search
from clip_client.search import Term
from results import Result, Table, publish
from rows import NAME, YEARS, Added, Floats, being_added, clustered, rows
from serving import CLIPSERVE, free_ports, served

VARIANT = "openvino-int8"
K, TOGETHER, MANY = 10, 2000, 8
TRUE_QUERIES = 1000
WARM_UP_S = 3.0
ROUNDS, ROUND_S = 3, 6.0
ADDS_PER_S, ADDING_ROUNDS, ADDING_S = 1000, 3, 10.0
SETTLED_S = 5.0
"""After adds, until upkeep has done what it put off."""
OURS, PEER = "clipserve", "clip-retrieval"


@dataclass(frozen=True)
class Sidecar:
    """A running one that holds the vectors."""

    search: Search
    pid: int

    def target(self, **more: object) -> Target:
        """Queries of it by text."""
        return Target(f"{self.search.url}/v1/collections/{NAME}/search", json.dumps({"text": "TEXT", "k": K, **more}))

    def memory_mb(self) -> float:
        """Resident."""
        return psutil.Process(self.pid).memory_info().rss / 1e6

    def tuned_on_asked(self) -> bool:
        """Whether its index was tuned on texts that it was asked."""
        parts = self.search.stats(NAME)["indexes"]["image"]["parts"]
        return all(part["kind"] == "flat" or part["source"] == "asked" for part in parts)

    def nearest(self, query: Floats) -> set[int]:
        """Rows of the hits of a vector [D]."""
        return {hit.row for hit in self.search.query(NAME, Term(vector=query), k=K)}


def main() -> None:
    """Load, index, measure, publish."""
    options = parser().parse_args()
    checkpoint = work.checkpoint(options.model)
    _, repository = work.exported(checkpoint, options.photos, [VARIANT])
    with contextlib.ExitStack() as running:
        triton = running.enter_context(served(repository))
        clip = running.enter_context(Clip(triton.address))
        vectors = clustered(options.rows, clip.spec.embedding_size)
        sidecar = running.enter_context(holding(vectors, triton.address, clip.spec.fingerprint))
        memory_mb = {"with all rows indexed": sidecar.memory_mb()}
        clients = running.enter_context(Clients(MANY))
        while not sidecar.tuned_on_asked():
            clients.ask(sidecar.target(), 1, WARM_UP_S)
        truth = Truth.of(clip, vectors)
        targets, recalls = {OURS: sidecar.target()}, {OURS: truth.recall(sidecar.nearest)}
        if options.peers:
            peer = running.enter_context(clip_retrieval.back(options.peers, checkpoint, vectors))
            targets[PEER], recalls[PEER] = knn_target(peer), truth.recall(lambda query: knn_nearest(peer, query))
        found = {count: clients.in_turns(targets, count, ROUNDS, ROUND_S) for count in (1, MANY)}
        memory_mb["after the text queries"] = sidecar.memory_mb()
        filtered, right = clients.in_turns(filters(sidecar), 1, ROUNDS, ROUND_S), filter_is_right(sidecar, vectors)
        changing, told = beside_adds(sidecar, clients, vectors)
        memory_mb[f"after {ADDS_PER_S * ADDING_ROUNDS * ADDING_S:,.0f} adds"] = sidecar.memory_mb()
    tables = [texts_table(found, recalls), table(filtered), table(changing), memory_table(memory_mb)]
    notes = [told_setting(vectors), *told_ratios(found), right, *told]
    setting = work.setting(options) | {"peers": bool(options.peers), "size": vectors.shape[1], "variant": VARIANT, "seed": 0}
    publish(Result("search", "Search", notes, tables, setting))


@contextlib.contextmanager
def holding(vectors: Floats, triton: str, fingerprint: str) -> Iterator[Sidecar]:
    """A sidecar with the vectors, indexed."""
    [port] = free_ports(1)
    with tempfile.TemporaryDirectory() as folder:
        where = ["--data", folder, "--triton", triton, "--port", str(port), "--text-cache", "0"]
        process = subprocess.Popen([CLIPSERVE, "search", "serve", *where], stdout=subprocess.DEVNULL)
        try:
            with Search(f"http://127.0.0.1:{port}", timeout_s=3600) as search:
                search.wait_ready()
                fill(search, vectors, fingerprint)
                yield Sidecar(search, process.pid)
        finally:
            process.terminate()
            process.wait()


def fill(search: Search, vectors: Floats, fingerprint: str) -> None:
    """Add all vectors and index them; row numbers are the vectors' positions."""
    search.create(NAME, dimension=vectors.shape[1], fingerprint=fingerprint)
    for start in tqdm(range(0, len(vectors), TOGETHER), desc="adding", unit=f" x {TOGETHER}"):
        search.add(NAME, rows(vectors, start, TOGETHER, "r"))
    search.rebuild(NAME, wait=True)


@dataclass(frozen=True)
class Truth:
    """Text queries [Q, D] and the positions of the vectors that are nearest to each, [Q, K]."""

    queries: Floats
    nearest: np.ndarray

    @classmethod
    def of(cls, clip: Clip, vectors: Floats) -> Truth:
        """By exact search; texts are embedded one by one, since int8 may depend on its neighbours."""
        queries = np.stack([clip.embed_text(text) for text in work.texts(TRUE_QUERIES, seed=-1)])
        return cls(queries, np.argsort(-(queries @ vectors.T), axis=1)[:, :K])

    def recall(self, nearest: Callable[[Floats], set[int]]) -> float:
        """The share of it that a search finds."""
        pairs = zip(self.queries, self.nearest, strict=True)
        return sum(len(nearest(query) & set(true.tolist())) for query, true in pairs) / self.nearest.size


def knn_target(url: str) -> Target:
    """clip-retrieval's route, asked by text."""
    return Target(url, json.dumps({"text": "TEXT", "modality": "image", "num_images": K, "indice_name": NAME}))


def knn_nearest(url: str, query: Floats) -> set[int]:
    """Positions that clip-retrieval finds for a vector [D]."""
    wanted = {"embedding_input": query.tolist(), "modality": "image", "num_images": K, "indice_name": NAME}
    request = urllib.request.Request(url, json.dumps(wanted).encode(), {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request) as answer:  # noqa: S310  (http, of our own)
        return {hit["id"] for hit in json.load(answer)}


def filters(sidecar: Sidecar) -> dict[str, Target]:
    """Queries without a filter, and with two that keep 1 %."""
    return {
        "no filter": sidecar.target(),
        "keeps 1 %, asked before": sidecar.target(filter="year = 7"),
        "keeps 1 %, a new one each time": sidecar.target(filter="year = 7 AND year > -NUMBER"),
    }


def filter_is_right(sidecar: Sidecar, vectors: Floats) -> str:
    """Whether filtered searches find what comparing with each row finds."""
    draw, right = np.random.default_rng(1), 0
    for year in range(20):
        query = vectors[draw.integers(len(vectors))] + 0.3 * draw.standard_normal(vectors.shape[1], np.float32)
        kept = np.arange(year, len(vectors), YEARS)
        true = kept[np.argsort(-(vectors[kept] @ query))[:K]].tolist()
        right += [hit.row for hit in sidecar.search.query(NAME, Term(vector=query), k=K, where=f"year = {year}")] == true
    return f"Of 20 filtered answers {right} equal those of comparing with every row, order included."


def beside_adds(sidecar: Sidecar, clients: Clients, vectors: Floats) -> tuple[dict[str, Asked], list[str]]:
    """Searches without adds and beside them, in turns; how soon a row is found and a deleted one gone."""
    alone: list[Asked] = []
    beside: list[Asked] = []
    added: list[Added] = []
    for turn in tqdm(range(ADDING_ROUNDS), desc="adds beside searches", unit=" rounds"):
        alone.append(clients.ask(sidecar.target(), 1, ADDING_S))
        with being_added(sidecar.search.url, ADDS_PER_S, ADDING_S, vectors.shape[1], turn) as adding:
            beside.append(clients.ask(sidecar.target(), 1, ADDING_S))
            added.append(adding.get())
        time.sleep(SETTLED_S)
    per_s, found_s = median(one.per_s for one in added), max(one.found_s for one in added)
    told = f"{per_s:,.0f} rows a second were added; each was found within {1000 * found_s:.0f} ms of its answer."
    deleted = f"A deleted row was {'gone' if is_gone(sidecar, vectors) else 'STILL THERE'} when its deletion was answered."
    found = {"nobody adds": Asked.together(alone), f"beside {ADDS_PER_S:,} adds a second": Asked.together(beside)}
    return found, [told, deleted]


def is_gone(sidecar: Sidecar, vectors: Floats) -> bool:
    """Whether a row isn't found any more as soon as its deletion is answered."""
    sidecar.search.delete(NAME, ["r5"])
    return 5 not in sidecar.nearest(vectors[5])


def texts_table(found: Mapping[int, Mapping[str, Asked]], recalls: Mapping[str, float]) -> Table:
    """Of each number of clients, all servers."""
    rows = [
        [f"{name}, {count} client{'s' * (count > 1)}", asked.p50_ms, asked.p95_ms, asked.per_s, recalls[name]]
        for count, by_name in found.items()
        for name, asked in by_name.items()
    ]
    return Table(["text queries", "p50 ms", "p95 ms", "queries/s", f"recall@{K}"], rows)


def table(found: Mapping[str, Asked]) -> Table:
    """One client, several ways."""
    rows = [[name, asked.p50_ms, asked.p95_ms, asked.per_s] for name, asked in found.items()]
    return Table(["1 client", "p50 ms", "p95 ms", "queries/s"], rows)


def memory_table(memory_mb: Mapping[str, float]) -> Table:
    """Of the sidecar."""
    return Table(["sidecar's resident memory", "MB"], [[when, mb] for when, mb in memory_mb.items()])


def told_setting(vectors: Floats) -> str:
    """What was asked of what."""
    return (
        f"{len(vectors):,} clustered vectors of {vectors.shape[1]}, two columns of metadata; texts of eight words, none twice, "
        f"through the text tower ({VARIANT}), no text cache, k {K}; clients in processes of their own; {ROUNDS} rounds of "
        f"{ROUND_S:.0f} s each, in turns. Recall is that of {TRUE_QUERIES:,} text queries against exact search; the index was "
        "tuned on earlier ones of the same kind."
    )


def told_ratios(found: Mapping[int, Mapping[str, Asked]]) -> list[str]:
    """Ours beside the other, where there is one."""
    if PEER not in found[1]:
        return []
    slower = found[1][PEER].p50_ms / found[1][OURS].p50_ms
    faster = found[MANY][OURS].per_s / found[MANY][PEER].per_s
    return [f"One client waits 1/{slower:.1f} of {PEER}'s p50; {MANY} clients get {faster:.1f} times its throughput."]


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = work.parser(__doc__)
    made.add_argument("--rows", type=int, default=200_000, metavar="N", help="vectors in the collection")
    made.add_argument("--peers", type=Path, metavar="FOLDER", help="environments of the programs to stand beside")
    return made


if __name__ == "__main__":
    main()
