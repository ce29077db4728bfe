"""Fixtures that many tests share (a checkpoint, an export, a server, a sidecar), and the choice of tests to run."""

from __future__ import annotations

import contextlib
import functools
import gc
import io
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # or torch's threads spin while others want the cores

import checkpoints
import collections_on_disk
import pytest
import pytest_options
import quick_exports
import setuptools  # noqa: F401  (torch.compile refuses a distutils that another module has imported before setuptools)
import sidecars
import torch
from amount import ALL, LONG
from servers import Server, running
from sidecars import PICTURES, Sidecar
from workers import WORKER, once

from clip_client import Clip, ModelSpec
from clip_client.search import Row, Search
from clip_export import cli

LEFT_OUT = pytest.StashKey[int]()

NOTICE = "Made for tests."
"""Notice of the small checkpoint."""

FLOATS = ["--variants", "onnx-fp32,openvino-fp16", "--image-variant", "onnx-fp32", "--text-variant", "onnx-fp32"]
"""Options of most exports in tests: two variants that build fast, and always the same one published."""


GARBAGE = (20_000, 20, 20)
"""Thresholds of the garbage collector: a torch.export spent a quarter of its time there."""

LONGEST = (
    *("variants", "serve", "families", "search_milvus", "emoji_served", "loadtest", "oracle", "search_faults", "documents"),
    *("search_read_only_s3", "export", "up", "search_stateful", "embed_ray", "saved_tokenizers", "search_page", "publish"),
    *("search_beside", "door", "up_inputs", "up_first_hour", "up_pictures"),
)
"""Files that begin first, so that no process is left alone with one of them at the end; those that compute and those that wait
take turns."""

gc.disable()  # until the tests are collected, with all that they import: nearly nothing of that is garbage

if WORKER:
    torch.set_num_threads(1)  # the other process has the other core


def pytest_addoption(parser: pytest.Parser) -> None:
    """Keep the parser."""
    pytest_options.PARSERS.append(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the longest files first; leave out slow and long tests, as the amount says."""
    ranks = {f"test_{name}": rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(ranks)))
    rare = {"slow": ALL, "long": LONG}
    left_out = {item for item in items for mark, wanted in rare.items() if item.get_closest_marker(mark) and not wanted}
    if left_out:
        config.hook.pytest_deselected(items=[item for item in items if item in left_out])
        items[:] = [item for item in items if item not in left_out]
        config.stash[LEFT_OUT] = len(left_out)


def pytest_collection_finish() -> None:
    """Keep all libraries and tests out of garbage collections from here on: there are millions of objects, and they stay."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE)
    gc.enable()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the process that reports."""
    if WORKER:
        session.config.workeroutput["left_out"] = session.config.stash.get(LEFT_OUT, 0)  # type: ignore[attr-defined]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Each process leaves the same tests out."""
    node.config.stash[LEFT_OUT] = getattr(node, "workeroutput", {}).get("left_out", 0)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was left out."""
    if left_out := config.stash.get(LEFT_OUT, 0):
        terminalreporter.line(
            f"{left_out} long and slow tests were left out, and others took fewer cases: make test-ci runs the long ones, "
            "make test-all everything"
        )


@pytest.fixture(scope="session", autouse=True)
def _own_compiler_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of torch.compile's that no other process writes to: its precompiled headers aren't exchanged in one step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("inductor")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _quick_exports() -> Iterator[None]:
    with contextlib.nullcontext() if ALL else quick_exports.quick():
        yield


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CLIP checkpoint."""
    return once(tmp_path_factory, "tiny", functools.partial(checkpoints.make, notice=NOTICE))


@pytest.fixture(scope="session")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``artifacts`` and ``model_repository`` of it, onnx-fp32 published."""

    def export(folder: Path) -> None:
        where = ["--artifacts", str(folder / "artifacts"), "--repository", str(folder / "model_repository")]
        assert cli.main(["--model", str(checkpoint), *where, *FLOATS]) == 0

    return once(tmp_path_factory, "exported", export)


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


@pytest.fixture(autouse=True)
def _server_is_back(request: pytest.FixtureRequest) -> None:
    """Each test that uses the server begins with one that is there."""
    if "server" in request.fixturenames and isinstance(server := request.getfixturevalue("server"), Server):
        server.wait_back()


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
