"""Small copies of pictures, for people: upright, in the picture's own colours, on white.

What the towers see is another matter: :mod:`clip_client.preprocess` does as each checkpoint's own library does, which for
example clips greys of 16 bits to white.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps

from clip_client.errors import InvalidInput
from clip_client.preprocess import Limits, open_image

SIDE = 320
"""Longest edge, in pixels."""
_ORIENTATION = 0x0112
_RESIZABLE = ("RGB", "RGBA", "L", "LA", "CMYK", "YCbCr")
_WHITES = {"I": (255, 65_535), "F": (1, 255, 65_535)}
"""Brightest value by mode: the first that no pixel exceeds, else the brightest pixel's."""


def thumbnail(encoded: bytes, side: int = SIDE) -> bytes:
    """Return a JPEG of at most ``side`` x ``side`` pixels, on white where the picture is transparent.

    Raises:
        InvalidInput: it can't be decoded, or is too large.
    """
    image, most = open_image(encoded), Limits().image_pixels
    if image.width * image.height > most:
        raise InvalidInput(
            f"the image has {image.width} x {image.height} pixels, at most {most:,} are taken: send a smaller one"
        )
    try:
        return _encoded(_small(image, side))
    except Exception as problem:  # decoders raise anything
        raise InvalidInput(f"the {image.format} image can't be decoded ({problem}): is the file whole?") from problem


def _small(image: Image.Image, side: int) -> Image.Image:
    image.draft("RGB", (2 * side, 2 * side))
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
    """Return greys of 16 bits and more, or floats, in 8 bits."""
    values = np.nan_to_num(np.asarray(image, np.float32), nan=0, posinf=0, neginf=0)
    top = float(values.max(initial=0))
    white = 65_535 if image.mode.startswith("I;16") else next((one for one in _WHITES[image.mode] if top <= one), top)
    return Image.fromarray((255 * (values / white).clip(0, 1)).round().astype(np.uint8))


def _opaque(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    picture = image.convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture).convert("RGB")
