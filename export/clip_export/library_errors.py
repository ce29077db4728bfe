"""Errors of other libraries as ours."""

from __future__ import annotations

import os
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


def quiet_libraries() -> None:
    """Keep the libraries' own notices off the screen; the variables are set before any library is loaded."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
