"""Exception tree, ordered by the remedy that the caller has.

ClipError
├── InvalidInput      change what was passed (also a ValueError)
│   ├── NotFound      name something that is there
│   ├── Conflict      pick another name or id, or say what happens to the present one
│   ├── TooLarge      send less at once
│   ├── Unauthorized  pass the token, or have the sidecar allow the caller
│   └── Stalled       send faster, or less at once (also a Timeout)
├── Unavailable       start the server, or try again later (also a ConnectionError)
│   └── Closed        make a new client
├── Timeout           allow more time, or send less (also a TimeoutError)
└── ContractMismatch  two sides disagree on the model: export, publish or embed again
    └── SpaceChanged  make a new client, and embed again what is kept

A message says what was got, what was expected and what to do next. The sidecar sends these errors as HTTP
statuses, and its client raises them again.
"""

from collections.abc import Mapping


class ClipError(Exception):
    """Base class of every error that clipserve raises on purpose."""

    def __str__(self) -> str:
        """Return the message as it can be printed and sent: file names may have bytes that no text has."""
        return super().__str__().encode("utf-8", "backslashreplace").decode()


class InvalidInput(ClipError, ValueError):
    """The caller passed something that can't be used.

    Attributes:
        errors: reason by position, where the input was a batch; empty otherwise.
    """

    def __init__(self, message: str, *, errors: Mapping[int, str] | None = None) -> None:
        super().__init__(message)
        self.errors: dict[int, str] = dict(errors or {})


class NotFound(InvalidInput):
    """Nothing has that name or id."""


class Conflict(InvalidInput):
    """Something has that name or id already."""


class TooLarge(InvalidInput):
    """More bytes or items than are taken at once."""


class Unauthorized(InvalidInput):
    """The token is missing or wrong, or the caller isn't allowed to ask."""


class Unavailable(ClipError, ConnectionError):
    """A server or hub can't be reached, or isn't ready."""


class Closed(Unavailable):
    """The client was closed."""


class Timeout(ClipError, TimeoutError):
    """An answer didn't come within the time asked for."""


class Stalled(InvalidInput, Timeout):
    """A request didn't arrive at the server in time."""


class ContractMismatch(ClipError):
    """Two sides disagree on the model, its layout or its embedding space."""


class SpaceChanged(ContractMismatch):
    """The server went over to a checkpoint with another space of embeddings; nothing of it was mixed with what was there."""


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


def http_status(problem: ClipError) -> int:
    """Return the status that an error is sent as."""
    return next(code for kind, code in _STATUSES if isinstance(problem, kind))


def error_class(code: int) -> type[ClipError]:
    """Return the class of the error that a status stands for; the body of a 409 may mean a ContractMismatch."""
    return _ERRORS.get(code, Unavailable if code >= 500 else InvalidInput)
