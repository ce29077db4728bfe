"""Chunks: some items of an input, in its order, with their own columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

import pyarrow as pa

ROWS = 32
"""Items of a chunk: the largest batch that is published, and all that an engine gets at once."""

Picture = bytes | str
"""Content of an encoded file, or its URL or path."""

_T = TypeVar("_T")


@dataclass
class Chunk:
    """Items in their order; all lists are of the same length.

    Attributes:
        names: of the items in messages.
        pictures: None for an item that has none.
        texts: captions; None for an item that has none.
        own: columns of the input, of its schema.
        problems: reasons by position, of items that can't be used.
        notes: reasons by position, of items that are used without a part of them.
    """

    names: Sequence[str]
    pictures: Sequence[Picture | None]
    texts: Sequence[str | None]
    own: pa.RecordBatch
    problems: dict[int, str] = field(default_factory=dict)
    notes: dict[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)


class SourceProblem(Exception):
    """A part of an input ends early, by its own fault: what came before is whole, what follows is lost.

    Args:
        name: of the file.
        reason: told to the user.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name, self.reason = name, reason


def batched(items: Iterable[_T], size: int = ROWS) -> Iterator[list[_T]]:
    """Yield lists of ``size`` items, the last one shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def no_columns(rows: int) -> pa.RecordBatch:
    """Return a batch of rows without columns."""
    return pa.RecordBatch.from_struct_array(pa.array([{}] * rows, pa.struct([])))


def text_of(value: Any) -> str | None:
    """Return a caption; None for a null or an empty one."""
    return str(value).strip() or None if value is not None else None
