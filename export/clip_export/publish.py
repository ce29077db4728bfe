"""Artefacts -> model repository, all six models at once or none."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock
from tritonclient.grpc.model_config_pb2 import ModelConfig

from clip_client import model_exchange
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

    All files are written aside first, on the same file system; then the models' folders are exchanged. What fails is undone;
    what is killed is ended by the next export or start.

    Raises:
        InvalidInput: the repository can't be written.
    """
    try:
        repository.mkdir(parents=True, exist_ok=True)
        with FileLock(model_exchange.lock_file(repository)), _staging(repository) as staging:
            new = model_exchange.folder_of_new(staging)
            for tower in TOWERS:
                _write_tower(chosen[tower], spec, tokenizer_json, preprocessing, new)
            model_exchange.exchange(staging, repository)
    except OSError as problem:
        raise InvalidInput(f"{repository} can't be written ({problem}): nothing was published") from problem


@contextmanager
def _staging(repository: Path) -> Iterator[Path]:
    """A folder beside the repository, since Triton takes every folder in it for a model; in it where it is a mount."""
    beside = repository.parent.stat().st_dev == repository.stat().st_dev
    model_exchange.finish(repository)  # of an export that was killed; the lock says that none is at work
    where = repository.parent if beside else repository
    with tempfile.TemporaryDirectory(dir=where, prefix=model_exchange.prefix(repository)) as staging:
        yield Path(staging)


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
