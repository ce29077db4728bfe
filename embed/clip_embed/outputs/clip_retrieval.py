"""clip-retrieval's layout: ``img_emb/img_emb_0.npy``, ``text_emb/text_emb_0.npy``, ``metadata/metadata_0.parquet``.

Source: clip_retrieval/clip_inference/writer.py of https://github.com/rom1504/clip-retrieval.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from clip_client.embedded_files import FOLDERS
from clip_client.spec import Tower
from clip_embed.outputs.base import Rows, check_parquet
from clip_embed.places import Place


class ClipRetrieval:
    """Folders of vectors and of metadata; a row without a caption has zeros in the text's vectors."""

    def check(self, schema: pa.Schema) -> None:
        """Raise InvalidInput for columns that parquet doesn't hold."""
        check_parquet(schema)

    def write(self, place: Place, part: str, rows: Rows, folder: Path) -> dict[str, Any]:
        """Write a file of vectors for each tower, and one of metadata; a part without rows has none."""
        if not rows.count:
            return {}
        for tower in rows.towers:
            name = f"{FOLDERS[tower]}/{FOLDERS[tower]}_{part}.npy"
            place.take(_vectors(rows, tower, folder / "vectors.npy"), name)
        place.take(_metadata(rows, folder / "metadata.parquet"), f"metadata/metadata_{part}.parquet")
        return {}

    def finish(self, place: Place, parts: list[dict[str, Any]]) -> None:
        """Leave the files as they are."""


def _vectors(rows: Rows, tower: Tower, file: Path) -> Path:
    with file.open("wb") as opened:
        written = 0
        for batch in rows.batches():
            vectors = matrix(batch.column(tower))
            if not written:
                descr = np.lib.format.dtype_to_descr(vectors.dtype.newbyteorder("<"))
                header = {"descr": descr, "fortran_order": False, "shape": (rows.count, vectors.shape[1])}
                np.lib.format.write_array_header_1_0(opened, header)
            opened.write(np.ascontiguousarray(vectors, descr).tobytes())
            written += len(vectors)
    return file


def _metadata(rows: Rows, file: Path) -> Path:
    writer: pq.ParquetWriter | None = None
    for table in rows.tables():
        plain = table.drop_columns(list(rows.towers))
        writer = writer or pq.ParquetWriter(file, plain.schema)
        writer.write_table(plain)
    assert writer  # noqa: S101  (there are rows)
    writer.close()
    return file


def matrix(column: pa.Array) -> npt.NDArray[Any]:
    """Return vectors [N, D] of a column; zeros where it is null."""
    size = column.type.list_size
    values = np.asarray(column.values)[column.offset * size : (column.offset + len(column)) * size].reshape(-1, size)
    if column.null_count:
        values = np.where(np.asarray(column.is_valid())[:, None], values, 0)
    return values
