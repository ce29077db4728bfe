"""Lines of text files of any size, in any encoding that can be told, compressed or not."""

from __future__ import annotations

import contextlib
import io
import lzma
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from clip_client.errors import ClipError, InvalidInput
from clip_client.text_files import decoded
from clip_embed.chunks import SourceProblem
from clip_embed.locations import open_read, shown

LONGEST = 2**26
"""Characters of a line: a picture of the largest size in base64, and its fields."""
_LOOK = 2**16  # bytes that tell the encoding
_BOMS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_WIDE = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32"}  # the first starts as UTF-16's does


class TextLines:
    """Lines with their endings, and what is wrong with some of them.

    Attributes:
        bad: reasons by number of the line, from 1 on; a reader removes those that it has told.
    """

    def __init__(self, location: str) -> None:
        self._location = location
        self.bad: dict[int, str] = {}

    def __iter__(self) -> Iterator[str]:
        """Yield the lines; raises SourceProblem for a file that ends early, and OSError for one that can't be read."""
        number = 0
        try:
            with _opened(self._location) as file:
                encoding, is_wide = _encoding(file)
                text = io.TextIOWrapper(file, encoding, errors="replace" if is_wide else "surrogateescape", newline="")
                while line := text.readline(LONGEST):
                    number += 1
                    yield self._checked(line, number, text)
        except (EOFError, zlib.error, lzma.LZMAError, OSError) as problem:
            if isinstance(problem, ClipError | FileNotFoundError) or getattr(problem, "errno", None) is not None:
                raise
            reason = f"ends early or is damaged after line {number:,} ({problem}): what follows is lost"
            raise SourceProblem(shown(self._location), reason) from problem

    def _checked(self, line: str, number: int, text: io.TextIOWrapper) -> str:
        if len(line) == LONGEST and not line.endswith(("\n", "\r")):
            while (rest := text.readline(LONGEST)) and not rest.endswith(("\n", "\r")):
                pass
            self.bad[number] = f"the line is longer than {LONGEST:,} characters: is it a table?"
            return "\n"
        if "\0" in line:
            self.bad[number] = "the line has a zero byte: save the file as UTF-8 without any"
            return line.encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("\0", "\ufffd")
        if line.isascii():
            return line
        return self._decoded(line, number)

    def _decoded(self, line: str, number: int) -> str:
        """Return a line whose bytes may be of another encoding than the others'."""
        try:
            line.encode()
            return line
        except UnicodeEncodeError:
            content = line.encode("utf-8", "surrogateescape")
        try:
            return decoded(content)[0]
        except InvalidInput as problem:
            self.bad[number] = f"the line {problem}"
            return content.decode("utf-8", "replace")


def _encoding(file: Any) -> tuple[str, bool]:
    """Return the encoding that the first bytes tell, and true where it has two or four bytes a character."""
    start = file.peek(_LOOK)[:_LOOK]
    for marks, is_wide in ((_WIDE, True), (_BOMS, False)):
        for mark, name in marks.items():
            if start.startswith(mark):
                return name, is_wide or name != "utf-8-sig"
    even = start[: len(start) // 2 * 2]
    for name, zeros in (("utf-16-le", even[1::2]), ("utf-16-be", even[::2])):
        if even and 2 * zeros.count(0) >= len(zeros):
            return name, True
    return "utf-8", False


@contextlib.contextmanager
def _opened(location: str) -> Iterator[Any]:
    """Open a file for reading, uncompressed as its ending says."""
    from fsspec.compression import compr
    from fsspec.utils import infer_compression

    name = infer_compression(location.partition("?")[0] if "://" in location else location)
    if name and name not in compr:
        raise InvalidInput(f"{shown(location)} can't be uncompressed here: uncompress it first")
    with open_read(location) as raw:
        file: BinaryIO = compr[name](raw, mode="rb") if name else raw
        yield io.BufferedReader(file, _LOOK)
