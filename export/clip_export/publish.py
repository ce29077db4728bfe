"""Artefacts -> model repository, all six models at once or none."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock
from tritonclient.grpc.model_config_pb2 import ModelConfig

from clip_client.errors import InvalidInput
from clip_client.preprocess import Preprocessing
from clip_client.spec import SPEC_FILE, TOKENIZER_FILE, TOWERS, ModelSpec, Tower
from clip_export import triton_config
from clip_export.artifacts import NOT_WEIGHTS, REPORT_FILE, Judged
from clip_export.files import link
from clip_export.variants import VARIANTS

_VERSION = "1"
_MODELS = Path(__file__).parent / "models"
_MODEL_PY = {"image": _MODELS / "image_preprocess.py", "text": _MODELS / "text_tokenize.py"}


def publish(
    chosen: Mapping[Tower, Judged], spec: ModelSpec, tokenizer_json: str, preprocessing: Preprocessing, repository: Path
) -> None:
    """Write the six models of a checkpoint into the repository.

    All files are written aside first, on the same file system; then each model's folder is exchanged by two renames. If one
    of those fails, those before it are undone.

    Raises:
        InvalidInput: the repository can't be written.
    """
    try:
        repository.mkdir(parents=True, exist_ok=True)
        with FileLock(repository.parent / f".{repository.name}.lock"), _staging(repository) as scratch:
            new, old = scratch / "new", scratch / "old"
            new.mkdir()
            old.mkdir()
            for tower in TOWERS:
                _write_tower(chosen[tower], spec, tokenizer_json, preprocessing, new)
            _exchange(new, old, repository)
    except OSError as problem:
        raise InvalidInput(f"{repository} can't be written ({problem}): nothing was published") from problem


@contextmanager
def _staging(repository: Path) -> Iterator[Path]:
    """A folder beside the repository, since Triton takes every folder in it for a model; in it where it is a mount."""
    beside = repository.parent.stat().st_dev == repository.stat().st_dev
    where, prefix = repository.parent if beside else repository, f".{repository.name}-staging-"
    for abandoned in where.glob(f"{prefix}*"):  # by an export that was killed; the lock says that none is at work
        _recover(abandoned, repository)
        shutil.rmtree(abandoned)
    with tempfile.TemporaryDirectory(dir=where, prefix=prefix) as scratch:
        yield Path(scratch)


def _recover(abandoned: Path, repository: Path) -> None:
    """Put back what an exchange had taken out of the repository when it was killed."""
    for model in (abandoned / "old").glob("*"):
        if not (repository / model.name).exists():
            os.rename(model, repository / model.name)


def _write_tower(judged: Judged, spec: ModelSpec, tokenizer_json: str, preprocessing: Preprocessing, root: Path) -> None:
    tower = judged.tower
    _write_model(root, triton_config.ensemble_config(spec, tower), spec)
    preparer = _write_model(root, triton_config.preparer_config(spec, tower, preprocessing), spec)
    shutil.copyfile(_MODEL_PY[tower], preparer / "model.py")
    if tower == "text":
        (preparer / TOKENIZER_FILE).write_text(tokenizer_json, encoding="utf-8")
    encoder = _write_model(root, triton_config.encoder_config(spec, tower, VARIANTS[judged.variant]), spec)
    for file in judged.artefact.folder.iterdir():
        if file.name == REPORT_FILE:
            shutil.copyfile(file, encoder / file.name)
        elif file.name not in NOT_WEIGHTS:  # the artefact's spec may carry another name
            link(file, encoder / file.name)


def _write_model(root: Path, config: ModelConfig, spec: ModelSpec) -> Path:
    """Config and spec of one model; returns its version folder."""
    folder = root / str(config.name) / _VERSION
    folder.mkdir(parents=True)
    (folder.parent / "config.pbtxt").write_text(triton_config.to_text(config), encoding="utf-8")
    spec.save(folder / SPEC_FILE)
    return folder


def _exchange(new: Path, old: Path, repository: Path) -> None:
    done: list[str] = []
    try:
        for name in sorted(path.name for path in new.iterdir()):
            done.append(name)
            if (repository / name).exists():
                os.rename(repository / name, old / name)
            os.rename(new / name, repository / name)
    except BaseException:  # Ctrl-C too
        for name in done:
            if not (new / name).exists():
                shutil.rmtree(repository / name, ignore_errors=True)
            if (old / name).exists():
                os.rename(old / name, repository / name)
        raise
