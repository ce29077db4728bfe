"""Interface of outputs, and the rows that they get."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from clip_client.errors import InvalidInput
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

    @property
    def schema(self) -> pa.Schema:
        """Schema of the rows; its metadata has the fingerprint and the run."""
        with pa.memory_map(str(self.file)) as source:
            return pa.ipc.open_file(source).schema

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows; one batch is in memory at a time."""
        with pa.memory_map(str(self.file)) as source:
            reader = pa.ipc.open_file(source)
            for n in range(reader.num_record_batches):
                yield reader.get_batch(n)

    def tables(self, rows: int = 2_000) -> Iterator[pa.Table]:
        """Yield the rows in tables of about so many."""
        gathered, count = list[pa.RecordBatch](), 0
        for batch in self.batches():
            gathered.append(batch)
            count += len(batch)
            if count >= rows:
                yield pa.Table.from_batches(gathered)
                gathered, count = [], 0
        if gathered:
            yield pa.Table.from_batches(gathered)


def check_parquet(schema: pa.Schema) -> None:
    """Raise InvalidInput for columns that parquet doesn't hold."""
    problems = []
    for column in schema:
        try:
            pq.ParquetWriter(pa.BufferOutputStream(), pa.schema([column])).close()
        except pa.ArrowException:
            problems.append(f"{column.name} ({column.type})")
    if problems:
        raise InvalidInput(f"parquet can't hold the columns {', '.join(problems)}: leave them away")


class Output(Protocol):
    """Files of one kind."""

    def check(self, schema: pa.Schema) -> None:
        """Raise InvalidInput for own columns that such files can't hold."""

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
