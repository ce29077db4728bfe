"""Servers under rehearsal, each kept running by a supervisor, as systemd or Docker would."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

RESTART_S = 0.5
"""Pause of the supervisor before it starts a server again."""
_LOOK_S = 0.02
_STOP_S = 20.0
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Exit:
    """End of a server that nobody had asked to stop."""

    service: str
    status: int
    at: float


class Service:
    """One command that is started again whenever it ends."""

    def __init__(
        self, name: str, command: Sequence[str | Path], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name, self.exits = name, list[Exit]()
        self._command, self._log, self._environment = command, log, {**os.environ, **(environment or {})}
        self._is_over, self._started = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._supervise, daemon=True)
        self._thread.start()
        self._started.wait()

    @property
    def pid(self) -> int:
        """Number of the process that runs, or that ran last."""
        return self._process.pid

    @property
    def process(self) -> psutil.Process:
        """Process that runs; raises NoSuchProcess while none does."""
        return psutil.Process(self.pid)

    def stop(self) -> None:
        """End it for good; its children, too."""
        self._is_over.set()
        with contextlib.suppress(psutil.Error):
            family = [self.process, *self.process.children(recursive=True)]
            for member in family:
                with contextlib.suppress(psutil.Error):
                    member.resume()
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        self._thread.join(_STOP_S)
        self._process.kill()
        self._thread.join()

    def _supervise(self) -> None:
        while not self._is_over.is_set():
            self._run()
            self._is_over.wait(RESTART_S)

    def _run(self) -> None:
        libc = ctypes.CDLL(None)

        def die_with_rehearsal() -> None:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # of this thread, which lives as long as its service

        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment,
                start_new_session=True, preexec_fn=die_with_rehearsal,
            )  # fmt: skip
        self._started.set()
        while self._process.poll() is None:
            time.sleep(_LOOK_S)
        if not self._is_over.is_set():
            self.exits.append(Exit(self.name, self._process.returncode, time.monotonic()))
