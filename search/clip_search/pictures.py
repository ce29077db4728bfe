"""Pictures in full, from where they were indexed: files that browsers show go out as they are, others as JPEG."""

import io
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from clip_client import camera_files
from clip_client.errors import InvalidInput
from clip_client.file_names import source_path
from clip_client.picture_files import is_picture_name
from clip_client.preprocess import open_image
from clip_client.regular_files import picture_content
from clip_client.thumbnails import thumbnail
from clip_search import fetch
from clip_search.budget import Budget
from clip_search.errors import Busy, NotFound, disk_problem
from clip_search.options import Options

_TYPES = {
    "JPEG": ("image/jpeg", ".jpg .jpeg .jpe .jfif .jfi .jif .pjpeg .pjp .mpo"),
    "PNG": ("image/png", ".png .apng"),
    "WEBP": ("image/webp", ".webp"),
    "GIF": ("image/gif", ".gif"),
    "AVIF": ("image/avif", ".avif .avifs"),
}
"""Formats that browsers show: media type, and the endings that a file's name may have."""
_SAME = {"MPO": "JPEG"}  # a JPEG with more pictures behind the first
_MOST_BYTES, _MOST_PIXELS = 40 * 2**20, 50_000_000  # of a file that goes out as it is
_MOST_READ = 256 * 2**20  # bytes of a file that is made a JPEG: 85 megapixels of a plain TIFF or BMP
_SIDE = 4096  # longest edge in pixels of such a JPEG
_MOST_NAME = 150  # characters of a file's name


@dataclass(frozen=True, eq=False)
class Picture:
    """Picture to be sent; whoever has it closes the file."""

    file: BinaryIO  # at its beginning
    size: int  # in bytes
    media_type: str
    name: str  # to save it under


@dataclass(frozen=True)
class Memory:
    """Budgets for files in memory, and for pictures that are decoded."""

    files: Budget
    decoding: Budget


def in_full(sources: Sequence[str], options: Options, memory: Memory) -> Picture:
    """Return the picture of the first source that can be had; a source is a path below a folder named at start, or a URL.

    Raises:
        NotFound: none can be had; the message has the reasons.
        Busy: others have the memory.
    """
    reasons = []
    for source in sources:
        try:
            return _fetched(source, options, memory) if is_url(source) else _read(source, options, memory)
        except Busy:
            raise
        except InvalidInput as problem:
            reasons.append(str(problem))
    raise NotFound("; ".join(reasons) or "it was indexed without a source: nobody knows where the picture is")


def is_url(source: str) -> bool:
    """Tell a source that is fetched from one that is read."""
    return source.lower().startswith(("http://", "https://"))


def _read(source: str, options: Options, memory: Memory) -> Picture:
    path = source_path(source)
    if not os.path.lexists(fetch.contained(path, options.fetch)):
        raise InvalidInput(f"this file no longer exists: {path}")
    file = fetch.opened(path, options.fetch)
    try:
        size = min(os.fstat(file.fileno()).st_size, _MOST_READ)
        with memory.files.held(size):  # the content has no name here: it is gone before its memory is given back
            return _picture(file, picture_content(file, size, name=path), os.path.basename(path), memory)
    except BaseException:
        file.close()
        raise


def _fetched(source: str, options: Options, memory: Memory) -> Picture:
    with memory.files.held(options.fetch.image_bytes):
        return _kept(fetch.fetched(source, options.fetch), unquote(os.path.basename(urlsplit(source).path)), options, memory)


def _kept(content: bytes, name: str, options: Options, memory: Memory) -> Picture:
    file = _spooled(content, options)
    try:
        return _picture(file, content, name, memory)
    except BaseException:
        file.close()
        raise


def _spooled(content: bytes, options: Options) -> BinaryIO:
    """Return a file with this content: a slow reader of many holds no memory."""
    try:
        file = tempfile.TemporaryFile(dir=options.indexes)  # noqa: SIM115  (closed once it is sent)
        file.write(content)
        file.flush()
    except OSError as problem:
        raise disk_problem(problem, "the picture can't be passed on") from problem
    return file


def _picture(file: BinaryIO, content: bytes, name: str, memory: Memory) -> Picture:
    """Return a picture whose content was read from an open file; a file that isn't needed is closed."""
    if kind := _shown_as_is(content):
        file.seek(0)
        return Picture(file, len(content), _TYPES[kind][0], _named(name, _TYPES[kind][1].split()))
    jpeg = thumbnail(content, memory.decoding, _SIDE)
    file.close()
    return Picture(io.BytesIO(jpeg), len(jpeg), _TYPES["JPEG"][0], _named(name, _TYPES["JPEG"][1].split()))


def _shown_as_is(content: bytes) -> str:
    """Return the format of a picture that goes out as it is, by its content; empty for any other."""
    if camera_files.kind_of(content):
        return ""
    image = open_image(content)
    kind = _SAME.get(str(image.format), str(image.format))
    is_small = len(content) <= _MOST_BYTES and image.width * image.height <= _MOST_PIXELS
    return kind if kind in _TYPES and is_small else ""


def _named(name: str, endings: Sequence[str]) -> str:
    """Return a name with one of these endings, in characters that every file system takes."""
    name = "".join(char if char.isprintable() and char not in '\\/:*?"<>|' else "_" for char in name).strip(" .")
    stem, ending = os.path.splitext(name or "picture")
    if ending.lower() in endings:
        return stem[:_MOST_NAME] + ending
    return (stem if is_picture_name(name) else name or stem)[:_MOST_NAME] + endings[0]
