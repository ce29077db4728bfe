"""Process that reads large bodies of rows: millions of numbers would hold Python, and all searches with it.

A body comes as a descriptor of its file, over a socket. Back go pickled frames: the options and the number of rows, or an
error; then rows in batches, each with the numbers of its vectors in one array.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from typing import IO, Any

import numpy as np

from clip_client.errors import ClipError, Unavailable
from clip_search.items import Item
from clip_search.thread_priority import step_back
from clip_search.web.row_parser import Rows, parsed_rows

_BATCH_ROWS, _BATCH_BYTES = 256, 2**20  # of a frame, which holds Python for a millisecond while it is read
_IDLE_S = 60.0  # without a body, until the process ends
_PATIENCE_S = 120.0  # for the next frame: a process that is halted is ended
_TRIES = 2
_Row = Item | ClipError


class RowProcess:
    """Handle of the process, which is begun by the first body and ends after a while without one; used by any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # one body at a time
        self._process: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None

    def parsed_rows(self, body: IO[bytes]) -> Rows:
        """As :func:`clip_search.web.row_parser.parsed_rows`, of a file on a disk, at its start.

        Raises:
            InvalidInput: as there.
            Unavailable: the process ended, and did so again: it may have had no memory.
        """
        with self._lock:
            for _ in range(_TRIES):
                try:
                    return self._asked(body)
                except (OSError, EOFError):  # it ended: idle for long, or killed
                    self._end()
        raise Unavailable("the process that reads large bodies ended: send fewer rows at once, or try again")

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def _asked(self, body: IO[bytes]) -> Rows:
        line = self._line or self._begin()
        body.seek(0)
        socket.send_fds(line, [b"."], [body.fileno()])
        frames = Connection(os.dup(line.fileno()), writable=False)
        with frames:
            head = _received(frames)
            if isinstance(head, ClipError):
                raise head
            options, count = head
            rows: list[_Row] = []
            while len(rows) < count:
                rows += _whole(*_received(frames))
        return rows, options

    def _begin(self) -> socket.socket:
        self._line, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                cwd=os.sep,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONSAFEPATH": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        return self._line

    def _end(self) -> None:
        if self._line:
            self._line.close()
        if self._process:
            self._process.kill()
            self._process.wait()
        self._line = self._process = None


def _received(frames: Connection) -> Any:
    if not frames.poll(_PATIENCE_S):
        raise TimeoutError
    return pickle.loads(frames.recv_bytes())  # noqa: S301  (our own process wrote it)


def _whole(rows: list[_Row], places: list[tuple[int, Any, int]], numbers: Any) -> list[_Row]:
    """Give rows of a frame their vectors back, float32 each."""
    start = 0
    for at, tower, size in places:
        row = rows[at]
        assert isinstance(row, Item)  # noqa: S101  (an error has no vectors)
        row.vectors[tower] = numbers[start : start + size]
        start += size
    return rows


def _frames(body: bytes) -> Iterator[Any]:
    """Yield what answers a body."""
    try:
        rows, options = parsed_rows(body)
    except ClipError as problem:
        yield problem
        return
    yield options, len(rows)
    for batch in _batches(rows):
        yield _parted(batch)


def _batches(rows: Sequence[_Row]) -> Iterator[list[_Row]]:
    batch: list[_Row] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += len(row.image.value) if isinstance(row, Item) and row.image else 0
        if len(batch) == _BATCH_ROWS or size > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _parted(batch: list[_Row]) -> tuple[list[_Row], list[tuple[int, Any, int]], Any]:
    """Take the vectors out of rows: where they belong, and their numbers in one array."""
    places, vectors = [], [np.empty(0, np.float32)]
    with np.errstate(over="ignore"):  # becomes infinity, which is refused like any other
        for at, row in enumerate(batch):
            if isinstance(row, Item):
                for tower, values in row.vectors.items():
                    vectors.append(np.asarray(values, np.float32))
                    places.append((at, tower, len(vectors[-1])))
                row.vectors.clear()
    return batch, places, np.concatenate(vectors)


def _serve(line: socket.socket) -> None:
    """Answer bodies until the other side is gone, or for a while without one."""
    while select.select([line], [], [], _IDLE_S)[0]:
        _, descriptors, _, _ = socket.recv_fds(line, 1, 1)
        if not descriptors:
            return
        with open(descriptors[0], "rb") as file:
            body = file.read()
        with Connection(os.dup(line.fileno()), readable=False) as frames:
            for frame in _frames(body):
                frames.send_bytes(pickle.dumps(frame, pickle.HIGHEST_PROTOCOL))


if __name__ == "__main__":
    for _number in (signal.SIGINT, signal.SIGTERM):  # for the sidecar, which may be told for both
        signal.signal(_number, signal.SIG_IGN)
    step_back()
    _serve(socket.socket(fileno=int(sys.argv[1])))
