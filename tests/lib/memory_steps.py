"""Steps of a large collection in a process of its own: prints the peak of anonymous memory in each, in megabytes, as JSON.

python memory_steps.py FOLDER ROWS SIZE MEMORY_BYTES
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from clip_search.collection import Collection
from clip_search.memory_trim import limit_heaps
from clip_search.options import IndexOptions
from clip_search.storage.database import Database
from clip_search.storage.lance_threads import limit_threads
from clip_search.storage.rows import NewRow
from clip_search.storage.schema import About

BATCH, STATUS = 5_000, Path("/proc/self/status")


def anonymous_mb() -> float:
    """Return memory that the system can't take back."""
    return next(1024 * int(line.split()[1]) / 10**6 for line in STATUS.read_text().splitlines() if line.startswith("RssAnon"))


def drawn(first: int, count: int, size: int) -> np.ndarray:
    """Return clustered vectors, the same for the same numbers."""
    draw = np.random.default_rng(first)
    centres = np.random.default_rng(0).standard_normal((100, size), np.float32)
    vectors = centres[draw.integers(0, 100, count)] + draw.standard_normal((count, size), np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def main() -> None:
    """Import, index anew, change rows, compact, open again, search."""
    folder, (rows, size, memory_bytes) = Path(sys.argv[1]), map(int, sys.argv[2:])
    options = IndexOptions(tail_rows=2_000, memory_bytes=memory_bytes, mapped_bytes=2**20, threads=1)
    peaks: dict[str, float] = {}
    made = opened(folder, size, options)
    step(peaks, "import", lambda: fill(made[1], rows, size))
    step(peaks, "rebuild", made[1].rebuild)
    step(peaks, "changes", lambda: change(made[1], rows, size))
    step(peaks, "compaction", made[1].rebuild)
    closed(made)
    again = []
    step(peaks, "opening", lambda: again.append(opened(folder, size, options)))
    collection = again[0][1]
    step(peaks, "searches", lambda: [collection.search(query, "image", 10, "") for query in drawn(7, 50, size)])
    parts = collection.stats()["indexes"]["image"]["parts"]
    number = collection.row_of(f"r{rows - 1}")
    hit = collection.search(drawn(rows - BATCH, BATCH, size)[-1], "image", 1, "")[1].tolist()
    closed(again[0])
    print(json.dumps({"peaks": peaks, "kinds": [part["kind"] for part in parts], "hit": hit == [number]}))


def opened(folder: Path, size: int, options: IndexOptions) -> tuple[Database, Collection]:
    """Open a database and its collection."""
    database = Database(str(folder / "db"), folder / "indexes")
    table = database.open("a") if "a" in database.names() else database.create("a", About(size, "model"), {})
    return database, Collection(
        "a", table, folder / "indexes" / "a", options, lambda count, **_: (drawn(1, 0, size), "vectors")
    )


def closed(made: tuple[Database, Collection]) -> None:
    """Close a collection and its database."""
    made[1].close()
    made[0].close()


def fill(collection: Collection, rows: int, size: int) -> None:
    """Add rows in batches."""
    for first in range(0, rows, BATCH):
        add(collection, [f"r{n}" for n in range(first, first + BATCH)], drawn(first, BATCH, size))


def change(collection: Collection, rows: int, size: int) -> None:
    """Add, replace and delete some rows."""
    for n, vector in enumerate(drawn(3, 150, size)):
        add(collection, [f"new{n}"], vector[None])
    add(collection, [f"r{n}" for n in range(0, BATCH)], drawn(5, BATCH, size))
    collection.delete(ids=[f"new{n}" for n in range(150)]).result()


def add(collection: Collection, ids: list[str], vectors: np.ndarray) -> None:
    """Add rows, or replace them."""
    added = [NewRow(id, {"image": vector}, {"caption": f"picture {id}"}) for id, vector in zip(ids, vectors, strict=True)]
    collection.add(added, on_conflict="replace", fingerprint="").result()


def step(peaks: dict[str, float], name: str, work: Callable[[], object]) -> None:
    """Do something and note the peak."""
    over = threading.Event()
    most = [anonymous_mb()]

    def look() -> None:
        while not over.wait(0.01):
            most[0] = max(most[0], anonymous_mb())

    looking = threading.Thread(target=look)
    looking.start()
    try:
        work()
    finally:
        over.set()
        looking.join()
    peaks[name] = most[0]


if __name__ == "__main__":
    limit_threads("folder")
    limit_heaps()
    main()
