"""Ledger of a command that takes many items: its books balance, and every item left out has a reason."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

from clip_client.errors import InvalidInput
from clip_client.terminal import printable


class Books:
    """Counts of items by outcome; each item is entered once.

    Args:
        errors: file for the reasons, a JSON object a line; None for none. It is emptied at the start.
        say: prints a line for the user.

    Attributes:
        added, unchanged, replaced: items that are in now.
        left_out: items that aren't.

    Raises:
        InvalidInput: the file can't be written.
    """

    def __init__(self, errors: Path | None, say: Callable[[str], None]) -> None:
        self.added = self.unchanged = self.replaced = self.left_out = 0
        self._say, self._is_whole = say, True
        try:
            self._file = errors.open("w", encoding="ascii") if errors else None
        except OSError as problem:
            raise InvalidInput(f"the errors can't be written to {errors} ({problem}): name another file") from problem

    @property
    def read(self) -> int:
        """Number of all items."""
        return self.added + self.unchanged + self.replaced + self.left_out

    def leave_out(self, item: str, reason: str) -> None:
        """Count an item that is left out, and print its name and the reason."""
        self.left_out += 1
        self._say(f"left out {printable(item)}: {printable(reason)}")
        self._write({"item": item, "reason": reason})

    def note(self, item: str, reason: str) -> None:
        """Print the reason why a part of an item is left out; the item itself is counted elsewhere."""
        self._say(f"{printable(item)}: {printable(reason)}")
        self._write({"item": item, "reason": reason, "kind": "partial"})

    def closing(self) -> str:
        """Return the last line of the command."""
        parts = f"{self.added} added + {self.unchanged} unchanged + {self.replaced} replaced + {self.left_out} left out"
        return f"read {self.read} = {parts}"

    def status(self) -> int:
        """Return the exit status: 1 if an item was left out, or the file of the reasons isn't whole."""
        return 1 if self.left_out or not self._is_whole else 0

    def close(self) -> None:
        """Close the file."""
        try:
            if self._file:
                self._file.close()
        except OSError as problem:
            self._lose(problem)

    def __enter__(self) -> Books:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    def _write(self, entry: dict[str, str]) -> None:
        try:
            if self._file:
                self._file.write(json.dumps(entry) + "\n")  # ASCII: a name that isn't UTF-8 stays whole as \udcXX
                self._file.flush()
        except OSError as problem:
            self._lose(problem)

    def _lose(self, problem: OSError) -> None:
        """Continue without the file; reasons are still printed."""
        self._say(f"the errors can't be written any more ({problem}): the file lacks what follows")
        file, self._file, self._is_whole = self._file, None, False
        with contextlib.suppress(OSError):  # what it holds back can't be written either
            if file:
                file.close()

