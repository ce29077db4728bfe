"""Check of a model repository before it is opened: it is whole, of this version's layout, and each name has one checkpoint."""

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from clip_client import model_config, model_exchange, model_versions
from clip_client.errors import ClipError, ContractMismatch, InvalidInput, Unavailable
from clip_client.model_repository import CONFIG_FILE, MODEL_FILES, PUBLISH, models
from clip_client.model_versions import folder_of
from clip_client.spec import SPEC_FILE, TEXT, TOKENIZER_FILE, TOWERS, ModelSpec, ensemble

_EXCHANGE_S = 10  # patience with an export: its exchange takes milliseconds, writing aside beforehand seconds


def check(repository: Path) -> list[str]:
    """Return the names published in a repository, e.g. ``["clip"]``, without those of versions; complete a killed export first.

    Raises:
        InvalidInput: if there is no such folder, nothing is published in it, or a model or a file is missing.
        ContractMismatch: if another version published it, or one name has models of several checkpoints.
    """
    with unchanging(repository):
        folders = _folders(repository)
        _check_weights(repository, folders)
        specs = _specs(folders)
        if not specs:
            raise InvalidInput(f"{repository} is empty: {PUBLISH}")
        names = sorted({model_versions.version_of(model) or spec.name for model, spec in specs.items()})
        for name in names:
            _check_name(repository, name, specs)
        _check_files(repository, specs)
        return [name for name in names if not model_versions.split(name)[1]]


def configs(repository: Path, name: str) -> dict[str, Any]:
    """Return the configurations of the six models of one name, whatever the state of others; raises as :func:`check`."""
    with unchanging(repository):
        own = _models(name)
        folders = _folders(repository)
        of_name = [folder for folder in folders if folder.name in own]
        if not of_name:
            raise InvalidInput(_unknown(repository, name, folders))
        _check_weights(repository, of_name)
        _check_name(repository, name, _specs(of_name))
        _check_files(repository, own)
        return {model: model_config.read(repository / model) for model in own}


def spec(model: Path) -> ModelSpec:
    """Return the spec beside a model's weights; raise ContractMismatch if it can't be read."""
    try:
        return ModelSpec.load(folder_of(model) / SPEC_FILE)
    except (ClipError, OSError, ValueError, TypeError, RecursionError) as problem:
        raise ContractMismatch(f"{model} isn't of this version's layout ({problem}): {PUBLISH}") from problem


@contextlib.contextmanager
def unchanging(repository: Path) -> Iterator[None]:
    """Keep exports out, and end what one was killed in."""
    if not repository.is_dir():
        raise InvalidInput(f"no model repository {repository}: {PUBLISH}")
    lock = FileLock(model_exchange.lock_file(repository))
    try:
        lock.acquire(timeout=_EXCHANGE_S)
        model_exchange.finish(repository)
    except Timeout as problem:
        raise Unavailable(f"an export is writing into {repository}: start again when it has ended") from problem
    except OSError as problem:  # a repository that is only read, e.g. another user's
        if model_exchange.unfinished(repository):
            raise InvalidInput(f"an export into {repository} was killed in the midst ({problem}): {PUBLISH}") from problem
    try:
        yield
    finally:
        lock.release()


def _models(name: str) -> list[str]:
    return [model for tower in TOWERS for model in models(name, tower)]


def _folders(repository: Path) -> list[Path]:
    """Return the folders of models, of others too."""
    return [path.parent for path in sorted(repository.glob(f"[!.]*/{CONFIG_FILE}"))]


def _specs(folders: Iterable[Path]) -> dict[str, ModelSpec]:
    """Return the specs of our models; those of others have none."""
    return {folder.name: spec(folder) for folder in folders if (folder_of(folder) / SPEC_FILE).is_file()}


def _check_weights(repository: Path, folders: Iterable[Path]) -> None:
    if bare := [model.name for model in folders if not any(folder_of(model).glob("*"))]:
        raise InvalidInput(f"{repository} has no weights for {', '.join(bare)}: {PUBLISH}")


def _check_name(repository: Path, name: str, specs: Mapping[str, ModelSpec]) -> None:
    """Refuse a name that lacks a model, or mixes checkpoints."""
    expected = _models(name)
    if missing := [model for model in expected if model not in specs]:
        raise InvalidInput(f"{repository} lacks {', '.join(sorted(missing))}: {PUBLISH}")
    announced = {_announced(model_config.read(repository / ensemble(name, tower))) for tower in TOWERS}
    if {specs[model].fingerprint for model in expected} | announced != {specs[expected[0]].fingerprint}:
        raise ContractMismatch(f"{repository} holds models of different checkpoints under one name, {name}: {PUBLISH}")


def _announced(config: Any) -> str:
    """Return the fingerprint that an ensemble tells clients, a string in JSON."""
    return str(config.parameters["fingerprint"].string_value).strip('"') if "fingerprint" in config.parameters else ""


def _check_files(repository: Path, models: Collection[str]) -> None:
    files = [file for model in models for file in _files(repository / model, model_config.read(repository / model))]
    if lost := [str(file.relative_to(repository)) for file in files if not file.is_file()]:
        raise InvalidInput(f"{repository} lacks {', '.join(lost)}: {PUBLISH}")


def _files(model: Path, config: Any) -> list[Path]:
    """Return the files of a model besides its configuration and its spec."""
    files = [config.default_model_filename] if config.default_model_filename else list(MODEL_FILES.get(config.backend, ()))
    tokenizes = config.platform != "ensemble" and any(sent.name == TEXT for sent in config.input)
    return [folder_of(model) / file for file in files + [TOKENIZER_FILE] * tokenizes]


def _unknown(repository: Path, name: str, folders: Iterable[Path]) -> str:
    suffix = ensemble("", "image")
    names = [folder.name.removesuffix(suffix) for folder in folders if folder.name.endswith(suffix)]
    if not names:
        return f"{repository} is empty: {PUBLISH}"
    return f"{repository} serves no model {ensemble(name, 'image')}: publish it, or pass the name it has: {', '.join(names)}"
