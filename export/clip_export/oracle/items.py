"""Pictures and texts for the comparison with a checkpoint's own library."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from PIL import Image

from clip_client.errors import InvalidInput
from clip_client.preprocess import preprocess
from clip_client.spec import ModelSpec
from clip_client.tokens import Tokenizer
from clip_export.evaluation import labelled_pictures

_FROM_EVALUATION = 16
_ORIENTATION = 0x0112  # EXIF tag
_TEXTS = {
    "an empty text": "",
    "one word": "cat",
    "capitals": "A Photo Of TWO CATS, LOUD AND CLEAR",
    "accents": "naïve Ångström café, cafe\u0301, ﬁne",
    "emoji": "🎂 with 👩‍👩‍👧 and 🇫🇷",
    "Chinese and Japanese": "一只猫的照片，杰尼龟。日本語のテキスト",
    "punctuation": 'it\'s (a) "quoted", hyphen-ated <b>text</b> / path_name & more: 3.5%!',
    "white space": "  two\tcats \n on   a wire ",
    "a text far beyond the context": "ten cats on a wire, " * 200,
}


@dataclass(frozen=True)
class Items:
    """Compared pictures and texts, by names for people."""

    pictures: Mapping[str, bytes]
    texts: Mapping[str, str]

    def digest(self) -> str:
        """Return the digest of all items."""
        parts = [*self.pictures.values(), *(text.encode() for text in self.texts.values())]
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def collect(folder: Path | None, spec: ModelSpec, tokenizer_json: str) -> Items:
    """Gather the awkward items and some of the evaluation's."""
    pictures, texts = _evaluation(folder, spec) if folder else ({}, {})
    ours = Tokenizer(tokenizer_json, spec)
    if not ours.takes_texts:
        return Items({**pictures, **awkward_pictures()}, {})
    added = tokenizers.Tokenizer.from_str(tokenizer_json).get_added_tokens_decoder().values()
    special = {f"the added token {token.content}": f"a {token.content} cat" for token in [*added][:2]}
    return Items({**pictures, **awkward_pictures()}, {**texts, **_TEXTS, **_around_context(ours, spec), **special})


def awkward_pictures() -> dict[str, bytes]:
    """Draw seeded pictures: each mode that can be stored, each orientation, odd sides, one pixel wide and high."""
    base = _picture(97, 71)
    grey16 = Image.fromarray(np.asarray(base.convert("L")).astype(np.uint16) * 257)
    palette = base.quantize(32)
    pictures = {
        "a JPEG": _encoded(_picture(333, 251), "JPEG"),
        "an upright JPEG": _encoded(_picture(240, 361), "JPEG"),
        "a grey PNG": _encoded(base.convert("L"), "PNG"),
        "a grey PNG with alpha": _encoded(base.convert("LA"), "PNG"),
        "a palette PNG": _encoded(palette, "PNG"),
        "a palette PNG with a transparent colour": _encoded(palette, "PNG", transparency=3),
        "an RGB PNG with a transparent colour": _encoded(base, "PNG", transparency=base.getpixel((9, 9))),
        "an RGBA PNG": _encoded(base.convert("RGBA").rotate(20, expand=True), "PNG"),
        "a GIF": _encoded(palette, "GIF", transparency=3),
        "a CMYK JPEG": _encoded(base.convert("CMYK"), "JPEG"),
        "a 16-bit PNG": _encoded(grey16, "PNG"),
        "a 1-bit PNG": _encoded(base.convert("1"), "PNG"),
        "a WebP with alpha": _encoded(base.convert("RGBA").rotate(20, expand=True), "WEBP", lossless=True),
        "a picture of 1 x 40": _encoded(_picture(1, 40), "PNG"),
        "a picture of 40 x 1": _encoded(_picture(40, 1), "PNG"),
        "a picture of one pixel": _encoded(_picture(1, 1), "PNG"),
    }
    return pictures | {f"a JPEG of orientation {n}": _turned(base, n) for n in range(2, 9)}


def _evaluation(folder: Path, spec: ModelSpec) -> tuple[dict[str, bytes], dict[str, str]]:
    """Return readable pictures, evenly from the whole folder, and the first caption of each."""
    every = labelled_pictures.read(folder)
    positions = np.unique(np.linspace(0, len(every) - 1, min(_FROM_EVALUATION, len(every))).astype(int))
    pictures: dict[str, bytes] = {}
    texts: dict[str, str] = {}
    for picture in (every[position] for position in positions):
        if (content := _readable(picture.file, spec)) is not None:
            pictures[picture.file.name] = content
        texts |= {f"the caption {caption[:60]!r}": caption for caption in picture.captions[:1]}
    return pictures, texts


def _readable(file: Path, spec: ModelSpec) -> bytes | None:
    """Read a file; return None where it can't be read, which the evaluation has reported by then."""
    try:
        content = file.read_bytes()
        preprocess(content, spec)
    except (InvalidInput, OSError):
        return None
    return content


def _around_context(ours: Tokenizer, spec: ModelSpec) -> dict[str, str]:
    """Return texts that fill the context exactly, lack one word for that, and have one too many."""
    texts = ["cat " * words for words in range(1, spec.context_length + 1)]
    tokens, _ = ours([text.strip().encode() for text in texts])
    full = int((tokens[1:] == tokens[:-1]).all(axis=1).argmax())  # the first text that another word doesn't change
    names = {-1: "a text that nearly fills the context", 0: "a text that fills the context", 1: "a text one word too long"}
    return {name: texts[full + n].strip() for n, name in names.items() if 0 <= full + n < len(texts)}


def _picture(width: int, height: int) -> Image.Image:
    """Draw smooth colours, an edge and some noise, in RGB."""
    random = np.random.default_rng(width * height)
    y, x = np.mgrid[0:height, 0:width]
    waves = np.sin(x[..., None] * (0.05, 0.11, 0.23)) + np.sin(y[..., None] * (0.31, 0.07, 0.13))
    array = 128 + 50 * waves + random.normal(0, 15, (height, width, 3))
    array[height // 4 : height // 2, width // 3 : width // 2] = (250, 20, 90)
    return Image.fromarray(array.clip(0, 255).astype(np.uint8))


def _turned(image: Image.Image, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    return _encoded(image, "JPEG", exif=exif)


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
