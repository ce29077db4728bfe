"""Rows in another order than by number: the latest first, or drawn at random."""

import numpy as np
import pyarrow as pa

from clip_search.arrays import Positions, Rows
from clip_search.collection import Collection


def latest(collection: Collection, where: str, limit: int) -> list[int]:
    """Return the latest rows that a filter keeps, by their time, then by number; no more of the table is read than these."""
    kept = collection.matching(where) if where else None
    table = collection.cards.table(["time"], kept)
    times = table["time"].cast(pa.int64()).fill_null(0).to_numpy()
    order = np.argsort(times, kind="stable")[::-1]  # takes no time for what is in order already, as these are
    return _first(collection, table["row"].to_numpy()[order], where, limit)


def drawn(collection: Collection, where: str, seed: int, limit: int) -> list[int]:
    """Return rows that a filter keeps, drawn by a seed: the same again, but for those that came or went since."""
    kept = collection.matching(where) if where else None
    rows = np.asarray(collection.cards.table([], kept)["row"].to_numpy())
    return _first(collection, rows[shuffled(rows, seed)], where, limit)


def shuffled(rows: Rows, seed: int) -> Positions:
    """Return the positions of rows in an order by a hash of seed and row, so that others don't change who comes first.

    The hash is the finaliser of SplitMix64 (Steele, Lea, Flood 2014).
    """
    mixed = rows.astype(np.uint64) + np.random.default_rng(seed).integers(2**63, dtype=np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)  # overflow is meant
    return np.argsort(mixed ^ (mixed >> np.uint64(31)))


def _first(collection: Collection, rows: Rows, where: str, limit: int) -> list[int]:
    """Return the first rows, in their order, without those that were deleted: the row cache keeps them for a while."""
    if where:
        return list(rows[:limit].tolist())
    alive: list[int] = []
    start, size = 0, limit
    while len(alive) < limit and start < len(rows):
        part = rows[start : start + size]
        alive += part[np.isin(part, collection.table.there(part))].tolist()
        start, size = start + size, 2 * size
    return alive[:limit]
