"""The bundled checkpoint keeps what its card promises, in torch and through a real Triton."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import Server, running

from clip_client import Clip
from clip_export import cli

EXAMPLE = Path(__file__).parents[1] / "examples" / "emoji"
sys.path.insert(0, str(EXAMPLE))

from evaluate import keyword_task, load_collection, score  # noqa: E402


@pytest.fixture(scope="module")
def figures() -> dict:
    """What the evaluation script says."""
    command = [sys.executable, EXAMPLE / "evaluate.py", "--json"]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout)


@pytest.fixture(scope="module")
def emoji_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of the bundled checkpoint, exported with no argument but where to."""
    folder = tmp_path_factory.mktemp("emoji")
    assert cli.main(["--artifacts", str(folder / "artifacts"), "--repository", str(folder / "repository")]) == 0
    with running(folder / "repository") as server:
        yield server


def test_it_finds_what_it_never_saw(figures: dict) -> None:
    assert figures["text_to_image"]["r@1"] >= 0.50
    assert figures["text_to_image"]["r@5"] >= 0.75
    assert figures["image_to_image"]["r@1"] >= 0.54
    assert figures["keywords"]["r@10"] >= 0.20


def test_triton_gives_the_same_figures(figures: dict, emoji_server: Server) -> None:
    collection = load_collection()
    with Clip(emoji_server.address) as clip:
        served = score(
            collection,
            pictures=clip.embed_image(collection.pictures),
            captions=clip.embed_text(collection.captions),
            queries=clip.embed_image(collection.queries),
            keywords=clip.embed_text(keyword_task(collection).texts),
        )
    for task, values in figures.items():
        for name, value in values.items():
            assert served[task][name] == pytest.approx(value, abs=5e-4), (task, name)
