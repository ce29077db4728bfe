"""Progress and outcome of a run, for people and for programs."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from datetime import timedelta

from clip_client.counting import counted
from clip_client.progress_bars import ProgressBar, say
from clip_client.terminal import printable
from clip_embed.run import Result

_FAILED_SHOWN = 5


class Bar:
    """Bar of items, with the time that the parts left will take; a line every 30 s where there is no terminal."""

    def __init__(self) -> None:
        self._bar: ProgressBar | None = None
        self._parts = self._done = self._before = 0
        self._began = 0.0

    def begin(self, parts: int, done: int) -> None:
        """Show the bar."""
        self._parts, self._done, self._before, self._began = parts, done, done, time.monotonic()
        self._bar = ProgressBar(desc=self.title, unit=" items")

    def items(self, count: int) -> None:
        """Move it."""
        if self._bar is not None:
            self._bar.update(count)

    def part(self) -> None:
        """Count a part."""
        self._done += 1
        if self._bar is not None:
            self._bar.set_description(self.title, refresh=False)

    def say(self, line: str) -> None:
        """Print a remark above it."""
        say(printable(line))

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *problem: object) -> None:
        if self._bar is not None:
            self._bar.close()

    @property
    def title(self) -> str:
        """Number of the part, and the time that is left once a part was done."""
        own, left = self._done - self._before, self._parts - self._done
        part = f"part {min(self._done + 1, self._parts)} of {self._parts}"
        if not own or not left:
            return part
        return f"{part}, {timedelta(seconds=round((time.monotonic() - self._began) * left / own))} left"


def told(result: Result, name: str) -> str:
    """Return the outcome in lines."""
    books, pace = result.books, result.items / result.seconds if result.seconds else 0.0
    lines = [
        f"{counted(result.items, 'item')} in {result.seconds:,.1f} s, {pace:,.1f} a second"
        if result.items
        else "nothing was missing",
        *(f"part {n} isn't done: {printable(reason)}" for n, reason in sorted(result.failed.items())[:_FAILED_SHOWN]),
        f"{counted(len(result.failed) - _FAILED_SHOWN, 'more part is', 'more parts are')} not done"
        if len(result.failed) > _FAILED_SHOWN
        else "",
        f"{counted(books.partial, 'item is', 'items are')} in without a part of them: errors.parquet says why"
        if books.partial
        else "",
        f"{counted(books.bare, 'item has', 'items have')} no caption, and no vector of one" if books.bare else "",
        f"{counted(books.broken, 'file of the input ends', 'files of the input end')} early: errors.parquet names them"
        if books.broken
        else "",
        f"{result.done:,} of {result.parts:,} parts are done in {name}" + _rest(result),
        f"read {result.read:,} = {books.taken:,} embedded + {result.unused:,} left out",
    ]
    return "\n".join(filter(None, lines))


def _rest(result: Result) -> str:
    if result.finished:
        return ""
    return ": other shares have the rest" if result.is_share and not result.failed else ": run it again for the rest"


def as_json(result: Result) -> str:
    """Return the outcome as an object in JSON."""
    counts = {name: value for name, value in asdict(result.books).items() if name != "output"}
    counts |= {"read": result.read, "left_out": result.unused}
    rest = {"parts": result.parts, "done": result.done, "finished": result.finished}
    failed = {str(n): reason for n, reason in sorted(result.failed.items())}
    return json.dumps({**counts, **rest, "failed": failed, "items": result.items, "seconds": round(result.seconds, 3)})
