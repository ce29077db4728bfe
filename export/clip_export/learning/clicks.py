"""Rows of feedback that can be learned from, and the books of those that can't."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from clip_client.tokens import TEXT_BYTES
from clip_export.baseline.clicks import columns

_POSITIONS = pa.list_(pa.int64())
_NEEDED = {"text": pa.string(), "shown": pa.list_(pa.string()), "chosen": _POSITIONS}
_OPTIONAL = {"query_id": pa.string(), "marked_wrong": _POSITIONS, "model": pa.string(), "space": pa.string()}
_EXPECTED = f"expected the columns {', '.join(_NEEDED)} of a feedback export"

NO_TEXT = "the query is no text alone"
LONG_TEXT = "the query is empty or too long"
OTHER_SPACE = "shown by a model of another space"
FORGED = "a position is outside of what was shown, or a picture is there twice"
NOTHING = "nothing was chosen or marked as wrong"
CONTRADICTORY = "contradictory: chosen and marked as wrong"
UNKNOWN = "what was chosen is no row of the collection"


@dataclass(frozen=True)
class Row:
    """Answer to one text query, and what was chosen of it.

    Attributes:
        number: of the row in the feedback, from 0.
        text: the query.
        shown: ids in their order.
        chosen, wrong: positions in ``shown``, from 0, of what was chosen and what was marked as wrong.
    """

    number: int
    text: str
    shown: tuple[str, ...]
    chosen: tuple[int, ...]
    wrong: tuple[int, ...]

    @property
    def topic(self) -> str:
        """The query without the differences of capitals and spaces."""
        return topic_of(self.text)


@dataclass(frozen=True)
class LeftOut:
    """A row of the feedback that isn't learned from."""

    number: int
    query_id: str
    reason: str


@dataclass(frozen=True)
class Clicks:
    """Rows to learn from, and those that were left out."""

    rows: Sequence[Row]
    left_out: Sequence[LeftOut]

    @property
    def reasons(self) -> Mapping[str, int]:
        """Number of rows that were left out, by the reason; most first."""
        return dict(Counter(row.reason for row in self.left_out).most_common())


@dataclass(frozen=True)
class Origin:
    """Fingerprint of the parent, and the space that the collection's vectors are in."""

    fingerprint: str
    space: str

    def showed(self, model: str, space: str) -> bool:
        """Tell if an answer was of this space; one that names nothing is taken for one."""
        return self.space == space if space else model in ("", self.fingerprint, self.space)


def table_of(path: Path) -> pa.Table:
    """Read a feedback export.

    Raises:
        InvalidInput: if there is no such file, or it is none.
    """
    return columns(path, _NEEDED, _OPTIONAL, _EXPECTED)


def usable(table: pa.Table, origin: Origin, known: Mapping[str, int]) -> Clicks:
    """Pick the rows of a feedback export that can be learned from.

    Args:
        table: of :func:`table_of`.
        origin: answers of other spaces are left out.
        known: numbers of the collection's pictures, by id.
    """
    rows: list[Row] = []
    left_out: list[LeftOut] = []
    for number, fields in enumerate(_fields(table)):
        row = _row(number, fields, origin, known)
        if isinstance(row, Row):
            rows.append(row)
        else:
            left_out.append(LeftOut(number, str(fields.get("query_id") or ""), row))
    disputed = _disputed(rows)
    agreed = [undisputed for row in rows if (undisputed := _without(row, disputed))]
    taken = {row.number for row in agreed}
    ids = table["query_id"] if "query_id" in table.column_names else None
    for row in rows:
        if row.number not in taken:
            left_out.append(LeftOut(row.number, str(ids[row.number].as_py() or "") if ids else "", CONTRADICTORY))
    return Clicks(agreed, sorted(left_out, key=lambda row: row.number))


def _fields(table: pa.Table) -> Iterator[dict[str, Any]]:
    for batch in table.to_batches(max_chunksize=1024):
        yield from batch.to_pylist()


def _row(number: int, fields: Mapping[str, Any], origin: Origin, known: Mapping[str, int]) -> Row | str:
    """Return a row, or the reason why it is left out."""
    text, shown = fields["text"], tuple(fields["shown"] or ())
    if text is None:
        return NO_TEXT
    if not text.strip() or len(text.encode("utf-8", "replace")) > TEXT_BYTES:
        return LONG_TEXT
    if not origin.showed(fields.get("model") or "", fields.get("space") or ""):
        return OTHER_SPACE
    chosen, wrong = (tuple(dict.fromkeys(fields.get(name) or ())) for name in ("chosen", "marked_wrong"))
    if _forged(shown, (*chosen, *wrong)):
        return FORGED
    if not chosen and not wrong:
        return NOTHING
    both = {*chosen} & {*wrong}
    chosen, wrong = tuple(n for n in chosen if n not in both), tuple(n for n in wrong if n not in both)
    if not chosen and not wrong:
        return CONTRADICTORY
    there = tuple(n for n in chosen if shown[n] in known), tuple(n for n in wrong if shown[n] in known)
    return Row(number, text, shown, *there) if any(there) else UNKNOWN


def _forged(shown: Sequence[str | None], positions: Sequence[int | None]) -> bool:
    if None in shown or len({*shown}) < len(shown):
        return True
    return not all(n is not None and 0 <= n < len(shown) for n in positions)


def _disputed(rows: Sequence[Row]) -> set[tuple[str, str]]:
    """Return the pairs of a topic and a picture that are marked as wrong at least as often as they are chosen."""
    votes: dict[tuple[str, str], int] = defaultdict(int)
    marked: set[tuple[str, str]] = set()
    for row in rows:
        for position in row.chosen:
            votes[row.topic, row.shown[position]] += 1
        for position in row.wrong:
            votes[row.topic, row.shown[position]] -= 1
            marked.add((row.topic, row.shown[position]))
    chosen = {(row.topic, row.shown[position]) for row in rows for position in row.chosen}
    return {pair for pair in marked & chosen if votes[pair] <= 0}


def _without(row: Row, disputed: set[tuple[str, str]]) -> Row | None:
    """Return a row without what others contradict; None if nothing is left of it."""
    kept = [tuple(n for n in some if (row.topic, row.shown[n]) not in disputed) for some in (row.chosen, row.wrong)]
    return Row(row.number, row.text, row.shown, *kept) if any(kept) else None


def topic_of(text: str) -> str:
    """Return a text without the differences of capitals and spaces."""
    return " ".join(text.split()).casefold()


def is_held_out(topic: str, share: float, seed: int) -> bool:
    """Tell if the rows of a topic are kept for judging; the same each time for the same seed."""
    digest = hashlib.sha256(f"{seed} {topic}".encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64
