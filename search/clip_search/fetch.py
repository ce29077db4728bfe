"""Pictures by URL or path, from where they may be taken and from nowhere else."""

from __future__ import annotations

import ipaddress
import os
import socket
import time
from pathlib import Path
from urllib.parse import SplitResult, urljoin, urlsplit

import urllib3

from clip_client.errors import ClipError, InvalidInput, Timeout, Unavailable
from clip_search.errors import TooLarge
from clip_search.options import FetchOptions


class Unreachable(InvalidInput, Unavailable):
    """The host of a URL can't be reached: whoever sent the URL can mend that, not this sidecar."""


class TooSlow(InvalidInput, Timeout):
    """The host of a URL doesn't answer in time; as :class:`Unreachable`."""


_REDIRECTS = 3
_REDIRECT = (301, 302, 303, 307, 308)
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def fetched(url: str, options: FetchOptions) -> bytes:
    """The file behind an http(s) URL.

    The name is resolved here, each address is checked, and the connection goes to the very address that was checked; each
    redirect starts over.

    Raises:
        InvalidInput: not such a URL, an address that isn't public, an answer other than 200.
        TooLarge: the file is.
        Unreachable, TooSlow: the host can't be reached, or is too slow.
    """
    deadline = time.monotonic() + options.timeout_s
    for _ in range(_REDIRECTS + 1):
        with _opened(url, options, deadline) as response:
            if response.status not in _REDIRECT:
                return _body(response, url, options, deadline)
            url = urljoin(url, response.headers.get("Location", ""))
    raise InvalidInput(f"{url} redirects more than {_REDIRECTS} times: pass the address of the picture itself")


def read(path: str, options: FetchOptions) -> bytes:
    """A file below one of the folders that were named at start.

    Raises:
        InvalidInput: it is elsewhere, or can't be read.
        TooLarge: the file is.
    """
    file = contained(path, options)
    try:
        size = file.stat().st_size
        if not file.is_file():
            raise InvalidInput(f"{path} isn't a file: pass a picture")
        if size > options.image_bytes:
            raise TooLarge(f"{path} has {size:,} bytes, at most {options.image_bytes:,} are taken: send a smaller one")
        return file.read_bytes()
    except (OSError, ValueError) as problem:
        if isinstance(problem, ClipError):
            raise
        raise InvalidInput(f"{path} can't be read ({getattr(problem, 'strerror', problem)}): check the path") from problem


def contained(path: str, options: FetchOptions) -> Path:
    """The file with links followed, if it is below a folder that was named at start.

    Raises:
        InvalidInput: it isn't.
    """
    try:
        file = Path(os.path.realpath(path))
    except (OSError, ValueError) as problem:
        raise InvalidInput(f"{path!r} isn't a path: {problem}") from problem
    if not any(file.is_relative_to(os.path.realpath(folder)) for folder in options.folders):
        folders = ", ".join(map(str, options.folders)) or "none"
        raise InvalidInput(f"{path} is outside the folders that this sidecar reads ({folders}): name its folder, --images DIR")
    return file


def _opened(url: str, options: FetchOptions, deadline: float) -> urllib3.BaseHTTPResponse:
    parts = _split(url)
    host, port = str(parts.hostname), parts.port or (443 if parts.scheme == "https" else 80)
    address = _checked(host, port, options)
    timeout = urllib3.Timeout(total=max(deadline - time.monotonic(), 0.01))
    headers = {"Host": parts.netloc.rpartition("@")[2], "User-Agent": "clipserve"}
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        pool = _pool(parts.scheme, address, port, host, timeout)
        return pool.urlopen("GET", target, headers=headers, redirect=False, retries=False, preload_content=False)
    except (urllib3.exceptions.HTTPError, ValueError, OSError) as problem:
        raise _unfetched(url, options, problem) from problem


def _pool(scheme: str, address: Address, port: int, host: str, timeout: urllib3.Timeout) -> urllib3.HTTPConnectionPool:
    if scheme == "https":
        return urllib3.HTTPSConnectionPool(str(address), port, timeout=timeout, server_hostname=host, assert_hostname=host)
    return urllib3.HTTPConnectionPool(str(address), port, timeout=timeout)


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        usable = usable and url.isascii() and url.isprintable() and " " not in url
    except ValueError:
        usable = False
    if not usable:
        raise InvalidInput(f"{url[:200]!r} isn't a URL that can be fetched: expected http:// or https://, encoded")
    return parts


def _checked(host: str, port: int, options: FetchOptions) -> Address:
    """An address of the host, all of whose addresses may be fetched from."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as problem:
        raise Unreachable(f"{host} has no address ({problem}): check the name") from problem
    addresses = [_plain(ipaddress.ip_address(str(info[4][0]).partition("%")[0])) for info in found]
    for address in addresses:
        if not _public(address) and not any(address in network for network in options.networks):
            raise InvalidInput(f"{host} is {address}, which isn't a public address: send the picture itself")
    return addresses[0]


def _plain(address: Address) -> Address:
    """The IPv4 address inside an IPv6 one, where there is one."""
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1] or _nat64(address) or address
    return address


def _nat64(address: ipaddress.IPv6Address) -> Address | None:
    inside = address in ipaddress.ip_network("64:ff9b::/96")
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if inside else None


def _public(address: Address) -> bool:
    return address.is_global and not address.is_multicast and not address.is_reserved


def _body(response: urllib3.BaseHTTPResponse, url: str, options: FetchOptions, deadline: float) -> bytes:
    if response.status != 200:
        raise InvalidInput(f"{url} answers {response.status}: expected 200 with an image")
    body = bytearray()
    try:
        while part := response.read1(2**16):
            body += part
            if len(body) > options.image_bytes:
                raise TooLarge(f"{url} has more than {options.image_bytes:,} bytes: send a smaller picture")
            if time.monotonic() > deadline:
                raise TooSlow(f"{url} didn't arrive within {options.timeout_s:g} s")
    except (urllib3.exceptions.HTTPError, OSError) as problem:
        if isinstance(problem, ClipError):
            raise
        raise _unfetched(url, options, problem) from problem
    return bytes(body)


def _unfetched(url: str, options: FetchOptions, problem: Exception) -> ClipError:
    if isinstance(problem, urllib3.exceptions.NewConnectionError):  # which is a timeout to urllib3
        return Unreachable(f"{url} can't be reached: is the host up?")
    if isinstance(problem, urllib3.exceptions.TimeoutError):
        return TooSlow(f"{url} didn't answer within {options.timeout_s:g} s")
    return InvalidInput(f"{url} can't be fetched ({problem}): look at it in a browser, or send the picture itself")
