"""Seeded pictures, good and bad, in every format that is taken."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache
from typing import Any

import numpy as np
from PIL import Image


def picture(width: int = 500, height: int = 375, seed: int = 0) -> Image.Image:
    """Smooth colours, hard edges and some noise, in RGB."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = np.sin(x[..., None] * random.uniform(0.005, 0.1, 3)) + np.sin(y[..., None] * random.uniform(0.005, 0.1, 3))
    array = 128 + 55 * waves + random.normal(0, 12, (height, width, 3))
    array[height // 4 : height // 2, width // 3 : width // 2] = random.integers(0, 256, 3)
    return Image.fromarray(array.clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, format: str = "JPEG", **options: Any) -> bytes:
    """The bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def jpegs(count: int) -> list[bytes]:
    """Different JPEGs of different sizes."""
    return [_jpeg(n) for n in range(count)]


@cache
def _jpeg(n: int) -> bytes:
    return encoded(picture(320 + 31 * (n % 7), 240 + 53 * (n % 5), seed=n), quality=80 + n % 16)


def rotated(orientation: int) -> bytes:
    """A JPEG whose EXIF says how to turn it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(picture(300, 200), exif=exif)


@cache
def awkward() -> dict[str, bytes]:
    """Files that are pictures all the same, by what is awkward about them."""
    base = picture(300, 260)
    frames = [picture(120, 90, seed=n) for n in range(3)]
    wide16 = Image.fromarray(np.asarray(base.convert("L")).astype(np.uint16) * 257)
    return {
        "progressive jpeg": encoded(base, progressive=True),
        "grey jpeg": encoded(base.convert("L")),
        "cmyk jpeg": encoded(base.convert("CMYK")),
        "exif turned": rotated(6),
        "exif mirrored": rotated(5),
        "png": encoded(base, "PNG"),
        "rgba png": encoded(base.convert("RGBA").rotate(20, expand=True), "PNG"),
        "la png": encoded(base.convert("LA"), "PNG"),
        "palette png": encoded(base.quantize(32), "PNG"),
        "palette png with transparency": encoded(base.quantize(32), "PNG", transparency=3),
        "rgb png with a transparent colour": encoded(base, "PNG", transparency=base.getpixel((9, 9))),
        "grey png with a transparent colour": encoded(base.convert("L"), "PNG", transparency=128),
        "gif with transparency": encoded(base.quantize(32), "GIF", transparency=3),
        "1 bit png": encoded(base.convert("1"), "PNG"),
        "16 bit png": encoded(wide16, "PNG"),
        "16 bit tiff": encoded(wide16, "TIFF"),
        "webp": encoded(base, "WEBP"),
        "avif": encoded(base, "AVIF"),
        "avif with alpha": encoded(base.convert("RGBA").rotate(20, expand=True), "AVIF"),
        "animated avif": encoded(frames[0], "AVIF", save_all=True, append_images=frames[1:]),
        "lossless webp with alpha": encoded(base.convert("RGBA"), "WEBP", lossless=True),
        "gif": encoded(base, "GIF"),
        "animated gif": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "animated png": encoded(frames[0], "PNG", save_all=True, append_images=frames[1:]),
        "animated webp": encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:]),
        "mpo": encoded(frames[0], "MPO", save_all=True, append_images=frames[1:]),
        "bmp": encoded(base, "BMP"),
        "tiff": encoded(base, "TIFF", compression="tiff_lzw"),
        "cmyk tiff": encoded(base.convert("CMYK"), "TIFF"),
        "smaller than the crop": encoded(picture(20, 31), "PNG"),
        "one pixel": encoded(picture(1, 1), "PNG"),
        "1 x n": encoded(picture(1, 500), "PNG"),
        "n x 1": encoded(picture(500, 1), "PNG"),
        "20,000 px wide": encoded(picture(20_000, 40), "PNG"),
        "odd sides": encoded(picture(333, 251)),
        "square": encoded(picture(224, 224), "PNG"),
        "black": encoded(Image.new("RGB", (64, 64)), "PNG"),
    }


def bomb(side: int = 15_000) -> bytes:
    """A PNG of a few hundred kilobytes that claims side x side pixels."""
    return _png(side, side, zlib.compress(b"\0" * 1000))


@cache
def hostile() -> dict[str, tuple[bytes, str]]:
    """Files that must be refused, by what is wrong, each with a part of the message."""
    jpeg = encoded(picture())
    return {
        "empty": (b"", "empty"),
        "truncated": (jpeg[: len(jpeg) // 2], "truncated"),
        "header only": (jpeg[:300], "header can't be read|truncated"),
        "text": (b"hello, this is no picture", "not a picture that can be read"),
        "html": (b"<!doctype html><title>404</title>", "not a picture that can be read"),
        "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture that can be read"),
        "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not a picture that can be read"),
        "bomb": (bomb(), "too large|15000 x 15000 pixels"),
        "resized bomb": (encoded(Image.new("L", (1, 60_000)), "PNG"), "too narrow"),
        "50 MB": (jpeg + b"\0" * 50_000_000, "at most 33,554,432"),
        "broken png": (_png(100, 100, b"not zlib"), "can't be decoded"),
    }


def _png(width: int, height: int, body: bytes) -> bytes:
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", body), (b"IEND", b"")]
    parts = [struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
