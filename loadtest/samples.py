"""Samples that users send: pictures of photo size, damaged files, texts."""

import io
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from clip_client.errors import InvalidInput
from lib.samples import DRAWINGS, PHOTO_SIZES, WORDS

SIZES = (*PHOTO_SIZES, (1024, 768))
FORMATS = ("JPEG", "JPEG", "JPEG", "PNG", "WEBP")
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
DRAWN, READ, TEXTS = 48, 256, 48


@dataclass(frozen=True)
class Samples:
    """Encoded pictures, damaged encoded pictures, and texts; each of them different."""

    images: tuple[bytes, ...]
    corrupt: tuple[bytes, ...]
    texts: tuple[str, ...]


def samples(photos: Path | None) -> Samples:
    """Return pictures of a folder (InvalidInput if it has none), or the bundled drawings at photo sizes; seeded."""
    images = tuple(_read(photos) if photos else _drawn())
    draw = random.Random(0)
    return Samples(images, tuple(_corrupt(images)), tuple(fresh_text(draw) for _ in range(TEXTS)))


def fresh_text(draw: random.Random) -> str:
    """Return a text of one to twelve words that hasn't been sent before."""
    words = draw.choices(WORDS, k=draw.randint(1, 11))
    return " ".join([*words, str(draw.randrange(10**6))])


def _read(folder: Path) -> Iterable[bytes]:
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise InvalidInput(f"no {', '.join(sorted(SUFFIXES))} files in {folder}: pass another --photos")
    return (path.read_bytes() for path in random.Random(0).sample(files, min(READ, len(files))))


def _drawn() -> Iterable[bytes]:
    draw, drawings = np.random.default_rng(0), sorted(DRAWINGS.glob("*.webp"))
    for n, chosen in enumerate(draw.choice(len(drawings), DRAWN, replace=False)):
        yield _photo(drawings[chosen], SIZES[n % len(SIZES)], FORMATS[n % len(FORMATS)], draw)


def _photo(drawing: Path, size: tuple[int, int], kind: str, draw: np.random.Generator) -> bytes:
    """Return a drawing at the size of a photo, with grain, so that its file is about as slow to decode."""
    scaled = np.asarray(Image.open(drawing).convert("RGB").resize(size, Image.Resampling.BICUBIC), np.int16)
    grain = draw.integers(-12, 13, scaled.shape, np.int16)
    file = io.BytesIO()
    Image.fromarray(np.clip(scaled + grain, 0, 255).astype(np.uint8)).save(file, kind, quality=88)
    return file.getvalue()


def _corrupt(images: tuple[bytes, ...]) -> Iterable[bytes]:
    """Yield failed uploads: half a file, an error page, noise."""
    for image in images[:8]:
        yield image[: len(image) // 2]
    yield b"<!doctype html><title>404 Not Found</title>"
    yield random.Random(0).randbytes(50_000)
