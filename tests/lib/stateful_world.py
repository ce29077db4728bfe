"""The sidecar that a stateful test works on: stopped, killed, frozen, damaged, and started again while clients go on."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from servers import free_ports
from stateful_model import COLUMNS, SIZE, Sent

from clip_client import Search, Unavailable

_SIDECAR = Path(__file__).with_name("faulty_sidecar.py")
_START_S, _STOP_S = 60, 30


class World:
    """Database with the process that serves it; safe to use from several threads.

    Attributes:
        sent: every row that a client sent, by serial.
        name: the collection.
        numbers: the serial of the row that was seen under a row number.
        epoch: how many processes there were.
        log: what clients did, one line each.
    """

    def __init__(self, folder: Path, engine: str) -> None:
        self._data, self._errors, self._engine = folder / "data", folder / "stderr", engine
        self._port = free_ports(1)[0]
        self._lock, self._asking = threading.RLock(), threading.Lock()
        self._restarts: list[tuple[float, float]] = []
        self._fired: list[tuple[str, str, float]] = []
        self.sent: dict[int, Sent] = {}
        self.numbers: dict[int, int] = {}
        self.log: list[str] = []
        self.epoch = 0
        self.name = ""
        self._start()

    def begin(self, name: str) -> None:
        """Go on with a new collection."""
        self.disarm()
        with self.client() as search:
            if self.name:
                search.drop(self.name)
            search.create(name, dimension=SIZE, fingerprint="", columns=COLUMNS)
        self.name = name
        for noted in (self.sent, self.numbers, self.log):
            noted.clear()

    def client(self) -> Search:
        """A client of the process that runs."""
        with self._lock:
            return Search(f"http://127.0.0.1:{self._port}", timeout_s=60)

    @property
    def port(self) -> int:
        """TCP port of the sidecar."""
        return self._port

    def note(self, line: str) -> None:
        """Write down what is done."""
        self.log.append(line)

    def restart(self, how: signal.Signals, damage: random.Random | None = None) -> None:
        """End the process, damage one derived file if asked to, and start it again."""
        with self._lock:
            start = time.monotonic()
            self._end(how)
            if damage:
                self.note(f"    damaged {damaged(self._data / 'indexes', damage)}")
            self._start()
            self._restarts.append((start, time.monotonic()))

    def freeze(self, seconds: float) -> None:
        """Suspend the process for a while."""
        with self._lock:
            self._process.send_signal(signal.SIGSTOP)
            time.sleep(seconds)
            self._process.send_signal(signal.SIGCONT)

    def arm(self, point: str, mode: str) -> None:
        """Let the next call of a kind fail."""
        self._order(do="arm", point=point, mode=mode)

    def disarm(self) -> None:
        """Let nothing fail any more."""
        self._order(do="disarm")

    def fired(self) -> list[tuple[str, str, float]]:
        """Faults that came: point, mode, time."""
        return [*self._fired, *map(tuple, self._order(do="report").get("fired", []))]

    def excused(self, since: float, points: tuple[str, ...]) -> bool:
        """A fault of these kinds, or a restart, since then: only so may an operation fail."""
        with self._lock:  # not in the middle of a restart
            restarted = any(end >= since for _, end in self._restarts)
            return restarted or any(at >= since and point in points for point, _, at in self.fired())

    def wait_done(self, tag: str) -> None:
        """Return once nothing of a request that was given up is under way any more."""
        epoch, started = self.epoch, time.monotonic()
        while self.epoch == epoch:
            report = self._order(do="report")
            idle = tag not in report["started"] and time.monotonic() - started > 0.5
            if idle or tag in report["done"]:
                return
            assert time.monotonic() - started < 60, f"request {tag} is never done with"
            time.sleep(0.02)

    def check_alive(self) -> None:
        """No request got a 500, and the process goes on."""
        with self._lock:
            assert self._process.poll() is None, f"the sidecar ended by itself with {self._process.returncode}"
            failures = self._order(do="report")["failures"]
            assert not failures, f"answered with 500: {failures}"

    def errors(self) -> str:
        """The end of what the sidecar printed."""
        return self._errors.read_text(errors="replace")[-6000:]

    def close(self) -> None:
        """End the process for good."""
        with self._lock:
            self._process.kill()
            self._process.wait()

    def _start(self) -> None:
        command = [sys.executable, str(_SIDECAR), str(self._data), str(self._port), self._engine]
        with self._errors.open("ab") as errors:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True)
        self.epoch += 1
        deadline = time.monotonic() + _START_S
        while not self._opened():
            assert self._process.poll() is None, f"the sidecar doesn't start:\n{self.errors()}"
            assert time.monotonic() < deadline, f"the sidecar isn't open within {_START_S} s:\n{self.errors()}"
            time.sleep(0.05)

    def _opened(self) -> bool:
        with Search(f"http://127.0.0.1:{self._port}", timeout_s=5) as search, contextlib.suppress(Unavailable):
            names = [one["name"] for one in search.collections()]
            return not self.name or self.name in names
        return False

    def _end(self, how: signal.Signals) -> None:
        self.check_alive()
        with contextlib.suppress(BrokenPipeError):
            self._fired = self.fired()
        self._process.send_signal(how)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.close()
            raise AssertionError(f"the sidecar doesn't stop within {_STOP_S} s of {how.name}") from None

    def _order(self, **order: Any) -> dict[str, Any]:
        with self._lock, self._asking:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())


def damaged(folder: Path, draw: random.Random) -> str:
    """Damage one file below a folder, or remove it; returns what was done."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "lock" and path.stat().st_size)
    if not files:
        return "nothing: there is no file yet"
    kind, how = draw.choice(sorted({path.suffix for path in files})), draw.choice([*_DAMAGES])
    path = draw.choice([path for path in files if path.suffix == kind])
    _DAMAGES[how](path, draw)
    return f"{how} {path.relative_to(folder)}"


def _flip(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 0x40
    path.write_bytes(content)


_DAMAGES: dict[str, Callable[[Path, random.Random], Any]] = {
    "remove": lambda path, draw: path.unlink(),
    "truncate": lambda path, draw: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path, draw: path.write_bytes(b""),
    "fill with something else": lambda path, draw: path.write_bytes(b"{broken" * 100),
    "flip a bit of": _flip,
}
