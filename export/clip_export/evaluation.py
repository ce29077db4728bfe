"""The pictures and texts that variants are judged on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from clip_client.errors import InvalidInput
from clip_client.preprocess import preprocess
from clip_client.spec import ModelSpec
from clip_client.tokens import Tokenizer

CAPTIONS_JSON, CAPTIONS_PARQUET = "captions.json", "captions.parquet"
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")

_GENERATED = 32
_SUBJECTS = ("a red square", "two green leaves", "a dog on a beach", "an empty street at night", "snow", "a birthday cake")
_FRAMES = ("{}", "a photo of {}", "a blurry picture of {} next to a window", "{}, {}, and once more {}", "no {} at all!")


@dataclass(frozen=True)
class Evaluation:
    """Encoder inputs to compare variants on.

    Attributes:
        source: where they came from, for the report.
        pixels: uint8 [N, S, S, 3].
        tokens: int32 [M, L], padded to the length that the longest text needs.
        skipped: files that couldn't be read, with the reason.
    """

    source: str
    pixels: npt.NDArray[np.uint8]
    tokens: npt.NDArray[np.int32]
    skipped: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Changes when any input changes."""
        return hashlib.sha256(self.pixels.tobytes() + self.tokens.tobytes()).hexdigest()


def load(folder: Path | None, spec: ModelSpec, tokenizer_json: str) -> Evaluation:
    """Read a folder of pictures, with a file of captions among them if there are any; without a folder, generate both.

    Raises:
        InvalidInput: no such folder, no picture that can be read, captions that name missing files.
    """
    tokenizer = Tokenizer(tokenizer_json, spec)
    if folder is None:
        tokens, _ = tokenizer([text.encode() for text in _generated_texts()])
        return Evaluation("generated pictures and texts", _generated_pixels(spec.image_size), tokens)
    if not folder.is_dir():
        raise InvalidInput(f"no evaluation folder {folder}: expected a folder of pictures")
    captions = _captions(folder)
    files = [folder / name for name in captions] or _pictures(folder)
    pixels, skipped = _read(files, spec)
    texts = [text for texts in captions.values() for text in texts[:1]] or _generated_texts()
    tokens, _ = tokenizer([text.encode() for text in texts])
    return Evaluation(str(folder), pixels, tokens, skipped)


def _captions(folder: Path) -> dict[str, list[str]]:
    """Captions by file name, from either of the two files; empty where there is neither."""
    if (folder / CAPTIONS_PARQUET).exists():
        captions = _from_parquet(folder / CAPTIONS_PARQUET)
    elif (folder / CAPTIONS_JSON).exists():
        captions = _from_json(folder / CAPTIONS_JSON)
    else:
        return {}
    if missing := [name for name in captions if not (folder / name).is_file()]:
        raise InvalidInput(f"the captions in {folder} name {len(missing)} files that aren't there, the first is {missing[0]}")
    return captions


def _from_json(path: Path) -> dict[str, list[str]]:
    """``[{"file": "a.jpg", "captions": ["…"]}]``."""
    try:
        return {row["file"]: _as_list(row["captions"]) for row in json.loads(path.read_text(encoding="utf-8"))}
    except (ValueError, TypeError, KeyError) as problem:
        raise InvalidInput(f'{path}: expected [{{"file": …, "captions": […]}}, …], got {problem!r}') from problem


def _from_parquet(path: Path) -> dict[str, list[str]]:
    """Columns ``file_name`` and ``caption``."""
    try:
        rows = pq.read_table(path, columns=["file_name", "caption"]).to_pylist()
    except (pa.ArrowException, KeyError) as problem:
        raise InvalidInput(f"{path}: expected the columns file_name and caption: {problem}") from problem
    return {row["file_name"]: [row["caption"]] for row in rows}


def _as_list(captions: Any) -> list[str]:
    return [captions] if isinstance(captions, str) else list(captions)


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def _read(files: Sequence[Path], spec: ModelSpec) -> tuple[npt.NDArray[np.uint8], tuple[str, ...]]:
    pixels, skipped = [], []
    for file in files:
        try:
            pixels.append(preprocess(file.read_bytes(), spec))
        except (InvalidInput, OSError) as problem:
            skipped.append(f"{file.name}: {problem}")
    if not pixels:
        reason = f", the first: {skipped[0]}" if skipped else ""
        raise InvalidInput(f"the evaluation folder has no picture that can be read ({len(skipped)} skipped{reason})")
    return np.stack(pixels), tuple(skipped)


def _generated_pixels(size: int) -> npt.NDArray[np.uint8]:
    """Seeded pictures of smooth colour fields with blocks and noise on them: uint8 [N, S, S, 3]."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[0:size, 0:size] / size
    pictures = []
    for _ in range(_GENERATED):
        waves = [np.sin(random.uniform(1, 20, 3) * axis[..., None] + random.uniform(0, 6, 3)) for axis in (x, y)]
        picture = 128 + 50 * (waves[0] + waves[1]) + random.normal(0, random.uniform(0, 30), (size, size, 3))
        top, left = random.integers(0, size, 2)
        picture[top : top + size // 3, left : left + size // 3] = random.integers(0, 256, 3)
        pictures.append(picture.clip(0, 255).astype(np.uint8))
    return np.stack(pictures)


def _generated_texts() -> list[str]:
    return ["", *(frame.replace("{}", subject) for frame in _FRAMES for subject in _SUBJECTS)]
