"""Fixtures that many tests share: one small checkpoint, one export of it, one running server, one search sidecar."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # or torch's threads spin while others want the cores

import checkpoints
import collections_on_disk
import pytest
import sidecars
from servers import Server, running
from sidecars import PICTURES, Sidecar

from clip_client import Clip, ModelSpec
from clip_client.search import Row, Search
from clip_export import cli
from clip_export.builds import speed

FLOATS = ["--variants", "onnx-fp32,openvino-fp16", "--image-variant", "onnx-fp32", "--text-variant", "onnx-fp32"]
"""Options of most exports in tests: two variants that build fast, and always the same one published."""


@pytest.fixture(scope="session", autouse=True)
def _few_rounds() -> Iterator[None]:
    """Variants are timed in two rounds instead of five: exports take half as long, and no test looks at the speeds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "_ROUNDS", 2)
        yield


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


@pytest.fixture(scope="session")
def sidecar(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A running sidecar that reads one folder and fetches from this machine; not to be killed."""
    folder = tmp_path_factory.mktemp("search")
    (folder / "pictures").mkdir()
    (folder / "pictures" / "a.jpg").write_bytes(PICTURES[0])
    (folder / "secret.jpg").write_bytes(PICTURES[1])
    (folder / "pictures" / "link.jpg").symlink_to(folder / "secret.jpg")
    options = [
        "--images",
        str(folder / "pictures"),
        "--allow-network",
        "127.0.0.1/32",
        "--allow-port",
        "1024-65535",
        "--body-mb",
        "4",
    ]
    with sidecars.running(folder / "data", server.address, *options) as sidecar:
        yield sidecar


@pytest.fixture
def search(sidecar: Sidecar) -> Iterator[Search]:
    """A client of it; all collections are dropped afterwards."""
    with sidecar.client() as search:
        yield search
        for collection in search.collections():
            search.drop(collection["name"])


@pytest.fixture
def photos(search: Search) -> str:
    """A collection of twelve pictures with captions."""
    search.create("photos", columns={"year": "int"})
    rows = [
        Row(
            id=f"p{n}",
            image=one,
            metadata={"caption": f"picture {n}", "url": f"http://x/{n}", "year": 2000 + n},
            source=f"s{n}",
        )
        for n, one in enumerate(PICTURES)
    ]
    assert search.add("photos", rows).added == 12
    return "photos"


@pytest.fixture
def opener(tmp_path: Path) -> Iterator[collections_on_disk.Opener]:
    """A collection that is opened and opened again."""
    opener = collections_on_disk.Opener(tmp_path)
    yield opener
    opener.close()


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Log of the search packages, tracebacks included."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger = logging.getLogger("clip_search")
    logger.addHandler(handler)
    yield written
    logger.removeHandler(handler)
