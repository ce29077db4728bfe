"""Interface of outputs, and the rows that they get."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from clip_client.spec import Tower
from clip_embed.places import Place

NAME, CAPTION = "image_path", "caption"
"""Columns that all outputs have, named as clip-retrieval names them; the second where there are captions."""


@dataclass(frozen=True)
class Rows:
    """Rows of one part, in a file: name, caption, own columns, and a vector for each tower.

    Attributes:
        file: Arrow's IPC format.
        count: of the rows.
        towers: columns of vectors, fixed_size_list<float16 or float32>[D]; null where an item has nothing to embed.
    """

    file: Path
    count: int
    towers: tuple[Tower, ...]

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows; one batch is in memory at a time."""
        with pa.memory_map(str(self.file)) as source:
            reader = pa.ipc.open_file(source)
            for n in range(reader.num_record_batches):
                yield reader.get_batch(n)


class Output(Protocol):
    """Files of one kind."""

    def write(self, place: Place, part: str, rows: Rows, folder: Path) -> dict[str, Any]:
        """Write the files of a part, each whole or not at all; the record of the part is made by the caller.

        Args:
            part: number with zeros in front.
            folder: for files on the way.

        Returns:
            What :meth:`finish` needs to know of the part, in JSON.
        """

    def finish(self, place: Place, parts: list[dict[str, Any]]) -> None:
        """Join the parts, once all are there; called again, it changes nothing."""
