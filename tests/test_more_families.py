"""Both towers of each of transformers' families give transformers' embeddings, from files as the hub has them."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import more_checkpoints
import numpy as np
import pytest
import references
import torch
from libraries import Ours, tokens
from PIL import Image
from test_checkpoint import edit
from tokenizers import Tokenizer as Rust
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer

from clip_client import InvalidInput, naflex
from clip_client.preprocess import preprocess, void_pixels
from clip_client.spec import patches_side
from clip_export import families
from clip_export.checkpoints import checkpoint
from clip_export.families import hugging_face
from clip_export.oracle import comparison, items
from clip_export.variants.base import Artefact, Source
from clip_export.variants.onnx_fp32 import OnnxFp32

pytestmark = pytest.mark.long

FAMILIES: dict[str, Callable[[Path], Path]] = {
    "siglip": more_checkpoints.siglip,
    "siglip2": more_checkpoints.siglip2,
    "naflex": more_checkpoints.naflex,
    "metaclip_2": more_checkpoints.metaclip_2,
    "altclip": more_checkpoints.altclip,
    "long_clip": more_checkpoints.long_clip,
    "groupvit": more_checkpoints.groupvit,
    "aimv2": more_checkpoints.aimv2,
}
TEXTS = [
    *("", "a", "A Photo of a CAT, naïve café", "a black/white cat <3", "a_b > c (d) [e] {f} & more: 3.5%!"),
    *("🎂 日本語の 一只猫", "  two\tcats \n on  a wire ", "many words " * 300, "x" * 400),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One checkpoint of each family."""
    folder = tmp_path_factory.mktemp("more")
    return {name: make(folder / name) for name, make in FAMILIES.items()}


def around_the_context(folder: Path, length: int) -> list[str]:
    """Texts of one token less than the context, of exactly the context, and of one more."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = [("a " * words + end).strip() for words in range(length + 2) for end in ("", "x", "o x")]
    lengths = {len(ids): text for ids, text in zip(tokenizer(texts)["input_ids"], texts, strict=True)}
    return [lengths[length + more] for more in (-1, 0, 1)]


def library_texts(folder: Path, texts: Sequence[str], ours: Ours, **settings: Any) -> np.ndarray:
    """transformers' unit embeddings of texts, each by itself, float32 [N, D]."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder, **settings).eval()
    padding = "max_length" if ours.spec.padding == "full" else False
    length = {"padding": padding, "truncation": True, "max_length": ours.spec.context_length, "return_tensors": "pt"}
    with torch.inference_mode():
        rows = [model.get_text_features(**tokenizer([text], **length)).pooler_output[0] for text in texts]
    return references.unit(torch.stack(rows))


def library_images(folder: Path, images: Sequence[bytes]) -> np.ndarray:
    """transformers' unit embeddings of pictures, float32 [N, D]."""
    processor, model = AutoImageProcessor.from_pretrained(folder, backend="pil"), AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        return references.unit(
            model.get_image_features(**processor(references.pictures(images), return_tensors="pt")).pooler_output
        )


def settings_of(family: str, folder: Path) -> dict[str, Any]:
    """Settings of loading: LongCLIP's documentation changes a number; a text alone makes AIMv2 forget its mask with sdpa."""
    if family != "long_clip":
        return {"attn_implementation": "eager"} if family == "aimv2" else {}
    config = AutoConfig.from_pretrained(folder)
    config.text_config.max_position_embeddings = 248
    return {"config": config}


@pytest.mark.parametrize("family", FAMILIES)
def test_texts(family: str, made: dict[str, Path]) -> None:
    ours = Ours.read(made[family])
    texts = [*TEXTS, *around_the_context(made[family], ours.spec.context_length)]
    rows, expected = ours.tokens(texts), tokens(made[family], texts, ours.spec)
    assert [row[: len(ids)].tolist() for row, ids in zip(rows, expected, strict=True)] == expected
    embeddings = ours.embed(texts)
    theirs = library_texts(made[family], texts, ours, **settings_of(family, made[family]))
    assert (embeddings * theirs).sum(axis=1).min() >= 0.9999
    assert (theirs[1] * theirs[7]).sum() < 0.99  # texts that differ aren't alike


@pytest.mark.parametrize("family", FAMILIES)
def test_the_oracle_sees_no_difference(family: str, made: dict[str, Path]) -> None:
    """Its pictures have every mode and orientation, and odd shapes; its texts fill the context, and go beyond."""
    verdicts = verdicts_of(made[family])
    assert [verdict.differences for verdict in verdicts.values()] == [(), ()]
    assert not any(verdict.missing for verdict in verdicts.values())


def verdicts_of(folder: Path) -> dict[str, comparison.Compared]:
    """Verdicts of the oracle on a checkpoint, as an export asks for them."""
    ours = Ours.read(folder)
    family = families.of(ours.found)
    towers = family.towers(ours.found, ours.spec)
    sides = comparison.Ours(ours.spec, ours.found.tokenizer_json, lambda tower: encoder(towers[tower]))
    every = items.collect(None, ours.spec, ours.found.tokenizer_json)
    return comparison.compare(family.libraries(ours.found), every, sides.given(every), sides, ours.spec)


def encoder(tower: torch.nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    """A tower as a variant's encoder."""

    def encode(batch: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return tower(torch.from_numpy(batch)).numpy()

    return encode


SHAPES = [(1, 1), (1, 40), (40, 1), (7, 300), (301, 9), (64, 64), (97, 71), (333, 251), (31, 33), (4000, 60)]


@pytest.mark.parametrize("most", [1, 5, 16, 30])
def test_naflex_keeps_the_shape_of_pictures(most: int, made: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made["naflex"], tmp_path / "copy"))
    edit(folder / "preprocessor_config.json", max_num_patches=most)
    images = [png(width, height) for width, height in SHAPES]
    ours = Ours.read(folder)
    assert (ours.embed_images(images) * library_images(folder, images)).sum(axis=1).min() >= 0.9999


def png(width: int, height: int) -> bytes:
    """A seeded picture of some shape."""
    pixels = np.random.default_rng(width + height).integers(0, 256, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_picture_of_any_shape_comes_back_from_its_square(made: dict[str, Path]) -> None:
    spec = Ours.read(made["naflex"]).spec
    spec = dataclasses.replace(spec, patch_size=4, resize_size=300, image_size=patches_side(4, 300))
    for size in [*SHAPES, (1, 3000)]:
        width, height = naflex.fitted(size, spec)
        picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        assert np.array_equal(naflex.unpacked(naflex.packed(picture, spec), spec), picture)


def test_no_picture_has_no_embedding_of_naflex(made: dict[str, Path]) -> None:
    ours = Ours.read(made["naflex"])
    void = encoder(families.of(ours.found).towers(ours.found, ours.spec).image)(void_pixels(ours.spec.image_size)[None])
    assert not void.any()


def test_naflex_in_onnx(made: dict[str, Path], tmp_path: Path) -> None:
    ours = Ours.read(made["naflex"])
    module = families.of(ours.found).towers(ours.found, ours.spec).image
    images = np.stack([preprocess(png(*size), ours.spec) for size in SHAPES])
    OnnxFp32().build(Source("image", ours.spec, lambda: copy.deepcopy(module), lambda _: tmp_path, list, None), tmp_path)
    given = OnnxFp32().load(Artefact(tmp_path, "image", lambda: module))(images)
    assert (given * encoder(module)(images)).sum(axis=1).min() >= 0.9999


@pytest.mark.parametrize("family", ["siglip", "siglip2", "naflex"])
def test_a_mask_of_padding_is_followed(family: str, made: dict[str, Path], tmp_path: Path) -> None:
    """Older tokenizers make one; transformers gives it to the text tower, which then doesn't see padding."""
    folder = Path(shutil.copytree(made[family], tmp_path / "copy"))
    edit(folder / "tokenizer_config.json", model_input_names=["input_ids", "attention_mask"])
    ours, seen = Ours.read(folder), Ours.read(made[family])
    texts = [*TEXTS, *around_the_context(folder, ours.spec.context_length)]
    assert (ours.embed(texts) * library_texts(folder, texts, ours)).sum(axis=1).min() >= 0.9999
    assert (ours.embed(texts[:2]) * seen.embed(texts[:2])).sum(axis=1).max() < 0.999
    assert ours.spec.fingerprint != seen.spec.fingerprint
    assert verdicts_of(folder)["text"].differences == ()


def test_a_mask_of_padding_at_the_start_is_refused(made: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made["siglip"], tmp_path / "copy"))
    edit(folder / "tokenizer_config.json", model_input_names=["input_ids", "attention_mask"], padding_side="left")
    with pytest.raises(InvalidInput, match=r'pads texts at the start.* set "padding_side": "right"'):
        Ours.read(folder)


def test_siglips_file_beside_its_sentencepiece_model_is_not_its_tokenizer(made: dict[str, Path]) -> None:
    """Both are in Google's repositories; transformers takes the one that drops punctuation."""
    text = "a black/white cat <3"
    own = Rust.from_file(str(made["siglip"] / "tokenizer.json")).encode(text).ids
    row = Ours.read(made["siglip"]).tokens([text])[0].tolist()
    assert row[: len(own)] != own
    assert row == tokens(made["siglip"], [text], Ours.read(made["siglip"]).spec)[0]


def test_a_text_that_fills_the_context_of_siglip_2_has_an_embedding(made: dict[str, Path]) -> None:
    """Its file is saved as it pads; the token behind a short text isn't the one that ends texts."""
    ours = Ours.read(made["siglip2"])
    assert ours.spec.end_token == AutoTokenizer.from_pretrained(made["siglip2"]).eos_token_id
    texts = [*around_the_context(made["siglip2"], ours.spec.context_length), "many words " * 300]
    np.testing.assert_allclose(np.linalg.norm(ours.embed(texts), axis=1), 1, atol=1e-5)


def test_the_oracle_names_the_tokens_of_another_file(made: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    read = checkpoint.read_tokenizer

    def from_the_file(folder: Path, *arguments: Any) -> Any:
        return dataclasses.replace(read(folder, *arguments), content=(folder / "tokenizer.json").read_text())

    monkeypatch.setattr(checkpoint, "read_tokenizer", from_the_file)
    steps = {difference.item: difference.step for difference in verdicts_of(made["siglip"])["text"].differences}
    assert steps["punctuation"] == "tokens"


def test_the_oracle_sees_padding_taken_for_the_end(made: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hugging_face, "end_token", lambda *_: 0)
    broken = [difference.item for difference in verdicts_of(made["siglip2"])["text"].differences]
    assert {"a text that fills the context", "a text one word too long", "a text far beyond the context"} <= {*broken}


@pytest.mark.parametrize("family", ["siglip", "naflex"])
def test_an_image_tower_without_its_head(family: str, made: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made[family], tmp_path / "copy"))
    config = json.loads((folder / "config.json").read_text())
    edit(folder / "config.json", vision_config={**config["vision_config"], "vision_use_head": False})
    with pytest.raises(InvalidInput, match="vision_use_head off, without which transformers gives no image embedding"):
        Ours.read(folder)
    assert AutoModel.from_pretrained(folder).get_image_features(**library_inputs(folder)).pooler_output is None


def library_inputs(folder: Path) -> Any:
    """A picture as transformers prepares it."""
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    return processor(references.pictures([png(40, 30)]), return_tensors="pt")


REFUSED: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "another end": (
        "metaclip_2",
        lambda it: edit_part(it, "text_config", eos_token_id=0),
        "ends texts with token 0, the tokenizer with 2",
    ),
    "patches of another size": (
        "naflex",
        lambda it: edit(it / "preprocessor_config.json", patch_size=16),
        "gives patches of 16 pixels a side, the image tower takes those of 8",
    ),
    "no patches": (
        "naflex",
        lambda it: more_checkpoints.write_siglip_processor(it),
        "is a SiglipImageProcessor, .* expected a Siglip2ImageProcessor",
    ),
    "patches for a tower of squares": (
        "siglip",
        lambda it: edit(it / "preprocessor_config.json", image_processor_type="Siglip2ImageProcessor"),
        "is a Siglip2ImageProcessor, .* expected a CLIPImageProcessor or one like it",
    ),
    "none at all": (
        "naflex",
        lambda it: edit(it / "preprocessor_config.json", max_num_patches=0),
        "has a size of 0, .* expected a whole number",
    ),
    "a resize that is off": (
        "naflex",
        lambda it: edit(it / "preprocessor_config.json", do_resize=False),
        "has do_resize off",
    ),
    "no head": ("aimv2", lambda it: edit_part(it, "vision_config", use_head=False), "has use_head off"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_followed_is_refused(kind: str, made: dict[str, Path], tmp_path: Path) -> None:
    family, change, message = REFUSED[kind]
    folder = Path(shutil.copytree(made[family], tmp_path / "copy"))
    change(folder)
    with pytest.raises(InvalidInput, match=message):
        Ours.read(folder)


def test_blip_has_no_embeddings(made: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made["aimv2"], tmp_path / "copy"))
    edit(folder / "config.json", model_type="blip")
    with pytest.raises(InvalidInput, match=r"is a BLIP, .* expected a checkpoint with an image and a text tower"):
        Ours.read(folder)


def edit_part(folder: Path, part: str, **changes: Any) -> None:
    """Change a part of config.json."""
    config = json.loads((folder / "config.json").read_text())
    edit(folder / "config.json", **{part: {**config[part], **changes}})
