"""Choice of the parts that are indexed anew, in one with the rows behind them."""

from __future__ import annotations

import itertools

from clip_search.index.part import Part
from clip_search.index.snapshot import Snapshot

_HIDDEN_SHARE, _BUSY_SHARE = 0.3, 0.6
"""Shares of hidden rows from which a part is indexed anew: at rest, and while rows keep coming: a build is felt then."""
_WORTH_SHARE = 0.0625
"""Rows behind a part, as a share of its own, from which on one index of all is searched noticeably faster than two."""


def pending_rows(now: Snapshot) -> int:
    """Return the number of new rows that wait for their index, in the tail and in files; hidden ones don't count."""
    return now.tail.count - now.tail.dead + sum(len(part.rows) - part.dead for part in pending(now))


def pending(now: Snapshot) -> list[Part]:
    """Return the parts of new rows, the latest first."""
    return list(itertools.takewhile(lambda part: part.is_pending, reversed(now.parts)))


def must_go(part: Part, *, is_busy: bool) -> bool:
    """Tell if a part has to be indexed anew whatever else there is."""
    return part.makeshift or part.is_lost or part.dead > (_BUSY_SHARE if is_busy else _HIDDEN_SHARE) * len(part.rows)


def start(now: Snapshot) -> int:
    """Return the first row of the next part: that of new rows, or an earlier part's that isn't larger than all after it.

    So each row is indexed anew only when what it lies in doubles.
    """
    waiting = pending(now)
    first = waiting[-1].first if waiting else int(now.tail.rows[0])
    rows = now.tail.count + sum(len(part.rows) for part in waiting)
    for part in now.parts[len(now.parts) - len(waiting) - 1 :: -1] if len(waiting) < len(now.parts) else ():
        if len(part.rows) > rows:
            break
        first, rows = part.first, rows + len(part.rows)
    return first


def joint(now: Snapshot) -> int | None:
    """Return the first row of the parts that are worth merging while nothing else is to be done; None if there are none.

    A search compares with a share of a part's vectors that falls with its size: of a million in one part with a fifth, in two
    parts with a third to a half of each.
    """
    parts = now.parts
    for n, part in enumerate(parts[:-1]):
        if sum(len(later.rows) for later in parts[n + 1 :]) >= _WORTH_SHARE * len(part.rows):
            return part.first
    return None
