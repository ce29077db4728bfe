"""Errors of the sidecar: the client's and some more, their HTTP statuses, and the meaning of LanceDB's errors.

Unavailable             503
├── Moved               503
├── Busy                503
│   └── TooMany         429
└── StorageFull         507
ReadOnly                403
"""

import errno
import re

from clip_client.errors import ClipError, Conflict, NotFound, Stalled, TooLarge, Unavailable, http_status

__all__ = ["Busy", "Conflict", "Moved", "NotFound", "ReadOnly", "Stalled", "StorageFull", "TooLarge", "TooMany", "cleaned",
           "disk_problem", "is_filter_problem", "status", "storage_problem"]  # fmt: skip


class Moved(Unavailable):
    """Another set of vectors of the collection serves since a moment; nothing was done."""


class Busy(Unavailable):
    """Others have what a request needs: memory, say; it may be sent again."""


class TooMany(Busy):
    """One client asks for more at once than it may; nothing was done."""


class StorageFull(Unavailable):
    """The disk has no room for what was sent, or the memory of an index."""


class ReadOnly(ClipError):
    """A change was sent to a sidecar that only reads."""

    def __init__(self) -> None:
        super().__init__(
            "this sidecar only reads (--read-only): send changes to the one that writes, they are seen here soon after"
        )


def status(problem: ClipError) -> int:
    """Return the HTTP status of an error."""
    if isinstance(problem, ReadOnly):
        return 403
    if isinstance(problem, TooMany):
        return 429
    return 507 if isinstance(problem, StorageFull) else http_status(problem)


_PLACE = re.compile(r",?\s*(/[^\s,]+\.rs:\d+:\d+|rust/[^\s,]+\.rs:\d+:\d+).*", re.DOTALL)
_PREFIX = re.compile(
    r"^((lance|LanceError\(\w+\)|Invalid user input|Error during planning|Schema error|error|ValueError)\s*:?\s*)+", re.I
)


def cleaned(problem: BaseException) -> str:
    """Return LanceDB's message without places in its source and the layers above it."""
    lines = _PREFIX.sub("", _PLACE.sub("", str(problem))).strip().splitlines()
    return (lines or [type(problem).__name__])[0][:500]


def storage_problem(problem: BaseException, action: str = "written") -> ClipError:
    """Return the error of ours for a failed read or write of a table; an error of ours stays unchanged."""
    if isinstance(problem, ClipError):
        return problem
    if isinstance(problem, MemoryError):
        return Unavailable(f"the rows can't be {action}, memory is short: send less at once, or try again later")
    if "No space left" in str(problem) or "os error 28" in str(problem):
        return StorageFull("the disk is full, nothing was added: make room; searches go on")
    return Unavailable(f"the rows can't be {action} ({cleaned(problem)}): look at the disk, then try again")


def disk_problem(problem: OSError, failure: str) -> Unavailable:
    """Return the error of ours for a file that can't be written; ``failure`` says what doesn't happen."""
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(f"the disk is full, {failure}: make room; searches go on")
    return Unavailable(f"{failure} ({problem.strerror or problem}): look at the disk, then try again")


_OF_FILTER = re.compile(
    r"Invalid input, (Schema error|Error parsing|Error resolving filter|Error optimizing sql filter|The filter )"
    r"|Error applying filter expression|Error during planning|Arithmetic overflow|Divide by zero|Cast error"
)
"""Messages of LanceDB for a filter that can't be parsed, planned, or applied to a value; all else is the storage's."""


def is_filter_problem(problem: BaseException) -> bool:
    """Return true if LanceDB's error lies in the filter, not in the storage."""
    return bool(_OF_FILTER.search(str(problem)))
