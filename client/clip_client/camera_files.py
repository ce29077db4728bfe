"""HEIC and RAW files of cameras, which Pillow doesn't open: as JPEG, by libraries that are optional.

A HEIC picture is decoded and encoded again; of a RAW file the preview is taken that the camera put into it.
"""

from __future__ import annotations

import importlib.util
import io
import os
from dataclasses import dataclass
from typing import Any

from PIL import Image

from clip_client.errors import InvalidInput

JPEG_SIDE = 4096  # longest edge in pixels of what a HEIC picture becomes: ten times that of the towers' squares
_QUALITY = 95

_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_ANY_CODEC = {b"mif1", b"msf1"}
_AVIF_BRANDS = {b"avif", b"avis"}
_RAW_BRAND = b"crx "  # Canon's CR3
_MOST_BRANDS = 256  # bytes of the list that are looked at
_RAW_MAGIC = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb", b"\0MRM")

# Tags of TIFF 6.0, of its supplements, and of DNG 1.7
_NEW_SUBFILE_TYPE, _COMPRESSION, _SUB_IFDS, _DNG_VERSION = 254, 259, 330, 50706
_RAW_COMPRESSIONS = {32767, 32769, 32770, 34713, 65535}  # Sony's, Samsung's two, Nikon's, Pentax's
_MOST_TAGS = 200
_TURNS = {3: Image.Transpose.ROTATE_180, 5: Image.Transpose.ROTATE_90, 6: Image.Transpose.ROTATE_270}  # LibRaw's flips


@dataclass(frozen=True)
class Kind:
    """Kind of files that an optional library reads."""

    name: str  # in messages
    package: str  # on PyPI
    module: str  # of the package
    extra: str  # of clipserve, that brings the package
    endings: frozenset[str]  # of files, in small letters
    most_bytes: int  # of a file

    def missing(self) -> str:
        """Return the message about the missing library; empty if it is installed."""
        if importlib.util.find_spec(self.module):
            return ""
        return f"{self.name} needs {self.package}, which isn't installed: pip install 'clipserve[{self.extra}]'"


HEIC = Kind("HEIC", "pillow-heif", "pillow_heif", "heic", frozenset(".heic .heif .hif .heics .heifs".split()), 32 * 2**20)
RAW = Kind(
    "RAW", "rawpy", "rawpy", "raw",
    frozenset(".dng .cr2 .cr3 .nef .nrw .arw .srf .sr2 .orf .rw2 .raf .pef .srw .x3f".split()),
    256 * 2**20,  # 150 megapixels without compression; only the preview is sent
)  # fmt: skip
KINDS = (HEIC, RAW)


def kind_by_ending(ending: str) -> Kind | None:
    """Return the kind of files with an ending, such as ``.heic``; None for any other."""
    return next((kind for kind in KINDS if ending in kind.endings), None)


def kind_of(encoded: bytes) -> Kind | None:
    """Return the kind of a file, told by its first bytes; None for what Pillow opens, or what is no picture."""
    if encoded[4:8] == b"ftyp":
        brands = _brands(encoded)
        if _RAW_BRAND in brands:
            return RAW
        return HEIC if brands & _HEIC_BRANDS or (brands & _ANY_CODEC and not brands & _AVIF_BRANDS) else None
    return RAW if encoded.startswith(_RAW_MAGIC) or _is_raw_tiff(encoded) else None


def memory(encoded: bytes) -> int:
    """Return the bytes that :func:`as_jpeg` takes at most, beside the file; 0 where it does nothing."""
    kind = kind_of(encoded)
    if kind is None or kind.missing():
        return 0
    if kind is RAW:
        return 2 * len(encoded)  # LibRaw's copy, and the preview
    width, height = _heic(encoded).size
    return 10 * int(width) * int(height)  # planes, RGB, and the smaller picture


def as_jpeg(encoded: bytes, most_pixels: int) -> bytes:
    """Return a HEIC or RAW file as an upright JPEG, and any other as it is.

    Args:
        encoded: the whole file.
        most_pixels: of a picture; larger ones aren't decoded.

    Raises:
        InvalidInput: its library isn't installed, it can't be decoded, it is too large, or it has no preview.
    """
    kind = kind_of(encoded)
    if kind is None:
        return encoded
    if reason := kind.missing():
        raise InvalidInput(reason)
    return _preview(encoded, most_pixels) if kind is RAW else _encoded(_decoded_heic(encoded, most_pixels))


def _brands(encoded: bytes) -> set[bytes]:
    """Return major and compatible brands of an ISO base media file (ISO/IEC 14496-12, 4.3)."""
    end = min(int.from_bytes(encoded[:4], "big"), _MOST_BRANDS, len(encoded))
    return {encoded[at : at + 4] for at in (8, *range(16, end - 3, 4))}


def _is_raw_tiff(encoded: bytes) -> bool:
    """Tell a RAW file in TIFF's form: it has DNG's version, a maker's compression, or begins with a reduced picture."""
    order: Any = {b"II*\0": "little", b"MM\0*": "big"}.get(encoded[:4])
    if order is None:
        return False
    tags = _first_tags(encoded, order)
    is_reduced = tags.get(_NEW_SUBFILE_TYPE, b"") == (1).to_bytes(4, order) and _SUB_IFDS in tags
    compression = int.from_bytes(tags.get(_COMPRESSION, b"")[:2], order)
    return encoded[8:10] == b"CR" or _DNG_VERSION in tags or is_reduced or compression in _RAW_COMPRESSIONS


def _first_tags(encoded: bytes, order: Any) -> dict[int, bytes]:
    """Return the tags of a TIFF's first directory with the 4 bytes of their values."""
    start = int.from_bytes(encoded[4:8], order)
    count = min(int.from_bytes(encoded[start : start + 2], order), _MOST_TAGS)
    entries = (encoded[at : at + 12] for at in range(start + 2, start + 2 + 12 * count, 12))
    return {int.from_bytes(entry[:2], order): entry[8:] for entry in entries if len(entry) == 12}


def _heic(encoded: bytes) -> Any:
    """Return a HEIC file whose header was read."""
    import pillow_heif

    try:
        return pillow_heif.open_heif(io.BytesIO(encoded), convert_hdr_to_8bit=True)
    except Exception as problem:  # decoders raise anything
        raise _undecoded(HEIC, problem) from problem


def _decoded_heic(encoded: bytes, most_pixels: int) -> Image.Image:
    file = _heic(encoded)
    _check_pixels(*file.size, most_pixels)
    try:
        image: Image.Image = file.to_pillow()  # upright: libheif has turned it
        image.thumbnail((JPEG_SIDE, JPEG_SIDE))
        return image
    except Exception as problem:
        raise _undecoded(HEIC, problem) from problem


def _preview(encoded: bytes, most_pixels: int) -> bytes:
    """Return the preview in a RAW file; LibRaw notes the orientation in a JPEG, and leaves it to us for plain pixels."""
    import rawpy

    try:
        with rawpy.imread(io.BytesIO(encoded)) as raw:
            preview, flip = raw.extract_thumb(), raw.sizes.flip
    except rawpy.LibRawNoThumbnailError as problem:
        raise InvalidInput("the RAW file has no preview: develop it into a JPEG") from problem
    except Exception as problem:
        raise _undecoded(RAW, problem) from problem
    if preview.format == rawpy.ThumbFormat.JPEG:
        return bytes(preview.data)
    height, width = preview.data.shape[:2]
    _check_pixels(width, height, most_pixels)
    image = Image.fromarray(preview.data)
    return _encoded(image.transpose(_TURNS[flip]) if flip in _TURNS else image)


def _check_pixels(width: int, height: int, most: int) -> None:
    if width * height > most:
        raise InvalidInput(f"the image has {width} x {height} pixels, at most {most:,} are taken: send a smaller one")


def _undecoded(kind: Kind, problem: Exception) -> InvalidInput:
    return InvalidInput(f"the {kind.name} image can't be decoded ({problem or type(problem).__name__}): is the file whole?")


def _encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=_QUALITY, subsampling=0)
    return buffer.getvalue()


def most_bytes(name: str | os.PathLike[str], usual: int) -> int:
    """Return the most bytes of a file by its name: a RAW file is large, and its preview isn't."""
    kind = kind_by_ending(os.path.splitext(os.fspath(name))[1].lower())
    return max(kind.most_bytes, usual) if kind else usual
