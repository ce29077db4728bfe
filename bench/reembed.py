"""Searches and adds while a collection goes over to another model, with the sidecar killed on the way.

python bench/reembed.py --triton localhost:8001 --model clip --to clip2                    # 200,000 rows, three kills
python bench/reembed.py --triton localhost:8001 --model clip --to clip2 --rows 5000 --kills 1 --seconds 5

Rows are texts, which both models embed. Every hit of every answer is compared with the vectors of both models, embedded here
before: its score has to be nearer to that of the space that the answer names. Printed are latencies before, meanwhile and
after, failures outside of the seconds from a kill until the sidecar is ready, rows that were lost, and recall after the swap
among the stored vectors.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from clip_client import Clip, Search
from clip_client.errors import ClipError
from clip_client.search import Row

NAME, K, PORT, SIZE_OF_ADD, QUERIES = "reembedded", 10, 18_734, 20, 100
WORDS = ("red", "blue", "old", "small", "city", "sea", "dog", "bird", "tree", "car", "night", "snow", "child", "river", "stone")
_EQUAL = 1e-6  # of scores of the same row and query, by the order of a sum
_APART = 0.05  # of the scores of a row in both spaces, for its score to tell them apart: several times what int8 rounds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--triton", default="localhost:8001", help="serves both models")
    parser.add_argument("--model", default="clip", help="that the collection begins with")
    parser.add_argument("--to", default="clip2", help="that it goes over to")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--adds", type=int, default=200, help="rows added a second")
    parser.add_argument("--searches", type=int, default=20, help="a second, by four clients")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--share-of-cores", type=float, default=0.5)
    parser.add_argument("--seconds", type=float, default=30.0, help="before, and after")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="clipserve-reembed-") as folder:
        print(json.dumps(Measurement(options, Path(folder)).run(), indent=2))


def text(n: int) -> str:
    """Text of a row: seven words, the same for a number each time."""
    draw = np.random.default_rng(n)
    return " ".join([*(WORDS[at] for at in draw.integers(0, len(WORDS), 6)), str(n)])


class Truth:
    """Vectors of all texts by both models, as far as they are embedded."""

    def __init__(self, options: argparse.Namespace, count: int) -> None:
        self.vectors: dict[str, Any] = {}
        for name in (options.model, options.to):
            with Clip(options.triton, name=name) as clip:
                texts = (text(n) for n in range(count))
                made = np.empty((count, clip.spec.embedding_size), np.float16)
                for n, embedded in enumerate(clip.embed_texts(texts)):
                    made[n] = embedded.embedding
                self.vectors[clip.spec.space] = made
        self.old, self.new = self.vectors

    def telling(self, answer: Any, query: int) -> set[str]:
        """Return the spaces that scores of an answer are of, as far as a row's scores in both tell them apart."""
        rows = np.array([int(hit.id) for hit in answer])
        scores = np.array([hit.score for hit in answer])
        old, new = (self._scores(space, rows, query) for space in (self.old, self.new))
        tells = np.abs(old - new) > _APART
        is_new = np.abs(scores - new) < np.abs(scores - old)
        return {self.new if one else self.old for one in is_new[tells]}

    def _scores(self, space: str, rows: Any, query: int) -> Any:
        vectors = self.vectors[space]
        return vectors[rows].astype(np.float32) @ vectors[query].astype(np.float32)


class Measurement:
    """One run."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self._options, self._folder = options, folder
        self._ended, self._down = threading.Event(), threading.Event()
        self._phase = "before"
        self._took: dict[str, list[float]] = defaultdict(list)
        self._counts: Counter[str] = Counter()
        self._acknowledged: set[str] = set()
        self._next = options.rows
        self._truth = Truth(options, 2 * options.rows + 60 * options.adds)
        self._search = Search(f"http://127.0.0.1:{PORT}")

    def run(self) -> dict[str, Any]:
        """Return the figures."""
        options, load = self._options, os.getloadavg()[0]
        self._start()
        self._fill()
        threads = [threading.Thread(target=self._searches, args=(n,)) for n in range(4)] + [threading.Thread(target=self._adds)]
        try:
            for thread in threads:
                thread.start()
            time.sleep(options.seconds)
            begun, self._phase = time.monotonic(), "meanwhile"
            self._search.reembed(NAME, options.to, share_of_cores=options.share_of_cores)
            self._wait()
            took_s, self._phase = time.monotonic() - begun, "after"
            time.sleep(options.seconds)
        finally:
            self._ended.set()
            for thread in threads:
                thread.join()
        try:
            return {**self._figures(), "reembedding_s": round(took_s, 1), "cores": os.cpu_count(), "load_before": load}
        finally:
            self._process.terminate()
            self._process.wait()

    def _start(self) -> None:
        where = ["--data", str(self._folder / "data"), "--port", str(PORT), "--triton", self._options.triton]
        command = [Path(sys.executable).with_name("clipserve"), "search", "serve", *where, "--model", self._options.model]
        self._process = subprocess.Popen([*command, "--log-level", "warning"], stdout=subprocess.DEVNULL)
        self._search.wait_ready(timeout_s=300)

    def _fill(self) -> None:
        old, step = self._truth.vectors[self._truth.old], 2_000
        self._search.create(NAME, columns={"caption": "string"})
        for start in range(0, self._options.rows, step):
            numbers = range(start, min(start + step, self._options.rows))
            rows = [Row(id=str(n), text_vector=old[n].astype(np.float32), metadata={"caption": text(n)}) for n in numbers]
            self._search.add(NAME, rows)
            self._acknowledged.update(map(str, numbers))
        self._search.rebuild(NAME, wait=True)

    def _wait(self) -> None:
        """Wait for the swap; kill the sidecar at even steps of the way."""
        kills = [(n + 1) / (self._options.kills + 1) for n in range(self._options.kills)]
        while (state := self._search.reembedding(NAME))["state"] not in ("kept", "failed", "refused"):
            if kills and state["embedded"] >= kills[0] * state["rows"]:
                kills.pop(0)
                self._down.set()
                self._process.kill()
                self._process.wait()
                self._start()
                self._down.clear()
                self._counts["kills"] += 1
            time.sleep(0.2)
        if state["state"] != "kept":
            raise SystemExit(f"it didn't go over: {state}")
        self._counts["left_out"] = state["left_out"]

    def _searches(self, number: int) -> None:
        draw = np.random.default_rng(number)
        while not self._ended.wait(4 / self._options.searches):
            query, phase, down = int(draw.integers(0, self._options.rows)), self._phase, self._down.is_set()
            start = time.perf_counter()
            try:
                answer = self._search.query(NAME, text(query), k=K)
            except ClipError as problem:
                self._failed("search", problem, down=down)
                continue
            if not (down or self._down.is_set()):
                self._took[phase].append(time.perf_counter() - start)
            self._counts["answers of " + ("old" if answer.space == self._truth.old else "new")] += 1
            spaces = self._truth.telling(answer, query)
            self._counts["answers that tell their space"] += bool(spaces)
            self._counts["mixed answers"] += not spaces <= {answer.space}

    def _adds(self) -> None:
        due = time.monotonic()
        while not self._ended.is_set() and self._next + SIZE_OF_ADD < len(self._truth.vectors[self._truth.old]):
            numbers, down = range(self._next, self._next + SIZE_OF_ADD), self._down.is_set()
            self._next += SIZE_OF_ADD
            try:
                self._search.add(NAME, [Row(id=str(n), text=text(n)) for n in numbers], on_conflict="replace")
                self._acknowledged.update(map(str, numbers))
            except ClipError as problem:
                self._failed("add", problem, down=down)
            due = max(due + SIZE_OF_ADD / self._options.adds, time.monotonic() - 1)
            self._ended.wait(max(0.0, due - time.monotonic()))

    def _failed(self, what: str, problem: ClipError, *, down: bool) -> None:
        is_killed = down or self._down.is_set() or self._process.poll() is not None
        self._counts[f"{what} failed, killed" if is_killed else f"{what} failed"] += 1
        if not is_killed:
            print(f"{what} failed: {problem}", file=sys.stderr)

    def _figures(self) -> dict[str, Any]:
        rows = pa.concat_tables(self._search.arrow_rows(NAME, vectors=True))
        there = set(rows["id"].to_pylist())
        p = {
            phase: {f"p{share}_ms": round(1000 * float(np.percentile(took, share)), 1) for share in (50, 95)} | {"n": len(took)}
            for phase, took in self._took.items()
        }
        return {"searches": p, **dict(self._counts), "lost": len(self._acknowledged - there), "rows": len(there),
                "recall_after": round(self._recall(rows), 4)}  # fmt: skip

    def _recall(self, rows: pa.Table) -> float:
        """Return the share of some texts' hits that are as near as the nearest stored vectors; each text is embedded alone."""
        column = rows["vector_text"].combine_chunks()
        vectors = np.asarray(column.flatten()).reshape(-1, column.type.list_size)  # [N * D] -> [N, D]
        places = {id: n for n, id in enumerate(rows["id"].to_pylist())}
        near = 0
        with Clip(self._options.triton, name=self._options.to) as clip:
            for query in np.random.default_rng(7).integers(0, self._options.rows, QUERIES).tolist():
                scores = vectors @ next(iter(clip.embed_texts([text(query)]))).embedding  # [N, D], [D] -> [N]
                least = np.partition(scores, -K)[-K] - _EQUAL
                answer = self._search.query(NAME, text(query), k=K)
                near += sum(scores[places[hit.id]] >= least for hit in answer)
        return near / (K * QUERIES)


if __name__ == "__main__":
    main()
