"""Recipes of CLIP in Hugging Face's format, with the files that the hub's repositories have had since 2021."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import checkpoints
import other_checkpoints
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel

from recipe import FLAX_AND_TENSORFLOW, Layout, Recipe, changed, stirred, write

SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
OPENAI_MEAN, OPENAI_STD = checkpoints.PROCESSOR["image_mean"], checkpoints.PROCESSOR["image_std"]
_TOKEN = {"__type": "AddedToken", "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Shape of a CLIP: real but for widths, depths and vocabulary.

    Attributes:
        patch: side of a patch, in pixels.
        image: side of a picture.
        projection: size of an embedding.
        activation: of both towers.
        positions: of the text tower's weights.
        mean: of pixels; the standard deviation follows from it.
        half: weights in float16.
        merges: of the tokenizer, all of which only open_clip needs.
        parts: defaults of the towers are told in ``text_config_dict`` and ``vision_config_dict`` too.
        fast: ``tokenizer.json`` lies beside the vocabulary.
    """

    patch: int = 32
    image: int = 224
    projection: int = 512
    activation: str = "quick_gelu"
    positions: int = 77
    mean: Sequence[float] = tuple(OPENAI_MEAN)
    half: bool = False
    merges: int = checkpoints.MERGES
    parts: bool = False
    fast: bool = True


def write_clip(folder: Path, shape: Shape = Shape()) -> None:
    """Write weights, configuration, processor and tokenizer as the converter of 2021 did."""
    tokens = checkpoints.tokens(shape.merges)
    vision = {**SMALL, "patch_size": shape.patch, "image_size": shape.image, "hidden_act": shape.activation}
    text = {**SMALL, "vocab_size": tokens, "max_position_embeddings": shape.positions, "hidden_act": shape.activation}
    text |= {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    model = stirred(CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=shape.projection)))
    model.half() if shape.half else model.float()
    model.save_pretrained(folder)
    _add_positions(folder / "model.safetensors", shape)
    parts = {"text_config_dict": text, "vision_config_dict": vision} if shape.parts else {}
    changed(folder / "config.json", **{"text_config_dict": None, "vision_config_dict": None, **parts})
    write_processor(folder, shape)
    write_tokenizer(folder, merges=shape.merges, fast=shape.fast)


def _add_positions(path: Path, shape: Shape) -> None:
    """Add the buffers that transformers saved with the weights until 2023."""
    patches = (shape.image // shape.patch) ** 2 + 1
    buffers = {
        "text_model.embeddings.position_ids": torch.arange(shape.positions)[None],
        "vision_model.embeddings.position_ids": torch.arange(patches)[None],
    }
    save_file({**load_file(path), **buffers}, path, {"format": "pt"})


def write_processor(folder: Path, shape: Shape) -> None:
    """Write sizes as numbers, and no step that is newer than 2021."""
    std = OPENAI_STD if list(shape.mean) == OPENAI_MEAN else [0.5, 0.5, 0.5]
    write(
        folder / "preprocessor_config.json",
        {
            "crop_size": shape.image, "do_center_crop": True, "do_normalize": True, "do_resize": True,
            "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": list(shape.mean), "image_std": std,
            "resample": 3, "size": shape.image,
        },
    )  # fmt: skip


def write_tokenizer(folder: Path, *, merges: int = checkpoints.MERGES, fast: bool = True) -> None:
    """Write vocabulary and merges, with ``tokenizer.json`` or without."""
    checkpoints.write_tokenizer(folder, "<|endoftext|>", merges)
    words, pairs = checkpoints.vocabulary(merges)
    (folder / "vocab.json").write_text(json.dumps(words))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{first} {second}\n" for first, second in pairs))
    bos, eos = ({**_TOKEN, "content": content} for content in ("<|startoftext|>", "<|endoftext|>"))
    special = {"bos_token": bos, "eos_token": eos, "unk_token": eos}
    plain = {name: {key: value for key, value in token.items() if key != "__type"} for name, token in special.items()}
    write(folder / "special_tokens_map.json", {**plain, "pad_token": "<|endoftext|>"})
    settings = {
        **special, "pad_token": "<|endoftext|>", "add_prefix_space": False, "errors": "replace", "do_lower_case": True,
        "name_or_path": "openai/clip-vit-base-patch32", "model_max_length": 77, "tokenizer_class": "CLIPTokenizer",
        "special_tokens_map_file": "./special_tokens_map.json",
    }  # fmt: skip
    write(folder / "tokenizer_config.json", settings)
    if not fast:
        (folder / "tokenizer.json").unlink()


def write_long_clip(folder: Path) -> None:
    """Write 248 positions under a configuration that says 77."""
    write_clip(folder, Shape(patch=14, projection=768, positions=248))
    text = json.loads((folder / "config.json").read_text())["text_config"]
    changed(folder / "config.json", text_config={**text, "max_position_embeddings": 77})


def write_gmp(folder: Path) -> None:
    """Write the same model in six files, one of them a text tower alone."""
    write_clip(folder, Shape(patch=14, projection=768))
    tensors = load_file(folder / "model.safetensors")
    text = {name: tensor for name, tensor in tensors.items() if name.startswith("text_")}
    for kind in ("ViT-L-14-BEST-smooth-GmP", "ViT-L-14-TEXT-detail-improved-hiT-GmP"):
        save_file(tensors, folder / f"{kind}-HF-format.safetensors", {"format": "pt"})
        save_file(text, folder / f"{kind}-TE-only-HF-format.safetensors", {"format": "pt"})
    torch.save(tensors, folder / "ViT-L-14-BEST-smooth-GmP-ft-state_dict.pt")


def write_sentence_transformer(folder: Path, shape: Shape) -> None:
    """Write a CLIP in the folder of sentence-transformers' only module."""
    write_clip(folder / "0_CLIPModel", shape)
    write(folder / "modules.json", [_module(0, "0_CLIPModel", "CLIPModel")])
    write(folder / "config_sentence_transformers.json", {"__version__": {"sentence_transformers": "2.0.0"}})


def write_multilingual(folder: Path) -> None:
    """Write the text tower beside clip-ViT-B-32: DistilBERT, the mean, a dense layer."""
    other_checkpoints.sentence_transformer(folder)
    tensors = load_file(folder / "2_Dense" / "model.safetensors")
    save_file(tensors, folder / "2_Dense" / "model.safetensors", {"format": "pt"})


def _module(number: int, path: str, kind: str) -> dict[str, Any]:
    return {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}


def _clip(id: str, layout: Layout, **shape: Any) -> Recipe:
    return Recipe(id=id, make=partial(write_clip, shape=Shape(**shape)), layout=layout)


LARGE = {"patch": 14, "projection": 768}
_OLD = Layout("pickle", beside=FLAX_AND_TENSORFLOW)
_BOTH = Layout("both", beside=FLAX_AND_TENSORFLOW)
_SENTENCES = {"kind": "sentence-transformers", "library": "sentence_transformers"}

RECIPES = [
    _clip("openai/clip-vit-base-patch32", Layout("pickle", pull=66, beside=FLAX_AND_TENSORFLOW)),
    _clip("openai/clip-vit-base-patch16", Layout("pickle", pull=17, beside=FLAX_AND_TENSORFLOW), patch=16),
    _clip("openai/clip-vit-large-patch14", _BOTH, **LARGE),
    _clip("openai/clip-vit-large-patch14-336", Layout("pickle", pull=8, beside=("tf_model.h5",)), **LARGE, image=336),
    _clip("patrickjohncyh/fashion-clip", Layout("both", beside=("onnx/model.onnx",))),
    _clip("wkcn/TinyCLIP-ViT-8M-16-Text-3M-YFCC15M", Layout("both"), patch=16, activation="gelu"),
    _clip("flax-community/clip-rsicd-v2", Layout("pickle", beside=("flax_model.msgpack",))),
    _clip("facebook/metaclip-b32-400m", Layout("both")),
    _clip("facebook/metaclip-h14-fullcc2.5b", Layout("sharded both"), patch=14, projection=1024, half=True),
    _clip("vinid/plip", _OLD),
    _clip("flaviagiammarino/pubmed-clip-vit-base-patch32", _BOTH),
    _clip("geolocal/StreetCLIP", Layout("both"), **LARGE, image=336),
    _clip("laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K", Layout("both"), image=256, activation="gelu"),
    Recipe(id="zer0int/CLIP-GmP-ViT-L-14", make=write_gmp),
    Recipe(id="zer0int/LongCLIP-GmP-ViT-L-14", make=write_long_clip, library="long_clip"),
    Recipe(
        id="sentence-transformers/clip-ViT-B-32",
        make=partial(write_sentence_transformer, shape=Shape(fast=False)), layout=Layout("both"), **_SENTENCES,
    ),
    Recipe(
        id="sentence-transformers/clip-ViT-L-14",
        make=partial(write_sentence_transformer, shape=Shape(**LARGE, fast=False)), layout=Layout("pickle"), **_SENTENCES,
    ),
    Recipe(
        id="sentence-transformers/clip-ViT-B-32-multilingual-v1", make=write_multilingual, layout=Layout("both"),
        needs=("sentence-transformers/clip-ViT-B-32",), kind="sentence-transformers", library="multilingual",
    ),
]  # fmt: skip
