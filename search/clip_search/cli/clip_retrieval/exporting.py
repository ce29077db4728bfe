"""``clipserve search export``: a folder in clip-retrieval's format: vectors, metadata and indexes."""

import argparse
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clip_client.counting import counted
from clip_client.embedded_files import FOLDERS
from clip_client.errors import NotFound
from clip_client.progress_bars import ProgressBar
from clip_client.search import Search
from clip_client.spec import TOWERS, Tower
from clip_search import memory_trim
from clip_search.arrays import Floats
from clip_search.cli.commands import batches, client
from clip_search.index.faiss_index import FlatFile
from clip_search.storage.kinds import arrow_type, checked_value

_PARTITION = 1_000_000  # rows in a file, as clip-retrieval's inference writes by default
_BARE = ("row has", "rows have")
_TOGETHER = 2_000  # rows in a step of the export: some megabytes of vectors


def export(arguments: argparse.Namespace) -> int:
    """Write all rows of a collection as clip-retrieval's inference and index commands do."""
    memory_trim.return_at_once()
    with client(arguments) as search:
        stats = search.stats(arguments.collection)
        writer = _Writer(arguments.folder, stats)
        with ProgressBar(desc="exporting", total=stats["rows"], unit=" rows") as bar:
            for rows in _tables(search, stats):
                writer.write(rows)
                bar.update(len(rows))
        writer.close()
    for told in writer.told():
        print(told)
    print(f"{counted(writer.rows, 'row')} exported to {arguments.folder}")
    return 0


def _tables(search: Search, stats: Mapping[str, Any]) -> Iterator[pa.Table]:
    """Yield all rows; in JSON from a sidecar that knows no Arrow."""
    is_begun = False
    try:
        for table in search.arrow_rows(stats["name"], vectors=True, page=_TOGETHER):
            is_begun = True
            yield table
    except NotFound:
        if is_begun:
            raise
        for rows in batches(search.rows(stats["name"], vectors=True), _TOGETHER):
            yield _table(rows, stats)


def _table(rows: Sequence[Mapping[str, Any]], stats: Mapping[str, Any]) -> pa.Table:
    """Return rows that came as JSON as a table."""
    vectors = pa.list_(pa.float32(), stats["dimension"])
    fixed = {"id": pa.string(), "source": pa.string(), **{f"vector_{tower}": vectors for tower in TOWERS}}
    columns = {name: pa.array([row.get(name) for row in rows], type) for name, type in fixed.items()}
    for name, kind in stats["columns"].items():
        columns[name] = pa.array([_value(name, kind, row["metadata"].get(name)) for row in rows], _type(kind))
    return pa.table(columns)


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

    def write(self, rows: pa.Table) -> None:
        """Append rows."""
        start = 0
        while start < len(rows):
            partition, at = divmod(self.rows, _PARTITION)
            part = rows.slice(start, _PARTITION - at)
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

    def write(self, rows: pa.Table) -> None:
        """Append the rows' vectors."""
        vectors: Floats = np.zeros((len(rows), self._size), np.float32)
        column = rows[f"vector_{self.tower}"].combine_chunks()
        there = np.asarray(column.is_valid())
        vectors[there] = np.asarray(column.flatten()).reshape(-1, self._size)  # [n * D] -> [n, D], without nulls
        self.missing += len(there) - int(np.count_nonzero(there))
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
        own = [pa.field(name, _type(kind)) for name, kind in kinds.items()]
        self._schema = pa.schema([(self._source, pa.string()), ("id", pa.string()), *own])
        self.written: set[Path] = set()
        self._file: pq.ParquetWriter | None = None

    def begin(self, name: str) -> None:
        """Start the next file."""
        self.end()
        path = self._folder / f"metadata_{name}.parquet"
        self.written.add(path)
        self._file = pq.ParquetWriter(path, self._schema)

    def write(self, rows: pa.Table) -> None:
        """Append the rows' metadata."""
        source = rows["source"]
        if "image_path" in self._kinds:
            is_there = pc.fill_null(pc.equal(source, rows["image_path"]), fill_value=False)
            source = pc.if_else(is_there, pa.scalar(None, pa.string()), source)
        columns = [source, rows["id"], *(_written(rows[name], name, kind) for name, kind in self._kinds.items())]
        if self._file:
            self._file.write_table(pa.table(columns, schema=self._schema))

    def end(self) -> None:
        """Finish the file."""
        if self._file:
            self._file.close()


def _type(kind: str) -> pa.DataType:
    return arrow_type(kind) or pa.string()


def _written(column: pa.ChunkedArray, name: str, kind: str) -> pa.ChunkedArray:
    """Return a column as a table has it; JSON text for a type that no collection makes."""
    if arrow_type(kind) is not None:
        return column.cast(_type(kind))
    return pa.chunked_array([pa.array([_value(name, kind, value) for value in column.to_pylist()], pa.string())])


def _value(name: str, kind: str, value: Any) -> Any:
    """Return a value as its type in a table has it; JSON text for an unknown type."""
    if arrow_type(kind) is None:
        return None if value is None else json.dumps(value, default=str)
    return checked_value(name, kind, value)


def _remove_others(folder: Path, written: set[Path]) -> None:
    ours = [pattern for tower, name in FOLDERS.items() for pattern in (f"{name}/{name}_*.npy", f"{tower}.index")]
    for pattern in (*ours, "metadata/metadata_*.parquet"):
        for path in set(folder.glob(pattern)) - written:
            path.unlink()
