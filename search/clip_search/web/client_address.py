"""Address of a client, behind proxies too."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from clip_client.addresses import Address, Network

_SITE_V6 = 64  # bits that a site has; the others are any of its machines, or all of them one machine's


def address_of(peer: tuple[str, int] | None) -> str:
    """Return the address of a connection's other end, of IPv6 the network of its site; empty if it isn't known."""
    return _named(peer[0]) if peer else ""


def client_of(peer: tuple[str, int] | None, forwarded: Sequence[str], proxies: Sequence[Network]) -> str:
    """Return the address of who asks: the last one in ``X-Forwarded-For`` that isn't a trusted proxy's.

    Args:
        peer: address and port of the connection's other end.
        forwarded: headers of that name, in their order; only what trusted proxies wrote is believed.
        proxies: networks of trusted proxies.
    """
    nearest = peer[0] if peer else ""
    hops = [hop.strip() for hop in ",".join(forwarded).split(",") if hop.strip()] if proxies else []
    while hops and is_among(nearest, proxies):
        last = hops.pop()
        if _parsed(last) is None:  # "unknown", say
            break
        nearest = last
    return _named(nearest)


def is_among(address: str, networks: Sequence[Network]) -> bool:
    """Tell if an address is in one of some networks."""
    parsed = _parsed(address) if networks else None
    return parsed is not None and any(parsed in network for network in networks)


def _parsed(address: str) -> Address | None:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return parsed.ipv4_mapped or parsed if isinstance(parsed, ipaddress.IPv6Address) else parsed


def _named(address: str) -> str:
    parsed = _parsed(address)
    if isinstance(parsed, ipaddress.IPv6Address) and not parsed.is_loopback:
        return str(ipaddress.ip_network((parsed, _SITE_V6), strict=False))
    return str(parsed or address)
