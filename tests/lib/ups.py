"""A real ``clipserve up`` in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from servers import CLIPSERVE

from clip_client import Search

PAGE = re.compile(r"^the page: (http://127\.0\.0\.1:\d+)$", re.M)
STARTED: list[Up] = []
"""All runs of this process."""


def wait_for(condition: Callable[[], object], timeout_s: float = 30) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it didn't come to pass"
        time.sleep(0.05)


class Up:
    """One ``clipserve up``; its output goes to files, since nobody reads it all the time."""

    def __init__(self, *arguments: object, repository: Path, data: Path, port: int, **environment: str) -> None:
        self.data = data
        self._out, self._err = (tempfile.TemporaryFile("w+") for _ in range(2))  # noqa: SIM115  (read until it has ended)
        places = ["--repository", repository, "--artifacts", data.parent / "artifacts", "--data", data, "--port", str(port)]
        self.process = subprocess.Popen(
            [CLIPSERVE, "up", *map(str, (*arguments, *places))],
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=self._err,
            env={**os.environ, **environment},
        )
        self._seen: dict[int, psutil.Process] = {}
        STARTED.append(self)

    @property
    def out(self) -> str:
        """Lines printed so far."""
        return self._read(self._out)

    @property
    def err(self) -> str:
        """Remarks so far."""
        return self._read(self._err)

    @property
    def url(self) -> str:
        """Of the page, once it is told."""
        self.wait_for(lambda: PAGE.search(self.out))
        return PAGE.search(self.out)[1]

    def wait_for(self, condition: Callable[[], object], timeout_s: float = 150) -> None:
        """Wait until a condition holds, while it runs."""

        def holds() -> object:
            self.family()
            met = condition()
            assert met or self.process.poll() is None, f"it ended: {self.out}{self.err}"
            return met

        try:
            wait_for(holds, timeout_s)
        except AssertionError as problem:
            raise AssertionError(f"{problem}: {self.out}{self.err}") from problem

    def wait_watching(self) -> None:
        """Wait until all is added and it watches."""
        self.wait_for(lambda: "\nwatching " in self.out)

    def client(self) -> Search:
        return Search(self.url)

    def family(self) -> list[psutil.Process]:
        """It and all that it ever was seen to have started."""
        try:
            process = psutil.Process(self.process.pid)
            self._seen |= {member.pid: member for member in (process, *process.children(recursive=True))}
        except psutil.NoSuchProcess:
            pass
        return list(self._seen.values())

    def stop(self, number: signal.Signals = signal.SIGINT, timeout_s: float = 30) -> int:
        """Send a signal; return the exit status."""
        self.family()
        self.process.send_signal(number)
        return self.ended(timeout_s)

    def ended(self, timeout_s: float = 150) -> int:
        """Wait for the end; return the exit status. Nothing that it started may be left then."""
        status = self.process.wait(timeout_s)
        assert [process for process in self._seen.values() if _lives(process)] == []
        assert "Traceback" not in self.err
        return status

    def _read(self, file: object) -> str:
        return os.pread(file.fileno(), 10**7, 0).decode("utf-8", "backslashreplace")


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
