"""Public addresses of the internet, in any notation: what others name is fetched from no others."""

import ipaddress
import queue
import socket
import threading
from collections.abc import Collection
from typing import TypeAlias

from clip_client.deadlines import Deadline
from clip_client.errors import InvalidInput, Timeout, Unavailable

Address: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"
Network: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"


class Unreachable(InvalidInput, Unavailable):
    """The host of a URL can't be reached: whoever sent the URL can mend that, not who fetches it."""


class TooSlow(InvalidInput, Timeout):
    """The host of a URL doesn't answer in time; as :class:`Unreachable`."""


_LOOKUPS = 32  # at once; the system's resolver can't be interrupted, and may take half a minute for a name

# IANA's registries of special-purpose addresses, since Python's own idea of what is global changes with its version.
_NOT_PUBLIC_V4 = [
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
        "168.63.129.16/32",  # in no registry: the host of every virtual machine on Azure
    )
]  # fmt: skip
_PUBLIC_V6 = ipaddress.IPv6Network("2000::/3")  # all that is given out; loopback, private and multicast lie elsewhere
_NOT_PUBLIC_V6 = [
    ipaddress.IPv6Network(network) for network in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
]  # among them Teredo and 6to4, which lead to an IPv4 address
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


_free = threading.BoundedSemaphore(_LOOKUPS)
_Answer: TypeAlias = "queue.SimpleQueue[list[str] | Exception]"


def checked(host: str, port: int, networks: Collection[Network], deadline: Deadline) -> Address:
    """Return an address of the host to connect to, after a check of all that it has.

    Raises:
        InvalidInput: one of them isn't public, and in none of the networks that were allowed.
        Unreachable, TooSlow: the host has none, or that takes too long to find out.
    """
    addresses = [_unmapped(address) for address in _resolved(host, port, deadline)]
    for address in addresses:
        target = _translated(address)
        if not is_public(address) and not any(target in network for network in networks):
            raise InvalidInput(
                f"{host} is {target}, which isn't a public address: send the picture itself, or allow it with --allow-network"
            )
    return addresses[0]


def is_public(address: Address) -> bool:
    """Return true if an address, or the IPv4 address that it is translated to, is one of the public internet."""
    target = _translated(_unmapped(address))
    if isinstance(target, ipaddress.IPv4Address):
        return not any(target in network for network in _NOT_PUBLIC_V4)
    return target in _PUBLIC_V6 and not any(target in network for network in _NOT_PUBLIC_V6)


def _unmapped(address: Address) -> Address:
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address


def _translated(address: Address) -> Address:
    """Return the address that a NAT64 leads to."""
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else address


def _resolved(host: str, port: int, deadline: Deadline) -> list[Address]:
    answers: _Answer = queue.SimpleQueue()
    if not _free.acquire(timeout=deadline.remaining_s):
        raise TooSlow(f"{host} can't be looked up: {_LOOKUPS} other names are waited for")
    threading.Thread(target=_look_up, args=(host, port, answers), daemon=True).start()
    try:
        answer = answers.get(timeout=deadline.remaining_s)
    except queue.Empty as problem:
        raise TooSlow(f"{host} wasn't found in time: check the name") from problem
    if isinstance(answer, Exception):
        raise Unreachable(f"{host} has no address ({answer}): check the name") from answer
    return [ipaddress.ip_address(address.partition("%")[0]) for address in answer]


def _look_up(host: str, port: int, answers: _Answer) -> None:
    try:
        answers.put([str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)])
    except (OSError, UnicodeError) as problem:
        answers.put(problem)
    finally:
        _free.release()
