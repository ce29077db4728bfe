"""Signals that ask a run to end: waits notice them, and nothing is interrupted anywhere else."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from types import FrameType

from clip_serve.up.messages import remark

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(Exception):
    """A signal asked for the end."""


class Stop:
    """Pipe that signals write to while this is entered; an exception in the midst of a start would leave half of it behind."""

    def __enter__(self) -> Stop:
        self._asked, self._ask = os.pipe()
        os.set_blocking(self._ask, False)
        ignored = [number for number in _SIGNALS if signal.getsignal(number) is signal.SIG_IGN and number == signal.SIGHUP]
        wanted = [number for number in _SIGNALS if number not in ignored]  # nohup ignores a terminal's end
        self._before = [(number, signal.signal(number, self._note)) for number in wanted]
        return self

    def __exit__(self, *problem: object) -> None:
        for number, handler in self._before:
            signal.signal(number, handler)
        os.close(self._asked)
        os.close(self._ask)

    def wait(self, timeout_s: float) -> None:
        """Return after a time; raise Stopped at once when a signal has come, and from then on."""
        if select.select([self._asked], [], [], timeout_s)[0]:
            remark("stopping")
            raise Stopped

    def _note(self, number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(BlockingIOError):  # it was asked for often enough
            os.write(self._ask, b".")
