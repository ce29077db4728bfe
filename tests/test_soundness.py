"""Zeros, NaN, infinity or a wrong length from an encoder are that item's error, whichever way they would leave or enter."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import sidecars
import tokenizers
import unsound
from PIL import Image
from servers import Server, running
from sidecars import Sidecar, base64_of

import pictures
from clip_client import Clip, ContractMismatch, InvalidInput
from clip_client.clip import Place
from clip_client.search import Row, Search
from clip_client.soundness import LENGTH_TOLERANCE, flaws

WORDS = dict(zip(unsound.FACTORS, ("red", "green", "blue", "black", "white"), strict=True))
"""A text of one of these words gets an embedding with that fault."""
SHADES = {kind: 40 * (1 + n) for n, kind in enumerate(unsound.FACTORS)}
"""So does a picture of one of these greys."""
KINDS = list(unsound.FACTORS)
GOOD_PICTURE = pictures.encoded(Image.new("RGB", (64, 64), (7, 99, 200)), "PNG")


def grey(kind: str) -> bytes:
    return pictures.encoded(Image.new("RGB", (64, 64), (SHADES[kind],) * 3), "PNG")


@pytest.fixture(scope="module")
def server(exported: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    repository = Path(shutil.copytree(exported / "model_repository", tmp_path_factory.mktemp("unsound") / "repository"))
    tokenizer = tokenizers.Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    texts, images = np.ones(tokenizer.get_vocab_size()), np.ones(256)
    for kind, factor in unsound.FACTORS.items():
        texts[tokenizer.encode(WORDS[kind]).ids[1]] = images[SHADES[kind]] = factor
    unsound.spoil(repository / "clip_text_encoder" / "1" / "model.onnx", texts)
    unsound.spoil(repository / "clip_image_encoder" / "1" / "model.onnx", images)
    with running(repository) as server:
        yield server


@pytest.fixture(scope="module")
def sidecar(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    with sidecars.running(tmp_path_factory.mktemp("search"), server.address) as sidecar:
        yield sidecar


@pytest.fixture
def search(sidecar: Sidecar) -> Iterator[Search]:
    with sidecar.client() as search:
        search.create("things")
        yield search
        search.drop("things")


def test_only_the_items_at_fault_fail(server: Server) -> None:
    texts = ["a cat", *WORDS.values(), "a dog"]
    with Clip(server.address) as clip:
        rows = clip.embed_text(texts, on_error="none")
    assert {n for n, row in enumerate(rows) if row is None} == rows.errors.keys() == {1, 2, 3, 4, 5}
    assert "has length 0, expected length 1: publish another variant" in rows.errors[1]
    assert "numbers that aren't finite" in rows.errors[2]
    assert "numbers that aren't finite" in rows.errors[3]
    assert "has length 2, expected length 1" in rows.errors[4]
    np.testing.assert_allclose([np.linalg.norm(rows[n]) for n in (0, 6)], 1, atol=1e-5)


@pytest.mark.parametrize("place", ["server", "client"])
def test_pictures_too_wherever_they_are_prepared(place: Place, server: Server) -> None:
    with Clip(server.address, preprocess=place) as clip:
        rows = clip.embed_image([GOOD_PICTURE, *map(grey, KINDS), b"no picture"], on_error="none")
    assert rows[0] is not None
    assert rows.errors.keys() == {1, 2, 3, 4, 5, 6}
    assert "not a picture" in rows.errors[6]


@pytest.mark.parametrize("kind", KINDS)
def test_one_item_raises(kind: str, server: Server) -> None:
    with Clip(server.address) as clip:
        with pytest.raises(ContractMismatch, match="the model's embedding of it"):
            clip.embed_text(WORDS[kind])
        with pytest.raises(ContractMismatch, match="the model's embedding of it"):
            clip.embed_image(grey(kind))
        with pytest.raises(InvalidInput, match=r"2 of 3 texts can't be embedded: text 0 .*the model's embedding"):
            clip.embed_text([WORDS[kind], "a cat", WORDS[kind]])
        with pytest.raises(InvalidInput):
            clip.compare([GOOD_PICTURE, grey(kind)], ["a cat"])
        assert clip.embed_text(WORDS[kind], on_error="none") is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_query_fails_and_is_not_remembered(kind: str, sidecar: Sidecar, search: Search) -> None:
    search.add("things", [Row(id="a", image=GOOD_PICTURE)])
    sidecar_query = {"text": WORDS[kind], "modality": "image", "num_images": 1, "indice_name": "things"}
    for _ in range(2):
        with pytest.raises(ValueError, match="the model's embedding of it"):
            search.query("things", WORDS[kind])
        status, body = sidecar.ask("POST", "/knn-service", sidecar_query)
        assert (status, "the model's embedding of it" in json.dumps(body)) == (400, True)
    assert [hit.id for hit in search.query("things", "a cat")] == ["a"]


@pytest.mark.parametrize("kind", KINDS)
def test_openais_route_refuses(kind: str, sidecar: Sidecar) -> None:
    uri = f"data:image/png;base64,{base64_of(grey(kind))}"
    for wrong in (WORDS[kind], uri):
        status, body = sidecar.ask("POST", "/v1/embeddings", {"model": "clip", "input": ["a cat", wrong]})
        assert (status, "input 1 can't be embedded: the model's embedding" in json.dumps(body)) == (400, True)


def test_nothing_of_it_gets_into_a_collection(search: Search) -> None:
    good = Row(id="good", image=GOOD_PICTURE)
    result = search.add("things", [*(Row(id=kind, image=grey(kind)) for kind in KINDS), good])
    assert result.added == 1
    assert result.errors.keys() == {*range(len(KINDS))}
    one = [1.0, *[0.0] * 511]
    vectors = [one, [0.0] * 512, [float("nan"), *one[1:]], [float("inf"), *one[1:]]]
    ready = search.add("things", [Row(id=f"ready {n}", vector=vector) for n, vector in enumerate(vectors)])
    assert (ready.added, {*ready.errors}) == (1, {1, 2, 3})
    stored = {row["id"]: row["vector_image"] for row in search.rows("things", vectors=True)}
    assert stored.keys() == {"good", "ready 0"}
    np.testing.assert_allclose([np.linalg.norm(vector) for vector in stored.values()], 1, atol=1e-5)


def test_the_tolerance_lets_half_precision_pass() -> None:
    rows = np.random.default_rng(0).normal(size=(200, 512)).astype(np.float32)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    coarse = (unit.view(np.uint32) & 0xFFFF0000).view(np.float32)  # cut off to bfloat16, worse than rounded
    assert set(flaws(unit)) == set(flaws(coarse)) == {""}
    assert all(flaws(unit * np.float32(1 + 1.5 * LENGTH_TOLERANCE)))
    assert flaws(np.zeros((0, 4), np.float32)) == []
