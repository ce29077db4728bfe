"""Held-out clicks: rows of a feedback export that can be judged, and the books of those that can't."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clip_client.counting import counted
from clip_client.errors import InvalidInput

_POSITIONS = pa.list_(pa.int64())
_NEEDED = {"text": pa.string(), "shown": pa.list_(pa.string()), "chosen": _POSITIONS}
_OPTIONAL = {"marked_wrong": _POSITIONS, "weights": pa.list_(pa.float64()), "model": pa.string()}
_EXPECTED = f"expected the columns {', '.join(_NEEDED)} of a feedback export, or the file that clipserve learn held out"


@dataclass(frozen=True)
class Row:
    """Answer to one text query, and what was chosen of it.

    Attributes:
        text: the query.
        shown: ids in their order.
        chosen: positions in ``shown``, from 0.
        weights: of each of them; the inverse of the probability that its position was looked at.
    """

    text: str
    shown: Sequence[str]
    chosen: Sequence[int]
    weights: Sequence[float]

    @property
    def topic(self) -> str:
        """The query without the differences of capitals and spaces: rows of one topic aren't independent."""
        return " ".join(self.text.split()).casefold()


@dataclass(frozen=True)
class Clicks:
    """Rows of a file, and why others were left out.

    Attributes:
        source: the file.
        rows: that can be judged.
        left_out: number of rows by the reason.
        weighted: the file has weights; else each choice counts 1.
    """

    source: Path
    rows: Sequence[Row]
    left_out: Mapping[str, int]
    weighted: bool

    @property
    def read(self) -> int:
        """Number of rows in the file."""
        return len(self.rows) + sum(self.left_out.values())

    @property
    def topics(self) -> int:
        """Number of different queries."""
        return len({row.topic for row in self.rows})

    @property
    def shown(self) -> set[str]:
        """All ids that were shown."""
        return {id for row in self.rows for id in row.shown}

    def of(self, pictures: Collection[str]) -> Clicks:
        """Return the rows whose chosen pictures are there, each with those of the shown that are."""
        kept = []
        for row in self.rows:
            there = [position for position, id in enumerate(row.shown) if id in pictures]
            if len(there) > 1 and {*row.chosen} <= {*there}:
                moved = {position: n for n, position in enumerate(there)}
                shown = [row.shown[position] for position in there]
                kept.append(Row(row.text, shown, [moved[position] for position in row.chosen], row.weights))
        gone = len(self.rows) - len(kept)
        left_out = {**self.left_out, "a picture that was chosen has no vector": gone} if gone else self.left_out
        return Clicks(self.source, kept, left_out, self.weighted)

    def books(self) -> str:
        """Return one line: read = judged + left out."""
        reasons = "".join(f"; {count} left out: {reason}" for reason, count in self.left_out.items())
        chosen = sum(len(row.chosen) for row in self.rows)
        return (
            f"{counted(self.read, 'row')} read, {len(self.rows)} judged ({counted(chosen, 'choice')}, "
            f"{counted(self.topics, 'query', 'queries')}){reasons}"
        )


def read(path: Path, parent: str) -> Clicks:
    """Read a file of clicks.

    Args:
        path: a feedback export, with ``weights`` parallel to ``chosen`` where clipserve learn wrote it.
        parent: its fingerprint; of a file without weights only rows that it showed count, since an order favours
            the model that made it.

    Raises:
        InvalidInput: if there is no such file, or it isn't a feedback export.
    """
    table = columns(path, _NEEDED, _OPTIONAL, _EXPECTED)
    weighted = "weights" in table.column_names
    rows, left_out = [], Counter[str]()
    for fields in _rows(table):
        if reason := _flaw(fields, weighted, parent):
            left_out[reason] += 1
            continue
        weights = fields["weights"] if weighted else [1.0] * len(fields["chosen"])
        rows.append(Row(fields["text"], fields["shown"], fields["chosen"], weights))
    return Clicks(path, rows, dict(left_out), weighted)


def columns(path: Path, needed: Mapping[str, Any], optional: Mapping[str, Any], expected: str) -> Any:
    """Read columns of a parquet file as given types.

    Raises:
        InvalidInput: if there is no such file, or it has other columns.
    """
    try:
        names = pq.read_schema(path).names
        if missing := [name for name in needed if name not in names]:
            raise InvalidInput(f"{path} has no column {', '.join(missing)}: {expected}")
        types = {**needed, **{name: kind for name, kind in optional.items() if name in names}}
        table = pq.ParquetFile(path).read(columns=[*types])
        return pa.table({name: table[name].cast(kind) for name, kind in types.items()}, metadata=table.schema.metadata)
    except FileNotFoundError as problem:
        raise InvalidInput(f"there is no file {path}: {expected}") from problem
    except (OSError, ValueError, TypeError, NotImplementedError, MemoryError) as problem:  # pyarrow's errors are some of these
        if isinstance(problem, InvalidInput):
            raise
        raise InvalidInput(f"{path} can't be read ({str(problem)[:200]}): {expected}") from problem


def _rows(table: Any) -> Iterator[dict[str, Any]]:
    for batch in table.to_batches(max_chunksize=1024):
        yield from batch.to_pylist()


def _flaw(fields: Mapping[str, Any], weighted: bool, parent: str) -> str:
    """Return the reason that a row can't be judged; empty if it can."""
    text, shown, chosen = fields["text"], fields["shown"] or [], fields["chosen"] or []
    if not text or not text.strip():
        return "the query isn't one text"
    if not chosen:
        return "nothing was chosen"
    if len(shown) < 2:
        return "fewer than two pictures were shown"
    if None in shown or len({*shown}) < len(shown) or not _are_positions(chosen, len(shown)):
        return "an id is missing or shown twice, or a position isn't in the list"
    if {*chosen} & {*(fields.get("marked_wrong") or [])}:
        return "a picture is both chosen and marked wrong"
    if weighted and not _are_weights(fields["weights"], len(chosen)):
        return "its weights aren't a positive number for each choice"
    if not weighted and fields.get("model") and fields["model"] != parent:
        return "another model than the baseline showed it, and it has no weights"
    return ""


def _are_positions(chosen: Sequence[int | None], count: int) -> bool:
    return len({*chosen}) == len(chosen) and all(position is not None and 0 <= position < count for position in chosen)


def _are_weights(weights: Sequence[float | None] | None, count: int) -> bool:
    return (
        weights is not None
        and len(weights) == count
        and all(weight is not None and math.isfinite(weight) and weight > 0 for weight in weights)
    )
