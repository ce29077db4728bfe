"""Reference of a collection in plain Python: rows as they were sent, filters, exact search."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from clip_client.search import Hit, Row
from clip_client.spec import TOWERS, Tower

SIZE = 12
EXACT, ROUNDED = 2e-6, 0.001
"""Tolerance of stored vectors, and of scores of half-precision vectors."""
COLUMNS = {"owner": "string", "serial": "int", "n": "int", "score": "float", "kind": "string", "flag": "bool"}
VALUES: dict[str, Sequence[Any]] = {
    "n": (0, 1, 2, 3, 5, 8, -13, 2**62 + 1),
    "score": (0.0, -1.5, 0.1, 1e300, 2.5, 7),
    "kind": ("a", "ab", "it's", "ü — 漢字 😀", "", "%_", "null"),
    "flag": (True, False),
}
LATE = 24
"""Columns that come while the test goes on; all clients give one of them the same type."""
_LATE_VALUES: tuple[Sequence[Any], ...] = ((1, 2, 3), ("x", "y"), (0.5, 1.5), (True, False))

Predicate = Callable[[Mapping[str, Any]], "bool | None"]
"""SQL's logic: None where a value is missing."""


@dataclass(frozen=True, eq=False)
class Sent:
    """A row as a client sent it; ``serial`` is its own, ``image`` and ``text`` are seeds of its vectors."""

    id: str
    serial: int
    image: int | None
    text: int | None
    metadata: dict[str, Any]
    source: str | None

    def vector(self, tower: Tower) -> np.ndarray | None:
        seed = self.image if tower == "image" else self.text
        return None if seed is None else unit(seed)

    def row(self) -> Row:
        return Row(
            id=self.id,
            vector=self.vector("image"),
            text_vector=self.vector("text"),
            metadata=self.metadata,
            source=self.source,
        )

    def differences(self, row: Mapping[str, Any]) -> list[str]:
        """Name the fields of a row that came back with its vectors that aren't as they were sent."""
        return self.shown_differences(row) + [f"vector_{tower}" for tower in TOWERS if not self._same(row, tower)]

    def shown_differences(self, row: Mapping[str, Any]) -> list[str]:
        """As :meth:`differences`, but for the vectors."""
        found = [name for name in ("id", "source") if row[name] != getattr(self, name)]
        metadata = {name: value for name, value in row["metadata"].items() if value is not None}
        wanted = {name: value for name, value in self.metadata.items() if value is not None}
        return found + ([f"metadata: {metadata} instead of {wanted}"] if metadata != wanted else [])

    def _same(self, row: Mapping[str, Any], tower: Tower) -> bool:
        wanted, stored = self.vector(tower), row.get(f"vector_{tower}")
        if wanted is None or stored is None:
            return wanted is stored is None
        return bool(np.abs(stored - wanted).max() <= EXACT)


@lru_cache(100_000)
def unit(seed: int) -> np.ndarray:
    """A random direction, float32 [SIZE]."""
    vector = np.random.default_rng(seed).normal(size=SIZE)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


def metadata(draw: random.Random, progress: float) -> dict[str, Any]:
    """Values of some columns; of the late ones there are more with ``progress`` from 0 to 1."""
    found = {name: draw.choice([*values, None]) for name, values in VALUES.items() if draw.random() < 0.8}
    late = draw.randrange(1 + int(LATE * progress))
    if draw.random() < 0.2:
        found[f"late_{late}"] = draw.choice(_LATE_VALUES[late % len(_LATE_VALUES)])
    return found


def a_filter(draw: random.Random, depth: int = 2) -> tuple[str, Predicate]:
    """A filter in SQL, and the same in Python."""
    if depth and draw.random() < 0.5:
        return _combined(draw, depth)
    name = draw.choice([*VALUES])
    value = draw.choice(VALUES[name])
    if draw.random() < 0.15:
        return f"{name} IS NULL", lambda row: row.get(name) is None
    if name == "flag":
        return draw.choice((("flag", lambda row: row.get("flag")), ("flag = false", lambda row: _not(row.get("flag")))))
    if name == "kind" and draw.random() < 0.3:
        return "kind LIKE 'a%'", lambda row: _known(row, "kind", lambda it: it.startswith("a"))
    if draw.random() < 0.3:
        listed = draw.sample(VALUES[name], 2)
        return f"{name} IN ({', '.join(map(quoted, listed))})", lambda row: _known(row, name, lambda it: it in listed)
    sign, compare = draw.choice(_COMPARISONS)
    return f"{name} {sign} {quoted(value)}", lambda row: _known(row, name, lambda it: compare(it, value))


_COMPARISONS: tuple[tuple[str, Callable[[Any, Any], bool]], ...] = (
    ("=", lambda a, b: a == b),
    ("!=", lambda a, b: a != b),
    (">=", lambda a, b: a >= b),
    ("<", lambda a, b: a < b),
)


def _combined(draw: random.Random, depth: int) -> tuple[str, Predicate]:
    (left, is_left), (right, is_right) = a_filter(draw, depth - 1), a_filter(draw, depth - 1)
    return draw.choice(
        (
            (f"({left} AND {right})", lambda row: _and(is_left(row), is_right(row))),
            (f"({left} OR {right})", lambda row: _not(_and(_not(is_left(row)), _not(is_right(row))))),
            (f"NOT ({left})", lambda row: _not(is_left(row))),
        )
    )


def _known(row: Mapping[str, Any], name: str, test: Callable[[Any], bool]) -> bool | None:
    value = row.get(name)
    return None if value is None else test(value)


def _not(value: bool | None) -> bool | None:
    return None if value is None else not value


def _and(left: bool | None, right: bool | None) -> bool | None:
    if left is False or right is False:
        return False
    return None if left is None or right is None else True


def quoted(value: Any) -> str:
    """A value in SQL."""
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)


@dataclass(frozen=True)
class Wanted:
    """An exact search over rows; scores may be off by ``tolerance``."""

    query: np.ndarray
    tower: Tower
    k: int
    offset: int = 0
    threshold: float | None = None
    tolerance: float = ROUNDED + EXACT

    def check(self, hits: Sequence[Hit], rows: Mapping[str, Sent]) -> None:
        """Compare an answer; which of two hits of the same score comes first is open."""
        scores = {id: float(vector @ self.query) for id, row in rows.items() if (vector := row.vector(self.tower)) is not None}
        ranked = sorted(scores.values(), reverse=True)
        fewest, most = (self._count(ranked, slack) for slack in (self.tolerance, -self.tolerance))
        assert len({hit.id for hit in hits}) == len(hits), f"an id twice among the hits {[hit.id for hit in hits]}"
        strange = [hit.id for hit in hits if hit.id not in scores]
        assert not strange, f"hits that aren't there: {strange}"
        assert fewest <= len(hits) <= most, f"{len(hits)} hits instead of {fewest} to {most}"
        for place, hit in enumerate(hits, self.offset):
            at = f"place {place} is {hit.id!r} with {hit.score}"
            assert abs(hit.score - scores[hit.id]) <= self.tolerance, f"{at}: its cosine is {scores[hit.id]}"
            assert abs(hit.score - ranked[place]) <= self.tolerance, f"{at}: exact search has {ranked[place]} there"

    def _count(self, ranked: Sequence[float], slack: float) -> int:
        kept = sum(self.threshold is None or score >= self.threshold + slack for score in ranked)
        return min(max(kept - self.offset, 0), self.k)
