"""Pictures in figures: read small from any form; a bad one has the reason instead."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from clip_client.errors import InvalidInput
from clip_client.images import ImageLike, encoded_file
from clip_client.preprocess import Limits
from clip_client.thumbnails import SIDE, small, thumbnail

_TIMEOUT_S = 30.0  # of fetching a URL


@dataclass(frozen=True)
class Picture:
    """A picture to draw: uint8 [H, W, 3] in RGB, or the reason that there is none."""

    pixels: npt.NDArray[np.uint8] | None
    reason: str = ""


def kept(image: Any) -> Any:
    """Return an image that can be read twice: a file object and what a URL answers become bytes.

    Raises:
        InvalidInput: it can't be read.
        Unavailable, Timeout: a URL's host can't be reached, or is too slow.
    """
    if hasattr(image, "read") or (isinstance(image, str) and image.lower().startswith(("http://", "https://"))):
        return encoded_file(image, Limits(), _TIMEOUT_S)
    return image


def picture(image: Any) -> Picture:
    """Read an image in any form that :meth:`clip_client.Clip.embed_image` takes; None is no picture."""
    if image is None:
        return Picture(None, "no picture")
    return attempt(lambda: image)


def attempt(get: Callable[[], ImageLike]) -> Picture:
    """Call what returns an image, and read it; keep the reason if either fails."""
    try:
        return Picture(np.asarray(_opened(get())))
    except Exception as problem:  # the caller's functions and decoders raise anything
        return Picture(None, str(problem) or type(problem).__name__)


def pictures(images: Iterable[Any]) -> list[Picture]:
    """Read images, each with a reason of its own where it fails."""
    return [picture(image) for image in images]


def _opened(image: ImageLike) -> Image.Image:
    if isinstance(image, Image.Image):
        return small(image.copy(), SIDE)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise InvalidInput(f"the array is {image.dtype} {list(image.shape)}: expected uint8 [H, W, 3] in RGB")
        return small(Image.fromarray(np.ascontiguousarray(image)), SIDE)
    return Image.open(io.BytesIO(thumbnail(encoded_file(image, Limits(), _TIMEOUT_S)))).convert("RGB")
