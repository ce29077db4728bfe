"""Lines for the user; names of files and words of programs can't move the cursor."""

import contextlib
import sys

from clip_client.terminal import printable


def say(line: str) -> None:
    """Print a line on standard output at once."""
    print(printable(line.rstrip("\n")), flush=True)


def remark(line: str) -> None:
    """Print a line on standard error; nobody need read it."""
    with contextlib.suppress(OSError):
        print(printable(line.rstrip("\n")), file=sys.stderr, flush=True)
