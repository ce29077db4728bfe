"""Lone texts' commonest lengths, each compiled for itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openvino
import pytest
from openvino import opset13 as ops

from clip_client import engines
from clip_client.engines import fixed_shapes
from clip_client.engines.fixed_shapes import FixedShapes, Shape

PATIENCE_S = 60
OFTEN = fixed_shapes._OFTEN


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    settle()


def settle() -> None:
    """Wait for the compilation that is under way."""
    for thread in threading.enumerate():
        if thread.name == "fixed-shapes":
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


def ask(shapes: FixedShapes, shape: Shape, times: int) -> object:
    found = None
    for _ in range(times):
        found = shapes.request(shape)
    settle()
    return found


def test_what_comes_often_is_compiled_once() -> None:
    compiled: list[Shape] = []
    shapes = FixedShapes(lambda shape: compiled.append(shape) or str(shape), most=2)
    assert ask(shapes, (1, 8), OFTEN - 1) is None
    assert compiled == []
    ask(shapes, (1, 8), 1)
    assert ask(shapes, (1, 8), 50) == "(1, 8)"
    assert compiled == [(1, 8)]


@pytest.mark.parametrize("shape", [(2, 8), (32, 12), (1, 224, 224, 3)])
def test_lists_and_pictures_are_left_alone(shape: Shape) -> None:
    assert ask(FixedShapes(str, most=2), shape, 3 * OFTEN) is None


def test_without_memory_nothing_is_compiled() -> None:
    assert ask(FixedShapes(str, most=0), (1, 8), 3 * OFTEN) is None


def test_a_commoner_shape_takes_the_rarest_ones_place() -> None:
    compiled: list[Shape] = []
    shapes = FixedShapes(lambda shape: compiled.append(shape) or str(shape), most=2)
    ask(shapes, (1, 8), 60)
    ask(shapes, (1, 12), 30)
    ask(shapes, (1, 16), 60)
    assert compiled == [(1, 8), (1, 12)]  # as common isn't commoner by enough
    ask(shapes, (1, 16), 10)
    assert ask(shapes, (1, 16), 1) == "(1, 16)"
    assert shapes.request((1, 12)) is None
    assert shapes.request((1, 8)) == "(1, 8)"


def test_what_was_common_long_ago_gives_way() -> None:
    shapes = FixedShapes(str, most=1)
    ask(shapes, (1, 8), fixed_shapes._MEMORY)
    ask(shapes, (1, 16), 2 * fixed_shapes._MEMORY)
    assert shapes.request((1, 16)) == "(1, 16)"


def test_a_failure_is_told_once_and_texts_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(fixed_shapes._LOG, "warning", lambda line, *values: told.append(line % values))

    def fails(shape: Shape) -> object:
        raise RuntimeError("no memory")

    shapes = FixedShapes(fails, most=2)
    assert ask(shapes, (1, 8), 3 * OFTEN) is None
    assert ask(shapes, (1, 12), 3 * OFTEN) is None
    assert told == ["texts of shape (1, 8) are slower than they could be: OpenVINO can't compile for it (no memory)"]


def tower(folder: Path) -> Path:
    """A model of any shape: the mean of a table's rows, scaled to unit length."""
    tokens = ops.parameter([-1, -1], np.int32, name="tokens")
    table = ops.constant(np.random.default_rng(0).standard_normal((100, 64), np.float32))
    rows = ops.gather(table, tokens, ops.constant(0))
    mean = ops.reduce_mean(rows, ops.constant([1]), keep_dims=False)
    unit = ops.normalize_l2(mean, ops.constant([1]), 1e-12, "add")
    unit.output(0).set_names({"embedding"})
    openvino.save_model(openvino.Model([ops.result(unit)], [tokens]), folder / "model.xml", compress_to_fp16=False)
    return folder / "model.xml"


@pytest.mark.parametrize(("bytes_", "expected"), [(None, 0), (1000, 0), (40_000, 1), (10**7, 3)])
def test_embeddings_stay_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bytes_: int | None, expected: int) -> None:
    compiled: list[Shape] = []
    add = FixedShapes._add
    monkeypatch.setattr(FixedShapes, "_add", lambda *given: (compiled.append(given[1]), add(*given)))
    budget = {"FIXED_SHAPES_BYTES": str(bytes_)} if bytes_ else {}
    encode = engines.opened("openvino", tower(tmp_path), {"INFERENCE_PRECISION_HINT": "f32", **budget})
    draw = np.random.default_rng(1)
    texts = [draw.integers(0, 100, (1, length), np.int32) for length in (8, 12, 16)]
    before = [encode(text) for text in texts]
    for _ in range(3 * OFTEN):
        assert all(encode(text).shape == (1, 64) for text in texts)
        settle()
    for text, embedding in zip(texts, before, strict=True):
        np.testing.assert_allclose(encode(text), embedding, atol=1e-6)
        np.testing.assert_allclose(encode(np.repeat(text, 3, 0)), np.repeat(embedding, 3, 0), atol=1e-6)
    assert len(compiled) == expected
