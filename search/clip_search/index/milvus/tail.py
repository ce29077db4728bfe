"""Rows that a Milvus server hasn't indexed yet, or hasn't got yet, and rows that it hasn't forgotten yet."""

import threading

import numpy as np

from clip_search.arrays import Floats, Mask, Rows, present
from clip_search.index.part import Tail


class Unsettled:
    """New rows with their vectors, of which the first ones were sent, and deleted rows; safe to use from several threads.

    A search reads :attr:`tail` and :attr:`gone` before it asks the server: what moves is found twice rather than never.
    """

    def __init__(self, size: int) -> None:
        self._size, self._lock = size, threading.Lock()
        self.tail = Tail.empty(size)
        self.gone = np.empty(0, np.int64)  # deleted rows that the server may still give, ascending
        self.sent = -1  # last row that the server has

    def append(self, rows: Rows, vectors: Floats) -> None:
        """Take in new rows."""
        with self._lock:
            self.tail = self.tail.append(rows, vectors)

    def hide(self, rows: Rows) -> None:
        """Hide deleted rows."""
        with self._lock:
            self.gone = np.union1d(self.gone, rows)
            self.tail.hide(rows)
            self.tail = self.tail.packed()

    def begin(self, rows: Rows, vectors: Floats, sent: int) -> None:
        """Start over with these rows, all after those that the server has indexed, and what came after them meanwhile."""
        with self._lock:
            later = self.tail.after(sent) if self.tail.count else None
            self.tail = Tail.empty(self._size)
            if len(rows):
                self.tail = self.tail.append(rows, vectors)
            if later is not None and later.count:
                self.tail = self.tail.append(later.rows[: later.count], later.matrix[: later.count])
                self.tail.keep(np.union1d(rows, later.alive_rows()))
            self.tail.hide(self.gone)
            self.sent = sent

    def waiting(self) -> tuple[Rows, Floats]:
        """Return the rows that weren't sent, with their vectors."""
        with self._lock:
            rows = self.tail.alive_rows()
            rows = rows[rows > self.sent]
            return rows, self.tail.vectors(rows)[1]

    def count_waiting(self) -> int:
        """Return the number of rows that weren't sent."""
        return int(np.count_nonzero(self.tail.alive_rows() > self.sent))

    def note_sent(self, last: int) -> None:
        """Note that the server has all rows up to one."""
        self.sent = max(self.sent, last)

    def settle(self, last: int) -> None:
        """Drop rows up to one: the server has indexed them."""
        with self._lock:
            self.tail = self.tail.after(last)

    def forget(self, rows: Rows) -> None:
        """Drop deleted rows that the server doesn't give any more."""
        with self._lock:
            self.gone = np.setdiff1d(self.gone, rows)

    def is_gone(self, rows: Rows) -> Mask:
        """Tell which rows are deleted, bool [n]."""
        return present(self.gone, rows)
