"""Digest of weight files, and numbers in them that aren't finite: one pass."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from clip_export.checkpoints.file_names import SAFETENSORS

_BLOCK = 2**22  # bytes; whole numbers of every type
_MOST_HEADER = 10**8  # safetensors' own limit

_EXPONENTS: dict[str, tuple[str, int]] = {
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
    "F32": ("<u4", 0x7F80_0000),
    "F64": ("<u8", 0x7FF0_0000_0000_0000),
}
"""By safetensors' name of a type: the integers of its size, and the bits that are all set in NaN and infinity."""


@dataclass(frozen=True)
class Digested:
    """Weight files, read once.

    Attributes:
        sha256: over their contents.
        unsound: ``NaN`` or ``infinity``, by the name of a tensor that has any.
    """

    sha256: str
    unsound: dict[str, str]


def digest(files: Sequence[Path]) -> str:
    """Return the SHA-256 over the contents of several files."""
    sha256 = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            for block in _blocks(file):
                sha256.update(block)
    return sha256.hexdigest()


def digested(files: Sequence[Path]) -> Digested:
    """Return the same digest, and the tensors of safetensors files with numbers that aren't finite."""
    sha256, unsound = hashlib.sha256(), {}
    for path in files:
        with path.open("rb") as file:
            tensors = _tensors(file) if path.suffix == SAFETENSORS else []
            file.seek(0)
            for name, kind, size in tensors:
                for block in _blocks(file, size):
                    sha256.update(block)
                    if name not in unsound and (flaw := _flaw(block, kind)):
                        unsound[name] = flaw
            for block in _blocks(file):
                sha256.update(block)
    return Digested(sha256.hexdigest(), unsound)


def _tensors(file: BinaryIO) -> list[tuple[str, str, int]]:
    """Return name, type and bytes of everything in a safetensors file, in its order; nothing where it isn't whole.

    The format: eight bytes with the length of a JSON header, the header, the tensors without gaps.
    """
    length = int.from_bytes(file.read(8), "little")
    try:
        header = json.loads(file.read(length)) if length <= _MOST_HEADER else {}
        entries = [
            (name, fields["dtype"], *fields["data_offsets"]) for name, fields in header.items() if name != "__metadata__"
        ]
        return [("", "", 8 + length), *_in_order(entries)]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):  # safetensors tells what is wrong with it
        return []


def _in_order(entries: list[tuple[Any, ...]]) -> Iterator[tuple[str, str, int]]:
    position = 0
    for name, kind, begin, end in sorted(entries, key=lambda entry: entry[2:]):
        if begin != position or end < begin:
            raise ValueError("expected tensors without gaps")
        position = end
        yield name, kind, end - begin


def _blocks(file: BinaryIO, size: int | None = None) -> Iterator[bytes]:
    """Yield so many bytes of a file in blocks, or all the rest."""
    left = size
    while block := file.read(_BLOCK if left is None else min(_BLOCK, left)):
        yield block
        left = None if left is None else left - len(block)


def _flaw(block: bytes, kind: str) -> str:
    if kind not in _EXPONENTS:
        return ""
    integers, exponent = _EXPONENTS[kind]
    width = np.dtype(integers).itemsize
    bits: npt.NDArray[Any] = np.frombuffer(block, integers, len(block) // width)
    odd = bits[(bits & exponent) == exponent]
    lowest = exponent & -exponent
    return "" if not len(odd) else "NaN" if (odd & (lowest - 1)).any() else "infinity"
