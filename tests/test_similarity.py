"""Cosines of anything with anything; lists that mix kinds, and items that are ambiguous, are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import pictures
from clip_client import Clip, InvalidInput

FILES = [pictures.encoded(pictures.picture(60 + n, 50, seed=n), "PNG") for n in range(3)]
TEXTS = ["a cat", "a dog"]


def test_cosines_are_those_of_torch(clip: Clip) -> None:
    images, texts = torch.tensor(clip.embed_image(FILES)), torch.tensor(clip.embed_text(TEXTS))
    expected = torch.nn.functional.cosine_similarity(images[:, None], texts[None], dim=2).numpy()
    np.testing.assert_allclose(clip.similarity(FILES, TEXTS), expected, atol=1e-5)
    np.testing.assert_allclose(clip.similarity(images * 7, TEXTS), expected, atol=1e-5)
    np.testing.assert_allclose(clip.similarity(list(images.numpy()), list(texts)), expected, atol=1e-5)
    np.testing.assert_allclose(clip.similarity(clip.embed_images(FILES), texts.double().numpy()), expected, atol=1e-5)


def test_one_side_is_compared_with_itself(clip: Clip) -> None:
    cosines = clip.similarity(FILES)
    assert cosines.shape == (3, 3)
    np.testing.assert_allclose(np.diag(cosines), 1, atol=1e-6)
    assert cosines.max() <= 1


def test_a_side_of_one_item_has_no_dimension(clip: Clip, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(FILES[0])
    vector = clip.embed_text("a cat")
    assert clip.similarity(tmp_path / "a.png", "a cat").shape == ()
    assert clip.similarity("a cat", FILES).shape == (3,)
    assert clip.similarity(vector, vector.tolist()) == pytest.approx(1, abs=1e-5)
    assert clip.similarity([], TEXTS).shape == (0, 2)
    assert clip.similarity([]).shape == (0, 0)


def test_a_text_that_may_be_an_image_is_asked_about(clip: Clip, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(FILES[0])
    for text in (str(path), "http://localhost/a.png"):
        with pytest.raises(
            InvalidInput, match=r"b\[1\], '.*a\.png', is a text that names an image, perhaps: pass b_type='image'"
        ):
            clip.similarity("a cat", ["a dog", text])
    assert clip.similarity(str(path), path, a_type="image") == pytest.approx(1, abs=1e-5)
    assert clip.similarity(str(path), a_type="text").shape == ()


@pytest.mark.parametrize(
    ("a", "message"),
    [
        (["a cat", FILES[0]], r"a\[1\] is of kind image, a\[0\] of kind text: pass lists of one kind"),
        ([FILES[0], np.ones(4)], r"a\[1\] is of kind embedding, a\[0\] of kind image"),
        ([object()], r"a is an object: expected an image, a text or an embedding"),
        (7, r"a can't be an int: expected images, texts or embeddings"),
        (np.ones((2, 3)), r"a is an array \[2, 3\]: expected embeddings, \[N, \d+\]"),
        ([np.ones(3), np.ones(4)], r"a has embeddings of shapes \(3,\), \(4,\)"),
        ([np.ones(3), None], r"a\[1\] has no embedding, as 1 of 2: leave those out"),
        (["a", 3], r"a\[1\] is an int"),
    ],
)
def test_sides_that_cannot_be_used_are_named(a, message: str, clip: Clip) -> None:
    with pytest.raises(InvalidInput, match=message):
        clip.similarity(a)


@pytest.mark.parametrize(("factor", "length"), [(0, "0"), (np.nan, "nan"), (np.inf, "inf")])
def test_an_embedding_without_a_direction_is_named(factor: float, length: str, clip: Clip) -> None:
    rows = clip.embed_text(TEXTS)
    rows[1] = factor
    with pytest.raises(InvalidInput, match=f"row 1 of b has length {length}: expected an embedding"):
        clip.similarity(TEXTS, rows)


def test_a_type_is_of_an_image_or_a_text(clip: Clip) -> None:
    with pytest.raises(InvalidInput, match="a_type is 'picture': expected 'image', 'text', or None"):
        clip.similarity("x", a_type="picture")  # type: ignore[arg-type]


def test_bad_images_are_named(clip: Clip) -> None:
    with pytest.raises(InvalidInput, match="1 of 2 images can't be embedded: image 1"):
        clip.similarity([FILES[0], b"x"])
