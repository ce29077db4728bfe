"""File of the reasons why items were left out, a JSON object a line."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from clip_client.errors import InvalidInput


class ReasonsFile:
    """File of reasons; a disk that is full ends it, not the work.

    Args:
        path: where it is written, from its beginning; None for no file.
        say: prints a line for the user.

    Attributes:
        is_whole: nothing that was written to it is lost.

    Raises:
        InvalidInput: the file can't be written.
    """

    def __init__(self, path: Path | None, say: Callable[[str], None]) -> None:
        self.is_whole, self._say = True, say
        try:
            self._file = path.open("w", encoding="ascii") if path else None
        except OSError as problem:
            raise InvalidInput(f"the errors can't be written to {path} ({problem}): name another file") from problem

    def write(self, entry: Mapping[str, str]) -> None:
        """Write an object."""
        try:
            if self._file:
                self._file.write(json.dumps(entry) + "\n")  # ASCII: a name that isn't UTF-8 stays whole as \udcXX
                self._file.flush()
        except OSError as problem:
            self._lose(problem)

    def close(self) -> None:
        """Close the file."""
        try:
            if self._file:
                self._file.close()
        except OSError as problem:
            self._lose(problem)

    def _lose(self, problem: OSError) -> None:
        """Continue without the file; reasons are still printed."""
        self._say(f"the errors can't be written any more ({problem}): the file lacks what follows")
        file, self._file, self.is_whole = self._file, None, False
        with contextlib.suppress(OSError):  # what it holds back can't be written either
            if file:
                file.close()
