"""Downloads of bulk embedding: guarded, tried again, bounded, and slow hosts in nobody's way."""

from __future__ import annotations

import email.utils
import http.server
import ipaddress
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from clip_client.preprocess import Limits
from clip_embed.chunks import Chunk, no_columns
from clip_embed.fetch import Fetcher, FetchOptions

NETWORKS, PORTS = (ipaddress.ip_network("127.0.0.0/8"),), (range(1024, 65536),)
LOCAL = FetchOptions(timeout_s=1.0, retries=2, threads=4, networks=NETWORKS, ports=PORTS)


@dataclass
class Script:
    """A server that gives a path's answers one after the other, the last one ever after; ``hang`` is none at all."""

    answers: dict[str, list[tuple[int, dict[str, str], bytes]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"


@contextmanager
def scripted(**answers: list[tuple[int, dict[str, str], bytes]]) -> Iterator[Script]:
    script = Script({f"/{name}": given for name, given in answers.items()})

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            count = script.asked.count(self.path)
            script.asked.append(self.path)
            script.times.append(time.monotonic())
            if self.path.startswith("/hang"):
                script.over.wait(30)
                return
            given = script.answers.get(self.path, [(404, {}, b"")])
            status, headers, body = given[min(count, len(given) - 1)]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    class Server(http.server.ThreadingHTTPServer):
        request_queue_size = 256

    server = Server(("0.0.0.0", 0), Handler)
    script.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield script
    finally:
        script.over.set()
        server.shutdown()
        server.server_close()


def fetched(
    *pictures: str | bytes | None, options: FetchOptions = LOCAL, limits: Limits = Limits()
) -> Sequence[bytes | str | None]:
    """Return what came of each picture: its content, or the reason why there is none."""
    fetcher = Fetcher(options, limits)
    try:
        problems: dict[int, str] = {}
        contents = fetcher.begin(_chunk(pictures)).wait(problems)
        return [problems.get(n, content) for n, content in enumerate(contents)]
    finally:
        fetcher.close()


def _chunk(pictures: Sequence[str | bytes | None]) -> Chunk:
    return Chunk(["x"] * len(pictures), pictures, [None] * len(pictures), no_columns(len(pictures)))


def test_files_bytes_and_urls_come_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"file")
    with scripted(a=[(200, {}, b"url")]) as server:
        there = fetched(server.url("/a"), None, b"bytes", str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg"), server.url("/b"))
    assert there[:4] == [b"url", "has no picture", b"bytes", b"file"]
    assert "no image file" in str(there[4])
    assert str(there[5]).endswith("/b answers 404: expected 200 with an image")


def test_private_addresses_and_other_ports_need_a_word_of_the_user() -> None:
    with scripted(a=[(200, {}, b"url")], away=[(302, {"Location": "http://10.0.0.1/x"}, b"")]) as server:
        refused = fetched(server.url("/a"), f"http://127.0.0.1/{'a'}", options=FetchOptions(timeout_s=1))
        assert f"expected 80 or 443, others are allowed with --allow-port {server.port}" in str(refused[0])
        assert "127.0.0.1, which isn't a public address" in str(refused[1])
        assert "10.0.0.1, which isn't a public address" in str(fetched(server.url("/away"))[0])
        assert server.asked == ["/away"]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_host_is_asked_again(status: int) -> None:
    with scripted(a=[(status, {}, b""), (200, {}, b"url")]) as server:
        assert fetched(server.url("/a")) == [b"url"]
        assert server.asked == ["/a", "/a"]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 501])
def test_other_answers_are_final(status: int) -> None:
    with scripted(a=[(status, {}, b""), (200, {}, b"url")]) as server:
        assert f"answers {status}" in str(fetched(server.url("/a"))[0])
        assert server.asked == ["/a"]


def test_a_host_that_stays_busy_is_given_up_after_the_retries() -> None:
    with scripted(a=[(503, {}, b"")]) as server:
        assert "answers 503" in str(fetched(server.url("/a"))[0])
        assert len(server.asked) == 3


def test_the_pause_that_a_host_asks_for_is_kept() -> None:
    date = email.utils.formatdate(time.time() + 2.5, usegmt=True)
    answers = {"seconds": "1", "date": date, "strange": "soon", "negative": "-5"}
    with scripted(
        **{name: [(429, {"Retry-After": value}, b""), (200, {}, b"url")] for name, value in answers.items()}
    ) as server:
        assert fetched(*map(server.url, (f"/{name}" for name in answers))) == [b"url"] * 4
        pauses = {name: _pause_s(server, f"/{name}") for name in answers}
    assert 1.0 <= pauses["seconds"] < 1.5
    assert 1.0 <= pauses["date"] < 3.0
    assert max(pauses["strange"], pauses["negative"]) < 1.0


def _pause_s(server: Script, path: str) -> float:
    first, second = (when for when, asked in zip(server.times, server.asked, strict=True) if asked == path)
    return second - first


def test_a_pause_that_is_too_long_is_not_waited_for() -> None:
    start = time.monotonic()
    with scripted(a=[(429, {"Retry-After": "3600"}, b"")], b=[(429, {"Retry-After": "9" * 400}, b"")]) as server:
        assert ["answers 429" in str(reason) for reason in fetched(server.url("/a"), server.url("/b"))] == [True] * 2
        assert Counter(server.asked) == {"/a": 1, "/b": 1}
    assert time.monotonic() - start < 2


def test_a_file_that_is_too_large_is_refused_whatever_its_head_says() -> None:
    with scripted(a=[(200, {}, b"x" * 5000)], b=[(200, {"Content-Length": "10"}, b"x" * 5000)]) as server:
        there = fetched(server.url("/a"), server.url("/b"), limits=Limits(image_bytes=1000))
    assert "has more than 1,000 bytes" in str(there[0])
    assert there[1] == b"x" * 10


def test_a_host_that_hangs_is_given_up_in_time() -> None:
    start = time.monotonic()
    with scripted() as server:
        assert "didn't answer within 0.3 s" in str(fetched(server.url("/hang"), options=_bounded(0.3))[0])
        assert len(server.asked) == 3
    assert time.monotonic() - start < 4


def _bounded(timeout_s: float) -> FetchOptions:
    return FetchOptions(timeout_s, 2, 4, NETWORKS, PORTS)


def test_a_host_that_failed_several_times_gets_one_try_each() -> None:
    with scripted() as server:
        fetcher = Fetcher(FetchOptions(0.2, 1, 1, NETWORKS, PORTS))
        for n in range(6):
            problems: dict[int, str] = {}
            fetcher.begin(_chunk([server.url(f"/hang/{n}")])).wait(problems)
            assert "didn't answer within" in problems[0]
        fetcher.close()
        counts = Counter(server.asked)
    assert [counts[f"/hang/{n}"] for n in range(6)] == [2, 2, 2, 1, 1, 1]


def test_slow_hosts_take_no_room_from_the_others() -> None:
    with scripted(good=[(200, {}, b"url")]) as server:
        fetcher = Fetcher(_bounded(12.0))
        slow = fetcher.begin(_chunk([server.url("/hang", f"127.0.1.{n}") for n in range(1, 9)]))  # twice the threads
        start, problems = time.monotonic(), dict[int, str]()
        assert fetcher.begin(_chunk([server.url("/good")] * 40)).wait(problems) == [b"url"] * 40
        assert time.monotonic() - start < 9
        server.over.set()
        slow.wait(problems)
        fetcher.close()
    assert len(problems) == 8


def test_urls_are_encoded_as_browsers_do() -> None:
    with scripted(**{"caf%C3%A9%20%25?q=1": [(200, {}, b"url")]}) as server:
        assert fetched(server.url("/café %25?q=1#part")) == [b"url"]


def test_what_was_fetched_and_not_used_is_bounded() -> None:
    with scripted(a=[(200, {}, b"x" * 2**24)]) as server:
        fetcher = Fetcher(LOCAL)
        begun = [fetcher.begin(_chunk([server.url("/a")])) for _ in range(17)]
        deadline = time.monotonic() + 20
        while not fetcher.is_full:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        for contents in begun:
            contents.wait({})
        assert not fetcher.is_full
        fetcher.close()
