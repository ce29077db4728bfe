"""Guard around libraries that read a checkpoint's files: whatever they raise becomes a message."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from clip_client.errors import ClipError, InvalidInput

_LONGEST = 300  # characters of another library's message; some are a page


@contextmanager
def reading(label: str, what: str) -> Iterator[None]:
    """Raise InvalidInput for any exception inside, however odd the files that provoked it.

    Args:
        label: the checkpoint's name.
        what: what is read, as the subject of "can't be read".
    """
    try:
        yield
    except (ClipError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as problem:  # tokenizers panics with one that isn't an Exception
        raise InvalidInput(f"{label}: {what} can't be read ({said(problem)}): is the checkpoint whole?") from problem


def said(problem: BaseException) -> str:
    """The kind of an exception and the first line of its message."""
    lines = str(problem).strip().splitlines() or [""]
    return f"{type(problem).__name__}: {lines[0][:_LONGEST]}".rstrip(": ")
