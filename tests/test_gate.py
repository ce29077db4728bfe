"""Scores of the gate, its limits, and the choice among the variants that pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import pictures
from clip_client import ModelSpec
from clip_export import choice, evaluation, labelled, retrieval, speed
from clip_export.artifacts import Judged
from clip_export.evaluation import Evaluation
from clip_export.gate import Allowed, Gate, Invariance
from clip_export.speed import Speed
from clip_export.variants.base import Artefact, Limits


def made(owners: object = (), labels: object = (), pixels: int | None = None, texts: int | None = None) -> Evaluation:
    """An evaluation whose pictures and texts only have a number."""
    owned, named = np.array(list(owners), np.int64), np.array(list(labels), np.int64)
    count = len(named) or (len(owned) if pixels is None else pixels)
    tokens = np.zeros((len(owned) if texts is None else texts, 1), np.int32)
    pixels = np.zeros((count, 1, 1, 3), np.uint8)
    return Evaluation("", pixels, pixels, tokens, owned, named)


def row(variant: str, size_bytes: int) -> Judged:
    """A row that passed."""
    artefact = Artefact(Path("/nonexistent"), "image", Path)  # no torch tower is wanted of it
    scores = Gate(made(owners=[0]), {"image": np.eye(1), "text": np.eye(1)}, Allowed())
    judged = scores.scores("text", np.eye(1), Invariance(1.0, None))
    return Judged("image", variant, artefact, "", size_bytes, np.eye(1), judged, [], [], "")


class TestClasses:
    """Folders by class give zero-shot accuracy."""

    def test_they_are_the_labels(self, tmp_path: Path, spec: ModelSpec, checkpoint: Path) -> None:
        for n, jpeg in enumerate(pictures.jpegs(4)):
            folder = tmp_path / ("red_panda" if n % 2 else "cat")
            folder.mkdir(exist_ok=True)
            (folder / f"{n}.jpg").write_bytes(jpeg)
        assert {one.label for one in labelled.read(tmp_path)} == {"cat", "red panda"}
        inputs = evaluation.Inputs(spec, (checkpoint / "tokenizer.json").read_text())
        judged, _ = evaluation.load(tmp_path, None, None, inputs)
        assert (judged.labels.tolist(), len(judged.tokens)) == ([0, 0, 1, 1], 2)

    def test_accuracy(self) -> None:
        image, text = np.eye(3, dtype=np.float32)[[0, 1, 1, 2]], np.eye(3, dtype=np.float32)[:2]
        scores = retrieval.scores(image, text, made(labels=[0, 1, 0, 1], texts=2))
        assert scores == {"zero_shot_accuracy": 0.75}  # the third is wrong; with the fourth all tie


class TestRetrieval:
    """Recalls of embeddings that are known."""

    def test_perfect(self) -> None:
        items = np.eye(12, dtype=np.float32)
        scores = retrieval.scores(items, items, made(owners=range(12)))
        assert set(scores.values()) == {1.0}

    def test_any_of_several_captions_will_do(self) -> None:
        image = np.eye(2, dtype=np.float32)
        text = np.array([[1, 0], [0.6, 0.8], [0, 1]], np.float32)
        scores = retrieval.scores(image, text, made(owners=[0, 0, 1], pixels=2))
        assert scores["text_to_image_r@1"] == pytest.approx(2 / 3)
        assert scores["image_to_text_r@1"] == 1

    def test_nothing_is_found_by_numbers_that_are_none(self) -> None:
        nans = np.full((12, 12), np.nan, np.float32)
        assert retrieval.scores(np.eye(12, dtype=np.float32), nans, made(owners=range(12)))["text_to_image_r@1"] == 0

    def test_agreement(self) -> None:
        points = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
        assert retrieval.agreement(points, points) == 1
        assert retrieval.agreement(points, points[::-1].copy()) < 0.5


class TestGate:
    """Limits of the gate."""

    def judged(self, hits: int, allowed: Allowed) -> list[str]:
        """Failures of texts of which so many of 200 find their picture; torch finds all."""
        perfect = np.eye(200, dtype=np.float32)
        texts = np.concatenate([perfect[:hits], np.roll(perfect, 1, axis=0)[hits:]])
        gate = Gate(made(owners=range(200)), {"image": perfect, "text": perfect}, allowed)
        scores = gate.scores("text", texts, Invariance(1.0, 1.0))
        return gate.failures(scores, Limits(-1, -1, 0.9), quantized=False)

    def test_a_loss_within_the_limit_passes(self) -> None:
        assert self.judged(198, Allowed()) == []

    def test_a_greater_loss_is_refused_by_name(self) -> None:
        assert self.judged(197, Allowed())[0] == "text_to_image_r@1 1.5 points lost"
        assert self.judged(197, Allowed(lost_points=2)) == []

    def test_a_single_query_is_never_too_much(self) -> None:
        assert self.judged(199, Allowed(lost_points=0.1)) == []


class TestChoice:
    """The best of what passes."""

    def test_by_objective(self) -> None:
        rows = [row(name, size) for name, size in (("torch-bf16", 1), ("onnx-fp32", 9), ("openvino-fp16", 5), ("onnx-fp16", 2))]
        speeds = {
            "torch-bf16": Speed({1: 0.1, 32: 1}, 0, 0, None),
            "onnx-fp32": Speed({1: 1, 32: 30}, 0, 0, None),
            "openvino-fp16": Speed({1: 2, 32: 20}, 0, 0, None),
            "onnx-fp16": "its process ended",
        }
        best = {objective: choice.best(rows, speeds, objective).variant for objective in choice.OBJECTIVES}
        assert best == {"latency": "onnx-fp32", "throughput": "openvino-fp16", "size": "openvino-fp16"}
        assert choice.best(rows[:1], speeds, "latency") is None


def test_one_that_cannot_be_timed_says_why(tmp_path: Path, spec: ModelSpec) -> None:
    empty = row("onnx-fp32", 1)
    measured = speed.measure([empty], "image", spec, tmp_path, lambda _: None)
    assert "NO_SUCHFILE" in measured["onnx-fp32"] or "NoSuchFile" in measured["onnx-fp32"]
