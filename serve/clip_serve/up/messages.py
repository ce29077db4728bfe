"""Lines for the user; names of files and words of programs can't move the cursor."""

import contextlib
import sys

_JOINER = "\u200d"  # not printable by Unicode, but part of emoji


def say(line: str) -> None:
    """Print a line on standard output at once."""
    print(printable(line), flush=True)


def remark(line: str) -> None:
    """Print a line on standard error; nobody need read it."""
    with contextlib.suppress(OSError):
        print(printable(line), file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Return a text as one line without control characters."""
    shown = "".join(char if char.isprintable() or char == _JOINER else repr(char)[1:-1] for char in text.rstrip("\n"))
    return shown.encode("utf-8", "backslashreplace").decode()
