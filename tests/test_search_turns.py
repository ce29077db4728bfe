"""Limits of one client: turns, bytes, addresses behind proxies, large bodies read row by row, 429 in the SDK."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import ipaddress
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bounded_sidecar
import pytest
from sidecars import Sidecar, unit

from clip_client import AsyncSearch, Search
from clip_client.connection_options import Retries
from clip_client.errors import Unavailable
from clip_search.errors import TooMany
from clip_search.options import Bounds
from clip_search.web import turns
from clip_search.web.client_address import client_of
from clip_search.web.turns import Turns

MB = 2**20


def made(**bounds: Any) -> Turns:
    return Turns(Bounds(**{"client_requests": 4, "wait_s": 30.0, **bounds}), 100, cores=4)


async def inside(turns: Turns, name: str, count: int, stack: contextlib.AsyncExitStack) -> list[asyncio.Task[None]]:
    """Start requests that stay until the stack is closed; return those that wait for their turn."""
    leave = asyncio.Event()

    async def request() -> None:
        async with turns.turn(name):
            running.append(1)
            await leave.wait()

    running: list[int] = []
    tasks = [asyncio.create_task(request()) for _ in range(count)]
    for _ in range(10):
        await asyncio.sleep(0)

    async def end() -> None:
        leave.set()
        await asyncio.gather(*tasks)

    stack.push_async_callback(end)
    return tasks[len(running) :]


def test_whoever_asks_for_much_gets_half_of_the_cores_while_others_ask() -> None:
    async def run() -> None:
        turns = made()
        async with contextlib.AsyncExitStack() as stack:
            assert await inside(turns, "alone", 20, stack) == []
        async with contextlib.AsyncExitStack() as stack:
            assert await inside(turns, "modest", 4, stack) == []
            assert len(await inside(turns, "greedy", 20, stack)) == 16
            assert await inside(turns, "another", 4, stack) == []

    asyncio.run(run())


def test_lines_are_served_in_their_order_and_those_who_left_are_passed_over() -> None:
    async def run() -> None:
        turns = made()
        served: list[int] = []
        hold = asyncio.Event()

        async def request(number: int) -> None:
            async with turns.turn("greedy"):
                served.append(number)
                await hold.wait()

        async with turns.turn("modest"):
            tasks = []
            for number in range(9):
                tasks.append(asyncio.create_task(request(number)))
                await asyncio.sleep(0)
            assert served == [0, 1, 2, 3]
            tasks[6].cancel()
            hold.set()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert served == [0, 1, 2, 3, 4, 5, 7, 8]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("least_s", "long_s", "waits"),
    [(1000, 1000, True), (0.01, 1000, False), (1000, 0.01, False)],
    ids=["for others", "a while at most", "not for long work"],
)
def test_a_client_in_line_begins_while_nobody_elses_is_under_way(
    monkeypatch: pytest.MonkeyPatch, least_s: float, long_s: float, waits: bool
) -> None:
    monkeypatch.setattr(turns, "_LEAST_S", least_s)
    monkeypatch.setattr(turns, "_LONG_S", long_s)

    async def run() -> None:
        limits = made()
        served: list[int] = []

        async def request(number: int) -> None:
            async with limits.turn("greedy"):
                served.append(number)
                await asyncio.sleep(0)

        async with limits.turn("modest"):
            tasks = [asyncio.create_task(request(number)) for number in range(10)]
            await asyncio.wait(tasks, timeout=0.3 if waits else 20)
            assert (served == [0, 1, 2, 3]) == waits
        await asyncio.wait_for(asyncio.gather(*tasks), 20)
        assert served == list(range(10))

    asyncio.run(run())


def test_a_client_in_line_pauses_as_long_as_its_last_request_ran() -> None:
    run_s, waiting = 0.01, 16

    async def run() -> None:
        limits = Turns(Bounds(client_requests=4, wait_s=30.0), 100, cores=2)
        began: list[float] = []
        ended: list[float] = []

        async def request() -> None:
            async with limits.turn("greedy"):
                began.append(time.monotonic())
                await asyncio.sleep(run_s)
                ended.append(time.monotonic())

        async def clock() -> float:
            start = time.monotonic()
            for _ in in_line:
                await asyncio.sleep(2 * run_s)
            return time.monotonic() - start

        async with limits.turn("modest"):
            pass  # it may ask again at any time
        in_line = range(4, waiting)  # before them as many run as one may have at once, after them as few
        clock_s, *_ = await asyncio.gather(clock(), *(request() for _ in range(waiting + 4)))
        for n in in_line:
            assert began[n] - ended[n - 1] >= 0.8 * min(ended[n - 1] - began[n - 1], turns._LEAST_S)
        assert began[in_line[-1]] - began[in_line[0]] < 2.5 * clock_s  # not a tenth of a second each

    asyncio.run(run())


def test_too_many_requests_and_bytes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_PAUSE_S", 0.0)

    async def run() -> None:
        several = made(wait_s=0.05)
        async with contextlib.AsyncExitStack() as stack:
            await inside(several, "greedy", 36, stack)
            with pytest.raises(TooMany, match="36 requests of this client are here already"):
                async with several.turn("greedy"):
                    raise AssertionError
            async with several.turn("modest"):
                pass
            for _ in range(2):  # nothing is left of those whose turn didn't come
                with pytest.raises(TooMany, match="send fewer at once"):
                    async with several.turn("greedy"):
                        raise AssertionError
        several.hold("greedy", 50)
        several.hold("another", 50)
        with pytest.raises(TooMany, match="bodies of this client that are here have 50 bytes"):
            several.hold("greedy", 1)
        several.hold("greedy", -50)
        several.hold("greedy", 1)

    asyncio.run(run())


def test_the_line_for_memory_goes_from_client_to_client() -> None:
    async def run() -> None:
        turns, order = made(), []

        async def body(name: str) -> None:
            async with turns.in_memory_line(name):
                order.append(name)
                await asyncio.sleep(0)

        await asyncio.gather(*(body(name) for name in ("a", "a", "a", "b")))
        assert order == ["a", "b", "a", "a"]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("9.9.9.9", ["1.1.1.1"], "9.9.9.9"),
        ("10.0.0.1", ["1.1.1.1"], "1.1.1.1"),
        ("10.0.0.1", ["6.6.6.6, 1.1.1.1"], "1.1.1.1"),
        ("10.0.0.1", ["6.6.6.6", "1.1.1.1, 10.0.0.7"], "1.1.1.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["1.1.1.1, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.2"], "10.0.0.2"),
        ("::ffff:10.0.0.1", ["2001:db8:1:2:3::4"], "2001:db8:1:2::/64"),
        ("2001:db8:1:2:9::4", ["1.1.1.1"], "2001:db8:1:2::/64"),
        ("::1", ["1.1.1.1"], "::1"),
    ],
)
def test_only_a_trusted_proxy_says_who_asks(peer: str, forwarded: list[str], client: str) -> None:
    assert client_of((peer, 1), forwarded, (ipaddress.ip_network("10.0.0.0/8"),)) == client
    assert client_of((peer, 1), forwarded, ()) == client_of((peer, 1), [], ())


class Pressing(http.server.BaseHTTPRequestHandler):
    """A server that refuses twice, then answers."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        status = 429 if len(self.asked) % 3 else 200
        told = {"message": "too many", "type": "TooMany", "code": 429}
        answer = json.dumps({"collections": []} if status == 200 else {"message": "too many", "error": told}).encode()
        self.send_response(status)
        self.send_header("Retry-After", "0")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *told: object) -> None:
        """Say nothing."""


@pytest.fixture
def pressing() -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Pressing,), {"asked": asked}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def test_the_sdk_waits_as_a_429_asks_it_to(pressing: tuple[str, list[str]]) -> None:
    url, asked = pressing
    with Search(url) as search:
        assert search.collections() == []
    assert len(asked) == 3
    with Search(url, retries=Retries(attempts=1)) as search, pytest.raises(Unavailable, match="answers: too many"):
        search.collections()

    async def ask() -> None:
        async with AsyncSearch(url) as search:
            assert await search.collections() == []

    asyncio.run(ask())
    assert len(asked) == 6


def connected(sidecar: Sidecar) -> socket.socket:
    """A connection from another address."""
    return socket.create_connection(("127.0.0.1", sidecar.port), 30, ("127.0.0.2", 0))


def test_one_address_cant_take_all_connections(tmp_path: Path) -> None:
    with bounded_sidecar.running(tmp_path, "127.0.0.1:9", client_connections=5, client_requests=2) as sidecar:
        assert sidecar.ask("POST", "/v1/collections", {"name": "a", "dimension": 4})[0] == 201
        with contextlib.ExitStack() as stack:
            held = [
                stack.enter_context(socket.create_connection(("127.0.0.1", sidecar.port), 30, ("127.0.0.2", 0)))
                for _ in range(5)
            ]
            for connection in held:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
            with connected(sidecar) as more:
                answer = more.makefile("rb").read()
            assert b" 429 " in answer
            assert b"5 connections of 127.0.0.2 are open" in answer
            assert b"retry-after: 1" in answer.lower()
            assert sidecar.ask("POST", "/v1/collections/a/search", {"vector": unit(1, 4)[0].tolist()})[0] == 200
        with connected(sidecar) as again:
            again.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert again.makefile("rb").readline().split()[1] in (b"200", b"429")  # the others may not be closed yet
