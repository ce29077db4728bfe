"""The pictures and texts that variants are judged on, and those that int8 is calibrated with."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clip_client.errors import InvalidInput
from clip_client.file_names import as_id
from clip_client.preprocess import Limits, Preprocessing, preprocess
from clip_client.regular_files import read_regular
from clip_client.spec import ModelSpec, Tower
from clip_client.tokens import Tokenizer
from clip_export import labelled
from clip_export.labelled import Picture

PROMPT = "a photo of a {}"
"""What a class is asked for with, as in CLIP's own zero-shot evaluation."""

_CALIBRATION_ITEMS = 256
_LEAST_CALIBRATION = 16
_GENERATED = 32
_SUBJECTS = ("a red square", "two green leaves", "a dog on a beach", "an empty street at night", "snow", "a birthday cake")
_FRAMES = ("{}", "a photo of {}", "a blurry picture of {} next to a window", "{}, {}, and once more {}", "no {} at all!")


@dataclass(frozen=True)
class Evaluation:
    """Encoder inputs to compare variants on.

    Attributes:
        source: where they came from, for the report.
        pixels: uint8 [N, S, S, 3], exactly as the checkpoint's own processor makes them.
        served_pixels: the same pictures as the server will prepare them.
        tokens: int32 [M, L], padded to the length that the longest text needs.
        owners: int64 [M], the picture that each text describes; empty where there are no captions.
        labels: int64 [N], the text that names each picture's class; empty where there are no classes.
        skipped: files and captions that couldn't be read, with the reason.
    """

    source: str
    pixels: npt.NDArray[np.uint8]
    served_pixels: npt.NDArray[np.uint8]
    tokens: npt.NDArray[np.int32]
    owners: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    skipped: tuple[str, ...] = ()

    def inputs(self, tower: Tower) -> npt.NDArray[Any]:
        """What a tower's encoder takes."""
        return self.pixels if tower == "image" else self.tokens

    def digest(self, tower: Tower) -> str:
        """Changes when any input of a tower changes."""
        return hashlib.sha256(self.inputs(tower).tobytes()).hexdigest()


@dataclass(frozen=True)
class Calibration:
    """Encoder inputs that show int8 the ranges of activations.

    Attributes:
        source: where they came from, for the report.
        pixels: uint8 [K, S, S, 3].
        tokens: int32 [1, L] each, of the length that a server would give it.
    """

    source: str
    pixels: npt.NDArray[np.uint8]
    tokens: tuple[npt.NDArray[np.int32], ...]

    def items(self, tower: Tower) -> list[npt.NDArray[Any]]:
        """Inputs of one item each."""
        return [self.pixels[n : n + 1] for n in range(len(self.pixels))] if tower == "image" else list(self.tokens)

    def digest(self, tower: Tower) -> str:
        """Changes when any input of a tower changes."""
        return hashlib.sha256(b"".join(item.tobytes() for item in self.items(tower))).hexdigest()


class Inputs:
    """Pictures and texts -> encoder inputs of one checkpoint."""

    def __init__(self, spec: ModelSpec, tokenizer_json: str, preprocessing: Preprocessing = "exact") -> None:
        self._spec = spec
        self._preprocessing = preprocessing
        self._tokenizer = Tokenizer(tokenizer_json, spec)

    def evaluation(self, pictures: Sequence[Picture], source: str) -> Evaluation:
        """Read pictures with their captions or classes; generate both where there are no pictures.

        Raises:
            InvalidInput: none of the pictures can be read.
        """
        if not source:
            pixels, none = _generated_pixels(self._spec.image_size), np.empty(0, np.int64)
            return Evaluation("generated pictures and texts", pixels, pixels, self._tokens(_generated_texts()), none, none)
        pixels, good, skipped = self._read(pictures, f"the evaluation folder {source}")
        owners = np.array([n for n, one in enumerate(good) for _ in one.captions], np.int64)
        classes = sorted({one.label for one in good if one.label})
        labels = np.array([classes.index(one.label) for one in good if one.label], np.int64)
        texts = [text for one in good for text in one.captions] or [PROMPT.format(name) for name in classes]
        tokens = self._tokens(texts or _generated_texts())
        return Evaluation(source, pixels, self._served(good, pixels), tokens, owners, labels, skipped)

    def calibration(self, pictures: Sequence[Picture], source: str) -> Calibration:
        """Read up to 256 pictures and as many of their texts; generate what there isn't.

        Raises:
            InvalidInput: fewer than 16 of the pictures can be read.
        """
        if not source:
            return self._calibration("generated pictures and texts", _generated_pixels(self._spec.image_size), [])
        some = _spread(pictures, _CALIBRATION_ITEMS)
        pixels, good, skipped = self._read(some, f"the calibration folder {source}")
        if len(pixels) < _LEAST_CALIBRATION:
            raise InvalidInput(
                f"the calibration folder {source} has {len(pixels)} pictures that can be read ({len(skipped)} skipped), "
                f"at least {_LEAST_CALIBRATION} are needed, a hundred are better: add some, or leave --calibration out"
            )
        texts = [text for one in good for text in one.captions] or sorted(
            {PROMPT.format(one.label) for one in good if one.label}
        )
        return self._calibration(source, pixels, texts)

    def _calibration(self, source: str, pixels: npt.NDArray[np.uint8], texts: Sequence[str]) -> Calibration:
        used = _spread(texts, _CALIBRATION_ITEMS) if len(texts) >= _LEAST_CALIBRATION else [*texts, *_generated_texts()]
        return Calibration(source, pixels, tuple(self._tokens([text]) for text in used))

    def _tokens(self, texts: Sequence[str]) -> npt.NDArray[np.int32]:
        return self._tokenizer([text.encode() for text in texts])[0]

    def _served(self, pictures: Sequence[Picture], pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Readable pictures as the server will prepare them; ``pixels`` are the exact ones."""
        if self._preprocessing == "exact":
            return pixels
        prepared = [preprocess(_content(one.file), self._spec, preprocessing=self._preprocessing) for one in pictures]
        return np.stack(prepared)

    def _read(self, pictures: Sequence[Picture], what: str) -> tuple[npt.NDArray[np.uint8], list[Picture], tuple[str, ...]]:
        """(pixels, the pictures that could be read, the others with the reason)."""
        pixels, good, skipped = [], [], list[str]()
        for one in pictures:
            skipped += one.problems
            try:
                pixels.append(preprocess(_content(one.file), self._spec))
                good.append(one)
            except InvalidInput as problem:
                skipped.append(f"{as_id(one.file.name)}: {problem}")
        if not pixels:
            reason = f", the first: {skipped[0]}" if skipped else ""
            raise InvalidInput(f"{what} has no picture that can be read ({len(skipped)} skipped{reason})")
        return np.stack(pixels), good, tuple(skipped)


def load(folder: Path | None, calibration: Path | None, bundled: Path | None, inputs: Inputs) -> tuple[Evaluation, Calibration]:
    """Read ``--eval`` and ``--calibration``.

    Without a folder to calibrate with, the training part of the evaluation's is taken, else the bundled pictures.

    Raises:
        InvalidInput: no such folder, too few pictures that can be read, captions that name missing files.
    """
    pictures = labelled.read(folder) if folder else []
    judged, training = labelled.split(pictures, folder) if folder else ([], [])
    if calibration:
        calibrated = inputs.calibration(labelled.read(calibration), str(calibration))
    elif training:
        calibrated = inputs.calibration(training, f"the training part of {folder}")
    elif bundled:
        calibrated = inputs.calibration(labelled.read(bundled), "the bundled pictures")
    else:
        calibrated = inputs.calibration([], "")
    return inputs.evaluation(judged, str(folder) if folder else ""), calibrated


def _content(file: Path) -> bytes:
    return read_regular(file, Limits().image_bytes)[0]


def _spread(items: Sequence[Any], count: int) -> list[Any]:
    """At most ``count`` items, evenly from the whole sequence."""
    positions = np.linspace(0, len(items) - 1, min(count, len(items))).astype(int)
    return [items[position] for position in positions]


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
