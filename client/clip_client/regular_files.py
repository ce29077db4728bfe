"""Regular files, read up to a limit; folders, pipes and devices are refused without waiting for them."""

import os
import stat
from typing import BinaryIO

from clip_client.errors import InvalidInput, TooLarge

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

_READING = ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY")
"""Flags of opening: don't wait for pipes, hand nothing on to programs; Windows has the last alone, or it changes line ends."""
_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in _READING)


def read_picture(path: str | os.PathLike[str], most_bytes: int, *, name: str = "") -> bytes:
    """Return the bytes of a picture's file.

    Args:
        name: path in messages, if it isn't ``path``.

    Raises:
        InvalidInput: no such file, or it can't be read.
        TooLarge: it has more than ``most_bytes``.
    """
    name = name or os.fspath(path)
    with open_picture(path, name=name) as file:
        return picture_content(file, most_bytes, name=name)


def open_picture(path: str | os.PathLike[str], *, name: str) -> BinaryIO:
    """Open a picture's file for reading; raises as :func:`read_picture`."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise InvalidInput(f"{name} isn't a file: pass a picture")
    try:
        return open_regular(path)
    except InvalidInput as problem:
        raise InvalidInput(f"no image file {name}: {problem}") from problem


def picture_content(file: BinaryIO, most_bytes: int, *, name: str) -> bytes:
    """Return the bytes of a picture's file that is open; raises as :func:`read_picture`."""
    try:
        return _content(file, most_bytes)
    except TooLarge as problem:
        raise TooLarge(f"{name} {problem}") from problem
    except InvalidInput as problem:
        raise InvalidInput(f"no image file {name}: {problem}") from problem


def read_regular(path: str | os.PathLike[str], most_bytes: int) -> tuple[bytes, os.stat_result]:
    """Return a file's bytes and its status then; raise InvalidInput if it can't be read, TooLarge above ``most_bytes``."""
    with open_regular(path) as file:
        status = os.fstat(file.fileno())
        return _content(file, most_bytes), status


def _content(file: BinaryIO, most_bytes: int) -> bytes:
    try:
        content = file.read(most_bytes + 1)
    except OSError as problem:
        raise InvalidInput(f"can't be read ({reason(problem)}): look at the disk") from problem
    if len(content) > most_bytes:
        size = max(os.fstat(file.fileno()).st_size, len(content))
        raise TooLarge(f"has {size:,} bytes, at most {most_bytes:,} are taken: pass a smaller one")
    return content


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file for reading; raise InvalidInput if it isn't a file, or can't be opened."""
    try:
        number = os.open(path, _FLAGS)
    except (OSError, ValueError) as problem:  # ValueError: a path with a NUL
        raise InvalidInput(f"can't be read ({reason(problem)}): check the path and its permissions") from problem
    mode = os.fstat(number).st_mode
    if not stat.S_ISREG(mode):
        os.close(number)
        raise InvalidInput(f"{kind(mode)}, not a file: expected a picture or a text")
    return os.fdopen(number, "rb")


def kind(mode: int) -> str:
    """Return the noun for a file that isn't a regular one."""
    return _KINDS.get(stat.S_IFMT(mode), "something else")


def reason(problem: Exception) -> str:
    """Return an error's text, without the path that the caller names anyway."""
    return getattr(problem, "strerror", None) or str(problem)
