"""Books of a stream: what was read, embedded and left out, with a bar on standard error where one is wanted."""

from __future__ import annotations

import sys
from collections.abc import Sized
from typing import Any

from clip_client.counting import counted
from clip_client.embedded import Embedded
from clip_client.errors import Unavailable


class Books:
    """Counts of a stream: once it has ended, read = embedded + left out.

    Attributes:
        read: items that were taken from what was passed.
        embedded: items that came out with an embedding.
        left_out: items that came out with a reason instead.
        verb: what became of those with an embedding, for people.
    """

    def __init__(self, noun: str, items: Any, *, progress: bool) -> None:
        self.read = self.embedded = self.left_out = 0
        self.verb, self._noun = "embedded", noun
        self._total = len(items) if isinstance(items, Sized) else None
        self._progress = progress
        self._bar: Any = None

    def open(self) -> None:
        """Show the bar, if one is wanted.

        Raises:
            Unavailable: tqdm isn't installed.
        """
        if self._progress:
            self._bar = _bar(self._noun, self._total)

    def count(self, result: Embedded) -> None:
        """Count a result that comes out."""
        if result.embedding is None:
            self.left_out += 1
        else:
            self.embedded += 1
        if self._bar is not None:
            self._bar.update(1)

    def __repr__(self) -> str:
        dropped = self.read - self.embedded - self.left_out
        ahead = f" + {dropped} read ahead, not {self.verb}" if dropped else ""
        return f"{counted(self.read, self._noun)} read = {self.embedded} {self.verb} + {self.left_out} left out{ahead}"

    def close(self) -> None:
        """Close the bar, and print the books below it."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
            if sys.stderr:
                print(repr(self), file=sys.stderr)


def _bar(noun: str, total: int | None) -> Any:
    try:
        from clip_client.progress_bars import ProgressBar
    except ImportError as problem:
        raise Unavailable(f"progress=True needs another package ({problem}): pip install tqdm") from problem
    return ProgressBar(desc="embedding", total=total, unit=f" {noun}s")
