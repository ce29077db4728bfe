"""Parquet: ``part-0.parquet``, …, with the vectors as lists of one size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clip_embed.outputs.base import Rows, check_parquet
from clip_embed.places import Place


class Parquet:
    """A file for each part that has rows."""

    def check(self, schema: pa.Schema) -> None:
        """Raise InvalidInput for columns that parquet doesn't hold."""
        check_parquet(schema)

    def write(self, place: Place, part: str, rows: Rows, folder: Path) -> dict[str, Any]:
        """Write the file."""
        file, writer = folder / "rows.parquet", None
        for table in rows.tables():
            # Vectors have no repetitions to look for, and no bytes that a compression finds.
            writer = writer or pq.ParquetWriter(
                file, table.schema, use_dictionary=_plain(table.schema, rows), compression="zstd"
            )
            writer.write_table(table)
        if writer:
            writer.close()
            place.take(file, f"part-{part}.parquet")
        return {}

    def finish(self, place: Place, parts: list[dict[str, Any]]) -> None:
        """Leave the files as they are."""


def _plain(schema: pa.Schema, rows: Rows) -> list[str]:
    return [column.name for column in schema if column.name not in rows.towers]
