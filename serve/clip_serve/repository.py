"""The model repository, as the launcher needs to know it before Triton reads it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from clip_client.errors import ClipError, ContractMismatch, InvalidInput
from clip_client.spec import SPEC_FILE, TOWERS, ModelSpec, ensemble

CONFIG_FILE = "config.pbtxt"
_VERSION = "1"
_EXPORT = "publish a checkpoint with: python export/all.py --model FOLDER"

# Where a native backend takes its threads from.
_THREADS = {"onnxruntime": "intra_op_thread_count", "openvino": "INFERENCE_NUM_THREADS"}


@dataclass(frozen=True)
class Overrides:
    """Changes to the encoders of this run only; None leaves what is published.

    Attributes:
        instances: copies of each encoder.
        threads: of each of those copies.
    """

    instances: int | None = None
    threads: int | None = None


def check(repository: Path) -> list[str]:
    """The names published in a repository, e.g. ``["clip"]``.

    Raises:
        InvalidInput: no such folder, nothing published in it, or weights missing.
        ContractMismatch: it was published by another version.
    """
    if not repository.is_dir():
        raise InvalidInput(f"no model repository {repository}: {_EXPORT}")
    specs = [path for path in sorted(repository.glob(f"*/{_VERSION}/{SPEC_FILE}")) if not _hidden(path, repository)]
    models = [path.parent.name for path in sorted(repository.glob(f"*/{CONFIG_FILE}")) if not _hidden(path, repository)]
    if bare := [model for model in models if not any((repository / model / _VERSION).glob("*"))]:
        raise InvalidInput(f"{repository} has no weights for {', '.join(bare)}: {_EXPORT}")
    if not specs:
        raise InvalidInput(f"{repository} is empty: {_EXPORT}")
    spaces = {(spec.name, spec.fingerprint) for spec in map(_spec, specs)}
    names = sorted({name for name, _ in spaces})
    if len(spaces) > len(names):
        raise ContractMismatch(f"{repository} holds models of different checkpoints under one name: {_EXPORT}")
    wanted = {ensemble(name, tower) for name in names for tower in TOWERS}
    if missing := wanted - set(models):
        raise InvalidInput(f"{repository} lacks {', '.join(sorted(missing))}: {_EXPORT}")
    return names


def overridden(repository: Path, overrides: Overrides, folder: Path) -> Path:
    """A view of the repository at ``folder``: a link to it, or links to its versions under other configurations.

    What is published stays as it stands, and Triton gets a path that it can pass through a shell unharmed.
    """
    if overrides == Overrides():
        folder.symlink_to(repository.resolve(), target_is_directory=True)
        return folder
    for model in sorted(path.parent for path in repository.glob(f"*/{CONFIG_FILE}")):
        view = folder / model.name
        shutil.copytree(model, view, symlinks=True, ignore=lambda _, names: set(names) - {CONFIG_FILE})
        (view / _VERSION).symlink_to((model / _VERSION).resolve(), target_is_directory=True)
        changed = _changed(_config(model), overrides)
        (view / CONFIG_FILE).write_text(text_format.MessageToString(changed), encoding="utf-8")
    return folder


def instances(repository: Path) -> int:
    """How many instances of models there are; without native backends each is a Python process of its own."""
    configs = [_config(path.parent) for path in repository.glob(f"*/{CONFIG_FILE}")]
    return sum(group.count for config in configs for group in config.instance_group)


def _config(model: Path) -> ModelConfig:
    return text_format.Parse((model / CONFIG_FILE).read_text(encoding="utf-8"), ModelConfig())


def _changed(config: ModelConfig, overrides: Overrides) -> ModelConfig:
    if config.backend not in _THREADS:
        return config
    if overrides.instances is not None:
        for group in config.instance_group:
            group.count = overrides.instances
    if overrides.threads is not None:
        config.parameters[_THREADS[config.backend]].string_value = str(overrides.threads)
    return config


def _spec(path: Path) -> ModelSpec:
    try:
        return ModelSpec.load(path)
    except ClipError as problem:
        raise ContractMismatch(f"{path.parents[1]} isn't of this version's layout ({problem}): {_EXPORT}") from problem


def _hidden(path: Path, repository: Path) -> bool:
    return path.relative_to(repository).parts[0].startswith(".")
