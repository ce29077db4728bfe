"""Interface of inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from clip_embed.chunks import Chunk
from clip_embed.places import Place

PartOf = Mapping[str, Any]
"""Piece of an input, in JSON: enough to read it in another process, on another machine."""


@dataclass
class Plan:
    """Parts of an input, and what all of them have in common.

    Attributes:
        parts: in the input's order.
        schema: of the own columns.
        has_pictures, has_texts: its items may have some.
        lists: items of parts that were listed while planning; see :class:`clip_embed.inputs.lists.Lists`.
        left_out: reasons by name, of what can't be part of any.
    """

    parts: list[PartOf]
    schema: pa.Schema
    has_pictures: bool
    has_texts: bool
    lists: Iterable[pa.Table] = ()
    left_out: dict[str, str] = field(default_factory=dict)


class Input(Protocol):
    """Items of one kind of input.

    Attributes:
        kind: name of the kind.
        settings: in JSON, of which another process makes the same input.
    """

    kind: str

    @property
    def settings(self) -> dict[str, Any]: ...  # noqa: D102

    def plan(self, part_items: int) -> Plan:
        """Look through the input once.

        Args:
            part_items: about as many items as a part should have, where the input has no parts of its own.

        Raises:
            InvalidInput: there is nothing to embed in it, or it lacks a column.
            Unavailable: it can't be reached.
        """

    def chunks(self, part: PartOf, schema: pa.Schema, place: Place) -> Iterator[Chunk]:
        """Read a part; ``place`` has the lists.

        Raises:
            SourceProblem: the part ends early, by its own fault.
            OSError, ClipError: it can't be read now; another time it may.
        """
