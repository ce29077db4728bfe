"""Ledger of a command that takes many items: its books balance, and every item left out has a reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from clip_client.reasons_file import ReasonsFile
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
        self._say, self._reasons = say, ReasonsFile(errors, say)

    @property
    def read(self) -> int:
        """Number of all items."""
        return self.added + self.unchanged + self.replaced + self.left_out

    def leave_out(self, item: str, reason: str) -> None:
        """Count an item that is left out, and print its name and the reason."""
        self.left_out += 1
        self._say(f"left out {printable(item)}: {printable(reason)}")
        self._reasons.write({"item": item, "reason": reason})

    def note(self, item: str, reason: str) -> None:
        """Print the reason why a part of an item is left out; the item itself is counted elsewhere."""
        self._say(f"{printable(item)}: {printable(reason)}")
        self._reasons.write({"item": item, "reason": reason, "kind": "partial"})

    def closing(self) -> str:
        """Return the last line of the command."""
        parts = f"{self.added} added + {self.unchanged} unchanged + {self.replaced} replaced + {self.left_out} left out"
        return f"read {self.read} = {parts}"

    def status(self) -> int:
        """Return the exit status: 1 if an item was left out, or the file of the reasons isn't whole."""
        return 1 if self.left_out or not self._reasons.is_whole else 0

    def close(self) -> None:
        """Close the file."""
        self._reasons.close()

    def __enter__(self) -> Books:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()
