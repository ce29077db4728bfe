"""Commands of the documents that take long: exports from a stand-in of the hub, and servers, each as a reader types it."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import hub_server
import pytest
from documents import blocks, documents
from hub_server import Hub
from huggingface_hub import constants
from servers import CLIPSERVE, free_ports
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
    """A reader's folder, with photos, and the hub."""
    with hub_server.running(repositories) as running:
        running.use(monkeypatch, tmp_path / "home")
        monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path / "home" / "assets"))
        work = tmp_path / "work"
        (work / "photos").mkdir(parents=True)
        for number, content in enumerate(jpegs(12)):
            (work / "photos" / f"{number}.jpg").write_bytes(content)
        rows = "".join(f"{number}.jpg,picture {number}\n" for number in range(12))
        (work / "photos" / "captions.csv").write_text(f"file_name,caption\n{rows}")
        (work / "token").write_text("a token of some length\n")
        shutil.copytree(repositories[M_CLIP].main, work / M_CLIP.split("/")[1])
        monkeypatch.chdir(work)
        yield running


def longer(document: Path) -> list[tuple[str, ...]]:
    """Return the exports and servers of a document, in their order."""
    lines = [command.words for block in blocks("sh") if block.document == document for command in commands(block.content)]
    ours = [words[1:] for words in lines if Path(words[0]).name == "clipserve"]
    return [words for words in ours if words[0] != "search" or words[1] == "serve"]


@contextlib.contextmanager
def serving(words: tuple[str, ...]) -> Iterator[str]:
    """Run a server as a reader does, on free ports; give the line in which it says that it serves; Ctrl-C it."""
    ports = map(str, free_ports(3))
    flags = ("--port",) if words[0] == "search" else ("--http-port", "--grpc-port", "--metrics-port")
    options = [part for pair in zip(flags, ports, strict=False) for part in pair] if words[0] != "up" else ["--no-open"]
    with subprocess.Popen([CLIPSERVE, *words, *options], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield next(line for line in process.stdout if any(start in line for start in STARTED))
        finally:
            process.send_signal(signal.SIGINT)
            process.stdout.read()
            assert process.wait(60) in (0, 130)


@pytest.mark.slow
@pytest.mark.parametrize("document", [path for path in documents() if longer(path)], ids=lambda path: path.stem)
def test_exports_and_servers_run_in_the_order_of_the_page(document: Path, hub: Hub) -> None:
    lines = longer(document)
    if lines[0][0] in ("serve", "search"):
        assert cli.main(["export", "--model", B32]) == 0  # which the reader did before
    for words in lines:
        if words[0] == "export":
            assert cli.main(words) == 0
        else:
            with serving(words) as line:
                assert line
