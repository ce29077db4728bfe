"""Generated pictures and texts, for an export without a folder of pictures."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SOURCE = "generated pictures and texts"
"""Their name in the report."""

_PICTURES = 32
_SUBJECTS = ("a red square", "two green leaves", "a dog on a beach", "an empty street at night", "snow", "a birthday cake")
_FRAMES = ("{}", "a photo of {}", "a blurry picture of {} next to a window", "{}, {}, and once more {}", "no {} at all!")


def pixels(size: int) -> npt.NDArray[np.uint8]:
    """Draw seeded pictures of smooth colour fields with blocks and noise on them: uint8 [N, S, S, 3]."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[0:size, 0:size] / size
    pictures = []
    for _ in range(_PICTURES):
        waves = [np.sin(random.uniform(1, 20, 3) * axis[..., None] + random.uniform(0, 6, 3)) for axis in (x, y)]
        picture = 128 + 50 * (waves[0] + waves[1]) + random.normal(0, random.uniform(0, 30), (size, size, 3))
        top, left = random.integers(0, size, 2)
        picture[top : top + size // 3, left : left + size // 3] = random.integers(0, 256, 3)
        pictures.append(picture.clip(0, 255).astype(np.uint8))
    return np.stack(pictures)


def texts() -> list[str]:
    """Return an empty text, and subjects in frames of several lengths."""
    return ["", *(frame.replace("{}", subject) for frame in _FRAMES for subject in _SUBJECTS)]
