"""Malformed HTTP on every route: a 4xx or a plain answer, never a 500, never the end of the process."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
import sidecars
from sidecars import Sidecar

from clip_client.search import Row

ROUTES = [
    ("GET", "/"),
    ("GET", "/page/page.js"),
    ("GET", "/page/none.js"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("GET", "/health/live"),
    ("GET", "/health/ready"),
    ("GET", "/metrics"),
    ("GET", "/metrics-summary"),
    ("GET", "/config.json"),
    ("GET", "/indices-list"),
    ("GET", "/v1/models"),
    ("GET", "/v1/collections"),
    ("GET", "/v1/collections/a"),
    ("GET", "/v1/collections/a/rows"),
    ("GET", "/v1/collections/a/rows/x"),
    ("GET", "/v1/collections/a/thumbnails/0"),
    ("POST", "/knn-service"),
    ("POST", "/metadata"),
    ("POST", "/v1/embeddings"),
    ("POST", "/v1/compare"),
    ("POST", "/v1/classify"),
    ("POST", "/clip/compare"),
    ("POST", "/v1/collections"),
    ("POST", "/v1/collections/a/rows"),
    ("POST", "/v1/collections/a/get"),
    ("POST", "/v1/collections/a/search"),
    ("POST", "/v1/collections/a/delete"),
    ("POST", "/v1/collections/none/rebuild"),
    ("DELETE", "/v1/collections/none"),
    ("DELETE", "/v1/collections/a/rows/none"),
    ("GET", "/none"),
]
HOSTS = [
    b"[",
    b"]",
    b"[::1",
    b"[zz]",
    b"[::1]]:80",
    b"[v1.x]",
    b"localhost:99999999",
    b"localhost:-1",
    b"localhost:x",
    b"a@b@localhost",
    b"local\xffhost",
    b"\xe2\x84\x80",
    b"localhost\\evil.example",
    b"127.0.0.1/evil",
    b"evil.example#127.0.0.1",
    b"evil.example?127.0.0.1",
    b"",
    b"%5b",
    b"x" * 20_000,
]
ORIGINS = [
    b"http://[",
    b"null",
    b"[",
    b"http://]",
    b"http://localhost:99999999",
    b"\xff\xfe",
    b"http://[::1",
    b"http://\xe2\x84\x80.example",
]


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    with sidecars.running(tmp_path_factory.mktemp("headers"), "127.0.0.1:9", "--body-mb", "1") as sidecar:
        with sidecar.client() as search:
            search.create("a", dimension=2)
            search.add("a", [Row(id="x", vector=[1, 0])])
        yield sidecar
        assert sidecar.process.poll() is None
        assert sidecar.ask("GET", "/v1/collections/a")[1]["rows"] == 1


def sent(sidecar: Sidecar, content: bytes, timeout_s: float = 10, cut: bool = False) -> int:
    """Status of what is answered to raw bytes; 0 where the connection is closed without an answer."""
    with socket.create_connection(("127.0.0.1", sidecar.port), timeout=timeout_s) as connection:
        try:
            connection.sendall(content)
            if cut:
                connection.shutdown(socket.SHUT_WR)
            line = connection.makefile("rb").readline()
        except (ConnectionError, BrokenPipeError):
            return 0
    return int(line.split()[1]) if line else 0


def request(method: str, path: bytes | str, *headers: bytes, host: bytes = b"localhost", body: bytes = b"") -> bytes:
    path = path.encode() if isinstance(path, str) else path
    head = [method.encode() + b" " + path + b" HTTP/1.1", b"Host: " + host, b"Connection: close", *headers]
    return b"\r\n".join([*head, b"Content-Length: %d" % len(body), b"", body])


UNFINISHED = {
    "body cut off",
    "tls",
    "expect",
    "upgrade",
    "websocket",
    "huge header",
    "no version",
    "length too large",
    "large chunk",
}
"""Of these the server waits for more, or for another answer."""


def refused(status: int) -> bool:
    return status == 0 or 400 <= status < 500


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_hosts_and_origins_that_are_none(http: Sidecar, method: str, path: str) -> None:
    statuses = {host: sent(http, request(method, path, host=host)) for host in HOSTS}
    statuses |= {origin: sent(http, request(method, path, b"Origin: " + origin)) for origin in ORIGINS}
    assert {value: status for value, status in statuses.items() if status not in (400, 403)} == {}


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_odd_requests_are_no_500(http: Sidecar, method: str, path: str) -> None:
    start, head = f"{method} {path}".encode(), b"Host: localhost\r\nConnection: close\r\n"
    odd = {
        "no host": start + b" HTTP/1.1\r\n\r\n",
        "1.0 without host": start + b" HTTP/1.0\r\n\r\n",
        "two hosts": start + b" HTTP/1.1\r\nHost: evil.example\r\n" + head + b"\r\n",
        "no number": start + b" HTTP/1.1\r\n" + head + b"Content-Length: x\r\n\r\n",
        "negative": start + b" HTTP/1.1\r\n" + head + b"Content-Length: -5\r\n\r\n",
        "two lengths": start + b" HTTP/1.1\r\n" + head + b"Content-Length: 2\r\nContent-Length: 5\r\n\r\n{}",
        "length too large": start + b" HTTP/1.1\r\n" + head + b"Content-Length: 99999999999999999999999\r\n\r\n{}",
        "digits that aren't": start + b" HTTP/1.1\r\n" + head + b"Content-Length: \xb2\r\n\r\n{}",
        "body cut off": start + b" HTTP/1.1\r\n" + head + b"Content-Length: 50\r\n\r\n{",
        "no chunks": start + b" HTTP/1.1\r\n" + head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
        "chunks and a length": start
        + b" HTTP/1.1\r\n"
        + head
        + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        "another encoding": start + b" HTTP/1.1\r\n" + head + b"Transfer-Encoding: gzip\r\n\r\n",
        "large chunk": start + b" HTTP/1.1\r\n" + head + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{}",
        "no header": start + b" HTTP/1.1\r\n" + head + b": x\r\nno colon\r\n\r\n",
        "NUL": start + b" HTTP/1.1\r\n" + head + b"X: a\0b\r\n\r\n",
        "folded": start + b" HTTP/1.1\r\n" + head + b"X: a\r\n b\r\n\r\n",
        "bytes in headers": start
        + b" HTTP/1.1\r\n"
        + head
        + b"Authorization: \xff\xfe\r\nContent-Type: \xff\r\nX-\xff: x\r\n\r\n",
        "huge header": start + b" HTTP/1.1\r\n" + head + b"X: " + b"x" * 200_000 + b"\r\n\r\n",
        "many headers": start + b" HTTP/1.1\r\n" + head + b"".join(b"X-%d: x\r\n" % n for n in range(2000)) + b"\r\n",
        "http 9": start + b" HTTP/9.9\r\n" + head + b"\r\n",
        "no version": start + b"\r\n" + head + b"\r\n",
        "upgrade": start + b" HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        "websocket": start + b" HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        "expect": start + b" HTTP/1.1\r\n" + head + b"Expect: 999-nothing\r\n\r\n",
        "range": start + b" HTTP/1.1\r\n" + head + b"Range: bytes=-1-\xff\r\n\r\n",
        "tls": b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        "utf-8 path": start + b"/\xc3\xa9\xff HTTP/1.1\r\n" + head + b"\r\n",
        "absolute": f"{method} http://evil.example{path} HTTP/1.1\r\n".encode() + head + b"\r\n",
        "absolute to nowhere": f"{method} http://[{path} HTTP/1.1\r\n".encode() + head + b"\r\n",
        "no path": f"{method} * HTTP/1.1\r\n".encode() + head + b"\r\n",
        "empty path": f"{method}  HTTP/1.1\r\n".encode() + head + b"\r\n",
        "two slashes": f"{method} /{path} HTTP/1.1\r\n".encode() + head + b"\r\n",
    }
    statuses = {name: sent(http, content, cut=name in UNFINISHED) for name, content in odd.items()}
    assert {name: status for name, status in statuses.items() if status >= 500 and status not in (503, 505)} == {}
    assert refused(statuses["no host"])
    assert refused(statuses["two hosts"])


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "PUT", "PATCH", "CONNECT", "PROPFIND", "get", "\u00e9"])
def test_other_methods_are_told_so(http: Sidecar, method: str) -> None:
    statuses = {path: sent(http, request(method, path)) for _, path in ROUTES}
    assert {path: status for path, status in statuses.items() if not (status < 500 or status in (501, 503))} == {}


PATHS = [
    "/v1/collections/%00",
    "/v1/collections/a%00",
    "/v1/collections/%2e%2e",
    "/v1/collections/%2e%2e%2f%2e%2e%2fetc",
    "/v1/collections/%ff%fe",
    "/v1/collections/%ed%a0%80",
    "/v1/collections/%",
    "/v1/collections/%zz",
    "/v1/collections/" + "x" * 60_000,
    "/v1/collections/a/rows/%00",
    "/v1/collections/a/rows/%ff",
    "/v1/collections/a/rows/%ed%a0%80",
    "/v1/collections/a/rows/%27%20OR%201=1",
    "/v1/collections/a/rows/%5c%27",
    "/v1/collections/a/rows/" + "x" * 20_000,
    "/v1/collections/a/rows?filter=%00",
    "/v1/collections/a/rows?filter=%ff%fe",
    "/v1/collections/a/rows?filter=%ed%a0%80%20=%201",
    "/v1/collections/a/rows?filter=id=%27%ed%a0%80%27",
    "/v1/collections/a/rows?filter=id=%27%00%27",
    "/v1/collections/a/rows?filter[]=1&filter=2&filter=id=1",
    "/v1/collections/a/rows?after=%ff&limit=1e3",
    "/v1/collections/a/rows?after=99999999999999999999",
    "/v1/collections/a/rows?limit=-9223372036854775808",
    "/v1/collections/a/rows?vectors=%00",
    "/v1/collections/a/rows?&&&==;;",
    "/v1/collections/a/rows?" + "a=1&" * 5000,
    "/v1/collections/a/thumbnails/-1",
    "/v1/collections/a/thumbnails/9223372036854775807",
    "/v1/collections/a/thumbnails/9223372036854775808",
    "/v1/collections/a/thumbnails/-9223372036854775809",
    "/v1/collections/a/thumbnails/1e5",
    "/v1/collections/a/thumbnails/%D9%A1",
    "/v1/collections/a/thumbnails/1_0",
    "/page/%00",
    "/page/%2e%2e%2fcli.py",
    "/page/..%2f..%2f..%2fetc%2fpasswd",
    "/page/" + "x" * 5000 + ".js",
    "/%00",
    "//",
    "/..",
    "/v1/collections/",
    "/v1/collections//rows",
]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path[:60])
def test_odd_paths_and_queries(http: Sidecar, path: str) -> None:
    statuses = {method: sent(http, request(method, path)) for method in ("GET", "POST", "HEAD", "DELETE")}
    assert {method: status for method, status in statuses.items() if status >= 500} == {}


def test_names_of_ours_are_answered(http: Sidecar) -> None:
    for host in (b"localhost", b"LOCALHOST:1", b"127.0.0.1:65535", b"[::1]", b"[::1]:80", b"[::ffff:127.0.0.1]", b"10.1.2.3"):
        assert sent(http, request("GET", "/health/live", host=host)) == 200
        assert sent(http, request("GET", "/health/live", b"Origin: http://" + host, host=host)) == 200
    assert sent(http, request("GET", "/health/live", b"Origin: http://localhost.evil.example")) == 403
    assert sent(http, request("GET", "/health/live", b"Origin: http://localhost", b"Origin: http://evil.example")) == 403


def test_a_client_that_goes_away_is_no_failure_of_the_sidecar(http: Sidecar) -> None:
    before = http.ask("GET", "/metrics")[1].decode().count('status="500"')
    for _, path in ROUTES[17:24]:
        with socket.create_connection(("127.0.0.1", http.port)) as half:
            half.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{{".encode())
            time.sleep(0.1)
    time.sleep(0.3)
    assert http.ask("GET", "/metrics")[1].decode().count('status="500"') == before
    assert http.ask("GET", "/health/live")[0] == 200
