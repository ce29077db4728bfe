"""HTTP statuses of the errors, in both directions: the sidecar answers with them, its client raises the errors again."""

from __future__ import annotations

from clip_client.errors import (
    ClipError,
    Conflict,
    ContractMismatch,
    InvalidInput,
    NotFound,
    Stalled,
    Timeout,
    TooLarge,
    Unauthorized,
    Unavailable,
)

_STATUSES: tuple[tuple[type[ClipError], int], ...] = (
    (NotFound, 404),
    (Conflict, 409),
    (TooLarge, 413),
    (Unauthorized, 401),
    (Stalled, 408),
    (InvalidInput, 400),
    (ContractMismatch, 409),
    (Unavailable, 503),
    (Timeout, 504),
)
"""An error has the status of the first class here that it is an instance of, so subclasses come first."""

_ERRORS: dict[int, type[ClipError]] = {code: kind for kind, code in reversed(_STATUSES)}
_ERRORS |= {403: Unauthorized, 429: Unavailable}


def status(problem: ClipError) -> int:
    """Return the status that an error is sent as."""
    return next(code for kind, code in _STATUSES if isinstance(problem, kind))


def error_class(code: int) -> type[ClipError]:
    """Return the class of the error that a status of 400 or more stands for; the body of a 409 may mean a ContractMismatch."""
    return _ERRORS.get(code, Unavailable if code >= 500 else InvalidInput)
