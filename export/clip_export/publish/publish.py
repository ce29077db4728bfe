"""Publish artefacts in the model repository, all six models at once or none."""

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
from clip_client.hard_links import link
from clip_client.model_repository import CONFIG_FILE, MODEL_FILES, VERSION
from clip_client.preprocess import Preprocessing
from clip_client.spec import SPEC_FILE, TOKENIZER_FILE, TOWERS, ModelSpec, Tower
from clip_export.artifact_files import BUILD_RECORD, NOT_WEIGHTS
from clip_export.builds.verdicts import Judged
from clip_export.publish import triton_config
from clip_export.variants import VARIANTS
from clip_inside_triton import PREPARERS

[_MODEL_PY] = MODEL_FILES["python"]


def publish(
    chosen: Mapping[Tower, Judged], spec: ModelSpec, tokenizer_json: str, preprocessing: Preprocessing, repository: Path
) -> None:
    """Write the six models of a checkpoint into the repository.

    All files are written aside first, on the same file system; then the models' folders are exchanged. An exchange that fails
    is undone; one that is killed is completed by the next export or start.

    Raises:
        InvalidInput: if the repository can't be written.
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
    """Make a folder beside the repository, where Triton doesn't take it for a model; inside where the repository is a mount."""
    beside = repository.parent.stat().st_dev == repository.stat().st_dev
    model_exchange.finish(repository)  # completes a killed export; the lock excludes one at work
    parent = repository.parent if beside else repository
    with tempfile.TemporaryDirectory(dir=parent, prefix=model_exchange.prefix(repository)) as staging:
        yield Path(staging)


def _write_tower(judged: Judged, spec: ModelSpec, tokenizer_json: str, preprocessing: Preprocessing, root: Path) -> None:
    tower = judged.tower
    variant = VARIANTS[judged.variant]
    _write_model(root, triton_config.ensemble_config(spec, tower, variant), spec)
    preparer = _write_model(root, triton_config.preparer_config(spec, tower, preprocessing), spec)
    shutil.copyfile(PREPARERS[tower], preparer / _MODEL_PY)
    encoder = _write_model(root, triton_config.encoder_config(spec, tower, variant), spec)
    if tower == "text":
        (preparer / TOKENIZER_FILE).write_text(tokenizer_json, encoding="utf-8")
    if triton_config.takes_source(tower, variant):
        link(preparer / TOKENIZER_FILE, encoder / TOKENIZER_FILE)
    for file in judged.artefact.folder.iterdir():
        if file.name == BUILD_RECORD:
            shutil.copyfile(file, encoder / file.name)
        elif file.name not in NOT_WEIGHTS:  # the artefact's spec may carry another name
            link(file, encoder / file.name)


def _write_model(root: Path, config: ModelConfig, spec: ModelSpec) -> Path:
    """Write config and spec of one model; return its version folder."""
    folder = root / str(config.name) / VERSION
    folder.mkdir(parents=True)
    (folder.parent / CONFIG_FILE).write_text(triton_config.to_text(config), encoding="utf-8")
    spec.save(folder / SPEC_FILE)
    return folder
