"""Feedback of a run: a file that was exported, or what the sidecar keeps."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from clip_client.errors import InvalidInput
from clip_client.feedback_answers import Answer, answers
from clip_client.search import Search
from clip_export.learning import clicks


def kept(file: Path | None, search: Search, collection: str, place: Path) -> pa.Table:
    """Return the feedback to learn from; it is kept in a place, so that a run that goes on sees the same.

    Raises:
        InvalidInput: if the file isn't a feedback export, or the collection has no feedback.
        NotFound: if there is no such collection.
    """
    if place.exists():
        return clicks.table_of(place)
    new = place.with_suffix(".new")
    if file:
        clicks.table_of(file)
        shutil.copyfile(file, new)
    else:
        every = answers(search.kept_feedback(collection))
        if not every:
            raise InvalidInput(
                f"the collection {collection!r} has no feedback: search on its page and choose hits, or pass --feedback FILE"
            )
        pq.write_table(_table(every), new)
    new.replace(place)
    return clicks.table_of(place)


def _table(every: Sequence[Answer]) -> pa.Table:
    """Return answers with the columns of an export that are read here, and by a judge."""
    positions = pa.list_(pa.int32())
    columns = {
        "query_id": pa.array([answer.first.query_id for answer in every], pa.string()),
        "text": pa.array([answer.first.text for answer in every], pa.string()),
        "shown": pa.array([list(answer.shown) for answer in every], pa.list_(pa.string())),
        "chosen": pa.array([answer.chosen for answer in every], positions),
        "marked_wrong": pa.array([answer.marked_wrong for answer in every], positions),
        "model": pa.array([answer.first.model for answer in every], pa.string()),
        "space": pa.array([answer.first.space for answer in every], pa.string()),
    }
    return pa.table(columns)
