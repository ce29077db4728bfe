"""What many tests share: one small checkpoint, one export of it, one running server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # or torch's threads spin while others want the cores

import checkpoints
import pytest
from servers import Server, running

from clip_client import Clip, ModelSpec
from clip_export import cli

FLOATS = ["--variants", "onnx-fp32,openvino-fp16", "--image-variant", "onnx-fp32", "--text-variant", "onnx-fp32"]
"""What most tests export: two variants that build fast, and always the same one published."""


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CLIP checkpoint."""
    return checkpoints.make(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture(scope="session")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``artifacts`` and ``model_repository`` of it, onnx-fp32 published."""
    folder = tmp_path_factory.mktemp("exported")
    where = ["--artifacts", str(folder / "artifacts"), "--repository", str(folder / "model_repository")]
    assert cli.main(["--model", str(checkpoint), *where, *FLOATS]) == 0
    return folder


@pytest.fixture(scope="session")
def repository(exported: Path) -> Path:
    """The model repository of the small checkpoint."""
    return exported / "model_repository"


@pytest.fixture(scope="session")
def spec(exported: Path) -> ModelSpec:
    """The spec of the small checkpoint."""
    return ModelSpec.load(exported / "artifacts" / "tiny" / "onnx-fp32" / "image" / "spec.json")


@pytest.fixture(scope="session")
def server(repository: Path) -> Iterator[Server]:
    """A running server of the small checkpoint; not to be killed."""
    with running(repository) as server:
        yield server


@pytest.fixture
def clip(server: Server) -> Iterator[Clip]:
    """A client of it."""
    with Clip(server.address) as clip:
        yield clip
