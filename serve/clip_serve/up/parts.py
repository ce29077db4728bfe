"""Parts of a run: clipserve commands as child processes, whose output is read by threads."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import IO

from clip_client.command_runner import PART
from clip_client.errors import Unavailable
from clip_serve.up.stop import Stop

_POLL_S = 0.05
_KEPT = 200  # last lines of a part
_QUOTED = 3  # of them in a message
_LONGEST_LINE = 10_000  # characters; a longer one is several
_KILLED_S = 5  # patience with the end of a killed process

Sink = Callable[[str], None]
"""Gets each line of a stream."""


def ignore(line: str) -> None:
    """Take a line, and show it to nobody."""


class Part:
    """A clipserve command in a process and a session of its own: Ctrl-C in a terminal reaches the run alone.

    Args:
        name: of the part, for people.
        command: words behind ``clipserve``.
        out: gets the lines of standard output.
        err: gets those of standard error; None leaves it the terminal, for progress bars.
    """

    def __init__(self, name: str, command: Sequence[str], *, out: Sink = ignore, err: Sink | None = None) -> None:
        self.name = name
        self.lines: deque[str] = deque(maxlen=_KEPT)
        self._has_spoken = self._is_ending = False
        self._process = subprocess.Popen(
            [sys.executable, "-m", "clip_serve.up.child", str(os.getpid()), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if err else None,
            start_new_session=True,
            env={**os.environ, PART: "1", "PYTHONSAFEPATH": "1"},  # no module of the folder that the user is in
            encoding="utf-8",
            errors="backslashreplace",
        )
        streams = [(self._process.stdout, out), (self._process.stderr, err)]
        self._readers = [
            threading.Thread(target=self._read, args=(stream, sink), daemon=True) for stream, sink in streams if stream
        ]
        for reader in self._readers:
            reader.start()

    def wait_spoken(self, stop: Stop) -> None:
        """Return once the part has written a line to standard output; raise Unavailable if it ended before."""
        while not self._has_spoken:
            stop.wait(_POLL_S)
            if not self._has_spoken:
                self.check()

    def wait_ended(self, stop: Stop) -> int:
        """Return the exit status of a part that ends by itself."""
        while (status := self._process.poll()) is None:
            stop.wait(_POLL_S)
        self._join()
        return status

    def check(self) -> None:
        """Raise Unavailable with the part's last words if it has ended."""
        if (status := self._process.poll()) is not None:
            self._join()
            raise Unavailable(f"{self.name} ended (exit status {status}){self._last_words()}")

    def end(self, patience_s: float) -> None:
        """End the part and all that it started: by SIGTERM to its group, then by force."""
        self._is_ending = True
        deadline = time.monotonic() + patience_s
        self._send(signal.SIGTERM)
        while self._process.poll() is None and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        self._send(signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_KILLED_S)
        self._join()

    def _send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _join(self) -> None:
        for reader in self._readers:
            reader.join(1)

    def _read(self, stream: IO[str], sink: Sink) -> None:
        is_output = stream is self._process.stdout
        while line := stream.readline(_LONGEST_LINE):
            self.lines.append(line.rstrip("\n"))
            if not self._is_ending:
                with contextlib.suppress(OSError):  # nobody listens any more, but the part must not wait for a reader
                    sink(line)
            self._has_spoken |= is_output

    def _last_words(self) -> str:
        said = [line.strip() for line in self.lines if line.strip()][-_QUOTED:]
        return ": " + " / ".join(said) if said else ": it said nothing"
