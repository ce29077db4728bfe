"""Check a model repository before Triton reads it; make a view of it with other instances and threads."""

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from clip_client import model_exchange
from clip_client.errors import ClipError, ContractMismatch, InvalidInput, Unavailable
from clip_client.model_repository import CONFIG_FILE, MODEL_FILES, PREPARATION, VERSION, models
from clip_client.spec import SPEC_FILE, TOKENIZER_FILE, TOWERS, ModelSpec, ensemble

_EXPORT = "publish a checkpoint with: clipserve export --model FOLDER"

_EXCHANGE_S = 10  # patience with an export: its exchange takes milliseconds, writing aside beforehand seconds

# Parameter for the number of threads, as the native backends document it.
_THREADS = {"onnxruntime": "intra_op_thread_count", "openvino": "INFERENCE_NUM_THREADS"}


@dataclass(frozen=True)
class Overrides:
    """Changes to the encoders of this run only; None keeps the published value."""

    instances: int | None = None  # copies of each encoder
    threads: int | None = None  # of each of those copies


def check(repository: Path) -> list[str]:
    """Return the names published in a repository, e.g. ``["clip"]``; complete a killed export first.

    Raises:
        InvalidInput: if there is no such folder, nothing is published in it, or a model or a file is missing.
        ContractMismatch: if another version published it, or one name has models of several checkpoints.
    """
    if not repository.is_dir():
        raise InvalidInput(f"no model repository {repository}: {_EXPORT}")
    with _unchanging(repository):
        folders = [path.parent for path in sorted(repository.glob(f"[!.]*/{CONFIG_FILE}"))]
        if bare := [model.name for model in folders if not any((model / VERSION).glob("*"))]:
            raise InvalidInput(f"{repository} has no weights for {', '.join(bare)}: {_EXPORT}")
        files = {model.name: model / VERSION / SPEC_FILE for model in folders}
        specs = {name: _spec(file) for name, file in files.items() if file.is_file()}  # others aren't ours
        if not specs:
            raise InvalidInput(f"{repository} is empty: {_EXPORT}")
        return _complete(repository, specs)


@contextlib.contextmanager
def _unchanging(repository: Path) -> Iterator[None]:
    """Keep exports out, and end what one was killed in."""
    lock = FileLock(model_exchange.lock_file(repository))
    try:
        lock.acquire(timeout=_EXCHANGE_S)
        model_exchange.finish(repository)
    except Timeout as problem:
        raise Unavailable(f"an export is writing into {repository}: start again when it has ended") from problem
    except OSError as problem:  # a repository that is only read, e.g. another user's
        if model_exchange.unfinished(repository):
            raise InvalidInput(f"an export into {repository} was killed in the midst ({problem}): {_EXPORT}") from problem
    try:
        yield
    finally:
        lock.release()


def _complete(repository: Path, specs: Mapping[str, ModelSpec]) -> list[str]:
    """Return the names; refuse one that lacks a model or a file, or mixes checkpoints."""
    names = sorted({spec.name for spec in specs.values()})
    for name in names:
        expected = [model for tower in TOWERS for model in models(name, tower)]
        if missing := [model for model in expected if model not in specs]:
            raise InvalidInput(f"{repository} lacks {', '.join(sorted(missing))}: {_EXPORT}")
        announced = {_announced(repository / ensemble(name, tower)) for tower in TOWERS}
        if {specs[model].fingerprint for model in expected} | announced != {specs[expected[0]].fingerprint}:
            raise ContractMismatch(f"{repository} holds models of different checkpoints under one name, {name}: {_EXPORT}")
    if lost := [file for model in specs for file in _files(repository / model) if not file.is_file()]:
        raise InvalidInput(f"{repository} lacks {', '.join(str(file.relative_to(repository)) for file in lost)}: {_EXPORT}")
    return names


def _announced(model: Path) -> str:
    """Return the fingerprint that an ensemble tells clients."""
    parameters = _config(model).parameters
    return str(json.loads(parameters["fingerprint"].string_value)) if "fingerprint" in parameters else ""


def _files(model: Path) -> list[Path]:
    """Return the files of a model besides its configuration and its spec."""
    config = _config(model)
    files = [config.default_model_filename] if config.default_model_filename else list(MODEL_FILES.get(config.backend, ()))
    return [model / VERSION / file for file in files + [TOKENIZER_FILE] * model.name.endswith(PREPARATION["text"])]


def overridden(repository: Path, overrides: Overrides, folder: Path) -> Path:
    """Make a view of the repository at ``folder``: a link to it, or links to its versions beside changed configurations.

    The repository stays unchanged, and Triton gets a path that is safe in a shell.
    """
    if overrides == Overrides():
        folder.symlink_to(repository.resolve(), target_is_directory=True)
        return folder
    for model in sorted(path.parent for path in repository.glob(f"*/{CONFIG_FILE}")):
        view = folder / model.name
        shutil.copytree(model, view, symlinks=True, ignore=lambda _, names: set(names) - {CONFIG_FILE})
        (view / VERSION).symlink_to((model / VERSION).resolve(), target_is_directory=True)
        changed = _changed(_config(model), overrides)
        (view / CONFIG_FILE).write_text(text_format.MessageToString(changed), encoding="utf-8")
    return folder


def instances(repository: Path) -> int:
    """Return the number of instances of all models; without native backends each is a Python process."""
    configs = [_config(path.parent) for path in repository.glob(f"*/{CONFIG_FILE}")]
    return sum(group.count for config in configs for group in config.instance_group)


def _config(model: Path) -> ModelConfig:
    try:
        return text_format.Parse((model / CONFIG_FILE).read_text(encoding="utf-8"), ModelConfig())
    except (text_format.ParseError, OSError, ValueError) as problem:
        raise ContractMismatch(f"{model / CONFIG_FILE} isn't a model's configuration ({problem}): {_EXPORT}") from problem


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
