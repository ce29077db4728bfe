"""Fetches for clients: public addresses, connected to as they were checked, and nothing that lies inside."""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import socket
import threading
import time
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from servers import http_files

from clip_client import InvalidInput, Timeout, Unavailable
from clip_client.addresses import is_public
from clip_client.argument_types import ports
from clip_client.thumbnails import thumbnail
from clip_search.errors import TooLarge
from clip_search.fetch import fetched, read
from clip_search.options import FetchOptions
from pictures import encoded, jpegs, picture

LOCAL = FetchOptions(
    networks=(ipaddress.ip_network("127.0.0.1/32"),), ports=(range(1024, 65536),), timeout_s=1.0, image_bytes=100_000
)
INSIDE = [
    "127.0.0.1", "127.1", "0x7f000001", "2130706433", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "224.0.0.1", "255.255.255.255", "[::1]", "[::]", "[fe80::1]", "[fc00::1]", "[::ffff:127.0.0.1]",
    "[::ffff:10.0.0.1]", "[2002:7f00:1::]", "[64:ff9b::7f00:1]", "localhost",
    "[fec0::1]", "[feff::1]", "[::ffff:0:1.2.3.4]", "[::127.0.0.1]", "[::8.8.8.8]", "[64:ff9b:1::808:808]", "[100::1]",
    "[2001::1]", "[2001:db8::1]", "[2001:20::1]", "[2002:808:808::1]", "[3fff::1]", "[5f00::1]", "[ff02::1]", "[ff0e::1]",
    "[4000::1]", "[fd00:ec2::254]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:a9fe:a9fe]", "[64:ff9b::a9fe:a9fe]",
    "192.0.0.1", "192.0.0.9", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1",
    "100.127.255.255", "239.255.255.250", "240.0.0.1", "254.1.1.1", "0.1.2.3", "168.63.129.16",
    "0177.0.0.1", "0x7f.1", "127.0.1", "017700000001", "0xa9fea9fe", "2852039166", "0300.0250.1.1",
]  # fmt: skip
PUBLIC = [
    "8.8.8.8",
    "1.1.1.1",
    "172.32.0.1",
    "100.128.0.1",
    "2606:4700::1111",
    "2a00:1450::1",
    "64:ff9b::808:808",
    "::ffff:808:808",
]


@pytest.mark.parametrize("host", INSIDE)
def test_addresses_inside_are_refused_however_they_are_written(host: str) -> None:
    with pytest.raises(InvalidInput, match="isn't a public address"):
        fetched(f"http://{host}/a.jpg", FetchOptions(timeout_s=1))


@pytest.mark.parametrize("address", PUBLIC)
def test_addresses_of_the_internet_may_be_fetched(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("port", [1, 22, 25, 79, 81, 444, 6379, 8080])
def test_ports_other_than_the_webs_are_refused(port: int) -> None:
    for url in (f"http://8.8.8.8:{port}/", f"https://127.0.0.1:{port}/"):
        with pytest.raises(InvalidInput, match=f"others are allowed with --allow-port {port}"):
            fetched(url, FetchOptions(networks=LOCAL.networks, ports=(range(8081, 8090),), timeout_s=1))


def test_ports_are_given_one_by_one_or_from_first_to_last() -> None:
    assert (ports("8080"), ports("8000-8999")) == (range(8080, 8081), range(8000, 9000))
    for text, message in (("90-80", "ends before it begins"), ("0", "isn't between"), ("80-70000", "isn't between")):
        with pytest.raises(ArgumentTypeError, match=message):
            ports(text)


def test_a_redirect_to_another_port_is_refused() -> None:
    with http_files({}) as url:
        with pytest.raises(InvalidInput, match=r"127\.0\.0\.1 is named with port 22"):
            fetched(f"{url}/to/http://127.0.0.1:22/", LOCAL)
        with pytest.raises(InvalidInput, match="isn't a URL that can be fetched"):
            fetched(f"{url}/to/gopher://127.0.0.1:80/", LOCAL)


def test_a_name_with_one_address_inside_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in ("93.184.216.34", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: answers)
    with pytest.raises(InvalidInput, match=r"two-faced.example is 10\.0\.0\.1"):
        fetched("http://two-faced.example/", LOCAL)


def test_a_name_that_changes_its_address_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def resolve(host: str, port: int, *args: object, **options: object) -> list[object]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    with http_files({"/a.jpg": b"content"}) as url:
        port = url.rpartition(":")[2]
        real = socket.getaddrinfo
        monkeypatch.setattr(
            socket, "getaddrinfo", lambda host, *a, **o: (resolve if host == "name.example" else real)(host, *a, **o)
        )
        assert fetched(f"http://name.example:{port}/a.jpg", LOCAL) == b"content"
    assert asked == ["name.example"]


def test_a_redirect_inside_is_refused() -> None:
    with http_files({}) as url:
        with pytest.raises(InvalidInput, match=r"10\.0\.0\.1, which isn't a public address"):
            fetched(f"{url}/to/http://10.0.0.1/", LOCAL)
        with pytest.raises(InvalidInput, match="isn't a URL that can be fetched"):
            fetched(f"{url}/to/file:///etc/passwd", LOCAL)
        for strange in ("http://[", "//[::1]a/", "http://a:b/"):
            with pytest.raises(InvalidInput, match=r"can't be fetched|can be fetched"):
                fetched(f"{url}/to/{strange}", LOCAL)
        with pytest.raises(InvalidInput, match="answers 302: expected 200"):
            fetched(f"{url}/to/", LOCAL)
        with pytest.raises(InvalidInput, match="more than 3 times"):
            fetched(f"{url}/loop", dataclasses.replace(LOCAL, timeout_s=10))


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a/b",
        "http://",
        "http:///x",
        "http://a b/",
        "http://ü.example/",
        "http://a:99999/",
        "//a",
        "",
        "http://user:secret@8.8.8.8/",
        "http://8.8.8.8@127.0.0.1/",
        "http://[fe80::1%25eth0]/",
        "http://8.8.8.8\\@127.0.0.1/",
        "http://127.0.0.1%2f@8.8.8.8/",
        "http://8.8.8.8\r\nHost:x/",
        "http://8.8.8.8:-1/",
        "http://8.8.8.8:0/",
        "http://8.8.8.8:x/",
    ],
)
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(InvalidInput, match="isn't a URL that can be fetched"):
        fetched(url, LOCAL)


def test_hosts_that_fail() -> None:
    with http_files({"/big": b"x" * 200_000}) as url:
        with pytest.raises(TooLarge, match="more than 100,000 bytes"):
            fetched(f"{url}/big", LOCAL)
        with pytest.raises(Timeout, match="within 1 s"):
            fetched(f"{url}/hang", LOCAL)
        with pytest.raises(Timeout, match="within 1 s"):
            fetched(f"{url}/drip", LOCAL)
    with pytest.raises(Unavailable, match="can't be reached"):
        fetched(url, LOCAL)
    with pytest.raises(Unavailable, match="has no address"):
        fetched("http://nobody.invalid/", LOCAL)


LATE = {
    "a status line": (b"", b"HTTP/1.1 200 OK"),
    "headers": (b"HTTP/1.1 200 OK\r\nX-Long: ", b"x"),
    "a body without a length": (b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
    "a body with a length": (b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", b"x"),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "a chunk's length": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
    "answers before the answer": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "nothing": (b"", b""),
    "nothing to a TLS handshake": (b"", b""),
    "a TLS handshake": (b"\x16\x03\x03\x40\x00\x02\x00\x3f\xf0", b"\x00"),
}


@pytest.mark.parametrize("what", LATE)
def test_whatever_drips_is_given_up_in_time(what: str) -> None:
    scheme = "https" if "handshake" in what else "http"
    with dripping(*LATE[what]) as port:
        start = time.monotonic()
        with pytest.raises(Timeout, match="within 1 s"):
            fetched(f"{scheme}://127.0.0.1:{port}/a.jpg", LOCAL)
        assert time.monotonic() - start < 2


def test_redirects_that_drip_share_the_time() -> None:
    with dripping(b"HTTP/1.1 302 Found\r\nLocation: /again\r\n", b"", 0.7, b"Content-Length: 0\r\n\r\n") as port:
        start = time.monotonic()
        with pytest.raises(Timeout, match="within 1 s"):
            fetched(f"http://127.0.0.1:{port}/a.jpg", LOCAL)
        assert time.monotonic() - start < 1.5


def test_headers_that_the_deadline_cuts_off_are_not_taken_for_whole() -> None:
    redirect = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/elsewhere\r\n"
    with dripping(redirect, b"", 30) as port, pytest.raises(Timeout, match=r"a\.jpg didn't answer within 1 s"):
        fetched(f"http://127.0.0.1:{port}/a.jpg", LOCAL)


def test_a_name_that_is_looked_up_for_ever_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: over.wait(10) and [])
    start = time.monotonic()
    with pytest.raises(Timeout, match="wasn't found in time"):
        fetched("http://slow.example/", LOCAL)
    with ThreadPoolExecutor(100) as pool:  # more than are looked up at once
        fetches = [pool.submit(fetched, "http://slow.example/", LOCAL) for _ in range(100)]
    assert all(isinstance(fetch.exception(), Timeout) for fetch in fetches)
    assert time.monotonic() - start < 4
    over.set()


def test_no_thread_or_descriptor_is_left() -> None:
    process = psutil.Process()
    with http_files({"/a.jpg": b"content"}) as url:
        assert fetched(f"{url}/a.jpg", LOCAL) == b"content"
        before = process.num_fds(), process.num_threads()
        for _ in range(50):
            fetched(f"{url}/a.jpg", LOCAL)
        wait_until(lambda: process.num_fds() <= before[0] + 2 and process.num_threads() <= before[1] + 2)


def wait_until(condition: Callable[[], bool], within_s: float = 5) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextlib.contextmanager
def dripping(first: bytes, again: bytes, pause_s: float = 0.2, last: bytes = b"") -> Iterator[int]:
    """A server that sends something at once, and something more again and again; gives its port."""
    over = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.sendall(first)
            while not over.wait(pause_s):
                connection.sendall(again + last)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=[listening.accept()[0]], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=accept, daemon=True).start()
        yield listening.getsockname()[1]
        over.set()


def test_files_below_the_folders_only(tmp_path: Path) -> None:
    options = FetchOptions(folders=(tmp_path / "in",), image_bytes=1000)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_bytes(b"a")
    (tmp_path / "in" / "big").write_bytes(b"a" * 2000)
    (tmp_path / "inside-not").write_bytes(b"b")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "inside-not")
    assert read(str(tmp_path / "in" / "a"), options) == b"a"
    for path in ("inside-not", "in/link", "in/../inside-not", "in/../../etc/passwd"):
        with pytest.raises(InvalidInput, match="is outside the folders"):
            read(str(tmp_path / path), options)
    for path, message in (("in/none", "can't be read"), ("in", "isn't a file"), ("in/big", "at most 1,000"), ("a\0b", "path")):
        with pytest.raises(InvalidInput, match=message):
            read(str(tmp_path / path), options)
    with pytest.raises(TooLarge, match="at most 1,000"):  # its size is told as 0
        read("/proc/self/smaps", dataclasses.replace(options, folders=(Path("/proc"),)))


def test_thumbnails_are_small_jpegs() -> None:
    for content in (jpegs(1)[0], encoded(picture(900, 30), "PNG"), encoded(picture(40, 40).convert("RGBA"), "WEBP")):
        small = thumbnail(content)
        assert small[:3] == b"\xff\xd8\xff"
        assert len(small) < 40_000
