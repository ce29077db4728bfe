"""Collections on a real LanceDB, opened and opened again, without HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sidecars import SIZE, unit

from clip_search.collection import Collection
from clip_search.options import IndexOptions
from clip_search.storage.database import Database
from clip_search.storage.rows import NewRow
from clip_search.storage.schema import About

OPTIONS = IndexOptions(exact_rows=400, tail_rows=200)
COUNT = 1000
VECTORS = unit(COUNT)


def rows(*numbers: int) -> list[NewRow]:
    return [NewRow(f"r{n}", {"image": VECTORS[n]}, {"year": n % 100, "caption": f"picture {n}"}) for n in numbers]


def fill(collection: Collection) -> None:
    for start in range(0, COUNT, 100):
        collection.add(rows(*range(start, start + 100)), on_conflict="error", fingerprint="").result()


def settled(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


class Opener:
    """Opens and opens again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database: Database | None = None
        self.collection: Collection | None = None
        self.source = "texts"

    def texts(self, count: int, space: str, size: int) -> tuple[np.ndarray, str]:
        return unit(count, size, seed=5), self.source

    def open(self, options: IndexOptions = OPTIONS) -> Collection:
        self.close()
        self.database = Database(str(self.folder / "db"), self.folder)
        table = (
            self.database.open("a") if "a" in self.database.names() else self.database.create("a", About(SIZE, "model1"), {})
        )
        self.collection = Collection("a", table, self.folder / "a", options, self.texts)
        return self.collection

    def close(self) -> None:
        if self.collection and self.database:
            self.collection.close()
            self.database.close()
        self.collection = None


def hit_ids(collection: Collection, query: np.ndarray, k: int = 5, where: str = "") -> list[str]:
    """Return the hits' ids, without rows that were deleted meanwhile."""
    numbers = collection.search(query, "image", k, where)[1]
    return [card["id"] for card in collection.cards.take(numbers) if card is not None]


def brute(query: np.ndarray, k: int, numbers: range) -> list[str]:
    order = sorted(numbers, key=lambda n: -float(VECTORS[n] @ query))
    return [f"r{n}" for n in order[:k]]
