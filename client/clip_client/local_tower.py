"""One tower of a published checkpoint in this process: its preparer and its encoder."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clip_client import engines, model_config, repository_check
from clip_client.cores import cores
from clip_client.errors import ClipError, ContractMismatch, InvalidInput, Unavailable
from clip_client.image_preparer import ImagePreparer
from clip_client.library_errors import one_line
from clip_client.model_repository import MODEL_FILES, PUBLISH, THREADS, VERSION, encoder, preparer
from clip_client.served_model import ServedModel
from clip_client.spec import TOKENIZER_FILE, Tower
from clip_client.tokens import Tokenizer

_LOG = logging.getLogger(__name__)

_MOST_THREADS = 1024  # above the cores of any machine; engines start all that they are asked for

Prepare = Callable[[Sequence[bytes]], tuple[npt.NDArray[Any], list[str]]]
"""N encoded images or texts -> pixels or tokens [N, …], and N errors, empty where good."""


@dataclass(frozen=True)
class Hardware:
    """Share of the machine that the models get.

    Attributes:
        device: of the encoders, as their engine calls it.
        threads: of each encoder, and of the decoders; None for the published number, or all cores.
    """

    device: str = engines.CPU
    threads: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.device, str):
            raise InvalidInput(f"device is {self.device!r}: expected a name, {engines.CPU!r} say")
        if self.threads is not None and not (isinstance(self.threads, int) and 1 <= self.threads <= _MOST_THREADS):
            raise InvalidInput(f"threads is {self.threads!r}: expected a number from 1 to {_MOST_THREADS:,}, or None")


class LocalTower:
    """Preparer and encoder, each opened when it is first needed; safe to use from several threads.

    Args:
        repository: folder of the published models.
        model: the checkpoint, as its configurations had it when they were checked.
        tower: image or text.
        hardware: share of the machine.
    """

    def __init__(self, repository: Path, model: ServedModel, tower: Tower, hardware: Hardware) -> None:
        self._repository, self._model, self._tower, self._hardware = repository, model, tower, hardware
        self._changing, self._loading, self._encoding = threading.Lock(), threading.Lock(), threading.Lock()
        self._closed = False
        self._prepare: Prepare | None = None
        self._encode: engines.Encoder | None = None

    def prepare(self, items: Sequence[bytes]) -> tuple[npt.NDArray[Any], list[str]]:
        """Return pixels or tokens [N, …] of N encoded images or texts, and N errors, empty where good."""
        with self._changing:
            self._check_open()
            if self._prepare is None:
                self._prepare = self._opened_preparer()
            prepare = self._prepare
        try:
            return prepare(items)
        except Exception as problem:
            raise self._failure(preparer(self._model.name, self._tower), problem) from problem

    def encode(self, batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return embeddings float32 [N, D] of pixels or tokens; one batch after the other, as Triton runs them.

        Raises:
            Unavailable: the engine failed.
        """
        encode = self.open()
        try:
            with self._encoding:
                return encode(batch)
        except Exception as problem:  # of an engine: memory that ends, a device that is gone
            raise self._failure(encoder(self._model.name, self._tower), problem) from problem

    def open(self) -> engines.Encoder:
        """Open the encoder unless it is open."""
        with self._loading:
            self._check_open()
            if self._encode is None:
                self._encode = self._opened_encoder()
            return self._encode

    def close(self) -> None:
        """Give back memory and threads; a batch that is under way is encoded first."""
        with self._changing, self._loading:
            self._closed = True
            if isinstance(self._prepare, ImagePreparer):
                self._prepare.close()
            self._prepare = self._encode = None

    def _check_open(self) -> None:
        if self._closed:
            raise self._was_closed()

    def _was_closed(self) -> Unavailable:
        return Unavailable(f"{self._repository} was closed: make a new client")

    def _failure(self, model: str, problem: Exception) -> Unavailable:
        """Return the error of a batch that was lost as a whole; a close takes the decoders away."""
        if self._closed:
            return self._was_closed()
        return Unavailable(f"{model} failed ({one_line(problem)}): send less at once, or open the repository anew")

    def _opened_preparer(self) -> Prepare:
        name = preparer(self._model.name, self._tower)
        model = self._model
        if self._tower == "image":
            threads = self._hardware.threads or cores()
            return ImagePreparer(model.spec, model.limits, model.preprocessing, threads, _LOG.error)
        with self._opening(name):
            tokenizer_json = (self._repository / name / VERSION / TOKENIZER_FILE).read_text(encoding="utf-8")
            return Tokenizer(tokenizer_json, model.spec)

    def _opened_encoder(self) -> engines.Encoder:
        name = encoder(self._model.name, self._tower)
        with self._opening(name):
            config = model_config.read(self._repository / name)
            file = config.default_model_filename or MODEL_FILES.get(config.backend, ("",))[0]
            parameters = {key: parameter.string_value for key, parameter in config.parameters.items()}
            if self._hardware.threads and config.backend in THREADS:
                parameters[THREADS[config.backend]] = str(self._hardware.threads)
            path = self._repository / name / VERSION / file
            return engines.opened(config.backend, path, parameters, self._hardware.device)

    @contextlib.contextmanager
    def _opening(self, name: str) -> Iterator[None]:
        """Refuse what was published since the configurations were checked, and files that can't be read."""
        try:
            yield
        except Exception as problem:
            self._check_unchanged(name)
            if isinstance(problem, ClipError):
                raise
            raise self._unopened(name, one_line(problem)) from problem
        self._check_unchanged(name)

    def _unopened(self, name: str, reason: str) -> ClipError:
        device = self._hardware.device
        if device.upper() == engines.CPU:
            return ContractMismatch(f"{name} can't be opened ({reason}): {PUBLISH}")
        return InvalidInput(f"{name} can't be opened on {device} ({reason}): try device={engines.CPU!r}")

    def _check_unchanged(self, name: str) -> None:
        now, before = repository_check.spec(self._repository / name).fingerprint, self._model.spec.fingerprint
        if now != before:
            raise ContractMismatch(
                f"{self._repository} holds {now} since it was opened, this client began with {before}: make a new client"
            )
