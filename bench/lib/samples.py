"""Pictures and texts that benches and load tests send; all of them are seeded."""

import random
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]
ARTIFACTS = ROOT / "artifacts" / "bench"
DRAWINGS = ROOT / "examples" / "emoji" / "pictures"
WORDS = (ROOT / "search" / "clip_search" / "tuning_texts.txt").read_text(encoding="utf-8").split()

COLLAGES = "collages"
PHOTO_SIZES = ((640, 480), (640, 425), (480, 640), (500, 375))
PHOTOS = 96


def photos(folder: Path | None) -> list[Path]:
    """Return the JPEG files of a folder (exit if it has none), or collages at the sizes of photos, which are drawn once."""
    if folder is None:
        folder = ARTIFACTS / COLLAGES
        if not folder.exists():
            _draw_collages(folder)
    files = sorted([*folder.glob("*.jpg"), *folder.glob("*.jpeg")])
    if not files:
        raise SystemExit(f"no JPEG files in {folder}: pass another --photos")
    return files


def texts(count: int, seed: int = 0, words: int = 8) -> list[str]:
    """Return texts of a number of words, all different."""
    draw = random.Random(seed)
    return [f"{' '.join(draw.choice(WORDS) for _ in range(words - 1))} {n}" for n in range(count)]


def collage(draw: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Return drawings on coloured noise, about as slow to decode as a photo of that (width, height)."""
    width, height = size
    blocks = draw.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    picture, drawings = Image.fromarray(blocks).resize(size), sorted(DRAWINGS.glob("*.webp"))
    for _ in range(12):
        drawing = Image.open(drawings[draw.integers(len(drawings))]).convert("RGB").resize((160, 160))
        picture.paste(drawing, (int(draw.integers(width - 100)), int(draw.integers(height - 100))))
    return picture


def _draw_collages(folder: Path) -> None:
    draw = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for n in range(PHOTOS):
        collage(draw, PHOTO_SIZES[n % len(PHOTO_SIZES)]).save(folder / f"{n:03}.jpg", quality=90)
