"""Pictures by URL or path, from where they may be taken and from nowhere else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

import urllib3

from clip_client.deadlines import Deadline
from clip_client.errors import ClipError, InvalidInput
from clip_search.addresses import Address, TooSlow, Unreachable, checked
from clip_search.errors import TooLarge
from clip_search.options import FetchOptions

_REDIRECTS = 3
_REDIRECT = (301, 302, 303, 307, 308)
_PORTS = (80, 443)


def fetched(url: str, options: FetchOptions) -> bytes:
    """The file behind an http(s) URL.

    The name is resolved here, each address is checked, and the connection goes to the very address that was checked; each
    redirect starts over. All of it together takes no longer than the options allow, whatever the hosts do.

    Raises:
        InvalidInput: not such a URL, an address that isn't public, a port that isn't the web's, an answer other than 200.
        TooLarge: the file is.
        Unreachable, TooSlow: the host can't be reached, or is too slow.
    """
    with Deadline(options.timeout_s) as deadline:
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


def _opened(url: str, options: FetchOptions, deadline: Deadline) -> urllib3.BaseHTTPResponse:
    parts = _split(url)
    host, port = str(parts.hostname), parts.port or (443 if parts.scheme == "https" else 80)
    if port not in _PORTS and not any(port in ports for ports in options.ports):
        raise InvalidInput(f"{host} is named with port {port}: expected 80 or 443, others are allowed with --allow-port {port}")
    address = checked(host, port, options, deadline)
    headers = {"Host": parts.netloc, "User-Agent": "clipserve"}
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        pool = _pool(parts, address, port, deadline)
        response = pool.urlopen("GET", target, headers=headers, redirect=False, retries=False, preload_content=False)
    except (urllib3.exceptions.HTTPError, ValueError, OSError) as problem:
        raise _unfetched(url, options, deadline, problem) from problem
    if deadline.expired:  # whose connection was shut, which may look like the end of the headers
        response.close()
        raise TooSlow(f"{url} didn't answer within {options.timeout_s:g} s")
    return response


def _pool(parts: SplitResult, address: Address, port: int, deadline: Deadline) -> urllib3.HTTPConnectionPool:
    secure = parts.scheme == "https"
    named: dict[str, Any] = {"server_hostname": parts.hostname, "assert_hostname": parts.hostname} if secure else {}
    timeout = urllib3.Timeout(total=deadline.remaining_s)
    return deadline.pools()[parts.scheme](str(address), port, timeout=timeout, **named)


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        usable = usable and url.isascii() and url.isprintable() and " " not in url
        # A name and a password are sent to nobody, a zone means another interface, and a backslash is a slash to browsers.
        usable = usable and not any(mark in parts.netloc for mark in "@%\\")
    except ValueError:
        usable = False
    if not usable:
        raise InvalidInput(f"{url[:200]!r} isn't a URL that can be fetched: expected http:// or https://, encoded")
    return parts


def _body(response: urllib3.BaseHTTPResponse, url: str, options: FetchOptions, deadline: Deadline) -> bytes:
    if response.status != 200:
        raise InvalidInput(f"{url} answers {response.status}: expected 200 with an image")
    body = bytearray()
    try:
        while part := response.read1(2**16):
            body += part
            if len(body) > options.image_bytes:
                raise TooLarge(f"{url} has more than {options.image_bytes:,} bytes: send a smaller picture")
    except (urllib3.exceptions.HTTPError, OSError) as problem:
        if isinstance(problem, ClipError):
            raise
        raise _unfetched(url, options, deadline, problem) from problem
    if deadline.expired:  # whose connection was shut, which may look like the end of the file
        raise TooSlow(f"{url} didn't arrive within {options.timeout_s:g} s")
    return bytes(body)


def _unfetched(url: str, options: FetchOptions, deadline: Deadline, problem: Exception) -> ClipError:
    if isinstance(problem, urllib3.exceptions.NewConnectionError):  # which is a timeout to urllib3
        return Unreachable(f"{url} can't be reached: is the host up?")
    if deadline.expired or isinstance(problem, urllib3.exceptions.TimeoutError):
        return TooSlow(f"{url} didn't answer within {options.timeout_s:g} s")
    return InvalidInput(f"{url} can't be fetched ({problem}): look at it in a browser, or send the picture itself")
