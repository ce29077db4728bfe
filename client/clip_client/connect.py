"""Hosts for clients: addresses and options are checked together, and connections made of them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence

from clip_client.client_variables import ADDRESS, URL
from clip_client.concurrency import Concurrency
from clip_client.connection import connection
from clip_client.connection_options import Options
from clip_client.errors import InvalidInput
from clip_client.ports import SEARCH_URL, TRITON_ADDRESS
from clip_client.server_addresses import HTTP, ServerAddress, server_address, server_addresses
from clip_client.servers import Servers


def servers_at(address: str | Iterable[str] | None, options: Options) -> tuple[ServerAddress, ...]:
    """Return the servers at an address.

    Args:
        address: of one server or several; None for those of the environment, or the usual one of this machine.
        options: of all connections.

    Raises:
        InvalidInput: an address can't be used, or not with these options.
    """
    if address is not None:
        servers = server_addresses(address)
    else:
        servers = server_addresses(os.environ.get(ADDRESS, "").strip(" ,") or TRITON_ADDRESS, f"variable {ADDRESS}")
    for server in servers:
        check_secrecy(server, options)
    return servers


def clip_host(
    servers: Sequence[ServerAddress], options: Options, concurrency: Concurrency, *, name: str = "", on_loop: bool = False
) -> Servers:
    """Return a host of servers, connections included.

    Args:
        servers: from :func:`servers_at`.
        options: of all connections.
        concurrency: of the client.
        name: of the checkpoint, which several servers must all hold.
        on_loop: True for connections that are awaited on an event loop, False for those that block.
    """
    return Servers([connection(server, options, on_loop=on_loop) for server in servers], options, concurrency, name=name)


def sidecar_at(url: str | None, options: Options) -> tuple[str, ServerAddress]:
    """Return the URL of a sidecar as it was written, and what it means; None for that of the environment, or the usual one.

    Raises:
        InvalidInput: it can't be used, or not with these options.
    """
    origin, text = ("sidecar's URL", url) if url is not None else (f"variable {URL}", os.environ.get(URL) or SEARCH_URL)
    address = server_address(text, origin, schemes=HTTP, expected="expected http://host:port, or https://")
    check_secrecy(address, options)
    return text, address


def check_secrecy(address: ServerAddress, options: Options) -> None:
    """Refuse certificates for plain text, which would hide nothing; warn of a token that others can read on its way."""
    if options.tls_was_passed and not address.is_secure:
        raise InvalidInput(f"tls was passed, but {address} means plain text: write grpcs:// or https:// in front")
    if options.token and not address.is_secure and not address.is_loopback:
        warnings.warn(
            f"the token goes to {address} in plain text, where others on its way can read it: write grpcs:// or https://",
            stacklevel=4,
        )
