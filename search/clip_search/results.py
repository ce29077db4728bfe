"""Results of a search: of the rows that an index gives, those that pass, in order, as hits."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clip_client.errors import InvalidInput
from clip_client.spec import Tower
from clip_search.arrays import Floats, Found, Positions, Rows
from clip_search.collection import Collection
from clip_search.options import MAX_RESULTS
from clip_search.query import Hit, Passing, Query, Sort, groups, mixed
from clip_search.storage.schema import HEAVY, unknown_column

Timer = Callable[[str], AbstractContextManager[None]]  # times a step of a search by the name of its histogram
_MOST_SAME = 20  # ids that a hit names of the rows that it stands for


def search(collection: Collection, tower: Tower, query: Query, vectors: Sequence[Floats], timed: Timer) -> list[Hit]:
    """Return the hits of a query whose terms have these vectors, best first unless they are sorted otherwise.

    Raises:
        InvalidInput: a filter, or a column to sort by, that can't be used.
    """
    if query.sort:
        _check_sortable(collection, query.sort.column)
    with timed("knn_index_time"):
        ask = _vector(query, vectors), tower, query.wanted, query.where
        scores, rows = collection.search(*ask, exactly=query.sort is not None or query.is_long)
    keep = ~np.isin(rows, _own(collection, query))
    if query.threshold is not None:
        keep &= scores >= query.threshold
    scores, rows = scores[keep], rows[keep]
    others: dict[int, Rows] = {}
    if query.same:
        with timed("dedup_time"):
            first, others = _folded(rows, collection.engines[tower].vectors(rows), query.same)
        scores, rows = scores[first], rows[first]
    if query.sort:
        order = _sorted(collection, rows, query.sort)
        scores, rows = scores[order], rows[order]
    page = slice(query.offset, query.offset + query.k)
    return hits(collection, (scores[page], rows[page]), query.columns, others)


def passing(collection: Collection, tower: Tower, query: Query, vectors: Sequence[Floats]) -> Passing:
    """Return the number of rows that pass the threshold and the filter, exactly up to 10,000, near duplicates included."""
    own = _own(collection, query)
    engine = collection.engines[tower]
    if query.threshold is None and not query.where:
        count = engine.size() - int(np.count_nonzero(engine.vectors(own).any(1)))
    else:
        most = MAX_RESULTS + 1 + len(own)
        scores, rows = collection.search(_vector(query, vectors), tower, most, query.where, exactly=True)
        keep = ~np.isin(rows, own)
        if query.threshold is not None:
            keep &= scores >= query.threshold
        count = int(np.count_nonzero(keep))
    return Passing(min(count, MAX_RESULTS), count > MAX_RESULTS)


def hits(
    collection: Collection, ranked: Found, columns: Sequence[str] | None = None, others: Mapping[int, Rows] | None = None
) -> list[Hit]:
    """Return hits with their values, without rows that were deleted this instant.

    Args:
        ranked: scores and rows, best first.
        columns: to be returned; all that hits show if None.
        others: further rows that a hit stands for, by its row.
    """
    scores, rows = ranked
    wanted = None if columns is None else ["id", "source", "has_thumbnail", *columns]
    cards = collection.cards.take(rows, wanted)
    values = zip(rows.tolist(), np.clip(scores, -1, 1).tolist(), cards, strict=True)
    same = {row: _ids(collection, others[row]) for row in rows.tolist() if others and row in others}
    return [Hit(row, score, card, same.get(row, ())) for row, score, card in values if card is not None]


def _ids(collection: Collection, rows: Rows) -> tuple[str, ...]:
    return tuple(card["id"] for card in collection.cards.take(rows, ["id"]) if card is not None)


def _folded(rows: Rows, vectors: Floats, same: float) -> tuple[list[int], dict[int, Rows]]:
    """Return the positions of the first of each group of near duplicates, and by its row the rows of the others."""
    members = groups(vectors, same)
    return [first for first, *_ in members], {int(rows[first]): rows[rest[:_MOST_SAME]] for first, *rest in members if rest}


def _vector(query: Query, vectors: Sequence[Floats]) -> Floats:
    return mixed(vectors, [term.weight for term in query.terms])


def _own(collection: Collection, query: Query) -> Rows:
    """Return the rows that are terms of the query themselves."""
    return np.array(sorted({collection.row_of(term.value) for term in query.terms if term.kind == "id"}), np.int64)


def _check_sortable(collection: Collection, column: str) -> None:
    schema = collection.table.schema
    if column not in schema.names or column in HEAVY:
        raise InvalidInput(f"sort: {unknown_column(column, schema)}; leave sort out to have the hits by score")
    if pa.types.is_nested(schema.field(column).type):
        raise InvalidInput(f"sort: column {column} holds lists, which have no order: sort by another column")


def _sorted(collection: Collection, rows: Rows, sort: Sort) -> Positions:
    """Return the positions of ``rows`` (best first) in the order of a column, without those that were deleted this instant."""
    ascending = np.argsort(rows)
    table = collection.cards.table([sort.column], rows[ascending])
    rank = ascending[np.searchsorted(rows[ascending], table["row"].to_numpy())]
    kind = collection.table.schema.field(sort.column).type
    ranked = pa.table({"value": table[sort.column].cast(kind), "rank": rank})
    keys = [("value", "descending" if sort.descending else "ascending"), ("rank", "ascending")]
    return np.asarray(rank[pc.sort_indices(ranked, sort_keys=keys).to_numpy()], np.int64)
