"""Runner of every command: printable output, exit statuses, and no traceback."""

import errno
import os
import platform
import select
import stat
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from platformdirs import user_state_path

from clip_client.errors import ClipError

FAILED, UNFORESEEN, INTERRUPTED, BROKEN_PIPE = 1, 70, 130, 141
"""Exit statuses: an error that says what to do; a defect (EX_SOFTWARE); Ctrl-C (128 + SIGINT); nobody reads (128 + SIGPIPE)."""

_FRAGILE = ("strict", "surrogateescape")
"""Error handlers of encodings that raise for some characters; others were chosen by the user, and stay."""

_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG)
"""Numbers of errors that say that a disk, a quota or a file is full; Windows lacks quotas'."""

PART = "CLIPSERVE_PART"
"""Variable that a command sets for those that it runs as its parts."""


def is_part() -> bool:
    """Tell if this command is a part of another one, which says itself what to do next."""
    return PART in os.environ


def run(command: str, main: Callable[[], int | None]) -> int:
    """Run a command and return its exit status.

    Characters beyond the encoding of a stream are printed as ``\\u2026``. An unforeseen error becomes one line, which names the
    file with the details. A reader that goes away, such as ``head``, ends the command silently.
    """
    for stream in (sys.stdout, sys.stderr):
        _make_printable(stream)
    try:
        status = main() or 0
        if sys.stdout is not None:  # the shell closed it
            sys.stdout.flush()
        return status
    except BrokenPipeError as problem:
        return BROKEN_PIPE if _nobody_reads() else _unforeseen(command, problem)
    except KeyboardInterrupt:
        return INTERRUPTED
    except ClipError as problem:
        _say(f"error: {problem}")
        return FAILED
    except Exception as problem:
        if isinstance(problem, OSError) and problem.errno in _FULL:
            where = problem.filename or "the output"
            _say(f"error: {where} can't be written ({problem.strerror}): make room, or write elsewhere")
            return FAILED
        return _unforeseen(command, problem)


def is_terminal(stream: TextIO | None) -> bool:
    """Tell if a stream is a terminal; one that the shell closed, which Python has no stream for, isn't."""
    return stream is not None and stream.isatty()


def _make_printable(stream: TextIO | None) -> None:
    reconfigure = getattr(stream, "reconfigure", None)  # a notebook's or a test's streams may lack it
    if reconfigure and getattr(stream, "errors", "") in _FRAGILE:
        reconfigure(errors="backslashreplace")


def _nobody_reads() -> bool:
    """Tell a closed standard output from other broken pipes; it is replaced, or Python would complain when it ends."""
    broken = [stream for stream in (sys.stdout, sys.stderr) if _is_broken(stream)]
    for stream in broken:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return bool(broken)


def _is_broken(stream: TextIO) -> bool:
    if sys.platform == "win32":  # which can't be asked: a pipe it was
        return stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode)
    poll = select.poll()
    poll.register(stream.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _unforeseen(command: str, problem: Exception) -> int:
    lines = str(problem).strip().splitlines()
    what = f"{type(problem).__name__}: {lines[0][:300]}" if lines else type(problem).__name__
    try:
        where = f"details in {_written(command, problem)}"
    except OSError as obstacle:
        where = f"details can't be written ({obstacle})"
    _say(f"error: {command} ended by something unforeseen, {what}; {where}: please report it")
    return UNFORESEEN


def _written(command: str, problem: Exception) -> Path:
    """Write the traceback, which holds no values of variables, where only its user can read it."""
    text = f"{command}, Python {platform.python_version()}\n{''.join(traceback.format_exception(problem))}"
    content = text.encode("utf-8", "backslashreplace")
    try:
        state = user_state_path("clipserve")
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = state / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except (OSError, RuntimeError):  # a home that can't be written, or none at all
        file, name = tempfile.mkstemp(prefix="clipserve-", suffix=".txt")  # for its user alone as well
        path = Path(name)
    with open(file, "wb") as opened:
        opened.write(content)
    return path


def _say(line: str) -> None:
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:  # nobody listens there either
        _nobody_reads()
