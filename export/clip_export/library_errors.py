"""Errors of other libraries as ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from clip_client.errors import ClipError, InvalidInput
from clip_client.library_errors import one_line


@contextmanager
def reading(label: str, subject: str) -> Iterator[None]:
    """Raise InvalidInput for any exception inside, however odd the files that provoked it.

    Args:
        label: the checkpoint's name.
        subject: of the phrase "can't be read" in the message.
    """
    try:
        yield
    except (ClipError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as problem:  # tokenizers panics with one that isn't an Exception
        raise InvalidInput(f"{label}: {subject} can't be read ({one_line(problem)}): is the checkpoint whole?") from problem
