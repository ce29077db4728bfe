"""Encoded image -> pixels, exactly as Hugging Face's Pillow-based processors do it.

The reference is ``transformers.image_utils.load_image`` followed by ``CLIPImageProcessorPil``: EXIF orientation, RGB,
resize on uint8, centre crop. The result stays uint8; normalisation is the exported graph's.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from clip_client import camera_files, naflex
from clip_client.errors import ContractMismatch, InvalidInput
from clip_client.spec import ModelSpec, Transparency

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
"""Formats that Pillow may open; its others (PostScript, say) are closed to uploads."""

Preprocessing = Literal["exact", "fast"]
PREPROCESSING: tuple[Preprocessing, ...] = get_args(Preprocessing)


@dataclass(frozen=True)
class Limits:
    """Bounds on one image, checked before it is decoded."""

    image_bytes: int = 32 * 2**20  # most bytes of an encoded file
    image_pixels: int = 100_000_000  # most pixels of the picture, and of its resized form before the crop

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, str]) -> Limits:
        """Read them from the parameters of ``clip_image_preprocess``; raise ContractMismatch if they aren't there."""
        try:
            return cls(**{field.name: int(parameters[field.name]) for field in fields(cls)})
        except (KeyError, ValueError) as problem:
            raise ContractMismatch(
                f"the image models lack a limit, or it is no number ({problem}): export the checkpoint again"
            ) from problem

    def check_bytes(self, size: int) -> None:
        """Raise InvalidInput for a file of that many bytes if it is too large."""
        if size > self.image_bytes:
            raise InvalidInput(f"the image has {size:,} bytes, at most {self.image_bytes:,} are taken: send a smaller one")


def preprocess(
    encoded: bytes, spec: ModelSpec, limits: Limits = Limits(), preprocessing: Preprocessing = "exact"
) -> npt.NDArray[np.uint8]:
    """Turn one encoded file (JPEG, PNG, WebP, GIF, APNG, BMP, TIFF, AVIF; first frame) into pixels.

    Args:
        encoded: the whole file.
        spec: of the checkpoint.
        limits: checked before the picture is decoded.
        preprocessing: ``exact`` gives the pixels of the checkpoint's own processor, to the bit. ``fast`` decodes JPEG at a
            fraction of its size, as long as that isn't below the resized one, and resizes only what the crop keeps; the same
            as ``exact`` where pictures become patches.

    Returns:
        uint8 [S, S, 3], RGB, 0..255.

    Raises:
        InvalidInput: empty, too large, truncated, or not a picture.
    """
    image = _opened(encoded, spec, limits)
    if preprocessing == "exact" or spec.resize_mode == "patches":
        return to_pixels(to_rgb(image, spec.transparency), spec)
    image.draft("RGB", resized_size(image.size, spec))
    return _to_pixels_fast(to_rgb(image, spec.transparency), spec)


def to_rgb(image: Image.Image, transparency: Transparency = "white") -> Image.Image:
    """Load a picture and turn it upright, in RGB; it may be changed in place.

    Args:
        image: opened, not loaded yet.
        transparency: see ModelSpec.

    Raises:
        InvalidInput: its data can't be decoded.
    """
    try:
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        rgb = image if image.mode == "RGB" else image.convert("RGB")
        return rgb if transparency == "ignored" else _on_white(rgb)
    except Exception as problem:  # hostile files make decoders raise anything; their neighbours go on
        kind = f"{image.format} image" if image.format else "image"
        raise InvalidInput(f"the {kind} can't be decoded ({problem}): is the file whole?") from problem


def resize(image: Image.Image, spec: ModelSpec) -> Image.Image:
    """Resize an RGB picture as the checkpoint wants it; once resized, it stays as it is."""
    return image.resize(resized_size(image.size, spec), _resampling(spec))


def to_pixels(image: Image.Image, spec: ModelSpec) -> npt.NDArray[np.uint8]:
    """Resize and centre-crop an RGB picture to uint8 [S, S, 3], or pack its patches into it."""
    resized = resize(image, spec)
    if spec.resize_mode == "patches":
        return naflex.packed(np.asarray(resized), spec)
    left, top = _corner(resized.width, spec), _corner(resized.height, spec)
    # A crop that reaches beyond the picture is filled with black, as the references do.
    return np.asarray(resized.crop((left, top, left + spec.image_size, top + spec.image_size)))


def _to_pixels_fast(image: Image.Image, spec: ModelSpec) -> npt.NDArray[np.uint8]:
    """Resize and crop in one step, a few units off :func:`to_pixels`: the margin around the crop isn't resized."""
    width, height = resized_size(image.size, spec)
    left, top = _corner(width, spec), _corner(height, spec)
    if min(left, top) < 0:
        return to_pixels(image, spec)
    right, bottom = left + spec.image_size, top + spec.image_size
    across, down = image.width / width, image.height / height
    box = (left * across, top * down, min(right * across, image.width), min(bottom * down, image.height))
    return np.asarray(image.resize((spec.image_size, spec.image_size), _resampling(spec), box))


def _resampling(spec: ModelSpec) -> Image.Resampling:
    return Image.Resampling[spec.interpolation.upper()]


def _corner(edge: int, spec: ModelSpec) -> int:
    """Return the offset of a centred crop; negative where it reaches beyond the picture.

    ``center_crop`` of transformers rounds down, torchvision's half to even, open_clip's padding up.
    """
    excess = edge - spec.image_size
    if spec.resize_mode == "longest_edge":
        return -(-excess // 2)
    return round(excess / 2) if spec.resize_mode == "shortest_edge_torchvision" else excess // 2


def resized_size(size: tuple[int, int], spec: ModelSpec) -> tuple[int, int]:
    """Return (width, height) after the resize.

    The edge that follows the shortest one is rounded down, as by ``get_resize_output_image_size`` of transformers and
    torchvision's ``Resize``; that of a longest one is rounded to the nearest, as open_clip's ``ResizeKeepRatio`` does.
    """
    if spec.resize_mode == "squash":
        return spec.resize_size, spec.resize_size
    if spec.resize_mode == "patches":
        return naflex.fitted(size, spec)
    width, height = size
    if spec.resize_mode == "longest_edge":
        ratio = max(width, height) / spec.resize_size
        return max(1, round(width / ratio)), max(1, round(height / ratio))
    if width <= height:
        return spec.resize_size, int(spec.resize_size * height / width)
    return int(spec.resize_size * width / height), spec.resize_size


def void_pixels(image_size: int) -> npt.NDArray[np.uint8]:
    """Return the pixels that stand for "no picture", uint8 [S, S, 3]; the exported graph gives them an all-zero embedding.

    The first row carries a fixed sequence of bytes that a photo has no chance to hold; the rest is black.
    """
    pixels = np.zeros((image_size, image_size, 3), np.uint8)
    pixels[0] = (np.arange(image_size * 3) * 151 + 89).astype(np.uint8).reshape(image_size, 3)
    return pixels


def _opened(encoded: bytes, spec: ModelSpec, limits: Limits) -> Image.Image:
    """Return a picture whose header was read and is within the limits."""
    if not encoded:
        raise InvalidInput("the image is empty (0 bytes): expected an encoded file such as JPEG or PNG")
    limits.check_bytes(len(encoded))
    image = open_image(encoded)
    check_size(image.size, spec, limits)
    return image


def open_image(encoded: bytes) -> Image.Image:
    """Return a picture of any size whose header was read; raise InvalidInput for anything else, or for another format."""
    try:
        try:
            return Image.open(io.BytesIO(encoded), formats=FORMATS)
        except Image.DecompressionBombError:
            return _beyond_pillows_limit(encoded)
    except UnidentifiedImageError as problem:
        if kind := camera_files.kind_of(encoded):
            raise InvalidInput(
                f"{kind.name} isn't decoded here: send a JPEG; clipserve's own client makes one, with {kind.package}"
            ) from problem
        raise InvalidInput(
            f"not a picture that can be read: {len(encoded):,} bytes that start with {encoded[:8]!r}; "
            "expected JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF"
        ) from problem
    except Exception as problem:  # header parsers raise anything from struct.error to KeyError
        raise InvalidInput(f"the image's header can't be read ({problem}): is the file whole?") from problem


def _beyond_pillows_limit(encoded: bytes) -> Image.Image:
    """Return a picture that is above Pillow's limit, an attribute that a process may set: callers have limits of their own."""
    openers = [Image.OPEN[name] for name in FORMATS if name in Image.OPEN]
    factory = next(factory for factory, accepts in openers if not accepts or accepts(encoded[:16]) is True)
    return factory(io.BytesIO(encoded), "")


def _on_white(image: Image.Image) -> Image.Image:
    """Turn the one colour that a PNG or GIF may declare transparent into white.

    The reference does so since transformers 5; an alpha channel, however, is gone before its processor could look.
    """
    if image.info.get("transparency") is None:
        return image
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def check_size(size: tuple[int, int], spec: ModelSpec, limits: Limits) -> None:
    """Raise InvalidInput for a picture of that (width, height) if it, or its resized form, is too large."""
    width, height = size
    if not width or not height:
        raise InvalidInput(f"the image has {width} x {height} pixels: expected at least one")
    if width * height > limits.image_pixels:
        raise InvalidInput(
            f"the image has {width} x {height} pixels, at most {limits.image_pixels:,} are taken: send a smaller one"
        )
    resized_width, resized_height = resized_size(size, spec)
    if resized_width * resized_height > limits.image_pixels:
        raise InvalidInput(
            f"the image is {width} x {height}: too narrow, resized it would have {resized_width} x {resized_height} "
            f"pixels, at most {limits.image_pixels:,} are taken: crop it"
        )
