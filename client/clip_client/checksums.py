"""Checksums of answers, made where a step of a server runs: bytes that change on their way through its memory are noticed.

Triton hands tensors to its Python processes, and back, in memory that they share; one that crashes may write where another
request's answer lies. So each step tells, of each row, the checksum of what came in and of what it gives.

Both sides have to sum up alike: another formula needs outputs of another name.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Sums = npt.NDArray[np.int64]

_WORD = np.dtype("<i8")

_SHORT_BYTES = 2**12
"""Longest string whose CRC-32 is cheaper than a sum of its words, which is some thirty times as fast a byte."""


def of_array(batch: npt.NDArray[Any]) -> Sums:
    """Return the sum of the 64-bit words of each row, int64 [N], of an array [N, ...]; zeros fill up its last word."""
    rows = np.ascontiguousarray(batch, batch.dtype.newbyteorder("<")).reshape(len(batch), -1).view(np.uint8)
    if missing := -rows.shape[1] % 8:
        rows = np.pad(rows, ((0, 0), (0, missing)))
    return np.asarray(rows.view(_WORD).sum(1), np.int64)


def of_strings(strings: Iterable[bytes], *told: Iterable[bytes]) -> Sums:
    """Return checksums, int64 [N], of N strings that came in, each with what is told of it: its error, its origin."""
    return np.array([_with(_of_string(string), beside) for string, *beside in zip(strings, *told, strict=True)], np.int64)


def checksum_tensor(came: Sums, went: npt.NDArray[Any]) -> Sums:
    """Return the tensor INT64 [N, 2] of a step: checksums of what came in, and of the array [N, ...] that it gives."""
    return np.stack([came, of_array(went)], 1)


def is_damaged(came: Sums, steps: Sequence[Sums], embeddings: npt.NDArray[Any] | None) -> bool:
    """Return true if what went in, the tensors of the steps, and what came out don't follow from each other.

    Args:
        came: checksums of what was sent.
        steps: tensors of :func:`checksum_tensor` in order.
        embeddings: answer, [N, D]; None if its step tells none.
    """
    sums = [came, *itertools.chain.from_iterable((step[:, 0], step[:, 1]) for step in steps)]
    if embeddings is not None:
        sums.append(of_array(embeddings))
    return any(not np.array_equal(left, right) for left, right in zip(sums[::2], sums[1::2], strict=False))


def _with(checksum: int, beside: Iterable[bytes]) -> int:
    for string in beside:
        checksum = zlib.crc32(string, checksum)
    return checksum


def _of_string(string: bytes) -> int:
    if len(string) <= _SHORT_BYTES:
        return zlib.crc32(string)
    words = len(string) // 8
    start = np.array([len(string), np.frombuffer(string, _WORD, words).sum()], _WORD)
    return zlib.crc32(string[8 * words :], zlib.crc32(start.tobytes()))
