"""Options of a connection: time limits, retries, certificates, token and headers; the environment has what isn't passed."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from clip_client.client_variables import TOKEN
from clip_client.errors import InvalidInput
from clip_client.model_host import MOST_S, check_timeout
from clip_client.tls import Tls, tls_of_environment
from clip_client.type_names import a_type

_HEADER = re.compile(r"[a-z0-9!#$&'*+.^_`|~-]+")  # of HTTP, in small letters, which gRPC wants
_PRINTABLE = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")
_OWN = ("authorization", "content-length", "content-type", "host", "te", "transfer-encoding")
_MOST_ATTEMPTS = 100


@dataclass(frozen=True)
class Timeouts:
    """Bounds in seconds on the parts of a request.

    Attributes:
        connect_s: for a connection to be made, TLS included.
        request_s: for a request with all its attempts; None for the client's ``timeout_s``.
        attempt_s: for one attempt, after which another server is asked; None for no bound of its own.
    """

    connect_s: float = 5.0
    request_s: float | None = None
    attempt_s: float | None = None

    def __post_init__(self) -> None:
        check_timeout(self.connect_s, "Timeouts.connect_s")
        for name in ("request_s", "attempt_s"):
            if (value := getattr(self, name)) is not None:
                check_timeout(value, f"Timeouts.{name}")


@dataclass(frozen=True)
class Retries:
    """Repetitions of a request while a server can't be reached; what a server answers isn't asked again.

    Attributes:
        attempts: most times that a server is asked, the first included; 1 for no repetition.
        pause_s: between the first two attempts, give or take a half; doubled each time, up to 2 s.
    """

    attempts: int = 4
    pause_s: float = 0.1

    def __post_init__(self) -> None:
        whole = isinstance(self.attempts, int) and not isinstance(self.attempts, bool)
        if not whole or not 1 <= self.attempts <= _MOST_ATTEMPTS:
            raise InvalidInput(f"Retries.attempts is {self.attempts!r}: expected a whole number from 1 to {_MOST_ATTEMPTS}")
        if not _is_number(self.pause_s) or self.pause_s < 0:
            raise InvalidInput(f"Retries.pause_s is {self.pause_s!r}: expected a number of seconds, 0 or more")


@dataclass(frozen=True)
class Options:
    """Options of all connections of one client; its token and the values of its headers aren't shown."""

    timeout_s: float
    token: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    tls: Tls | None = None
    timeouts: Timeouts = field(default_factory=Timeouts)
    retries: Retries = field(default_factory=Retries)
    tls_was_passed: bool = False  # not read from the environment, which holds for secure addresses alone

    @property
    def request_s(self) -> float:
        """Bound on a request with all its attempts."""
        return min(self.timeout_s if self.timeouts.request_s is None else self.timeouts.request_s, MOST_S)

    @property
    def attempt_s(self) -> float:
        """Bound on one attempt."""
        return math.inf if self.timeouts.attempt_s is None else self.timeouts.attempt_s

    @property
    def sent_headers(self) -> Mapping[str, str]:
        """Headers of every request, the token among them; names are in small letters."""
        return MappingProxyType({**self.headers, **({"authorization": f"Bearer {self.token}"} if self.token else {})})


def options(
    timeout_s: float,
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
    tls: Tls | None = None,
    timeouts: Timeouts | None = None,
    retries: Retries | None = None,
) -> Options:
    """Check options; a token that is None, and certificates that are, come from the environment.

    Raises:
        InvalidInput: a value can't be used; the message names it, but for a token or a header's value.
    """
    check_timeout(timeout_s)
    _check_kind("tls", tls, Tls)
    _check_kind("timeouts", timeouts, Timeouts)
    _check_kind("retries", retries, Retries)
    return Options(
        timeout_s,
        sent_token(token, TOKEN),
        _checked_headers(headers),
        tls or tls_of_environment(),
        timeouts or Timeouts(),
        retries or Retries(),
        tls is not None,
    )


def sent_token(token: str | None, variable: str) -> str:
    """Return a token, or that of a variable if it is None; raise InvalidInput, without it, if it can't be sent."""
    name, secret = ("token", token) if token is not None else (f"variable {variable}", os.environ.get(variable, "").strip())
    if not isinstance(secret, str) or (secret and not _PRINTABLE.fullmatch(secret)):
        raise InvalidInput(f"the {name} can't be sent: expected a string of printable ASCII characters, without a line break")
    return secret


def _checked_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Return headers by names in small letters; values are never in a message, for some are secrets."""
    if headers is not None and not isinstance(headers, Mapping):
        raise InvalidInput(f"headers are {a_type(headers)}: expected a mapping of names to values")
    checked = {}
    for name, value in (headers or {}).items():
        if not isinstance(name, str) or not _HEADER.fullmatch(name.lower()) or name.lower().startswith("grpc-"):
            raise InvalidInput(f"headers have the name {name!r}: expected letters, digits and hyphens, and no gRPC- in front")
        if name.lower() in _OWN:
            instead = "pass token" if name.lower() == "authorization" else "leave it out, the client sets it"
            raise InvalidInput(f"headers can't have {name}: {instead}")
        if not isinstance(value, str) or not _PRINTABLE.fullmatch(value):
            raise InvalidInput(f"the header {name} has no value that can be sent: expected printable ASCII characters")
        checked[name.lower()] = value
    return checked


def _check_kind(name: str, value: Any, kind: type) -> None:
    if value is not None and not isinstance(value, kind):
        raise InvalidInput(f"{name} is {a_type(value)}: expected clip_client.{kind.__name__}(…)")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value  # no NaN
