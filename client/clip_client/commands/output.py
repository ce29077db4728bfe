"""Rows on standard output while they come: columns for people, tabs for pipes, JSON for machines; remarks on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clip_client.command_runner import FAILED, is_terminal
from clip_client.printable_text import padded, printable
from clip_client.reasons_file import ReasonsFile


class Rows:
    """Writer of rows, each as soon as it is there; a heading stands above the first.

    Args:
        widths: of the columns in a terminal by heading; the last one may be longer, numbers are aligned to the right.
        as_json: rows are JSON objects, one a line.
    """

    def __init__(self, widths: Mapping[str, int], *, as_json: bool) -> None:
        self._widths, self._as_json, self._has_heading = widths, as_json, False

    def write(self, entry: Mapping[str, Any], *rows: Sequence[str | float]) -> None:
        """Write an entry: an object for machines, one or several rows for people and pipes."""
        if self._as_json:
            print(json.dumps(entry), flush=True)  # ASCII: a name that isn't UTF-8 stays whole as \udcXX
            return
        for row in rows:
            numbers = [isinstance(cell, float) for cell in row]
            if not self._has_heading:
                self._has_heading = True
                self._print([*self._widths], numbers)
            self._print([f"{cell:.3f}" if isinstance(cell, float) else printable(cell) for cell in row], numbers)

    def _print(self, cells: Sequence[str], numbers: Sequence[bool]) -> None:
        if not is_terminal(sys.stdout):
            print("\t".join(cells), flush=True)
            return
        sized = [
            padded(cell, width, right=is_number)
            for cell, width, is_number in zip(cells, self._widths.values(), numbers, strict=True)
        ]
        print("  ".join(sized).rstrip(), flush=True)


class Ledger:
    """Count of items: each is taken, or left out with its name and a reason on standard error.

    Args:
        errors: file for the reasons too; None for none.

    Raises:
        InvalidInput: the file can't be written.
    """

    def __init__(self, errors: Path | None = None) -> None:
        self.taken = self.left_out = 0
        self._reasons = ReasonsFile(errors, say)

    def leave_out(self, name: str, reason: str) -> None:
        """Count and name an item that is left out."""
        self.left_out += 1
        say(f"left out {printable(name)}: {printable(reason)}")
        self._reasons.write({"item": name, "reason": reason})

    def close(self, verb: str) -> int:
        """Print the sum; return the exit status: 1 if an item was left out, or the file of the reasons isn't whole."""
        self._reasons.close()
        say(f"read {self.taken + self.left_out} = {self.taken} {verb} + {self.left_out} left out")
        return FAILED if self.left_out or not self._reasons.is_whole else 0


def say(line: str) -> None:
    """Print a remark on standard error."""
    print(line, file=sys.stderr, flush=True)
