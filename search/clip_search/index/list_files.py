"""Files of inverted lists: written in the order of the lists with little memory, read where they are needed.

A list's codes come first, then its vectors' numbers, as faiss reads lists from a file. Numbers are those of the order in the
file, so that no table tells where a vector lies. Half-precision vectors in the same order have a file beside shorter codes.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from clip_search.arrays import Codes, Floats, Positions, Rows
from clip_search.index.kinds import NUMBERED_BYTES
from clip_search.storage import derived_files
from clip_search.storage.derived_files import Sink, Sums

LISTS, VECTORS, STARTS, ROWS, BLOCKS = "lists.bin", "vectors.f16", "starts.npy", "rows.npy", "blocks.npy"
CHECKED_LATER_BYTES = 256 * 2**20
"""Size of a file from which on it isn't read through when it is opened: its blocks are checked while it is served."""
_BUCKET_BYTES, _MOST_BUCKETS = 32 * 2**20, 256
"""Size of a file that is sorted at a time, and the files that are open at once."""
_RECORDS = 16_384  # that are copied at a time: whole blocks of packed codes


class SummedFile:
    """New file whose checksums are those of the bytes that were to be written."""

    def __init__(self, path: Path) -> None:
        self._file, self._sink = path.open("xb"), Sink()

    def write(self, content: Any) -> int:
        """Append bytes."""
        self._file.write(content)
        return self._sink.write(content)

    def close(self) -> Sums:
        """Close the file and return its checksums."""
        self._file.close()
        return self._sink.sums()

    def __enter__(self) -> SummedFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()


def write_blocks(folder: Path, sums: Mapping[str, Sums]) -> Sums:
    """Write the checksums of all blocks of the large files; return those of the file that has them."""
    running = [number for name in (LISTS, VECTORS) if name in sums for number in sums[name].running]
    with SummedFile(folder / BLOCKS) as file:
        np.lib.format.write_array(file, np.array(running, np.uint32), allow_pickle=False)
        return file.close()


def checked(folder: Path, expected: Mapping[str, str]) -> dict[str, Sums]:
    """Return the checksums of a part's files, but for blocks of large ones, which are checked later.

    Raises:
        derived_files.Damaged: a file isn't what was written.
    """
    large = {name for name in (LISTS, VECTORS) if name in expected and _size(expected[name]) > CHECKED_LATER_BYTES}
    large = large if BLOCKS in expected else set()
    sums = {name: derived_files.check(folder / name, text) for name, text in expected.items() if name not in large}
    blocks = np.load(folder / BLOCKS, allow_pickle=False).tolist() if large else []
    for name in (each for each in (LISTS, VECTORS) if each in expected and large):
        size = _size(expected[name])
        count = -(-size // derived_files.BLOCK_BYTES)
        own, blocks = Sums(size, tuple(blocks[:count])), blocks[count:]
        if str(own) != expected[name]:
            raise derived_files.Damaged(f"{folder / name} has other checksums than were written")
        if name in large:
            own.check_block(folder / name, count - 1)
            sums[name] = own
    return sums


def _size(text: str) -> int:
    """Return the size that checksums tell as text."""
    return int(text.partition("-")[0])


class Packing(Protocol):
    """Number of lists, bytes of a code, and the way in which codes [n, code_bytes] lie in a list."""

    count: int
    code_bytes: int

    def packed(self, codes: Codes) -> Codes:
        """Return codes as they are written."""


class Buckets:
    """Vectors on their way into the order of their lists, in a file for each range of lists.

    Args:
        folder: of the files, which must be there.
        lists: empty ones, trained.
        rows: about how many vectors will come.
        size: numbers in a vector that is kept beside its code; 0 if the code is the vector.
    """

    def __init__(self, folder: Path, lists: Packing, rows: int, size: int) -> None:
        fields = [
            ("list", np.int32),
            ("row", np.int64),
            ("code", np.uint8, (lists.code_bytes,)),
            ("vector", np.float16, (size,)),
        ]
        self._record = np.dtype(fields)
        count = min(_MOST_BUCKETS, lists.count, 1 + rows * self._record.itemsize // _BUCKET_BYTES)
        self._bounds = np.linspace(0, lists.count, count + 1).astype(np.int64)
        self._folder, self._lists, self._has_vectors = folder, lists, bool(size)
        self._files = [(folder / f"bucket-{number}").open("w+b") for number in range(count)]

    def put(self, lists: Positions, rows: Rows, codes: Codes, vectors: Floats) -> None:
        """Take vectors [n, D] with their lists and rows, both int64 [n], and codes [n, code_bytes]."""
        records = np.empty(len(rows), self._record)
        records["list"], records["row"], records["code"] = lists, rows, codes
        if self._has_vectors:
            records["vector"] = vectors
        records = records[np.argsort(lists, kind="stable")]
        ends = np.searchsorted(records["list"], self._bounds)
        for file, start, end in zip(self._files, ends[:-1], ends[1:], strict=True):
            file.write(records[start:end].tobytes())

    def write(self) -> tuple[dict[str, Sums], Positions, Rows]:
        """Write the files of the lists; return their checksums, the starts of the lists [lists + 1], and the rows in order."""
        counts, rows = np.zeros(self._lists.count, np.int64), [np.empty(0, np.int64)]
        with SummedFile(self._folder / LISTS) as lists, SummedFile(self._folder / VECTORS) as vectors:
            for file in self._files:
                records = _mapped(file, self._record)
                order = np.argsort(records["list"], kind="stable")
                for number, own in _by_list(records["list"], order):
                    for first in range(0, len(own), _RECORDS):
                        taken = records[own[first : first + _RECORDS]]
                        lists.write(self._lists.packed(taken["code"]).tobytes())
                        vectors.write(taken["vector"].tobytes())
                    start = sum(map(len, rows))
                    rows.append(records["row"][own])
                    lists.write(np.arange(start, start + len(own)).tobytes())
                    counts[number] = len(own)
                rows = [np.concatenate(rows)]
                _remove(file)
            sums = {LISTS: lists.close(), VECTORS: vectors.close()}
        if not self._has_vectors:
            (self._folder / VECTORS).unlink()
            del sums[VECTORS]
        return sums, np.concatenate([[0], np.cumsum(counts)]), rows[0]

    def close(self) -> None:
        """Close and remove what is left after a failure."""
        for file in self._files:
            _remove(file)


def _mapped(file: Any, record: Any) -> Any:
    """Return the records of a bucket, which is read where it lies: all may be of one list."""
    file.flush()
    return np.memmap(file, record, mode="r") if os.path.getsize(file.name) else np.empty(0, record)


def _remove(file: Any) -> None:
    file.close()
    Path(file.name).unlink(missing_ok=True)


def _by_list(lists: Any, order: Positions) -> Iterator[tuple[int, Positions]]:
    """Yield each list with the places of its records, of lists [n] in an order."""
    ascending = lists[order]
    starts = np.flatnonzero(np.diff(ascending, prepend=-1))
    for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
        yield int(ascending[start]), order[start:end]


class ListVectors:
    """Half-precision vectors in the order of the lists, read from their file.

    Args:
        folder: of the files.
        starts: int64 [lists + 1], number of each list's first vector.
        size: numbers in a vector.
        apart: if the vectors have a file of their own, else they are the codes in the lists.
    """

    def __init__(self, folder: Path, starts: Positions, size: int, *, apart: bool) -> None:
        self._starts, self._size, self._apart = starts, size, apart
        with (folder / (VECTORS if apart else LISTS)).open("rb") as file:
            self._file = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._numbers = np.frombuffer(self._file, np.float16)

    def take(self, positions: Positions) -> Floats:
        """Return the vectors at these positions, float32 [n, D]."""
        if self._apart:
            return self._numbers.reshape(-1, self._size)[positions].astype(np.float32)
        taken = np.empty((len(positions), self._size), np.float32)
        for row, place in zip(taken, self._places(positions).tolist(), strict=True):
            row[:] = self._numbers[place : place + self._size]
        return taken

    def read(self, start: int, end: int) -> Floats:
        """Return the vectors of a range of positions, float32 [n, D]; their file's pages don't stay in memory."""
        vectors = np.empty((end - start, self._size), np.float32)
        inner = self._starts[(self._starts > start) & (self._starts < end) & (not self._apart)]
        bounds = np.unique([start, *inner, end])
        places = self._places(bounds[:-1])
        for first, last, place in zip(bounds[:-1], bounds[1:], places, strict=True):
            own = self._numbers[place : place + (last - first) * self._size]
            vectors[first - start : last - start] = own.reshape(-1, self._size)
        page = int(places[0]) * 2 // mmap.PAGESIZE * mmap.PAGESIZE
        self._file.madvise(mmap.MADV_DONTNEED, page, int(places[-1]) * 2 - page + 2 * self._size)
        return vectors

    def _places(self, positions: Positions) -> Positions:
        """Return the places of vectors in the file, in numbers of half precision."""
        places = positions * self._size
        if not self._apart:
            lists = np.searchsorted(self._starts, positions, "right") - 1
            places = places + self._starts[lists] * (NUMBERED_BYTES // 2)
        return np.asarray(places, np.int64)
