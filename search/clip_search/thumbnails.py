"""Small copies of pictures."""

from __future__ import annotations

import io

from PIL import Image

from clip_client.errors import InvalidInput
from clip_client.preprocess import FORMATS, Limits, to_rgb

SIDE = 320
"""Longest edge, in pixels."""


def thumbnail(encoded: bytes, side: int = SIDE) -> bytes:
    """A JPEG of at most ``side`` x ``side`` pixels, on white where the picture is transparent.

    Raises:
        InvalidInput: it can't be decoded, or is too large.
    """
    try:
        image = Image.open(io.BytesIO(encoded), formats=FORMATS)
        if image.width * image.height > Limits().image_pixels:
            raise InvalidInput(f"the image has {image.width} x {image.height} pixels: send a smaller one")
        image.draft("RGB", (2 * side, 2 * side))
        image.thumbnail((side, side))
    except InvalidInput:
        raise
    except Exception as problem:  # decoders raise anything
        raise InvalidInput(f"the image can't be decoded ({problem}): is the file whole?") from problem
    small = io.BytesIO()
    _opaque(image).save(small, "JPEG", quality=82)
    return small.getvalue()


def _opaque(image: Image.Image) -> Image.Image:
    if "A" not in image.mode and "transparency" not in image.info:
        return to_rgb(image)
    picture = image.convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture).convert("RGB")
