"""The search sidecar at size: text queries, filters, adds beside searches, memory; with --peers beside clip-retrieval.

    python bench/search.py --peers FOLDER       # an environment clip-retrieval in it, with version 2.45.0

Vectors are seeded and clustered. Queries are texts, all different, through the text tower; no text embedding is cached.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import urllib3
from clip_client.progress_bars import ProgressBar

from clip_client import Clip, Search
from clip_client.search import Term
from lib import clip_retrieval
from lib.checkpoints import VARIANT, checkpoint, exported
from lib.clustered_rows import NAME, YEARS, Added, Floats, being_added, clustered, rows
from lib.http_clients import HttpClients, Target, http_clients
from lib.load import Load, median_ms, median_per_s
from lib.options import parsed, setting
from lib.results import Result, publish
from lib.samples import texts
from lib.serving import served, sidecar
from lib.tables import Table

K, FILL, MANY = 10, 2000, 8
TRUE_QUERIES = 1000
WARM_UP_S = 3.0
ROUNDS, ROUND_S = 3, 6.0
ADDS_PER_S, ADDING_ROUNDS, ADDING_S = 1000, 3, 10.0
SETTLED_S = 5.0  # pause after adds, for the upkeep that was put off
OURS, PEER = "clipserve", "clip-retrieval"

Loads = Mapping[str, Sequence[Load]]  # loads of each round, by name


def main() -> None:
    """Load, index, measure, publish."""
    options = parsed(__doc__, {"--rows": (200_000, "vectors in the collection")}, peers=True)
    model = checkpoint(options.model)
    _, repository = exported(model, options.photos)
    with contextlib.ExitStack() as stack:
        triton = stack.enter_context(served(repository))
        clip = stack.enter_context(Clip(triton.address))
        vectors = clustered(options.rows, clip.spec.embedding_size)
        running = stack.enter_context(sidecar(triton.address, "--text-cache", "0"))
        fill(running.search, vectors, clip.spec.fingerprint)
        memory_mb = {"with all rows indexed": running.memory_mb()}
        clients = stack.enter_context(http_clients(MANY))
        tune(running.search, clients)
        truth = Truth.of(clip, vectors)
        targets = {OURS: target(running.search)}
        recalls = {OURS: truth.recall(lambda query: nearest(running.search, query))}
        if options.peers:
            peer = stack.enter_context(clip_retrieval.back(options.peers, model, vectors))
            targets[PEER], recalls[PEER] = knn_target(peer), truth.recall(lambda query: knn_nearest(peer, query))
        loads = {count: clients.in_turns(targets, count, ROUNDS, ROUND_S) for count in (1, MANY)}
        memory_mb["after the text queries"] = running.memory_mb()
        filtered, right = clients.in_turns(filters(running.search), 1, ROUNDS, ROUND_S), filter_note(running.search, vectors)
        changing, adding = beside_adds(running.search, clients, vectors)
        memory_mb[f"after {ADDS_PER_S * ADDING_ROUNDS * ADDING_S:,.0f} adds"] = running.memory_mb()
    memory = Table(["sidecar's resident memory", "MB"], [*memory_mb.items()])
    tables = [texts_table(loads, recalls), table(filtered), table(changing), memory]
    notes = [setup_note(vectors), *ratio_notes(loads), right, *adding]
    conditions = setting(options) | {"peers": bool(options.peers), "size": vectors.shape[1], "variant": VARIANT, "seed": 0}
    publish(Result("search", "Search", notes, tables, conditions))


def fill(search: Search, vectors: Floats, fingerprint: str) -> None:
    """Add all vectors and index them; row numbers are the vectors' positions."""
    search.wait_ready()
    search.create(NAME, dimension=vectors.shape[1], fingerprint=fingerprint)
    for start in ProgressBar(range(0, len(vectors), FILL), desc="adding", unit=f" x {FILL}"):
        search.add(NAME, rows(vectors, start, FILL, "r"))
    search.rebuild(NAME, wait=True)


def tune(search: Search, clients: HttpClients) -> None:
    """Send text queries until the index is tuned on some that were asked."""

    def tuned() -> bool:
        parts = search.stats(NAME)["indexes"]["image"]["parts"]
        return all(part["kind"] == "flat" or part["source"] == "asked" for part in parts)

    while not tuned():
        clients.load(target(search), 1, WARM_UP_S)


def target(search: Search, **more: object) -> Target:
    """Return text queries of the sidecar."""
    return Target(f"{search.url}/v1/collections/{NAME}/search", json.dumps({"text": "TEXT", "k": K, **more}))


def nearest(search: Search, query: Floats) -> set[int]:
    """Return the rows of the hits of a vector [D]."""
    return {hit.row for hit in search.query(NAME, Term(vector=query), k=K)}


@dataclass(frozen=True)
class Truth:
    """Text queries [Q, D] and the positions of the nearest vectors of each, [Q, K]."""

    queries: Floats
    nearest: np.ndarray

    @classmethod
    def of(cls, clip: Clip, vectors: Floats) -> Truth:
        """Search exactly; texts are embedded one by one, since int8 may depend on its neighbours."""
        queries = np.stack([clip.embed_text(text) for text in texts(TRUE_QUERIES, seed=-1)])
        return cls(queries, np.argsort(-(queries @ vectors.T), axis=1)[:, :K])

    def recall(self, search: Callable[[Floats], set[int]]) -> float:
        """Return the share of the nearest vectors that a search hits."""
        pairs = zip(self.queries, self.nearest, strict=True)
        return sum(len(search(query) & set(true.tolist())) for query, true in pairs) / self.nearest.size


def knn_target(url: str) -> Target:
    """Return text queries of clip-retrieval's route."""
    return Target(url, json.dumps({"text": "TEXT", "modality": "image", "num_images": K, "indice_name": NAME}))


def knn_nearest(url: str, query: Floats) -> set[int]:
    """Return the positions that clip-retrieval hits for a vector [D]."""
    body = {"embedding_input": query.tolist(), "modality": "image", "num_images": K, "indice_name": NAME}
    return {hit["id"] for hit in urllib3.request("POST", url, json=body).json()}


def filters(search: Search) -> dict[str, Target]:
    """Return queries without a filter, and with two that keep 1 %."""
    return {
        "no filter": target(search),
        "keeps 1 %, asked before": target(search, filter="year = 7"),
        "keeps 1 %, a new one each time": target(search, filter="year = 7 AND year > -NUMBER"),
    }


def filter_note(search: Search, vectors: Floats) -> str:
    """Return how many filtered searches equal exact ones, as a note."""
    draw, right = np.random.default_rng(1), 0
    for year in range(20):
        query = vectors[draw.integers(len(vectors))] + 0.3 * draw.standard_normal(vectors.shape[1], np.float32)
        kept = np.arange(year, len(vectors), YEARS)
        true = kept[np.argsort(-(vectors[kept] @ query))[:K]].tolist()
        right += [hit.row for hit in search.query(NAME, Term(vector=query), k=K, where=f"year = {year}")] == true
    return f"Of 20 filtered answers {right} equal those of comparing with every row, order included."


def beside_adds(search: Search, clients: HttpClients, vectors: Floats) -> tuple[Loads, list[str]]:
    """Search without adds and beside them, in turns; note how soon a row is a hit and a deleted row none."""
    alone, beside, added = list[Load](), list[Load](), list[Added]()
    for turn in ProgressBar(range(ADDING_ROUNDS), desc="adds beside searches", unit=" rounds"):
        alone.append(clients.load(target(search), 1, ADDING_S))
        with being_added(search.url, ADDS_PER_S, ADDING_S, vectors.shape[1], turn) as adding:
            beside.append(clients.load(target(search), 1, ADDING_S))
            added.append(adding.get())
        time.sleep(SETTLED_S)
    per_s, visible_s = median(each.per_s for each in added), max(each.visible_s for each in added)
    adds = f"{per_s:,.0f} rows a second were added; each was found within {1000 * visible_s:.0f} ms of its answer."
    deletion = f"A deleted row was {'gone' if is_gone(search, vectors) else 'STILL THERE'} when its deletion was answered."
    return {"nobody adds": alone, f"beside {ADDS_PER_S:,} adds a second": beside}, [adds, deletion]


def is_gone(search: Search, vectors: Floats) -> bool:
    """Delete a row; return True if it is no hit as soon as that is answered."""
    search.delete(NAME, ["r5"])
    return 5 not in nearest(search, vectors[5])


def texts_table(loads: Mapping[int, Loads], recalls: Mapping[str, float]) -> Table:
    """Return a row per number of clients and server."""
    rows = [
        [f"{name}, {count} client{'s' * (count > 1)}", *figures(rounds), recalls[name]]
        for count, by_name in loads.items()
        for name, rounds in by_name.items()
    ]
    return Table(["text queries", "p50 ms", "p95 ms", "queries/s", f"recall@{K}"], rows)


def table(loads: Loads) -> Table:
    """Return a row per way, for one client."""
    return Table(["1 client", "p50 ms", "p95 ms", "queries/s"], [[name, *figures(rounds)] for name, rounds in loads.items()])


def figures(rounds: Sequence[Load]) -> tuple[float, float, float]:
    """Return p50 and p95 in milliseconds and queries a second, medians of the rounds."""
    return median_ms(rounds, 50), median_ms(rounds, 95), median_per_s(rounds)


def setup_note(vectors: Floats) -> str:
    """Describe the collection and the queries."""
    return (
        f"{len(vectors):,} clustered vectors of {vectors.shape[1]}, two columns of metadata; texts of eight words, none twice, "
        f"through the text tower ({VARIANT}), no text cache, k {K}; clients in processes of their own; {ROUNDS} rounds of "
        f"{ROUND_S:.0f} s each, in turns. Recall is that of {TRUE_QUERIES:,} text queries against exact search; the index was "
        "tuned on earlier ones of the same kind."
    )


def ratio_notes(loads: Mapping[int, Loads]) -> list[str]:
    """Compare ours with clip-retrieval, if it was measured."""
    if PEER not in loads[1]:
        return []
    slower = median_ms(loads[1][PEER], 50) / median_ms(loads[1][OURS], 50)
    faster = median_per_s(loads[MANY][OURS]) / median_per_s(loads[MANY][PEER])
    return [f"One client waits 1/{slower:.1f} of {PEER}'s p50; {MANY} clients get {faster:.1f} times its throughput."]


if __name__ == "__main__":
    main()
