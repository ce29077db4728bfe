"""Errors of other libraries, turned into one-line messages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from clip_client.errors import ClipError, InvalidInput

_LONGEST = 300  # characters; some libraries' messages fill a page


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


def one_line(problem: BaseException) -> str:
    """Return the type of an exception and the first line of its message, without a C++ library's stack."""
    first, *rest = [line.strip() for line in str(problem).splitlines() if line.strip()] or [""]
    message = f"{first} {rest[0]}" if rest and first.endswith(":") else first  # the reason follows, as torch.compile has it
    return f"{type(problem).__name__}: {message[:_LONGEST]}".rstrip(": ")
