"""Downloads of URLs that others wrote: from public addresses, at the web's ports, and from what a user allows beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

import urllib3

from clip_client.addresses import Address, Network, checked
from clip_client.deadlines import Deadline
from clip_client.errors import InvalidInput

_PORTS = (80, 443)


@dataclass(frozen=True)
class Guard:
    """Bounds on where a URL may lead.

    Attributes:
        networks: addresses that aren't public but may be fetched from.
        ports: that may be fetched from besides 80 and 443.
    """

    networks: tuple[Network, ...] = ()
    ports: tuple[range, ...] = ()

    def open(self, url: str, deadline: Deadline) -> urllib3.BaseHTTPResponse:
        """Open a URL; see :data:`clip_client.downloads.Open`.

        The name is resolved here, each of its addresses is checked, and the connection goes to one that was.

        Raises:
            InvalidInput: not such a URL, an address that isn't public, a port that isn't the web's.
            Unreachable, TooSlow: the host has no address, or that takes too long to find out.
        """
        parts = _split(url)
        host, port = str(parts.hostname), parts.port or (443 if parts.scheme == "https" else 80)
        if port not in _PORTS and not any(port in ports for ports in self.ports):
            raise InvalidInput(
                f"{host} is named with port {port}: expected 80 or 443, others are allowed with --allow-port {port}"
            )
        address = checked(host, port, self.networks, deadline)
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
