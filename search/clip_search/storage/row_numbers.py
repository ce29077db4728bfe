"""Row numbers, each given once in the life of a table: a block is noted in the table before its first is given."""

from clip_search.storage.schema import reservation, reserved
from clip_search.storage.table import Table

BLOCK = 100_000  # numbers in a block. A restart goes on with the next block: numbers given of the last aren't noted
_MOST_IN_A_COMMIT = 2**24  # bound on rows a commit in tables without a note; their version tells the number of commits


class RowNumbers:
    """Numbers of new rows, ascending; used by one thread at a time, :meth:`agree` first.

    Whatever keeps something by a row's number (indexes, cards, caches of browsers) needs never doubt whose it is.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._next = 0
        self._noted: int | None = None

    def agree(self, seen: int) -> None:
        """Continue after row ``seen``, and after all numbers that may have been given before."""
        noted = reserved(self._table.schema)
        if noted is None:
            self._next = max(self._next, _MOST_IN_A_COMMIT * (self._table.version + 1))
        elif noted != self._noted:
            self._next = max(self._next, noted)
        self._next = max(self._next, seen + 1)
        self._noted = noted

    def take(self, count: int) -> int:
        """Return the first of ``count`` numbers that are never given again; raise Unavailable if the table can't be written."""
        first, end = self._next, self._next + count
        if end > (self._noted or 0):
            noted = (end // BLOCK + 1) * BLOCK
            self._table.note(reservation(noted))
            self._noted = noted
        self._next = end
        return first
