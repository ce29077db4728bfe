"""Progress of an export: numbered steps, with the time that has passed."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from rich.progress import Progress as Live
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

from clip_client.terminal import Console

Progress = Callable[[str], None]
"""Gets a phrase for each piece of the work."""


class Steps:
    """Steps of an export: a live line with a clock on a terminal, plain lines elsewhere.

    A step whose work was done by an earlier run says nothing; its number is passed over.

    >>> with Steps(console, 6) as steps:
    ...     steps.next("reading the checkpoint")
    """

    def __init__(self, console: Console, total: int) -> None:
        self._console, self._number, self._total = console, 0, total
        self._started = time.monotonic()
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        self._live = Live(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._line = self._live.add_task("", total=None)

    def __enter__(self) -> Steps:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None) -> None:
        self._live.stop()

    def next(self, phrase: str = "") -> None:
        """Begin the next step; without a phrase it is told once it has something to do."""
        self._number += 1
        if phrase:
            self(phrase)

    def __call__(self, phrase: str) -> None:
        """Tell what the step does now."""
        step = f"step {self._number} of {self._total}"
        self._live.update(self._line, description=f"{step}: {phrase}")
        if not self._console.is_terminal:
            seconds = time.monotonic() - self._started
            self._console.print(f"{step}, {seconds:.0f} s: {phrase}", highlight=False, markup=False, soft_wrap=True)
