"""Zero-shot classification: as CLIP's notebook, transformers and open_clip compute it; what can't be used is named."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import open_clips
import pytest
import torch
from transformers import CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

import pictures
from clip_client import Clip, ContractMismatch, InvalidInput, ModelSpec
from clip_client.classification import classified
from clip_client.prompt_templates import DEFAULT, TEMPLATES
from clip_client.zero_shot import checked_labels, checked_templates, label_embeddings, prompts

LABELS = ["cat", "dog", "red car", "mountain {at night}", "tree"]
PICTURES = [pictures.picture(200 + 20 * n, 240, seed=n) for n in range(6)]
FILES = [pictures.encoded(picture, "PNG") for picture in PICTURES]


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> CLIPModel:
    """The checkpoint in transformers."""
    return CLIPModel.from_pretrained(checkpoint).eval()


def tokens(checkpoint: Path, texts: Sequence[str]) -> dict[str, torch.Tensor]:
    return dict(CLIPTokenizer.from_pretrained(checkpoint)(texts, padding=True, return_tensors="pt"))


def pixels(checkpoint: Path) -> dict[str, torch.Tensor]:
    return dict(CLIPImageProcessorPil.from_pretrained(checkpoint)(images=PICTURES, return_tensors="pt"))


@torch.inference_mode()
def notebook_weights(model: CLIPModel, checkpoint: Path, labels: Sequence[str], templates: Sequence[str]) -> torch.Tensor:
    """Label embeddings [D, L], line by line as zeroshot_classifier of CLIP's notebook has them."""
    weights = []
    for label in labels:
        texts = [template.format(label) for template in templates]
        embeddings = model.get_text_features(**tokens(checkpoint, texts)).pooler_output
        embeddings /= embeddings.norm(dim=-1, keepdim=True)
        embedding = embeddings.mean(dim=0)
        embedding /= embedding.norm()
        weights.append(embedding)
    return torch.stack(weights, dim=1)


@pytest.mark.parametrize("name", ["openai-imagenet-7", "openai-imagenet"])
def test_several_templates_are_averaged_as_in_the_notebook_of_clip(
    name: str, clip: Clip, model: CLIPModel, checkpoint: Path
) -> None:
    weights = notebook_weights(model, checkpoint, LABELS, TEMPLATES[name])
    classifier = clip.zero_shot(LABELS, templates=name)
    assert (classifier.embeddings * weights.T.numpy()).sum(axis=1).min() >= 0.9999
    with torch.inference_mode():
        images = torch.nn.functional.normalize(model.get_image_features(**pixels(checkpoint)).pooler_output, dim=-1)
        expected = (model.logit_scale.exp() * images @ weights).softmax(dim=-1).numpy()
    result = classifier.classify(FILES)
    np.testing.assert_allclose(result.probabilities, expected, atol=2e-3)
    assert result.best == [LABELS[n] for n in expected.argmax(axis=1)]


def test_one_template_gives_the_probabilities_of_transformers(clip: Clip, model: CLIPModel, checkpoint: Path) -> None:
    with torch.inference_mode():
        inputs = {**tokens(checkpoint, [DEFAULT.format(label) for label in LABELS]), **pixels(checkpoint)}
        expected = model(**inputs).logits_per_image.softmax(dim=-1).numpy()
    np.testing.assert_allclose(clip.classify(FILES, LABELS).probabilities, expected, atol=2e-3)


def test_one_image_gives_one(clip: Clip) -> None:
    many, single = clip.classify(FILES[:2], LABELS), clip.classify(FILES[0], LABELS)
    assert (many.probabilities.shape, single.probabilities.shape, single.cosines.shape) == ((2, 5), (5,), (5,))
    np.testing.assert_allclose(single.probabilities, many.probabilities[0], atol=1e-5)
    assert single.best == many.best[0] == single.top(1)[0][0]
    assert single.top(9) == sorted(single.top(9), key=lambda ranked: -ranked[1])
    assert [label for label, _ in single.top(2)] == [label for label, _ in many.top(2)[0]]


def test_labels_alone_are_the_prompts_of_compare(clip: Clip) -> None:
    expected = clip.compare(FILES, LABELS).probabilities
    np.testing.assert_allclose(clip.classify(FILES, LABELS, templates="label").probabilities, expected, atol=1e-5)
    np.testing.assert_allclose(clip.classify(FILES, LABELS, templates="{}").probabilities, expected, atol=1e-5)


def test_a_bad_image_loses_its_own_row(clip: Clip, tmp_path: Path) -> None:
    result = clip.classify([FILES[0], tmp_path / "none.png", FILES[1]], LABELS)
    assert result.best[1] is None
    assert result.top(2)[1] == []
    assert np.isnan(result.probabilities[1]).all()
    assert result.errors.keys() == {1}
    assert "no image file" in result.errors[1]
    np.testing.assert_allclose(result.probabilities[[0, 2]], clip.classify(FILES[:2], LABELS).probabilities, atol=1e-5)
    assert "1 failed" in repr(result)
    assert f"{tmp_path / 'none.png'}: no image file" in repr(result)
    with pytest.raises(InvalidInput, match="no image file"):
        clip.classify(tmp_path / "none.png", LABELS)


def test_no_images_give_no_rows(clip: Clip) -> None:
    result = clip.classify([], LABELS)
    assert (result.probabilities.shape, result.best, result.top(3)) == ((0, 5), [], [])


def test_a_stream_is_classified_one_by_one(clip: Clip) -> None:
    classifier = clip.zero_shot(LABELS)
    stream = classifier.stream((file for file in [*FILES, b"x"] * 20), on_error="none")
    results = list(stream)
    assert [result.position for result in results] == [*range(140)]
    assert [result.best for result in results[:6]] == classifier.classify(FILES).best
    assert [result.position for result in results if result.classification is None] == [*range(6, 140, 7)]
    assert results[6].reason
    assert (stream.books.embedded, stream.books.left_out) == (120, 20)
    assert repr(stream) == "<stream: 140 images read = 120 classified + 20 left out>"
    assert repr(results[0]) == f"Classified(position=0, source='', {results[0].best!r})"
    with pytest.raises(InvalidInput, match=r"^image 1: "):
        list(classifier.stream([FILES[0], b"x"]))


def test_more_labels_than_are_embedded_at_a_time(clip: Clip) -> None:
    labels = [f"thing {n}" for n in range(150)]
    embeddings = clip.zero_shot(labels, templates="{}").embeddings
    np.testing.assert_allclose(embeddings, clip.embed_text(labels), atol=1e-5)


def test_sigmoid_checkpoints_have_a_probability_per_label(spec: ModelSpec) -> None:
    siglip = dataclasses.replace(spec, activation="sigmoid", logit_scale=117.3, logit_bias=-12.9)
    vectors = torch.nn.functional.normalize(torch.randn(7, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    result = classified(vectors[:3].numpy(), vectors[3:].numpy(), ("a", "b", "c", "d"), siglip)
    expected = torch.sigmoid(vectors[:3] @ vectors[3:].T * 117.3 - 12.9)
    np.testing.assert_allclose(result.probabilities, expected.numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("cat", "labels is a str, 'cat': expected a list of texts"),
        (b"cat", "labels is a bytes"),
        (None, "labels is None"),
        ([], "there are no labels: pass at least one"),
        (["cat", 7], "label 1 is an int, '7': expected a text"),
        (["cat", " "], "label 1 is empty"),
        (["cat", "dog", "cat"], "labels 0 and 2 are both 'cat': pass each once"),
    ],
)
def test_labels_that_cannot_be_used_are_named(labels, message: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(message)):
        checked_labels(labels)


@pytest.mark.parametrize(
    ("templates", "message"),
    [
        (
            "openai-imagnet",
            "templates is 'openai-imagnet': expected one of openai-imagenet, openai-imagenet-7, label, or a text",
        ),
        ("a photo", "templates is 'a photo': expected one of"),
        (["a {}", "a photo"], "template 1, 'a photo', has no {}: expected one for the label"),
        (["a {label}"], "template 0, 'a {label}', has no {}"),
        ("{} and {0}", "template 0, '{} and {0}', has other braces: expected {} alone"),
        ("{{}}", "has other braces"),
        (["a {}", None], "template 1 is None"),
        ([], "there are no templates: pass at least one"),
        (7, "templates is an int"),
    ],
)
def test_templates_that_cannot_be_used_are_named(templates, message: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(message)):
        checked_templates(templates)


def test_errors_of_labels_come_before_any_request(clip: Clip) -> None:
    with pytest.raises(InvalidInput, match="label 0 is empty"):
        clip.classify(b"no image", [""])


def test_prompts_are_all_templates_of_the_first_label_first() -> None:
    assert prompts(["a", "{b}"], ["x {}", "{} y {}"]) == ["x a", "a y a", "x {b}", "{b} y {b}"]


def test_a_list_of_templates_may_name_some() -> None:
    assert checked_templates(["openai-imagenet-7", "a {} icon"]) == (*TEMPLATES["openai-imagenet-7"], "a {} icon")


def test_labels_that_differ_by_blanks_alone_are_refused() -> None:
    with pytest.raises(InvalidInput, match="labels 0 and 1 are both 'cat'"):
        prompts(["cat", " cat "])


def test_names_of_templates_stand_for_clips_own() -> None:
    assert {name: len(templates) for name, templates in TEMPLATES.items()} == {
        "openai-imagenet": 80,
        "openai-imagenet-7": 7,
        "label": 1,
    }
    assert len(set(TEMPLATES["openai-imagenet"])) == 80
    assert set(TEMPLATES["openai-imagenet-7"]) <= set(TEMPLATES["openai-imagenet"])
    assert all(checked_templates(name) == templates for name, templates in TEMPLATES.items())


def test_prompts_without_a_direction_are_refused() -> None:
    opposite = np.array([[1, 0], [-1, 0]], np.float32)
    with pytest.raises(ContractMismatch, match="prompts of 'cat' have embeddings that cancel each other out"):
        label_embeddings(opposite, ["cat"])


@pytest.mark.parametrize("k", [0, -1, 1.5, True, None])
def test_a_rank_is_a_whole_number(k, clip: Clip) -> None:
    with pytest.raises(InvalidInput, match="expected a whole number from 1 on"):
        clip.classify(FILES[0], LABELS).top(k)


@pytest.mark.parametrize("use", [lambda clip: clip.zero_shot(LABELS).classify(3), lambda clip: clip.classify(None, LABELS)])
def test_images_that_are_none_are_refused(use: Callable[[Clip], object], clip: Clip) -> None:
    with pytest.raises(InvalidInput, match="images can't be"):
        use(clip)


def test_open_clip_computes_the_same_label_embeddings() -> None:
    """As build_zero_shot_classifier of open_clip does it, with a text tower of random numbers."""
    zero_shot_classifier = open_clips.library().build_zero_shot_classifier
    table = torch.randn(1000, 24, generator=torch.Generator().manual_seed(1))

    class Tower:
        def encode_text(self, tokens: torch.Tensor, normalize: bool) -> torch.Tensor:
            return torch.nn.functional.normalize(table[tokens], dim=-1) if normalize else table[tokens]

    def tokenizer(texts: Sequence[str]) -> torch.Tensor:
        return torch.tensor([sum(map(ord, text)) % 1000 for text in texts])

    templates = TEMPLATES["openai-imagenet"]
    expected = zero_shot_classifier(Tower(), tokenizer, LABELS[:3], templates).T.numpy()
    embeddings = Tower().encode_text(tokenizer(prompts(LABELS[:3], templates)), normalize=True).numpy()
    np.testing.assert_allclose(label_embeddings(embeddings, LABELS[:3]), expected, atol=1e-6)
