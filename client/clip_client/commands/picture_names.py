"""Pictures that a command line names: files, folders, URLs, and lists on standard input."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from clip_client import camera_files
from clip_client.errors import InvalidInput, TooLarge
from clip_client.picture_files import scan
from clip_client.preprocess import Limits

STDIN = "-"
"""Word that stands for standard input."""

_PIECE_BYTES = 64 * 2**10
_MOST_NAME = 2**20  # bytes: no path and no URL is as long


def picture_in_stdin() -> bytes:
    """Return the picture that standard input is; raise TooLarge for more than any picture may have."""
    most = max(Limits().image_bytes, *(kind.most_bytes for kind in camera_files.KINDS))
    content = _stdin().read(most + 1)
    if len(content) > most:
        raise TooLarge(f"standard input has more than {most:,} bytes: expected one picture")
    return content


def picture_names(words: Sequence[str], *, null: bool) -> Iterator[tuple[str, str]]:
    """Yield each picture and an empty text, or what looks like one with the reason why it is left out.

    Args:
        words: files, URLs, folders, whose pictures are sorted by name, and ``-`` for a list of these on standard input.
        null: names on standard input end with a NUL each, not with a line break.
    """
    for word in words:
        if word == STDIN:
            for listed in _listed(b"\0" if null else b"\n"):
                yield from _named(listed)
        else:
            yield from _named(word)


def _named(word: str) -> Iterator[tuple[str, str]]:
    if not os.path.isdir(word):
        yield word, ""
        return
    found = scan(Path(word))
    for file in found.pictures:
        yield os.path.join(word, file.name), ""
    for name, reason in found.left_out.items():
        yield os.path.join(word, name), reason


def _listed(end: bytes) -> Iterator[str]:
    """Yield the names on standard input as they come; empty ones are passed over."""
    file, rest = _stdin(), b""
    while piece := os.read(file.fileno(), _PIECE_BYTES):
        *names, rest = (rest + piece).split(end)
        yield from _decoded(names, end)
        if len(rest) > _MOST_NAME:
            raise InvalidInput("standard input isn't a list of names, one a line: for a picture itself, use clipserve compare")
    yield from _decoded([rest], end)


def _decoded(names: Sequence[bytes], end: bytes) -> Iterator[str]:
    """Yield names as paths, without the end of a line that other systems have."""
    for name in names:
        if kept := name.removesuffix(b"\r") if end == b"\n" else name:
            yield os.fsdecode(kept)


def _stdin() -> BinaryIO:
    if sys.stdin is None:
        raise InvalidInput("standard input is closed: name the picture, or pipe it in")
    return sys.stdin.buffer
