"""Pictures that a command line names: files, folders, URLs, and lists on standard input."""

from __future__ import annotations

import codecs
import os
import select
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from clip_client import camera_files
from clip_client.counting import counted
from clip_client.errors import InvalidInput, TooLarge
from clip_client.file_names import source_path
from clip_client.picture_files import USUAL_ENDINGS, scan
from clip_client.preprocess import Limits
from clip_client.printable_text import printable
from clip_client.stream_parts import IDLE_S

STDIN = "-"
"""Word that stands for standard input."""

_STDIN_NAME = "standard input"
_PIECE_BYTES = 64 * 2**10
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_MARKS_BEGIN = (b"\xef", b"\xff", b"\xfe")  # no ASCII name begins so: nobody waits for more of one
_LONGEST_MARK = len(codecs.BOM_UTF8)
_MOST_NAME = 2**20  # bytes: no path and no URL is as long


def picture_in_stdin() -> bytes:
    """Return the picture that standard input is; raise TooLarge for more than any picture may have."""
    most = max(Limits().image_bytes, *(kind.most_bytes for kind in camera_files.KINDS))
    content = _stdin().read(most + 1)
    if len(content) > most:
        raise TooLarge(f"standard input has more than {most:,} bytes: expected one picture")
    return content


def picture_names(words: Sequence[str], say: Callable[[str], None], *, null: bool) -> Iterator[tuple[str, str] | None]:
    """Yield each picture and an empty text, or what can't be one with the reason why it is left out; None while none comes.

    Args:
        words: files, URLs, folders, whose pictures are sorted by name, and ``-`` for a list of these on standard input.
        say: prints a remark for the user.
        null: names on standard input end with a NUL each, not with a line break.
    """
    for word in words:
        if word != STDIN:
            yield from _named(word, say)
            continue
        try:
            for listed in _listed(b"\0" if null else b"\n"):
                yield from [None] if listed is None else _named(listed, say)
        except InvalidInput as problem:  # what was listed before it is taken
            yield _STDIN_NAME, str(problem).removeprefix(f"{_STDIN_NAME} ")


def _named(word: str, say: Callable[[str], None]) -> Iterator[tuple[str, str]]:
    path = source_path(word)
    if not path:
        yield "''", "the name is empty: pass a file, a folder or a URL"
    elif not os.path.isdir(path):
        yield path, ""
    else:
        yield from _inside(path, say)


def _inside(folder: str, say: Callable[[str], None]) -> Iterator[tuple[str, str]]:
    """Yield the pictures of a folder; one without any is left out itself."""
    try:
        found = scan(Path(folder))
    except InvalidInput as problem:  # it vanished
        yield folder, str(problem)
        return
    for file in found.pictures:
        yield os.path.join(folder, file.name), ""
    for name, reason in found.left_out.items():
        yield os.path.join(folder, name), reason
    if found.repeated:
        say(f"{printable(folder)}: {counted(len(found.repeated), 'link')} passed over to what is there already")
    if not found.pictures and not found.left_out:
        yield folder, f"no pictures in it: expected files that end in {USUAL_ENDINGS}"


def _listed(end: bytes) -> Iterator[str | None]:
    """Yield the names on standard input as they come, and None while none comes; empty ones are passed over.

    Raises:
        InvalidInput: standard input is closed, or no list of names.
    """
    rest = b""
    for piece in _pieces(_stdin(), may_have_mark=end == b"\n"):
        if piece is None:
            yield None
            continue
        *names, rest = (rest + piece).split(end)
        yield from _decoded(names, end)
        if len(rest) > _MOST_NAME:
            raise InvalidInput("isn't a list of names, one a line: for a picture itself, use clipserve compare")
    yield from _decoded([rest], end)


def _pieces(file: BinaryIO, *, may_have_mark: bool) -> Iterator[bytes | None]:
    """Yield what comes, and None while nothing does.

    A text comes without its byte order mark, and UTF-16, which PowerShell writes, as UTF-8.
    """
    piece = os.read(file.fileno(), _PIECE_BYTES)
    while (
        may_have_mark
        and len(piece) < _LONGEST_MARK
        and piece[:1] in _MARKS_BEGIN
        and (more := os.read(file.fileno(), _PIECE_BYTES))
    ):
        piece += more
    is_wide = may_have_mark and piece.startswith(_UTF16)
    wide = codecs.getincrementaldecoder("utf-16")("replace") if is_wide else None
    text = piece.removeprefix(codecs.BOM_UTF8 if may_have_mark else b"")
    while piece:  # not the text: a mark may come alone
        yield wide.decode(text).encode() if wide else text
        while not _has_more(file):
            yield None
        text = piece = os.read(file.fileno(), _PIECE_BYTES)


def _has_more(file: BinaryIO) -> bool:
    """Wait a little, where a system can; tell if something has come, or the end."""
    return os.name == "nt" or bool(select.select([file], [], [], IDLE_S)[0])


def _decoded(names: Sequence[bytes], end: bytes) -> Iterator[str]:
    """Yield names as paths, without the end of a line that other systems have; raise InvalidInput for what is no name."""
    for name in names:
        if b"\0" in name:
            raise InvalidInput(
                "isn't a list of names, one a line, since a NUL stands in it: pass --null if each name ends with one; "
                "for a picture itself, use clipserve compare"
            )
        if kept := name.removesuffix(b"\r") if end == b"\n" else name:
            yield os.fsdecode(kept)


def _stdin() -> BinaryIO:
    if sys.stdin is None:
        raise InvalidInput(f"{_STDIN_NAME} is closed: name the picture, or pipe it in")
    return sys.stdin.buffer
