"""Bounds on requests, over HTTP: slow and large bodies, heads, memory that others have, and who doesn't wait for whom."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import bounded_sidecar
import psutil
import pytest
from PIL import Image
from servers import Server
from sidecars import PICTURES, Sidecar, base64_of, unit

from clip_client.thumbnails import thumbnail
from clip_search.budget import Budget
from clip_search.errors import Busy, TooLarge

SIZE = 8
VECTOR = unit(1, SIZE)[0].tolist()
MB = 2**20
NOWHERE = "127.0.0.1:9"
WHERE = "/v1/collections/a"


@pytest.fixture(scope="module")
def tight(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A sidecar without Triton whose bounds are met within a second."""
    bounds = {
        "body_bytes": 8 * MB,
        "search_bytes": MB,
        "body_memory": 1,
        "wait_s": 0.5,
        "body_s": 1,
        "body_rate": 1000,
        "head_s": 1,
        "head_bytes": 16_384,
        "headers": 30,
        "connections": 60,
    }
    with bounded_sidecar.running(tmp_path_factory.mktemp("tight"), NOWHERE, **bounds) as sidecar:
        assert sidecar.ask("POST", "/v1/collections", {"name": "a", "dimension": SIZE})[0] == 201
        assert sidecar.ask("POST", f"{WHERE}/rows", {"rows": [{"id": "x", "vector": VECTOR}]})[0] == 201
        yield sidecar
        assert sidecar.process.poll() is None


def head(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


@contextlib.contextmanager
def connected(sidecar: Sidecar, content: bytes = b"", client: int = 1) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", sidecar.port), 10, (f"127.0.0.{client}", 0)) as connection:
        connection.sendall(content)
        yield connection


def answered(connection: socket.socket) -> tuple[int, str]:
    """Status and message of what is answered until the connection is closed; 0 where it is closed without a word."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(65_536):
            received += part
    if not received:
        return 0, ""
    return int(received.split()[1]), json.loads(received.partition(b"\r\n\r\n")[2])["message"]


def dripped(connection: socket.socket, piece: bytes, seconds: float) -> None:
    """Send a piece every tenth of a second until the connection is closed or the time is over."""
    end = time.monotonic() + seconds
    with contextlib.suppress(OSError):  # closed by either side
        while time.monotonic() < end:
            connection.sendall(piece)
            time.sleep(0.1)


def searched(sidecar: Sidecar, vector: Any = VECTOR) -> int:
    return sidecar.ask("POST", f"{WHERE}/search", {"vector": vector})[0]


@pytest.mark.parametrize(
    ("header", "start"),
    [
        ("Content-Length: 100", b""),
        ("Content-Length: 100", b'{"vector"'),
        ("Transfer-Encoding: chunked", b"2\r\n{ \r\n"),
        ("Content-Length: 1000000", b" " * 900_000),
    ],
    ids=["nothing", "a part", "chunks", "nearly all"],
)
def test_a_body_that_stops_is_closed_with_408(tight: Sidecar, header: str, start: bytes) -> None:
    begun = time.monotonic()
    with connected(tight, head(f"{WHERE}/rows", header) + start) as connection:
        status, message = answered(connection)
    assert (status, time.monotonic() - begun < 4) == (408, True)
    assert "the body stopped at" in message
    assert "expected 1,000 a second" in message


def test_a_body_that_drips_is_closed_with_408(tight: Sidecar) -> None:
    begun = time.monotonic()
    with connected(tight, head(f"{WHERE}/search", "Content-Length: 5000")) as connection:
        threading.Thread(target=dripped, args=(connection, b" ", 8), daemon=True).start()
        assert answered(connection)[0] == 408
    assert time.monotonic() - begun < 4


def test_a_body_that_is_slow_but_fast_enough_is_taken(tight: Sidecar) -> None:
    body = json.dumps({"vector": VECTOR}).encode() + b" " * 4000
    with connected(tight, head(f"{WHERE}/search", f"Content-Length: {len(body)}", "Connection: close")) as connection:
        for start in range(0, len(body), 300):
            connection.sendall(body[start : start + 300])
            time.sleep(0.1)
        assert connection.makefile("rb").readline().split()[1] == b"200"


@pytest.mark.parametrize("path", ["/v1/collections", f"{WHERE}/none", "/v1/embeddings"])
def test_the_rest_of_a_body_that_was_answered_early_isnt_awaited_for_ever(tight: Sidecar, path: str) -> None:
    begun = time.monotonic()
    with connected(tight, head(path, "Content-Length: 100000000")) as connection:
        threading.Thread(target=dripped, args=(connection, b" ", 8), daemon=True).start()
        assert answered(connection)[0] in (404, 405, 413)
    assert time.monotonic() - begun < 6


@pytest.mark.parametrize(
    "start",
    [b"POST ", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: y\r\n", b"GET /health/live HTTP/1.1\r\nX"],
)
def test_a_head_that_drips_is_closed_with_408(tight: Sidecar, start: bytes) -> None:
    begun = time.monotonic()
    with connected(tight, start) as connection:
        threading.Thread(target=dripped, args=(connection, b"x", 8), daemon=True).start()
        status, message = answered(connection)
    assert (status, time.monotonic() - begun < 5) == (408, True)
    assert message == "no request within 1 s: expected its line and all of its headers"


def test_a_connection_that_says_nothing_is_closed(tight: Sidecar) -> None:
    begun = time.monotonic()
    with connected(tight) as connection:
        assert answered(connection) == (0, "")
    assert time.monotonic() - begun < 4


@pytest.mark.parametrize(
    "content",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"X-%d: x\r\n" % n for n in range(40)) + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"x" * 20_000 + b": x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 500_000,
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /" + b"x" * 500_000,
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"X-%d: %s\r\n" % (n, b"x" * 1000) for n in range(20)) + b"\r\n",
    ],
    ids=["many", "long value", "long name", "endless value", "long url", "endless url", "together"],
)
def test_a_head_that_is_too_large_is_431(tight: Sidecar, content: bytes) -> None:
    with connected(tight, content) as connection:
        status, message = answered(connection)
    assert (status, "more than 16,384 bytes or 30 headers" in message) == (431, True)


def test_more_trailers_than_headers_may_be_arent_kept(tight: Sidecar) -> None:
    trailers = b"0\r\n" + b"".join(b"X-%d: x\r\n" % n for n in range(100)) + b"\r\n"
    with connected(tight, head(f"{WHERE}/search", "Transfer-Encoding: chunked") + trailers) as connection:
        assert answered(connection)[0] in (0, 400, 431)
    assert searched(tight) == 200


def test_requests_one_after_the_other_on_a_connection_have_a_head_each(tight: Sidecar) -> None:
    one = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"X-%d: x\r\n" % n for n in range(25)) + b"\r\n"
    with connected(
        tight, one * 40 + b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    ) as connection:
        assert connection.makefile("rb").read().count(b"HTTP/1.1 200") == 41


def test_a_request_that_arrives_whole_may_be_larger_than_a_head(tight: Sidecar) -> None:
    body = json.dumps({"vector": VECTOR}).encode() + b" " * 60_000
    for _ in range(20):
        with connected(
            tight, head(f"{WHERE}/search", f"Content-Length: {len(body)}", "Connection: close") + body
        ) as connection:
            assert connection.makefile("rb").readline().split()[1:2] == [b"200"]


def test_more_connections_than_may_be_are_told_so(tight: Sidecar) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(connected(tight))
        status, message = answered(stack.enter_context(connected(tight)))
        assert (status, message.partition(",")[0]) == (503, "60 connections are open")
    time.sleep(0.2)
    assert searched(tight) == 200


SEARCHES = [f"{WHERE}/search", "/knn-service", "/metadata", f"{WHERE}/get", f"{WHERE}/delete", "/v1/collections"]


@pytest.mark.parametrize("path", SEARCHES)
def test_a_search_may_be_less_large_than_an_add(tight: Sidecar, path: str) -> None:
    body = b" " * (MB + 1)
    assert tight.ask("POST", path, body)[0] == 413
    with connected(tight, head(path, "Transfer-Encoding: chunked", "Connection: close")) as connection:
        with contextlib.suppress(ConnectionError):
            for _ in range(20):
                connection.sendall(b"10000\r\n" + b" " * 65_536 + b"\r\n")
        status, message = answered(connection)
    assert (status, "at most 1,048,576 are taken" in message) == (413, True)
    assert tight.ask("POST", f"{WHERE}/rows", body)[0] == 400  # no JSON
    assert tight.ask("POST", "/v1/embeddings", body)[0] == 400


@pytest.mark.parametrize("value", [b"0", b"[]", b"{}", b'""', b"null", b'{"a":0}', b"-1e5"])
def test_a_body_of_many_small_values_is_refused_before_it_is_read(tight: Sidecar, value: bytes) -> None:
    """Each takes many times as much memory as it has characters."""
    before = tight.rss()
    body = b'{"rows":[' + b",".join([value] * (7 * MB // (len(value) + 1))) + b"]}"
    status, answer = tight.ask("POST", f"{WHERE}/rows", body)
    assert (status, "bytes of memory, there are 100,663,296" in answer["message"]) == (413, True)
    assert tight.rss() - before < 40 * MB


def test_stalled_uploads_hold_no_memory_and_stop_nobody(tight: Sidecar) -> None:
    before = tight.rss()
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            begun = head(f"{WHERE}/rows", f"Content-Length: {8 * MB}") + b" " * (7 * MB)
            stack.enter_context(connected(tight, begun))
        taken = tight.rss() - before
        whole = json.dumps({"rows": [{"id": "y", "vector": VECTOR}], "on_conflict": "replace"}).encode() + b" " * (5 * MB)
        assert tight.ask("POST", f"{WHERE}/rows", whole)[0] == 201
        assert searched(tight) == 200
    assert taken < 40 * MB


def test_a_body_that_finds_no_room_waits_and_is_then_told_so(tmp_path: Path) -> None:
    bounds = {"body_bytes": MB, "body_disk": MB, "wait_s": 0.3, "body_s": 2}
    with bounded_sidecar.running(tmp_path, NOWHERE, **bounds) as sidecar, contextlib.ExitStack() as stack:
        assert sidecar.ask("POST", "/v1/collections", {"name": "a", "dimension": SIZE})[0] == 201
        part = head(f"{WHERE}/rows", f"Content-Length: {MB}") + b" " * (MB - 10)
        for client in range(2, 8):
            stack.enter_context(connected(sidecar, part, client))
        time.sleep(0.3)
        add = json.dumps({"rows": [{"id": "y", "vector": VECTOR}]}).encode() + b" " * (MB // 2)
        status, answer = sidecar.ask("POST", f"{WHERE}/rows", add)
        assert (status, answer["error"]["type"]) == (503, "Busy")
        assert "no more came free within 0.3 s: try again" in answer["message"]
        assert searched(sidecar) == 200
        time.sleep(2.2)  # by then they have been closed
        assert sidecar.ask("POST", f"{WHERE}/rows", add)[0] == 201


def bomb(mode: str = "RGBA", side: int = 4000) -> bytes:
    """A PNG of 16 megapixels in some KB."""
    file = io.BytesIO()
    Image.new(mode, (side, side)).save(file, "PNG")
    return file.getvalue()


def test_pictures_are_decoded_within_their_memory(server: Server, tmp_path: Path) -> None:
    """One takes 141 MB: two at a time."""
    with bounded_sidecar.running(tmp_path, server.address, decode_memory=300 * 10**6, wait_s=60) as sidecar:
        assert sidecar.ask("POST", "/v1/collections", {"name": "a"})[0] == 201
        assert sidecar.ask("POST", f"{WHERE}/rows", {"rows": [{"image": base64_of(PICTURES[0])}]})[0] == 201
        before = sidecar.rss()
        image = base64_of(bomb())
        with peak(sidecar) as seen, ThreadPoolExecutor(4) as pool:
            rows = {"rows": [{"image": image}, {"image": image}]}
            assert [*pool.map(lambda n: sidecar.ask("POST", f"{WHERE}/rows", rows)[0], range(4))] == [201] * 4
        assert seen[0] - before < 400 * 10**6


@pytest.mark.long
def test_a_picture_that_finds_no_memory_fails_its_request_and_adds_nothing(server: Server, tmp_path: Path) -> None:
    with bounded_sidecar.running(tmp_path, server.address, decode_memory=150 * 10**6, wait_s=0.01) as sidecar:
        assert sidecar.ask("POST", "/v1/collections", {"name": "a"})[0] == 201
        image = base64_of(bomb())
        status, answer = sidecar.ask("POST", f"{WHERE}/rows", {"rows": [{"image": image}] * 4})
        assert (status, answer["error"]["type"]) == (503, "Busy")
        assert "decoding the picture takes 140,800,000 bytes" in answer["message"]
        assert sidecar.ask("GET", WHERE)[1]["rows"] == 0
        assert sidecar.ask("POST", f"{WHERE}/rows", {"rows": [{"image": image}]})[0] == 201


@contextlib.contextmanager
def peak(sidecar: Sidecar) -> Iterator[list[int]]:
    """The highest resident memory, looked at every 5 ms."""
    seen, begun, stop, process = [0], threading.Event(), threading.Event(), psutil.Process(sidecar.process.pid)

    def look() -> None:
        while not stop.wait(0.005):
            seen[0] = max(seen[0], process.memory_info().rss)
            begun.set()

    looking = threading.Thread(target=look)
    looking.start()
    assert begun.wait(10)
    try:
        yield seen
    finally:
        stop.set()
        looking.join()


@contextlib.contextmanager
def silent_host() -> Iterator[str]:
    """A host that takes connections and says nothing; gives its URL."""
    with socket.create_server(("127.0.0.1", 0), backlog=200) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/a.jpg"


def slowest(asked: Callable[[], Any], rounds: int = 20) -> float:
    took = []
    for _ in range(rounds):
        start = time.monotonic()
        asked()
        took.append(time.monotonic() - start)
    return max(took)


@pytest.mark.long
def test_only_what_is_fetched_waits_for_hosts_that_stand_still(server: Server, tmp_path: Path) -> None:
    """80 requests for pictures of one silent host: twice as many as there are threads, with bodies for more than the memory."""
    bounds = {"fetch_s": 3, "wait_s": 30, "body_bytes": 8 * MB, "body_memory": 1}
    with bounded_sidecar.running(tmp_path, server.address, **bounds) as sidecar, silent_host() as url:
        assert sidecar.ask("POST", "/v1/collections", {"name": "a"})[0] == 201
        image = base64_of(PICTURES[0])
        assert sidecar.ask("POST", f"{WHERE}/rows", {"rows": [{"id": "p", "image": image}]})[0] == 201
        vector = sidecar.ask("POST", f"{WHERE}/get", {"ids": ["p"], "vectors": True})[1]["rows"][0]["vector_image"]
        needy: list[tuple[str, Any]] = [
            (f"{WHERE}/search", {"image_url": url}),
            (f"{WHERE}/rows", json.dumps({"rows": [{"image_url": url}]}).encode() + b" " * (3 * MB)),
            ("/v1/embeddings", {"model": "clip", "input": [url], "modality": "image"}),
            ("/knn-service", {"modality": "image", "num_images": 1, "indice_name": "a", "image_url": url}),
        ]
        with ThreadPoolExecutor(80) as pool:
            waiting = [pool.submit(sidecar.ask, "POST", *needy[n % 4]) for n in range(80)]
            time.sleep(1)
            free = {
                "vector": lambda: searched(sidecar, vector),
                "image": lambda: sidecar.ask("POST", f"{WHERE}/search", {"image": image})[0],
                "text": lambda: sidecar.ask("POST", f"{WHERE}/search", {"text": "a cat"})[0],
                "live": lambda: sidecar.ask("GET", "/health/live")[0],
                "ready": lambda: sidecar.ask("GET", "/health/ready")[0],
            }
            assert {name for name, asked in free.items() if asked() != 200} == set()
            assert {name for name, asked in free.items() if slowest(asked, 5) > 1} == set()
            answers = Counter(one.result(60)[0] for one in waiting)
        assert set(answers) <= {400, 503}
        assert searched(sidecar, vector) == 200


def test_a_budget_serves_in_the_order_of_asking_and_gets_everything_back() -> None:
    budget = Budget("the picture", 100, 0.2)
    budget.take(60)
    with pytest.raises(Busy, match="takes 50 bytes, 40 of 100 are free and no more came free"):
        budget.take(50)
    with pytest.raises(TooLarge, match="would take 101 bytes of memory, there are 100"):
        budget.take(101)
    order: list[int] = []
    with ThreadPoolExecutor(2) as pool:
        for size in (100, 30):  # the small one would fit, but came later
            pool.submit(lambda size=size: (budget.take(size), order.append(size), budget.give_back(size)))  # type: ignore[misc]
            time.sleep(0.03)
        assert order == []
        budget.give_back(60)
    assert (order, budget.taken) == ([100, 30], 0)


KINDS = [("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")]
KINDS += [("JPEG", "CMYK"), ("WEBP", "RGBA"), ("GIF", "P"), ("BMP", "RGB"), ("TIFF", "F"), ("TIFF", "LAB"), ("AVIF", "RGB")]


@pytest.mark.parametrize(("kind", "mode"), KINDS)
def test_every_picture_that_may_be_sent_fits_the_memory_for_decoding(kind: str, mode: str) -> None:
    """Memory grows with the number of pixels: a hundred by a hundred tell it of 100 million."""
    file = io.BytesIO()
    Image.new(mode, (100, 100)).save(file, kind)
    asked: list[int] = []

    class Noted(Budget):
        def take(self, size: int) -> None:
            asked.append(size)
            super().take(size)

    thumbnail(file.getvalue(), Noted("the picture", 2**30, 1))
    assert asked[0] * 100_000_000 / 10_000 <= 2 * 2**30
