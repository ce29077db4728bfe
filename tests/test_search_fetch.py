"""What the sidecar fetches for others: public addresses, connected to as they were checked, and nothing that lies inside."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path

import pytest
from servers import http_files

from clip_client import InvalidInput, Timeout, Unavailable
from clip_search.errors import TooLarge
from clip_search.fetch import fetched, read
from clip_search.options import FetchOptions
from clip_search.thumbnails import thumbnail
from pictures import encoded, jpegs, picture

LOCAL = FetchOptions(networks=(ipaddress.ip_network("127.0.0.1/32"),), timeout_s=1.0, image_bytes=100_000)
INSIDE = [
    "127.0.0.1", "127.1", "0x7f000001", "2130706433", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "224.0.0.1", "255.255.255.255", "[::1]", "[::]", "[fe80::1]", "[fc00::1]", "[::ffff:127.0.0.1]",
    "[::ffff:10.0.0.1]", "[2002:7f00:1::]", "[64:ff9b::7f00:1]", "localhost",
]  # fmt: skip


@pytest.mark.parametrize("host", INSIDE)
def test_addresses_inside_are_refused_however_they_are_written(host: str) -> None:
    with pytest.raises(InvalidInput, match="isn't a public address"):
        fetched(f"http://{host}/a.jpg", FetchOptions(timeout_s=1))


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
        with pytest.raises(InvalidInput, match="more than 3 times"):
            fetched(f"{url}/loop", LOCAL)


@pytest.mark.parametrize(
    "url", ["ftp://a/b", "http://", "http:///x", "http://a b/", "http://ü.example/", "http://a:99999/", "//a", ""]
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


def test_thumbnails_are_small_jpegs() -> None:
    for content in (jpegs(1)[0], encoded(picture(900, 30), "PNG"), encoded(picture(40, 40).convert("RGBA"), "WEBP")):
        small = thumbnail(content)
        assert small[:3] == b"\xff\xd8\xff"
        assert len(small) < 40_000
