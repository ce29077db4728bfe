"""``Clip.encode`` beside sentence-transformers on the same checkpoint, and in its utilities and evaluators."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sentence_transformers import SentenceTransformer, util
from sentence_transformers.sentence_transformer.evaluation import (
    EmbeddingSimilarityEvaluator,
    InformationRetrievalEvaluator,
    TripletEvaluator,
)

from clip_client import Clip, InvalidInput
from clip_client.integrations.sentence_transformers import SentenceEncoder
from pictures import jpegs

JPEGS = jpegs(3)
PICTURES = [Image.open(io.BytesIO(content)) for content in JPEGS]
TEXTS = ["two dogs in the snow", "a cat", ""]


@pytest.fixture(scope="module")
def original(checkpoint: Path) -> SentenceTransformer:
    """The same checkpoint in sentence-transformers."""
    return SentenceTransformer(str(checkpoint), device="cpu")


def test_embeddings_are_those_of_sentence_transformers(clip: Clip, original: SentenceTransformer) -> None:
    for inputs in (TEXTS, PICTURES):
        expected = original.encode(inputs, normalize_embeddings=True)
        encoded = clip.encode(inputs, batch_size=2)
        assert (encoded.dtype, encoded.shape) == (expected.dtype, expected.shape)
        assert np.sum(encoded * expected, axis=1).min() > 0.9999
    mixed = clip.encode([TEXTS[0], PICTURES[0], {"text": "a cat"}, {"image": JPEGS[1]}])
    np.testing.assert_allclose(mixed[[0, 2]], clip.embed_text(TEXTS[:2]), atol=1e-6)
    np.testing.assert_allclose(mixed[[1, 3]], clip.embed_image(JPEGS[:2]), atol=1e-6)


def test_kinds_of_results_are_those_of_sentence_transformers(clip: Clip, original: SentenceTransformer) -> None:
    kinds = [{}, {"convert_to_tensor": True}, {"convert_to_numpy": False}]
    for inputs in ("a cat", TEXTS, np.array(TEXTS)):
        for kind in kinds:
            ours, theirs = clip.encode(inputs, **kind), original.encode(inputs, **kind)
            assert type(ours) is type(theirs)
            assert [tuple(row.shape) for row in ours] == [tuple(row.shape) for row in theirs]
    assert clip.encode([]).shape == (0, clip.spec.embedding_size)
    assert clip.encode(PICTURES[0]).shape == (clip.spec.embedding_size,)


def test_a_bar_is_shown_on_request(clip: Clip, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clip_client.progress_bars.is_terminal", lambda file: True)
    clip.encode(TEXTS, show_progress_bar=True)
    assert "encoding" in capfd.readouterr().err


def test_bad_inputs_are_named_by_position(clip: Clip, tmp_path: Path) -> None:
    with pytest.raises(
        InvalidInput, match=r"2 of 4 inputs can't be embedded: input 1: an input can't be an int.*input 2: .*dict"
    ):
        clip.encode(["a cat", 7, {"audio": "x"}, "a dog"])
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    with pytest.raises(InvalidInput, match=r"1 of 20 inputs can't be embedded: input 19: ") as raised:
        clip.encode(["a cat"] * 19 + [tmp_path / "bad.jpg"], batch_size=1)
    assert list(raised.value.errors) == [19]
    for wrong in (7, None):
        with pytest.raises(InvalidInput, match="inputs can't be"):
            clip.encode(wrong)
    with pytest.raises(InvalidInput, match="batch_size is 0: expected a whole number, at least 1"):
        clip.encode(TEXTS, batch_size=0)


def test_semantic_search(clip: Clip) -> None:
    [hits] = util.semantic_search(clip.encode("a cat"), clip.encode(TEXTS, convert_to_tensor=True), top_k=2)
    assert hits[0]["corpus_id"] == 1
    assert hits[0]["score"] == pytest.approx(1, abs=1e-5)


def test_evaluators_give_what_they_give_for_the_original(clip: Clip, original: SentenceTransformer) -> None:
    encoder = SentenceEncoder(clip)
    queries, corpus = {"1": "a cat", "2": "two dogs"}, {f"{n}": f"picture of {text}" for n, text in enumerate(TEXTS)}
    evaluators = [
        TripletEvaluator(TEXTS, TEXTS, TEXTS[::-1], write_csv=False),
        EmbeddingSimilarityEvaluator(TEXTS, TEXTS[1:] + TEXTS[:1], [0.1, 0.9, 0.5], write_csv=False),
        InformationRetrievalEvaluator(queries, corpus, {"1": {"1"}, "2": {"0"}}, write_csv=False),
        InformationRetrievalEvaluator(queries, dict(enumerate(PICTURES)), {"1": {1}, "2": {0}}, name="images", write_csv=False),
    ]
    for evaluator in evaluators:
        metrics = evaluator(encoder)
        assert metrics == pytest.approx(evaluator(original), abs=1e-4)
        assert metrics.items() <= encoder.model_card_data.metrics.items()
    cosines = encoder.similarity(encoder.encode(TEXTS), encoder.encode_query(TEXTS))
    torch.testing.assert_close(encoder.similarity_pairwise(encoder.encode(TEXTS), encoder.encode(TEXTS)), cosines.diag())
    assert encoder.get_sentence_embedding_dimension() == original.get_embedding_dimension()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"prompt": "query: "}, "prompt is 'query: ': expected None or ''"),
        ({"precision": "int8"}, "precision is 'int8': expected None or 'float32'"),
        ({"truncate_dim": 8}, "truncate_dim is 8: expected None"),
        ({"nothing": 1}, "unexpected keyword argument 'nothing': expected the options of Clip.encode"),
    ],
)
def test_what_cannot_be_done_is_refused(clip: Clip, option: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        SentenceEncoder(clip).encode(TEXTS, **option)
