"""Several Tritons behind HAProxy, and behind the client alone: one is killed, and no request fails."""

from __future__ import annotations

import contextlib
import re
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import proxies
import psutil
import pytest
from servers import Server, running

from clip_client import Clip

TEXTS = [f"a photo of {n} cats" for n in range(12)]
CLIENTS = 4
AFTER = 30
"""Requests of each client, at least, before the kill, after it, and after the return."""


def test_haproxy_takes_the_configuration(tmp_path: Path) -> None:
    assert proxies.complaints(proxies.CONFIG) == ""
    broken = tmp_path / "haproxy.cfg"
    broken.write_text(proxies.CONFIG.read_text().replace("balance leastconn", "balance fewest"))
    assert "Fatal errors found in configuration" in proxies.complaints(broken)


def answered(server: Server) -> int:
    """Requests for texts that a server has answered."""
    text = urllib.request.urlopen(f"http://127.0.0.1:{server.ports[2]}/metrics", timeout=30).read().decode()
    return int(float(re.search(r'^nv_inference_request_success\{model="clip_text",[^}]*\} (\S+)', text, re.M)[1]))


def kill(server: Server) -> None:
    """End all processes of a server at once."""
    with contextlib.suppress(psutil.NoSuchProcess):  # or what went wrong before isn't told
        for process in server.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
    server.ended(60)


class Clients:
    """Clients in threads that send texts one after the other, and compare what comes."""

    def __init__(self, address: str | list[str], expected: np.ndarray) -> None:
        self.errors: list[str] = []
        self.counts = [0] * CLIENTS
        self.pause_s = 0.0
        self._address, self._expected = address, expected
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=[n], daemon=True) for n in range(CLIENTS)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(60)

    def _send(self, number: int) -> None:
        with Clip(self._address, timeout_s=60) as clip:
            while not self._ended.wait(self.pause_s):
                which = self.counts[number] % len(TEXTS)
                try:
                    if not np.allclose(clip.embed_text(TEXTS[which]), self._expected[which], atol=1e-5):
                        self.errors.append(f"another vector of {TEXTS[which]!r}")
                except Exception as problem:  # every failure is one
                    self.errors.append(repr(problem))
                self.counts[number] += 1

    def go_on(self) -> None:
        """Wait until each client has sent so many more."""
        wanted, deadline = [count + AFTER for count in self.counts], time.monotonic() + 120
        while any(count < least for count, least in zip(self.counts, wanted, strict=True)):
            assert time.monotonic() < deadline, (self.counts, wanted, self.errors[:3])
            time.sleep(0.02)


@pytest.fixture
def second(repository: Path) -> Iterator[Server]:
    """A server of the same checkpoint that may be killed."""
    with running(repository) as server:
        yield server
        if server.process.poll() is None:
            kill(server)


@pytest.mark.long
@pytest.mark.parametrize("way", ["haproxy", "client"])
def test_one_of_two_is_killed_and_no_request_fails(
    way: str, server: Server, second: Server, repository: Path, tmp_path: Path
) -> None:
    with Clip(server.address) as clip:
        expected = np.asarray(clip.embed_text(TEXTS))
    with contextlib.ExitStack() as stack:
        both = [server.address, second.address]
        address = stack.enter_context(proxies.running([server, second], tmp_path)) if way == "haproxy" else both
        clients = stack.enter_context(Clients(address, expected))
        before = [answered(server), answered(second)]
        clients.go_on()
        assert answered(server) > before[0]
        assert answered(second) > before[1]
        kill(second)
        clients.go_on()
        clients.pause_s = 0.05  # the server that starts needs the cores, too
        again = Server(repository, ports=second.ports)
        stack.callback(kill, again)
        again.wait_ready()
        deadline = time.monotonic() + 60
        while not answered(again):  # HAProxy asks each second, the client's rest is longer each time
            assert time.monotonic() < deadline
            time.sleep(0.1)
        clients.pause_s = 0.0
        clients.go_on()
        clients.__exit__()
    assert clients.errors == []
