"""Search requests: terms to one vector, hits to one list."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from clip_client.errors import InvalidInput
from clip_client.spec import Tower
from clip_search.arrays import Floats
from clip_search.errors import TooLarge
from clip_search.options import MAX_RANKED, MAX_RESULTS

TermKind = Literal["text", "image", "image_url", "image_path", "vector", "id"]
IMAGES: tuple[TermKind, ...] = ("image", "image_url", "image_path")  # kinds of terms that are pictures

Order = Literal["number", "newest", "random"]  # of rows that are listed

SAME = 0.94  # cosine from which two hits count as the same picture, as in clip-retrieval
_MOST_COMPARED = 2_000  # vectors compared each with each: 4 million products


def check_most(name: str, number: int, most: int = MAX_RESULTS) -> None:
    """Raise TooLarge for a number of results, rows or ids above the most."""
    if number > most:
        raise TooLarge(f"{name} is {min(number, 10**18):,}: expected at most {most:,}")


@dataclass(frozen=True)
class Term:
    """Term of a query: something to look for or, with a negative weight, to avoid."""

    kind: TermKind
    value: Any
    weight: float = 1.0


@dataclass(frozen=True)
class Sort:
    """Order of hits by a column; those of equal values come by score, those without a value last."""

    column: str
    descending: bool = False


@dataclass(frozen=True)
class Query:
    """Search request."""

    terms: tuple[Term, ...]  # their weighted sum is looked for
    k: int = 10  # hits, after the first `offset`
    offset: int = 0
    where: str = ""  # LanceDB's SQL over the columns; empty for all rows
    threshold: float | None = None  # least score
    same: float | None = None  # hits at least so similar to each other are one; None to keep all
    tower: Tower | None = None  # whose vectors are searched; one that the collection has if None
    columns: tuple[str, ...] | None = None  # metadata to return; all if None
    sort: Sort | None = None  # order of the nearest 10,000 that pass; by score if None
    client: str = ""  # the caller's own name for who asks, for trials of a model

    def __post_init__(self) -> None:
        if not self.terms:
            raise InvalidInput("nothing to look for: send text, image, image_url, vector, id or a mix of them")
        check_most("k + offset", self.k + self.offset, MAX_RANKED if self.sort is None else MAX_RESULTS)
        if self.k > MAX_RESULTS and self.columns != ():
            raise TooLarge(
                f"k is {self.k:,}: expected at most {MAX_RESULTS:,} hits with metadata; send columns [] for the ids and scores "
                f"of up to {MAX_RANKED:,}"
            )
        if self.same is not None:
            check_most("k + offset with deduplicate", self.k + self.offset, _MOST_COMPARED)

    @property
    def wanted(self) -> int:
        """Number of hits to ask the index for: more if some will be dropped, all that may pass if they are sorted."""
        if self.sort:
            return MAX_RESULTS if self.same is None else _MOST_COMPARED
        own = sum(term.kind == "id" for term in self.terms)
        return min((self.k + self.offset) * (2 if self.same else 1) + own, MAX_RANKED)

    @property
    def is_long(self) -> bool:
        """True if so many hits are looked for that every vector is compared."""
        return self.wanted > MAX_RESULTS


@dataclass(frozen=True)
class Hit:
    """Search result: a row's number, score and values."""

    row: int
    score: float
    card: dict[str, Any] = field(default_factory=dict)
    same: tuple[str, ...] = ()  # ids of rows that it stands for


@dataclass(frozen=True)
class Passing:
    """Number of rows that pass the threshold and the filter of a query."""

    rows: int
    more: bool  # not all were counted


def mixed(vectors: Sequence[Floats], weights: Sequence[float]) -> Floats:
    """Return the weighted sum of unit vectors [D], of unit length; only the ratios of the weights count.

    Raises:
        InvalidInput: a weight isn't finite, or the sum is zero.
    """
    scale = float(np.max(np.abs(weights)))
    if not np.isfinite(scale):
        raise InvalidInput("a weight isn't a finite number: expected e.g. 0.5 or -2")
    shares = np.asarray(weights, np.float64) / (scale or 1)  # [n], at most 1: no sum overflows
    total = shares @ np.asarray(vectors, np.float64)  # [n] @ [n, D] -> [D]
    norm = float(np.linalg.norm(total))
    if not norm >= 1e-6:
        raise InvalidInput("the terms cancel each other out: change their weights")
    return np.asarray(total / norm, np.float32)


def groups(vectors: Floats, same: float) -> list[list[int]]:
    """Return the groups of vectors [n, D] that are connected at a similarity of ``same``, by their first, each ascending."""
    near = vectors @ vectors.T >= same
    group = np.full(len(vectors), -1)
    for n in range(len(vectors)):
        edge = [n] if group[n] < 0 else []
        while edge:
            group[edge] = n
            edge = np.flatnonzero(near[edge].any(0) & (group < 0)).tolist()
    members: dict[int, list[int]] = {}
    for n, first in enumerate(group.tolist()):
        members.setdefault(first, []).append(n)
    return list(members.values())
