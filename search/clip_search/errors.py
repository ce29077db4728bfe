"""Errors of the sidecar beyond the client's own, each with the HTTP status that it becomes.

InvalidInput            400
├── NotFound            404
├── Conflict            409
└── TooLarge            413
ContractMismatch        409
Unavailable             503
├── Busy                503
└── StorageFull         507
Stalled                 408
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


class Stalled(ClipError):
    """A body that doesn't arrive."""


class Busy(Unavailable):
    """Others have what a request needs: memory, say; it may be sent again."""


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
    (Stalled, 408),
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
    lines = _PREFIX.sub("", _PLACE.sub("", str(problem))).strip().splitlines()
    return (lines or [type(problem).__name__])[0][:500]


def storage_problem(problem: BaseException, done: str = "written") -> ClipError:
    """Return what a failed read or write of a table means for who asked for it; an error of ours stays what it is."""
    if isinstance(problem, ClipError):
        return problem
    if isinstance(problem, MemoryError):
        return Unavailable(f"the rows can't be {done}, memory is short: send less at once, or try again later")
    if "No space left" in str(problem) or "os error 28" in str(problem):
        return StorageFull("the disk is full, nothing was added: make room; searches go on")
    return Unavailable(f"the rows can't be {done} ({cleaned(problem)}): look at the disk, then try again")


_OF_FILTER = re.compile(
    r"Invalid input, (Schema error|Error parsing|Error resolving filter|Error optimizing sql filter|The filter )"
    r"|Error applying filter expression|Error during planning|Arithmetic overflow|Divide by zero|Cast error"
)
"""Messages of LanceDB for a filter that can't be parsed, planned, or applied to a value; all else is the storage's."""


def is_filter_problem(problem: BaseException) -> bool:
    """Return whether LanceDB's error lies in the filter that it was given."""
    return bool(_OF_FILTER.search(str(problem)))
