"""Pictures by URL or path, from where they may be taken and from nowhere else."""

import os
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import SplitResult, urlsplit

import urllib3

from clip_client.deadlines import Deadline
from clip_client.downloads import Downloader
from clip_client.errors import InvalidInput
from clip_client.regular_files import open_picture, picture_content
from clip_search.addresses import Address, TooSlow, Unreachable, checked
from clip_search.options import FetchOptions

_PORTS = (80, 443)


def fetched(url: str, options: FetchOptions) -> bytes:
    """Return the file behind an http(s) URL.

    The name is resolved here, each address is checked, and the connection goes to the very address that was checked; each
    redirect starts over. All of it together takes no longer than the options allow, whatever the hosts do.

    Raises:
        InvalidInput: not such a URL, an address that isn't public, a port that isn't the web's, an answer other than 200.
        TooLarge: the file is.
        Unreachable, TooSlow: the host can't be reached, or is too slow.
    """
    open_url = partial(_opened, options=options)
    return Downloader(open_url, options.image_bytes, options.timeout_s, Unreachable, TooSlow).read(url)


def read(path: str, options: FetchOptions) -> bytes:
    """Return a file below one of the folders that were named at start; raise InvalidInput or TooLarge if it can't be had."""
    with opened(path, options) as file:
        return picture_content(file, options.image_bytes, name=path)


def opened(path: str, options: FetchOptions) -> BinaryIO:
    """Open a file below one of the folders that were named at start; raise InvalidInput if it can't be had.

    The file that is open is checked again: a link may have come into its place, or into that of a folder above it.
    """
    file = open_picture(contained(path, options), name=path)
    try:
        _check_inside(Path(os.readlink(f"/proc/self/fd/{file.fileno()}")), options, path)
    except BaseException:
        file.close()
        raise
    return file


def contained(path: str, options: FetchOptions) -> Path:
    """Return the file with links followed; raise InvalidInput if it isn't below a folder that was named at start."""
    try:
        file = Path(os.path.realpath(path))
    except (OSError, ValueError) as problem:
        raise InvalidInput(f"{path!r} isn't a path: {problem}") from problem
    _check_inside(file, options, path)
    return file


def _check_inside(file: Path, options: FetchOptions, name: str) -> None:
    if not any(file.is_relative_to(os.path.realpath(folder)) for folder in options.folders):
        folders = ", ".join(map(str, options.folders)) or "none"
        raise InvalidInput(f"{name} is outside the folders that this sidecar reads ({folders}): name its folder, --images DIR")


def _opened(url: str, deadline: Deadline, options: FetchOptions) -> urllib3.BaseHTTPResponse:
    parts = _split(url)
    host, port = str(parts.hostname), parts.port or (443 if parts.scheme == "https" else 80)
    if port not in _PORTS and not any(port in ports for ports in options.ports):
        raise InvalidInput(f"{host} is named with port {port}: expected 80 or 443, others are allowed with --allow-port {port}")
    address = checked(host, port, options, deadline)
    headers = {"Host": parts.netloc, "User-Agent": "clipserve"}
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    pool = _pool(parts, address, port, deadline)
    return pool.urlopen("GET", target, headers=headers, redirect=False, retries=False, preload_content=False)


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
