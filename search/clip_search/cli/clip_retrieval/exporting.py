"""``clipserve search export``: a folder in clip-retrieval's format: vectors, metadata and indexes."""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clip_client.counting import counted
from clip_client.embedded_files import FOLDERS
from clip_client.progress_bars import ProgressBar
from clip_client.spec import TOWERS, Tower
from clip_search.arrays import Floats
from clip_search.cli.commands import batches, client
from clip_search.index.faiss_index import FlatFile
from clip_search.storage.kinds import arrow_type, checked_value

_PARTITION = 1_000_000  # rows in a file, as clip-retrieval's inference writes by default
_BARE = ("row has", "rows have")
_TOGETHER = 1_000  # rows in a step of the export: some megabytes of vectors


def export(arguments: argparse.Namespace) -> int:
    """Write all rows of a collection as clip-retrieval's inference and index commands do."""
    with client(arguments) as search:
        stats = search.stats(arguments.collection)
        writer = _Writer(arguments.folder, stats)
        with ProgressBar(desc="exporting", total=stats["rows"], unit=" rows") as bar:
            for rows in batches(search.rows(arguments.collection, vectors=True), _TOGETHER):
                writer.write(rows)
                bar.update(len(rows))
        writer.close()
    for told in writer.told():
        print(told)
    print(f"{counted(writer.rows, 'row')} exported to {arguments.folder}")
    return 0


class _Writer:
    """Folder that is being written; a row without a vector of a tower has zeros there."""

    def __init__(self, folder: Path, stats: Mapping[str, Any]) -> None:
        count = max(1, math.ceil(stats["rows"] / _PARTITION))
        self._folder, self._width = folder, len(str(count - 1))
        self.rows = 0
        self._metadata = _Metadata(folder, stats["columns"])
        size, indexes = stats["dimension"], stats["indexes"]
        self._vectors = [_Vectors(folder, tower, size) for tower in TOWERS if indexes[tower]["rows"]]
        self._files: list[_Metadata | _Vectors] = [self._metadata, *self._vectors]

    def write(self, rows: Sequence[dict[str, Any]]) -> None:
        """Append rows."""
        start = 0
        while start < len(rows):
            partition, at = divmod(self.rows, _PARTITION)
            part = rows[start : start + _PARTITION - at]
            for file in self._files:
                if at == 0:
                    file.begin(f"{partition:0{self._width}d}")
                file.write(part)
            self.rows += len(part)
            start += len(part)

    def close(self) -> None:
        """Finish the files; remove those of an earlier export."""
        if not self.rows:
            self._metadata.begin("0")
        written: set[Path] = set()
        for file in self._files:
            file.end()
            written |= file.written
        _remove_others(self._folder, written)

    def told(self) -> list[str]:
        """Return what differs between the folder and the collection."""
        return [
            f"{counted(vectors.missing, *_BARE)} no {vectors.tower} vector: {FOLDERS[vectors.tower]} has zeros there"
            for vectors in self._vectors
            if vectors.missing
        ]


class _Vectors:
    """Files of one tower."""

    def __init__(self, folder: Path, tower: Tower, size: int) -> None:
        self.tower, self._size = tower, size
        self._folder = folder / FOLDERS[tower]
        self._folder.mkdir(parents=True, exist_ok=True)
        index = folder / f"{tower}.index"
        self._index = FlatFile(index, size)
        self._file: _NpyFile | None = None
        self.written, self.missing = {index}, 0

    def begin(self, name: str) -> None:
        """Start the next file."""
        if self._file:
            self._file.close()
        path = self._folder / f"{FOLDERS[self.tower]}_{name}.npy"
        self.written.add(path)
        self._file = _NpyFile(path, self._size)

    def write(self, rows: Sequence[dict[str, Any]]) -> None:
        """Append the rows' vectors."""
        vectors: Floats = np.zeros((len(rows), self._size), np.float32)
        for n, row in enumerate(rows):
            vector = row.get(f"vector_{self.tower}")
            if vector is None:
                self.missing += 1
            else:
                vectors[n] = vector
        if self._file:
            self._file.append(vectors)
        self._index.add(vectors)

    def end(self) -> None:
        """Finish the files."""
        if self._file:
            self._file.close()
        self._index.close()


class _NpyFile:
    """Growing file of vectors [N, D] in float16: numpy leaves room in the header for the number of rows, written last."""

    def __init__(self, path: Path, size: int) -> None:
        self.rows, self._size = 0, size
        self._file = path.open("wb")
        self._write_header()

    def append(self, vectors: Floats) -> None:
        """Append vectors [n, D]."""
        self._file.write(np.ascontiguousarray(vectors, "<f2").tobytes())
        self.rows += len(vectors)

    def close(self) -> None:
        """Write the number of rows into the header."""
        self._file.seek(0)
        self._write_header()
        self._file.close()

    def _write_header(self) -> None:
        header = {"descr": "<f2", "fortran_order": False, "shape": (self.rows, self._size)}
        np.lib.format.write_array_header_1_0(self._file, header)


class _Metadata:
    """Metadata tables; columns keep their kinds."""

    def __init__(self, folder: Path, kinds: Mapping[str, str]) -> None:
        self._folder, self._kinds = folder / "metadata", kinds
        self._folder.mkdir(parents=True, exist_ok=True)
        self._source = "source" if "image_path" in kinds else "image_path"
        own = [pa.field(name, arrow_type(kind) or pa.string()) for name, kind in kinds.items()]
        self._schema = pa.schema([(self._source, pa.string()), ("id", pa.string()), *own])
        self.written: set[Path] = set()
        self._file: pq.ParquetWriter | None = None

    def begin(self, name: str) -> None:
        """Start the next file."""
        self.end()
        path = self._folder / f"metadata_{name}.parquet"
        self.written.add(path)
        self._file = pq.ParquetWriter(path, self._schema)

    def write(self, rows: Sequence[dict[str, Any]]) -> None:
        """Append the rows' metadata."""
        sources = [None if row["source"] == row["metadata"].get("image_path") else row["source"] for row in rows]
        columns = [sources, [row["id"] for row in rows]]
        columns += [[_value(name, kind, row["metadata"].get(name)) for row in rows] for name, kind in self._kinds.items()]
        arrays = [pa.array(values, field.type) for values, field in zip(columns, self._schema, strict=True)]
        if self._file:
            self._file.write_table(pa.table(arrays, schema=self._schema))

    def end(self) -> None:
        """Finish the file."""
        if self._file:
            self._file.close()


def _value(name: str, kind: str, value: Any) -> Any:
    """Return a value as its type in a table has it; JSON text for an unknown type."""
    if arrow_type(kind) is None:
        return None if value is None else json.dumps(value)
    return checked_value(name, kind, value)


def _remove_others(folder: Path, written: set[Path]) -> None:
    ours = [pattern for tower, name in FOLDERS.items() for pattern in (f"{name}/{name}_*.npy", f"{tower}.index")]
    for pattern in (*ours, "metadata/metadata_*.parquet"):
        for path in set(folder.glob(pattern)) - written:
            path.unlink()
