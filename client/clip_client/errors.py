"""The exception tree, ordered by what the caller can do about it.

ClipError
├── InvalidInput      change what was passed (also a ValueError)
├── Unavailable       start the server, or try again later (also a ConnectionError)
├── Timeout           allow more time, or send less (also a TimeoutError)
└── ContractMismatch  two sides disagree on the model: export, publish or embed again

A message says what was got, what was expected and what to do next.
"""

from __future__ import annotations

from collections.abc import Mapping


class ClipError(Exception):
    """Base class of every error that clipserve raises on purpose."""


class InvalidInput(ClipError, ValueError):
    """The caller passed something that can't be used.

    Attributes:
        errors: reason by position, where the input was a batch; empty otherwise.
    """

    def __init__(self, message: str, *, errors: Mapping[int, str] | None = None) -> None:
        super().__init__(message)
        self.errors: dict[int, str] = dict(errors or {})


class Unavailable(ClipError, ConnectionError):
    """A server or hub can't be reached, or isn't ready."""


class Timeout(ClipError, TimeoutError):
    """An answer didn't come within the time asked for."""


class ContractMismatch(ClipError):
    """Two sides disagree on the model, its layout or its embedding space."""
