"""Host of published models in this process: what Triton makes of a model repository, without a server."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clip_client import engines, model_versions, repository_check
from clip_client.awaited_host import AwaitedHost
from clip_client.blocking import run
from clip_client.concurrency import Threads
from clip_client.error_tensor import error_tensor
from clip_client.errors import InvalidInput, Unavailable
from clip_client.local_tower import Hardware, LocalTower
from clip_client.model_repository import encoder, models
from clip_client.origins import origin_tensor
from clip_client.served_model import served_model
from clip_client.spec import CHECKSUMS, EMBEDDING, ERROR, ORIGIN, PIXELS, PREPARED_CHECKSUMS, TOKENS, TOWERS, ensemble

_PREPARED = {"image": PIXELS, "text": TOKENS}


class LocalHost:
    """The six models of one name; safe to use from several threads, not from a process that was forked.

    Configurations and specs are read at once, tokenizer and weights when a tower is first used. Open files stay what they are
    when the repository is exchanged.

    Raises:
        InvalidInput: no such repository or name, half of one, no such device, or a variant that no engine here runs.
        ContractMismatch: the models are of another version, or of several checkpoints, or a file is damaged.
        Unavailable: an engine isn't installed, or an export is at work.
    """

    outages = 0  # none: nobody restarts the models behind this client's back

    def __init__(self, repository: Path, name: str, hardware: Hardware) -> None:
        self.address = str(repository)
        self._process = os.getpid()
        folder = repository.absolute()  # files are opened later, and the current folder may be another by then
        published = repository_check.configs(folder, name)
        version = model_versions.target(published[ensemble(name, "text")], name)  # the one that serves now
        own = published if version == name else repository_check.configs(folder, version)
        of_version = {tower: models(version, tower) for tower in TOWERS}
        self._configs = {
            model: _without_checksums(own[real])
            for tower in TOWERS
            for model, real in zip(models(name, tower), of_version[tower], strict=True)
        }
        for tower in TOWERS:
            self._check_engine(encoder(name, tower), hardware)
        model = dataclasses.replace(run(served_model(AwaitedHost(self, Threads()), name)), name=version)
        self._origin = model.spec.origin
        self._towers = {tower: LocalTower(folder, model, tower, hardware) for tower in TOWERS}
        self._towers_of_models = {model: tower for tower in TOWERS for model in models(name, tower)}

    def config(self, model: str) -> Any:
        """Return a model's configuration as it was when the repository was opened."""
        self._check_process()
        return self._configs[model]

    def server(self) -> tuple[str, str, Sequence[str]]:
        """Return this package's name and version."""
        self._check_process()
        return "clipserve in this process", metadata.version("clipserve"), ()

    def not_ready(self, models: Sequence[str], *, timeout_s: float) -> str:
        """Open the encoders of models; return an empty string, for they are ready then."""
        self._check_process()
        for model in models:
            self._towers[self._towers_of_models[model]].open()
        return ""

    def infer(
        self, model: str, rows: Sequence[bytes] | npt.NDArray[np.uint8], name: str, outputs: Sequence[str]
    ) -> list[npt.NDArray[Any]]:
        """Run an ensemble, or its preparer where no embedding is among the outputs, on N byte strings; return the outputs."""
        self._check_process()
        tower = self._towers_of_models[model]
        prepared, errors = self._towers[tower].prepare([*rows])
        tensors: dict[str, npt.NDArray[Any]] = {_PREPARED[tower]: prepared, ERROR: error_tensor(errors)}
        tensors[ORIGIN] = origin_tensor(self._origin, len(rows))
        if EMBEDDING in outputs:
            tensors[EMBEDDING] = self._towers[tower].encode(prepared)
        return [tensors[output] for output in outputs]

    def close(self) -> None:
        """Give back memory and threads; in a process that was forked they aren't there."""
        if os.getpid() == self._process:
            for tower in self._towers.values():
                tower.close()

    def _check_engine(self, model: str, hardware: Hardware) -> None:
        try:
            engines.check(self._configs[model].backend, hardware.device)
        except InvalidInput as problem:
            raise InvalidInput(f"{model} can't be run: {problem}") from problem

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise Unavailable(
                f"{self.address} was opened in process {self._process}, from which this one was forked without the "
                "engines' threads: open it in the new processes alone, or start them with 'spawn'"
            )


def _without_checksums(config: Any) -> Any:
    """Take the checksums out of a configuration's outputs: in this process nothing lies between a model and its caller."""
    kept = [output for output in config.output if output.name not in (CHECKSUMS, PREPARED_CHECKSUMS)]
    del config.output[:]
    config.output.extend(kept)
    return config
