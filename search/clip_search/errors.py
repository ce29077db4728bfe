"""Errors of the sidecar beyond the client's own, each with the HTTP status that it becomes.

InvalidInput            400
├── NotFound            404
├── Conflict            409
└── TooLarge            413
ContractMismatch        409
Unavailable             503
└── StorageFull         507
Timeout                 504
"""

from __future__ import annotations

import re

from clip_client.errors import ClipError, ContractMismatch, InvalidInput, Timeout, Unavailable


class NotFound(InvalidInput):
    """Nothing of that name."""


class Conflict(InvalidInput):
    """It is there already."""


class TooLarge(InvalidInput):
    """More than is allowed at once."""


class StorageFull(Unavailable):
    """The disk has no room for what was sent."""


_STATUS: tuple[tuple[type[ClipError], int], ...] = (
    (NotFound, 404),
    (Conflict, 409),
    (TooLarge, 413),
    (InvalidInput, 400),
    (ContractMismatch, 409),
    (StorageFull, 507),
    (Unavailable, 503),
    (Timeout, 504),
)


def status(problem: ClipError) -> int:
    """The HTTP status of an error."""
    return next(code for kind, code in _STATUS if isinstance(problem, kind))


_PLACE = re.compile(r",?\s*(/[^\s,]+\.rs:\d+:\d+|rust/[^\s,]+\.rs:\d+:\d+).*", re.DOTALL)
_PREFIX = re.compile(
    r"^((lance|LanceError\(\w+\)|Invalid user input|Error during planning|Schema error|error|ValueError)\s*:?\s*)+", re.I
)


def cleaned(problem: BaseException) -> str:
    """LanceDB's message without the places in its source and the layers it came through."""
    return _PREFIX.sub("", _PLACE.sub("", str(problem))).strip().splitlines()[0][:500]


def storage_problem(problem: BaseException) -> ClipError:
    """What a failed write means for who asked for it."""
    message = cleaned(problem)
    if "No space left" in str(problem) or "os error 28" in str(problem):
        return StorageFull("the disk is full, nothing was added: make room; searches go on")
    return Unavailable(f"the rows can't be written ({message}): look at the disk, then try again")
