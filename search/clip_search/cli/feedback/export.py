"""Parquet file of the answers with feedback."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clip_client.errors import InvalidInput
from clip_client.feedback_answers import Answer

COLUMNS = pa.schema(
    [
        pa.field("query_id", pa.string()),
        pa.field("time", pa.timestamp("ms", "UTC")),
        pa.field("query", pa.string()),
        pa.field("text", pa.string()),
        pa.field("shown", pa.list_(pa.string())),
        pa.field("sources", pa.list_(pa.string())),
        pa.field("chosen", pa.list_(pa.int32())),
        pa.field("marked_right", pa.list_(pa.int32())),
        pa.field("marked_wrong", pa.list_(pa.int32())),
        pa.field("model", pa.string()),
        pa.field("space", pa.string()),
        pa.field("client", pa.string()),
    ]
)
"""Columns of an export: a row for each answer that somebody gave feedback on."""

_ROWS = 10_000  # in a group of rows of the file


def write(file: Path, every: Sequence[Answer], sources: Callable[[Sequence[str]], Mapping[str, str | None]]) -> None:
    """Write answers as parquet; the file is there whole, or as it was.

    Args:
        sources: gives the sources of rows by id, of those that are there.

    Raises:
        InvalidInput: the file can't be written.
    """
    new = None
    try:
        number, name = tempfile.mkstemp(prefix=f".{file.name[:100]}-", dir=file.parent)
        os.close(number)
        new = Path(name)
        with pq.ParquetWriter(new, COLUMNS) as writer:
            for start in range(0, len(every), _ROWS):
                writer.write_table(_table(every[start : start + _ROWS], sources))
        new.replace(file)
    except OSError as problem:
        raise InvalidInput(f"{file} can't be written ({problem.strerror or problem}): name another file") from problem
    finally:
        if new:
            new.unlink(missing_ok=True)


def _table(every: Sequence[Answer], sources: Callable[[Sequence[str]], Mapping[str, str | None]]) -> pa.Table:
    known = sources(list(dict.fromkeys(id for answer in every for id in answer.shown)))
    return pa.Table.from_pylist([_row(answer, known) for answer in every], COLUMNS)


def _row(answer: Answer, sources: Mapping[str, str | None]) -> dict[str, Any]:
    first = answer.first
    return {
        "query_id": first.query_id,
        "time": _milliseconds(first.time),
        "query": json.dumps(first.query, ensure_ascii=False),
        "text": first.text,
        "shown": list(answer.shown),
        "sources": [sources.get(id) for id in answer.shown],
        "chosen": answer.chosen,
        "marked_right": answer.marked_right,
        "marked_wrong": answer.marked_wrong,
        "model": first.model,
        "space": first.space,
        "client": first.client,
    }


def _milliseconds(time: datetime) -> datetime:
    return time.replace(microsecond=time.microsecond // 1000 * 1000)
