"""Commands of the documents that take long: exports from a stand-in of the hub, and servers, each as a reader types it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import hub_server
import img2dataset_outputs
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray_clusters
from documents import blocks, documents
from hub_server import Hub
from huggingface_hub import constants
from seaweed import Seaweed
from servers import CLIPSERVE, free_ports, http_files, running
from shards import captioned, shard
from snippets import commands

import recipes
from clip_client import cli
from pictures import jpegs
from recipe import built

B32, SIGLIP, MULTILINGUAL = (
    "openai/clip-vit-base-patch32",
    "google/siglip-base-patch16-224",
    "sentence-transformers/clip-ViT-B-32-multilingual-v1",
)
M_CLIP = "M-CLIP/XLM-Roberta-Large-Vit-B-32"
JPEGS = jpegs(50)
STARTED = ("ready after", "listening on", "http://127.0.0.1:")
"""Beginnings of what a server says once it serves."""


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, hub_server.Repository]:
    """The repositories that the documents name, rebuilt small."""
    folder = tmp_path_factory.mktemp("hub")
    wanted = (B32, SIGLIP, MULTILINGUAL, M_CLIP, *recipes.BY_ID[M_CLIP].needs)
    return {name: built(recipes.BY_ID[name], folder / name.replace("/", "--")) for name in dict.fromkeys(wanted)}


@pytest.fixture
def hub(repositories: dict[str, hub_server.Repository], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A reader's folder, and the hub."""
    with hub_server.running(repositories) as hub:
        hub.use(monkeypatch, tmp_path / "home")
        hub.renamed["xlm-roberta-large"] = recipes.BY_ID[M_CLIP].needs[0]
        monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path / "home" / "assets"))
        work = tmp_path / "work"
        photos(work / "photos")
        (work / "token").write_text("a token of some length\n")
        shutil.copytree(repositories[M_CLIP].main, work / M_CLIP.split("/")[1])
        monkeypatch.chdir(work)
        yield hub


def photos(folder: Path) -> None:
    """Write some pictures and a table of their captions."""
    folder.mkdir(parents=True)
    for number, content in enumerate(JPEGS[:12]):
        (folder / f"{number}.jpg").write_bytes(content)
    rows = "".join(f"{number}.jpg,picture {number}\n" for number in range(12))
    (folder / "captions.csv").write_text(f"file_name,caption\n{rows}")


@pytest.fixture
def shards(hub: Hub) -> dict[str, bytes]:
    """Shards in the folders that the documents name; by the names that they have in a bucket."""
    files = [shard(Path(f"shards/{n:05d}.tar"), captioned([content], n)) for n, content in enumerate(JPEGS)]
    shutil.copytree("shards", "data")
    img2dataset_outputs.write(Path(), JPEGS[:12])
    return {str(file): file.read_bytes() for file in files}


@pytest.fixture
def web(hub: Hub) -> Iterator[list[str]]:
    """A table of pictures' URLs, with each document's names of columns; options that let loopback be fetched from."""
    with http_files({f"/{number}.jpg": content for number, content in enumerate(JPEGS[:12])}) as address:
        urls, texts = [f"{address}/{number}.jpg" for number in range(12)], [f"picture {number}" for number in range(12)]
        pq.write_table(pa.table({"url": urls, "text": texts, "URL": urls, "TEXT": texts}), "urls.parquet")
        yield ["--allow-network", "127.0.0.1/32", "--allow-port", address.rpartition(":")[2]]


@pytest.fixture
def bucket(shards: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An object store with these shards."""
    store = Seaweed(tmp_path / "store")
    try:
        store.put(shards)
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        yield
    finally:
        store.stop()


def longer(document: Path) -> list[tuple[str, ...]]:
    """Return the exports, servers and bulk runs of a document, in their order."""
    lines = [command.words for block in blocks("sh") if block.document == document for command in commands(block.content)]
    ours = [words[1:] for words in lines if Path(words[0]).name == "clipserve"]
    return [words for words in ours if words[0] != "search" or words[1] == "serve"]


@contextlib.contextmanager
def serving(words: tuple[str, ...], *options: str) -> Iterator[str]:
    """Run a server as a reader does, on free ports; give the line in which it says that it serves; Ctrl-C it."""
    flags = ("--port",) if words[0] == "search" else ("--http-port", "--grpc-port", "--metrics-port")
    ports = chain.from_iterable(zip(flags, map(str, free_ports(len(flags))), strict=True))
    more = (*ports,) if words[0] != "up" else ("--no-open", *options)
    with subprocess.Popen([CLIPSERVE, *words, *more], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield next(line for line in process.stdout if any(start in line for start in STARTED))
        finally:
            process.send_signal(signal.SIGINT)
            process.stdout.read()
            assert process.wait(60) in (0, 130)


@contextlib.contextmanager
def reached(words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Give a bulk run's command line with addresses of servers that are here instead of the document's."""
    with contextlib.ExitStack() as stack:
        if "--address" not in words:
            yield words
        elif "ray" in words:
            yield (*words[:-1], stack.enter_context(ray_clusters.running()))
        else:
            servers = [stack.enter_context(running(Path("model_repository"))) for _ in words[-1].split(",")]
            yield (*words[:-1], ",".join(server.address for server in servers))


def run(words: tuple[str, ...], web: list[str]) -> None:
    """Run a command line as a reader does, to its end or until it serves."""
    if words[0] == "export":
        assert cli.main(words) == 0
    elif words[0] == "embed":
        with reached(words) as command:
            assert subprocess.run([CLIPSERVE, *command], env={**os.environ, **ray_clusters.ALONE}, check=False).returncode == 0
    else:
        with serving(words, *(web if "urls.parquet" in words else ())) as line:
            assert line


@pytest.mark.slow
@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize("document", [path for path in documents() if longer(path)], ids=lambda path: path.stem)
def test_exports_servers_and_bulk_runs_go_in_the_order_of_the_page(document: Path, web: list[str]) -> None:
    lines = longer(document)
    if lines[0][0] in ("serve", "search", "embed"):
        assert cli.main(["export", "--model", B32]) == 0  # which the reader did before
    for words in lines:
        run(words, web)
