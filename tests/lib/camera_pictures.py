"""Pictures as cameras store them: HEIC, and DNG with a preview."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from typing import Any

import pillow_heif
from PIL import Image

_SHORT, _LONG, _RATIONAL, _BYTE, _ASCII, _SIGNED_RATIONAL = 3, 4, 5, 1, 2, 10
_FORMATS = {_SHORT: "H", _LONG: "I", _RATIONAL: "II", _BYTE: "B", _ASCII: "s", _SIGNED_RATIONAL: "ii"}
_SIDE = 64  # of the sensor, in pixels


def heic(image: Image.Image, **options: Any) -> bytes:
    """The bytes of a HEIC file."""
    file = io.BytesIO()
    pillow_heif.from_pillow(image).save(file, quality=95, **options)
    return file.getvalue()


def dng(preview: Image.Image | None, orientation: int = 1) -> bytes:
    """The bytes of a DNG file of a grey sensor, with a JPEG preview in its first directory, or without one (DNG 1.4)."""
    jpeg = b""
    if preview:
        file = io.BytesIO()
        preview.save(file, "JPEG", quality=95)
        jpeg = file.getvalue()
    sensor = struct.pack(f"<{_SIDE * _SIDE}H", *[2000] * _SIDE * _SIDE)
    about = {
        271: (_ASCII, b"Maker\0"),
        272: (_ASCII, b"Camera\0"),
        274: (_SHORT, [orientation]),
        50706: (_BYTE, [1, 4, 0, 0]),
        50707: (_BYTE, [1, 1, 0, 0]),
        50708: (_ASCII, b"Maker Camera\0"),
        50721: (_SIGNED_RATIONAL, [1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1]),
        50728: (_RATIONAL, [1, 1, 1, 1, 1, 1]),
        50778: (_SHORT, [21]),
    }
    raw = {
        254: (_LONG, [0]),
        256: (_LONG, [_SIDE]),
        257: (_LONG, [_SIDE]),
        258: (_SHORT, [16]),
        259: (_SHORT, [1]),
        262: (_SHORT, [32803]),
        277: (_SHORT, [1]),
        278: (_LONG, [_SIDE]),
        279: (_LONG, [len(sensor)]),
        33421: (_SHORT, [2, 2]),
        33422: (_BYTE, [0, 1, 1, 2]),
        50714: (_SHORT, [0]),
        50717: (_LONG, [4095]),
    }
    if preview is None:
        return _file(about | raw, sensor)
    reduced = {
        254: (_LONG, [1]),
        256: (_LONG, [preview.width]),
        257: (_LONG, [preview.height]),
        258: (_SHORT, [8, 8, 8]),
        259: (_SHORT, [7]),
        262: (_SHORT, [6]),
        277: (_SHORT, [3]),
        278: (_LONG, [preview.height]),
        279: (_LONG, [len(jpeg)]),
    }
    below = _file(raw, sensor, start=8 + len(_directory(about | reduced | {273: (_LONG, [0]), 330: (_LONG, [0])}, 8)) + len(jpeg))
    return _file(about | reduced, jpeg, below=below)


def _file(tags: Mapping[int, Any], strip: bytes, *, start: int = 8, below: bytes = b"") -> bytes:
    """A directory with its strip behind it; with the TIFF's header where it starts at 8."""
    places = {273: (_LONG, [0]), **({330: (_LONG, [0])} if below else {})}
    size = len(_directory({**tags, **places}, start))
    places = {tag: (_LONG, [start + size + (len(strip) if tag == 330 else 0)]) for tag in places}
    header = b"II*\0" + struct.pack("<I", 8) if start == 8 else b""
    return header + _directory({**tags, **places}, start) + strip + below


def _directory(tags: Mapping[int, Any], start: int) -> bytes:
    """A directory (TIFF 6.0, section 2) that lies at ``start``, with the values that don't fit into its entries behind it."""
    entries, values = b"", b""
    behind = start + 2 + 12 * len(tags) + 4
    for tag, (kind, content) in sorted(tags.items()):
        if kind == _ASCII:
            packed, count = content, len(content)
        else:
            packed = struct.pack(f"<{len(content)}{_FORMATS[kind][0]}", *content)
            count = len(content) // len(_FORMATS[kind])
        place = packed.ljust(4, b"\0")
        if len(packed) > 4:
            place = struct.pack("<I", behind + len(values))
            values += packed + b"\0" * (len(packed) % 2)
        entries += struct.pack("<HHI", tag, kind, count) + place
    return struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0) + values
