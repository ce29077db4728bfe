"""Thumbnails and larger JPEGs of pictures: upright, in the picture's own colours, on white.

What the towers see is another matter: :mod:`clip_client.preprocess` does as each checkpoint's own library does, which for
example clips greys of 16 bits to white.
"""

import contextlib
import io
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from clip_client import camera_files
from clip_client.errors import ClipError, InvalidInput
from clip_client.preprocess import Limits, open_image

SIDE = 320  # longest edge of a thumbnail, in pixels
_ORIENTATION = 0x0112
_TILE = 2**20  # pixels
_RESIZABLE = ("RGB", "RGBA", "L", "LA", "CMYK", "YCbCr")
_DECODERS = {"JPEG": 8, "TIFF": 8, "WEBP": 12, "AVIF": 14}
"""Bytes a pixel that a format's decoder holds besides the picture: coefficients of a progressive JPEG, planes, whole frames."""
_SLACK = 1.1  # measured with 99.8 megapixels of every format and mode, decoding took at most 1.03 of what is counted
_RESULT = 20  # bytes a pixel of a larger result than a thumbnail: reduced, on white, turned
_WHITES = {"I": (255, 65_535), "F": (1, 255, 65_535)}
"""Brightest value by mode: the first that no pixel exceeds, else the brightest pixel's."""


class Memory(Protocol):
    """Budget of bytes."""

    def held(self, size: int) -> AbstractContextManager[None]:
        """Hold bytes for as long as a block lasts; raise a ClipError if there are none."""


def thumbnail(encoded: bytes, memory: Memory | None = None, side: int = SIDE) -> bytes:
    """Return a JPEG of at most ``side`` x ``side`` pixels, on white where the picture is transparent.

    Args:
        encoded: the whole file.
        memory: what decoding takes is taken from it meanwhile.

    Raises:
        InvalidInput: it can't be decoded, or is too large.
        ClipError: others have the memory.
    """
    image, most = open_image(_openable(encoded, memory)), Limits().image_pixels
    if image.width * image.height > most:
        raise InvalidInput(
            f"the image has {image.width} x {image.height} pixels, at most {most:,} are taken: send a smaller one"
        )
    try:
        size = _drafted(image, side)
        with memory.held(size) if memory else contextlib.nullcontext(), contextlib.closing(image):  # pixels go first
            return _encoded(small(image, side))
    except ClipError:
        raise
    except Exception as problem:  # decoders raise anything
        raise InvalidInput(f"the {image.format} image can't be decoded ({problem}): is the file whole?") from problem


def _openable(encoded: bytes, memory: Memory | None) -> bytes:
    """Return a file that Pillow opens: HEIC and RAW files of cameras as JPEG."""
    size = camera_files.memory(encoded)
    with memory.held(size) if memory and size else contextlib.nullcontext():
        return camera_files.as_jpeg(encoded, Limits().image_pixels)


def _drafted(image: Image.Image, side: int) -> int:
    """Let a JPEG be decoded in a smaller size; return the bytes that decoding and then copies take at most."""
    decoder = _DECODERS.get(str(image.format), 0) * image.width * image.height
    image.draft("RGB", (2 * side, 2 * side))
    pixels = image.width * image.height
    own = 1 if image.mode in ("1", "L", "P") else 4
    decoding = own * pixels + max(decoder, _copies(image) * pixels)
    return max(round(_SLACK * decoding), decoding + _RESULT * min(pixels, side * side - SIDE * SIDE))


def _copies(image: Image.Image) -> int:
    """Return the bytes a pixel of copies: in another mode, and with the colours of transparent pixels weighted."""
    if image.mode in ("RGBA", "LA"):
        return 4
    if image.has_transparency_data:
        return 8
    return 0 if image.mode in _RESIZABLE else 4


def small(image: Image.Image, side: int) -> Image.Image:
    """Return a picture in RGB of at most ``side`` x ``side`` pixels, upright, on white; decoders raise anything."""
    image.load()
    orientation = image.getexif().get(_ORIENTATION, 1)  # once loaded: it may stand behind the pixels, and TIFFs turn themselves
    small = _plain(image)
    small.thumbnail((side, side))
    small = _opaque(small)
    small.getexif()[_ORIENTATION] = orientation
    return ImageOps.exif_transpose(small)


def _encoded(image: Image.Image) -> bytes:
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=82, exif=b"")
    return encoded.getvalue()


def _plain(image: Image.Image) -> Image.Image:
    """Return the picture in a mode whose pixels can be averaged."""
    if image.mode.startswith("I") or image.mode == "F":
        return _scaled(image)
    if image.mode in _RESIZABLE and "transparency" not in image.info:
        return image
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _scaled(image: Image.Image) -> Image.Image:
    """Return greys of 16 bits and more, or floats, in 8 bits; some at a time, since the numbers take four times as much."""
    top = max(float(_values(image, tile).max(initial=0)) for tile in _tiles(image.size))
    white = 65_535 if image.mode.startswith("I;16") else next((level for level in _WHITES[image.mode] if top <= level), top)
    small = Image.new("L", image.size)
    for tile in _tiles(image.size):
        values = (255 * (_values(image, tile) / white).clip(0, 1)).round().astype(np.uint8)
        small.paste(Image.fromarray(values), tile)
    return small


def _tiles(size: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    """Boxes of at most so many pixels that cover a picture."""
    width = min(size[0], _TILE)
    height = _TILE // width
    for left in range(0, size[0], width):
        for top in range(0, size[1], height):
            yield left, top, min(left + width, size[0]), min(top + height, size[1])


def _values(image: Image.Image, tile: tuple[int, int, int, int]) -> npt.NDArray[np.float32]:
    return np.nan_to_num(np.asarray(image.crop(tile), np.float32), nan=0, posinf=0, neginf=0)


def _opaque(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    picture = image.convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture).convert("RGB")
