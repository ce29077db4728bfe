"""Embeddings of a hub id by the library that it is made for, called as its documentation shows, with nothing of clipserve's."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
import open_clips
import torch
from PIL import Image
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer, CLIPModel

Pair = tuple[np.ndarray, np.ndarray]
"""Embeddings of pictures and of texts, float32 [N, D] and [M, D]."""

PICTURE_SIDES = ((300, 200), (97, 231), (64, 64), (40, 333))
TEXTS = (
    "a photo of a cat",
    "A Photo Of TWO CATS, loud & clear",
    "a black/white cat <3 a_dog's (bone), 3.5%!",
    "naïve Ångström café, 一只猫的照片 🎂",
    "  two\tcats \n on   a wire ",
    "cat",
    "ten cats on a wire " * 12,
)
_SIGLIP_TYPES = frozenset({"siglip", "siglip2"})
_SIGLIP_TOKENS = 64
_LONG_CLIP_TOKENS = 248


def pictures() -> list[Image.Image]:
    """Draw seeded pictures: smooth colours, an edge, noise."""
    random = np.random.default_rng(0)
    drawn = []
    for number, (width, height) in enumerate(PICTURE_SIDES):
        y, x = np.mgrid[0:height, 0:width]
        waves = np.stack([np.sin(x * (0.02 + 0.03 * c + 0.01 * number) + y * 0.05 * (number - 1)) for c in range(3)], axis=-1)
        array = 128 + 70 * waves + random.normal(0, 10, (height, width, 3))
        array[: height // 3, : width // (2 + number)] = (250 - 80 * number, 20 + 60 * number, 90)
        drawn.append(Image.fromarray(array.clip(0, 255).astype(np.uint8)))
    return drawn


def encoded(image: Image.Image) -> bytes:
    """Return a picture as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def transformers(name: str) -> Pair:
    """AutoModel; texts alone, but for SigLIP's, which its documentation pads to 64."""
    config = AutoConfig.from_pretrained(name)
    model, tokenizer = AutoModel.from_pretrained(name).eval(), AutoTokenizer.from_pretrained(name)
    padded = config.model_type in _SIGLIP_TYPES
    positions = getattr(config.get_text_config(), "max_position_embeddings", tokenizer.model_max_length)
    most = _SIGLIP_TOKENS if padded else min(positions, tokenizer.model_max_length)
    return _transformers_images(name, model), _transformers_texts(model, tokenizer, most, "max_length" if padded else False)


def long_clip(name: str) -> Pair:
    """LongCLIP, as its README loads it: 248 positions in place of those that its configuration says."""
    config = AutoConfig.from_pretrained(name)
    config.text_config.max_position_embeddings = _LONG_CLIP_TOKENS
    model, tokenizer = CLIPModel.from_pretrained(name, config=config).eval(), AutoTokenizer.from_pretrained(name)
    return _transformers_images(name, model), _transformers_texts(model, tokenizer, _LONG_CLIP_TOKENS, "max_length")


def open_clip(name: str) -> Pair:
    """Return open_clip's, by the id behind ``hf-hub:``."""
    library = open_clips.library()
    model, transform = library.create_model_from_pretrained(f"hf-hub:{name}")
    model, tokenizer = model.eval(), library.get_tokenizer(f"hf-hub:{name}")
    with torch.inference_mode():
        images = model.encode_image(torch.stack([transform(picture) for picture in pictures()]))
        return images.numpy(), model.encode_text(tokenizer([*TEXTS])).numpy()


def sentence_transformers(name: str) -> Pair:
    """SentenceTransformer of a CLIP."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(name, device="cpu")
    return np.asarray(model.encode(pictures())), np.asarray(model.encode([*TEXTS]))


def multilingual(name: str) -> Pair:
    """SentenceTransformer of texts beside the CLIP whose image tower they were trained for."""
    from sentence_transformers import SentenceTransformer

    images = SentenceTransformer("sentence-transformers/clip-ViT-B-32", device="cpu").encode(pictures())
    return np.asarray(images), np.asarray(SentenceTransformer(name, device="cpu").encode([*TEXTS]))


LIBRARIES: dict[str, Callable[[str], Pair]] = {
    function.__name__: function for function in (transformers, long_clip, open_clip, sentence_transformers, multilingual)
}


def _transformers_images(name: str, model: torch.nn.Module) -> np.ndarray:
    inputs = AutoImageProcessor.from_pretrained(name, backend="pil")(images=pictures(), return_tensors="pt")
    with torch.inference_mode():
        return np.asarray(_vectors(model.get_image_features(**inputs)))


def _transformers_texts(model: torch.nn.Module, tokenizer: object, most: int, padding: object) -> np.ndarray:
    rows: list[np.ndarray] = []
    for text in TEXTS:
        tokens = tokenizer([text], padding=padding, truncation=True, max_length=most, return_tensors="pt")  # type: ignore[operator]
        with torch.inference_mode():
            rows.append(np.asarray(_vectors(model.get_text_features(**tokens)))[0])
    return np.stack(rows)


def _vectors(answer: object) -> torch.Tensor:
    """Return the embeddings of an answer, which is a tensor in some models of transformers."""
    return answer if isinstance(answer, torch.Tensor) else answer.pooler_output  # type: ignore[attr-defined,no-any-return]


def worst_cosine(ours: Sequence[np.ndarray], theirs: np.ndarray) -> float:
    """Return the least cosine of two lists of embeddings, row by row, without what all rows of theirs have in common.

    Embeddings of random weights are much alike; only the rest tells one input from another.
    """
    a, b = _unit(np.asarray(ours)), _unit(theirs)
    a, b = _unit(a - b.mean(0)), _unit(b - b.mean(0))
    return float((a * b).sum(1).min())


def likeness(embeddings: np.ndarray) -> float:
    """Return the largest cosine of two different rows."""
    unit = _unit(embeddings)
    return float((unit @ unit.T - 2 * np.eye(len(unit))).max())


def _unit(rows: np.ndarray) -> np.ndarray:
    wide = rows.astype(np.float64)
    return wide / np.linalg.norm(wide, axis=1)[:, None]
