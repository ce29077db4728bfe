"""Addresses of servers as users write them: host and port, or URLs; one or several."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from clip_client.errors import InvalidInput
from clip_client.type_names import a_type

GRPC, HTTP = ("grpc", "grpcs"), ("http", "https")
_PORTS = {"grpc": 8001, "grpcs": 443, "http": 80, "https": 443}
_HOST = re.compile(r"[\w.-]{1,253}|\[[0-9a-fA-F:.]+\]")
_PATH = re.compile(r"(/[\w.~%+-]+)*/?")

EXPECTED = "expected host:port of a gRPC endpoint, e.g. localhost:8001, or grpc://, grpcs://, http:// or https:// in front"


@dataclass(frozen=True)
class ServerAddress:
    """Address of one server."""

    scheme: str
    host: str  # without brackets
    port: int
    path: str = ""  # in front of all paths of the server, for a proxy that has several behind it

    @property
    def is_secure(self) -> bool:
        """True if TLS is spoken there."""
        return self.scheme in ("grpcs", "https")

    @property
    def target(self) -> str:
        """Host and port, an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """True if what is sent stays on this machine."""
        if self.host.lower() == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return self.target if self.scheme == "grpc" else f"{self.scheme}://{self.target}{self.path}"


def server_addresses(address: str | Iterable[str], origin: str = "address") -> tuple[ServerAddress, ...]:
    """Return the distinct servers of an address, of a list of them, or of several with commas between.

    Args:
        address: as users write it.
        origin: argument or variable that it comes from, for messages.

    Raises:
        InvalidInput: it isn't one, or there is none.
    """
    written = [address] if isinstance(address, str) else _listed(address, origin)
    parts = [part.strip() for one in written for part in one.split(",")]
    parsed = [server_address(part, origin) for part in parts if part]
    if not parsed:
        raise InvalidInput(f"the {origin} is empty: {EXPECTED}")
    return tuple(dict.fromkeys(parsed))


def server_address(
    text: str, origin: str = "address", *, schemes: Sequence[str] = (*GRPC, *HTTP), expected: str = EXPECTED
) -> ServerAddress:
    """Return one address; names and passwords in front of the host are refused unseen."""
    if not isinstance(text, str):
        raise InvalidInput(f"the {origin} is {a_type(text)}: {expected}")
    refused = InvalidInput(f"the {origin} is {_shown(text)!r}: {expected}")
    if "@" in text:
        raise InvalidInput(f"the {origin} names a user in front of {_shown(text)!r}: leave that out, and pass token or headers")
    bare = "://" not in text
    if not text.isprintable() or " " in text:  # urlsplit drops some of these
        raise refused
    try:
        parts = urlsplit(f"grpc://{text}" if bare else text)
        port = parts.port
    except ValueError:
        raise refused from None
    if not _is_usable(parts, port, schemes, bare):
        raise refused
    return ServerAddress(parts.scheme, parts.hostname or "", port or _PORTS[parts.scheme], parts.path.rstrip("/"))


def _is_usable(parts: SplitResult, port: int | None, schemes: Sequence[str], bare: bool) -> bool:
    host, _, _ = parts.netloc.rpartition(":") if port is not None else (parts.netloc, "", "")
    usable = parts.scheme in schemes and _HOST.fullmatch(host) is not None and port != 0 and not (bare and port is None)
    has_more = parts.query or parts.fragment or (parts.path.strip("/") and parts.scheme in GRPC)
    return usable and not has_more and _PATH.fullmatch(parts.path) is not None and not (bare and parts.path)


def _shown(text: str) -> str:
    """Return an address for messages, without what may be a password or a key."""
    return text.rpartition("@")[2].partition("?")[0][:200]


def _listed(addresses: Any, origin: str) -> list[str]:
    listed = list(addresses) if isinstance(addresses, Iterable) and not isinstance(addresses, bytes | dict) else None
    if listed is None or not all(isinstance(one, str) for one in listed):
        raise InvalidInput(f"the {origin} is {a_type(addresses)}: expected a string, or a list of strings")
    return listed
