"""Encoder inputs: the evaluation that variants are judged on, and the calibration of int8."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clip_client import camera_files
from clip_client.counting import counted
from clip_client.errors import InvalidInput
from clip_client.file_names import as_id
from clip_client.preprocess import Limits, Preprocessing, preprocess
from clip_client.regular_files import read_regular
from clip_client.spec import ModelSpec, Tower
from clip_client.tokens import Tokenizer
from clip_export.evaluation import generated, labelled_pictures
from clip_export.evaluation.labelled_pictures import Picture

PROMPT = "a photo of a {}"
"""Text for a class, as in CLIP's own zero-shot evaluation."""

_CALIBRATION_ITEMS = 256
_LEAST_CALIBRATION = 16


@dataclass(frozen=True)
class Evaluation:
    """Encoder inputs to compare variants on.

    Attributes:
        source: name of their folder, for the report.
        pixels: uint8 [N, S, S, 3], as the checkpoint's own processor makes them.
        served_pixels: the same pictures, as the server will prepare them.
        tokens: int32 [M, L], padded to the length that the longest text needs.
        owners: int64 [M], the picture that each text describes; empty where there are no captions.
        labels: int64 [N], the text that names each picture's class; empty where there are no classes.
        skipped: unreadable files and captions, with the reason.
    """

    source: str
    pixels: npt.NDArray[np.uint8]
    served_pixels: npt.NDArray[np.uint8]
    tokens: npt.NDArray[np.int32]
    owners: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    skipped: tuple[str, ...] = ()

    def inputs(self, tower: Tower) -> npt.NDArray[Any]:
        """Return the inputs of a tower's encoder."""
        return self.pixels if tower == "image" else self.tokens

    def digest(self, tower: Tower) -> str:
        """Return the digest of a tower's inputs."""
        return hashlib.sha256(self.inputs(tower).tobytes()).hexdigest()


@dataclass(frozen=True)
class Calibration:
    """Encoder inputs that show int8 the ranges of activations.

    Attributes:
        source: name of their folder, for the report.
        pixels: uint8 [K, S, S, 3].
        tokens: int32 [1, L] each, of the length that a server would give them.
    """

    source: str
    pixels: npt.NDArray[np.uint8]
    tokens: tuple[npt.NDArray[np.int32], ...]

    def items(self, tower: Tower) -> list[npt.NDArray[Any]]:
        """Return inputs of one item each."""
        return [self.pixels[n : n + 1] for n in range(len(self.pixels))] if tower == "image" else list(self.tokens)

    def digest(self, tower: Tower) -> str:
        """Return the digest of a tower's inputs."""
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
            InvalidInput: if none of the pictures can be read.
        """
        if not source:
            pixels, none = generated.pixels(self._spec.image_size), np.empty(0, np.int64)
            return Evaluation(generated.SOURCE, pixels, pixels, self._tokens(generated.texts()), none, none)
        pixels, good, skipped = self._read(pictures, f"the evaluation folder {source}")
        if not self._tokenizer.takes_texts:
            none, served = np.empty(0, np.int64), self._served(good, pixels)
            return Evaluation(source, pixels, served, self._tokens(generated.texts()), none, none, skipped)
        owners = np.array([n for n, picture in enumerate(good) for _ in picture.captions], np.int64)
        classes = sorted({picture.label for picture in good if picture.label})
        labels = np.array([classes.index(picture.label) for picture in good if picture.label], np.int64)
        texts = [text for picture in good for text in picture.captions] or [PROMPT.format(name) for name in classes]
        tokens = self._tokens(texts or generated.texts())
        return Evaluation(source, pixels, self._served(good, pixels), tokens, owners, labels, skipped)

    def calibration(self, pictures: Sequence[Picture], source: str) -> Calibration:
        """Read up to 256 pictures and as many of their texts; generate those that are missing.

        Raises:
            InvalidInput: if fewer than 16 of the pictures can be read.
        """
        if not source:
            return self._calibration(generated.SOURCE, generated.pixels(self._spec.image_size), [])
        some = _spread(pictures, _CALIBRATION_ITEMS)
        pixels, good, skipped = self._read(some, f"the calibration folder {source}")
        if len(pixels) < _LEAST_CALIBRATION:
            raise InvalidInput(
                f"the calibration folder {source} has {counted(len(pixels), 'picture')} that can be read "
                f"({len(skipped)} skipped), at least {_LEAST_CALIBRATION} are needed, a hundred are better: "
                "add some, or leave --calibration out"
            )
        texts = [text for picture in good for text in picture.captions] or sorted(
            {PROMPT.format(picture.label) for picture in good if picture.label}
        )
        return self._calibration(source, pixels, texts)

    def _calibration(self, source: str, pixels: npt.NDArray[np.uint8], texts: Sequence[str]) -> Calibration:
        used = _spread(texts, _CALIBRATION_ITEMS) if len(texts) >= _LEAST_CALIBRATION else [*texts, *generated.texts()]
        return Calibration(source, pixels, tuple(self._tokens([text]) for text in used))

    def _tokens(self, texts: Sequence[str]) -> npt.NDArray[np.int32]:
        return self._tokenizer([text.encode() for text in texts])[0]

    def _served(self, pictures: Sequence[Picture], pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Prepare readable pictures as the server will; ``pixels`` are the exact ones."""
        if self._preprocessing == "exact":
            return pixels
        files = (content(picture.file) for picture in pictures)
        return np.stack([preprocess(file, self._spec, preprocessing=self._preprocessing) for file in files])

    def _read(self, pictures: Sequence[Picture], source: str) -> tuple[npt.NDArray[np.uint8], list[Picture], tuple[str, ...]]:
        """Return (pixels, the readable pictures, the names of the others with the reason)."""
        pixels, good, skipped = [], [], list[str]()
        for picture in pictures:
            skipped += picture.problems
            try:
                pixels.append(preprocess(content(picture.file), self._spec))
                good.append(picture)
            except InvalidInput as problem:
                skipped.append(f"{as_id(picture.file.name)}: {problem}")
        if not pixels:
            reason = f", the first: {skipped[0]}" if skipped else ""
            raise InvalidInput(f"{source} has no picture that can be read ({len(skipped)} skipped{reason})")
        return np.stack(pixels), good, tuple(skipped)


def load(folder: Path | None, calibration: Path | None, bundled: Path | None, inputs: Inputs) -> tuple[Evaluation, Calibration]:
    """Read ``--eval`` and ``--calibration``.

    Without a calibration folder, int8 is calibrated on the training part of the evaluation's, else on the bundled pictures.

    Raises:
        InvalidInput: if there is no such folder, too few pictures are readable, or captions name missing files.
    """
    judged, training = _split(folder)
    if calibration:
        calibrated = inputs.calibration(labelled_pictures.read(calibration), str(calibration))
    elif training:
        calibrated = inputs.calibration(training, f"the training part of {folder}")
    elif bundled:
        calibrated = inputs.calibration(labelled_pictures.read(bundled), "the bundled pictures")
    else:
        calibrated = inputs.calibration([], "")
    return inputs.evaluation(judged, str(folder) if folder else ""), calibrated


def evaluation(folder: Path, inputs: Inputs) -> Evaluation:
    """Read ``--eval`` for one more checkpoint, without its calibration; raises as :func:`load`."""
    return inputs.evaluation(_split(folder)[0], str(folder))


def _split(folder: Path | None) -> tuple[list[Picture], list[Picture]]:
    """Return the pictures to judge on and those to calibrate with; none without a folder."""
    return labelled_pictures.split(labelled_pictures.read(folder), folder) if folder else ([], [])


def content(file: Path) -> bytes:
    """Read a picture within the limits; a camera's own format becomes JPEG."""
    limits = Limits()
    content = read_regular(file, camera_files.most_bytes(file, limits.image_bytes))[0]
    return camera_files.as_jpeg(content, limits.image_pixels)


def _spread(items: Sequence[Any], count: int) -> list[Any]:
    """Return at most ``count`` items, evenly from the whole sequence."""
    positions = np.linspace(0, len(items) - 1, min(count, len(items))).astype(int)
    return [items[position] for position in positions]
