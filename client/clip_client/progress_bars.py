"""Progress of long work on standard error; needs tqdm, which the extras of the commands that show it bring."""

import sys
from typing import Any, TextIO

from tqdm import tqdm

from clip_client.command_runner import is_terminal

_LINE_S = 30.0  # a log stays short
_LINE = "{desc}: {n_fmt} of {total_fmt}, {percentage:.0f} %, {remaining} left"
_COUNT = "{desc}: {n_fmt}{unit}, {rate_fmt}"  # of work whose amount isn't known


class ProgressBar(tqdm):  # type: ignore[misc]  # tqdm has no annotations
    """A bar in a terminal; elsewhere a line every 30 s, so that a log of shorter work has none.

    >>> with ProgressBar(desc="adding", total=1000, unit=" pictures") as bar:
    ...     bar.update(32)
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        file = settings.setdefault("file", sys.stderr)
        if is_terminal(file):
            settings = {"dynamic_ncols": True, **settings}
        elif file is None:
            settings["disable"] = True
        else:
            rare = {"mininterval": _LINE_S, "maxinterval": _LINE_S, "delay": _LINE_S, "miniters": 1}
            has_end = bool(arguments) or settings.get("total") is not None
            settings |= {"file": _Lines(file), "bar_format": _LINE if has_end else _COUNT, **rare}
        super().__init__(*arguments, **settings)


def say(line: str) -> None:
    """Print a remark on standard error, above the bar if one is shown."""
    tqdm.write(line, file=sys.stderr)


class _Lines:
    """Stream that gets a line for each state of a bar, in the place of its carriage returns."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        """Write the states in a text."""
        for state in filter(None, map(str.strip, text.split("\r"))):
            self._file.write(f"{state}\n")

    def flush(self) -> None:
        """Flush the stream."""
        self._file.flush()
