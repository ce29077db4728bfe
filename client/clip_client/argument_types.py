"""Arguments that several commands take, and their types."""

from __future__ import annotations

import ipaddress
import math
from argparse import ArgumentTypeError, _ActionsContainer
from datetime import datetime, timezone

from clip_client.settings import Repeated


def count(text: str) -> int:
    """Parse a count, at least 1."""
    if int(text) < 1:
        raise ArgumentTypeError(f"{text} is below 1")
    return int(text)


def seconds(text: str) -> float:
    """Parse a time in seconds, above 0."""
    if not 0 < float(text) < math.inf:
        raise ArgumentTypeError(f"{text} isn't a number of seconds above 0")
    return float(text)


def instant(text: str) -> datetime:
    """Parse a time in the form of ISO 8601, in UTC unless it says."""
    try:
        given = datetime.fromisoformat(text.removesuffix("Z"))
    except ValueError as problem:
        raise ArgumentTypeError(f"{text!r} is no time: expected e.g. 2026-01-31 or 2026-01-31T12:00+01:00") from problem
    return given if given.tzinfo else given.replace(tzinfo=timezone.utc)


def port(text: str) -> int:
    """Parse a TCP port."""
    if not 1 <= int(text) <= 65535:
        raise ArgumentTypeError(f"{text} isn't between 1 and 65535")
    return int(text)


def ports(text: str) -> range:
    """Parse a TCP port, or several from the first to the last: ``8080``, ``8000-8999``."""
    first, _, last = text.partition("-")
    numbers = range(port(first), port(last or first) + 1)
    if not numbers:
        raise ArgumentTypeError(f"{text} ends before it begins: expected e.g. 8000-8999")
    return numbers


def add_timeout(parser: _ActionsContainer, usual_s: float) -> None:
    """Add the option of patience with a sidecar."""
    parser.add_argument("--timeout", type=seconds, default=usual_s, metavar="S", help="seconds for one answer")


def add_reach(group: _ActionsContainer) -> None:
    """Add the options of where pictures may be fetched from."""
    for flag, kind, metavar, text in (
        ("--allow-network", ipaddress.ip_network, "CIDR", "network that isn't public but may be fetched from"),
        ("--allow-port", ports, "N[-M]", "port that may be fetched from besides 80 and 443"),
    ):
        group.add_argument(flag, type=kind, action=Repeated, default=[], metavar=metavar, help=f"{text} (repeatable)")
