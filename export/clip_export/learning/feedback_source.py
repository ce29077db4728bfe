"""Feedback of a run: a file that was exported, or what the sidecar keeps."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa

from clip_client import feedback_answers
from clip_client.errors import InvalidInput
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
        answers = feedback_answers.answers(search.kept_feedback(collection))
        if not answers:
            raise InvalidInput(
                f"the collection {collection!r} has no feedback: search it on its page and choose hits, or name a file with --feedback"
            )
        feedback_answers.write(new, answers, lambda ids: {})
    new.replace(place)
    return clicks.table_of(place)
