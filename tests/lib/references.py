"""Embeddings as each family's own library computes them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer, ChineseCLIPModel, CLIPModel, SiglipModel, XLMRobertaConfig, XLMRobertaModel
from transformers.image_utils import load_image
from transformers.models.chinese_clip.image_processing_pil_chinese_clip import ChineseCLIPImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

Pair = tuple[np.ndarray, np.ndarray]
"""Unit embeddings of images and of texts, float32 [N, D] and [M, D]."""


def clip(folder: Path, images: Sequence[bytes], texts: Sequence[str]) -> Pair:
    """CLIP: texts padded to the context."""
    model = CLIPModel.from_pretrained(folder).eval()
    length = min(model.config.text_config.max_position_embeddings, 77)
    return _pair(model, CLIPImageProcessorPil.from_pretrained(folder), folder, images, texts, length)


def siglip(folder: Path, images: Sequence[bytes], texts: Sequence[str]) -> Pair:
    """SigLIP: texts padded to the context, which is what it was trained on."""
    model = SiglipModel.from_pretrained(folder).eval()
    return _pair(model, SiglipImageProcessorPil.from_pretrained(folder), folder, images, texts, 64)


def siglip_probabilities(folder: Path, images: Sequence[bytes], texts: Sequence[str]) -> np.ndarray:
    """SigLIP's own probability of each pair, float32 [N, M]."""
    model = SiglipModel.from_pretrained(folder).eval()
    pixels = SiglipImageProcessorPil.from_pretrained(folder)(images=pictures(images), return_tensors="pt")
    tokens = _tokens(folder, texts, 64)
    with torch.inference_mode():
        return torch.sigmoid(model(**pixels, **tokens).logits_per_image).numpy()


def chinese_clip(folder: Path, images: Sequence[bytes], texts: Sequence[str]) -> Pair:
    """Chinese-CLIP: texts masked where they are padded."""
    model = ChineseCLIPModel.from_pretrained(folder).eval()
    length = model.config.text_config.max_position_embeddings
    return _pair(model, ChineseCLIPImageProcessorPil.from_pretrained(folder), folder, images, texts, length)


def sentence_transformer(folder: Path, images: Sequence[bytes], texts: Sequence[str]) -> Pair:
    """A model of sentence-transformers, whose modules are few enough to write out, beside a CLIP."""
    dense = load_file(folder / "text" / "2_Dense" / "model.safetensors")["linear.weight"]
    means = _means(AutoModel.from_pretrained(folder / "text"), folder / "text", texts, 128)
    return clip(folder / "image", images, texts)[0], unit(means @ dense.T)


def m_clip(folder: Path, images: Sequence[bytes], texts: Sequence[str]) -> Pair:
    """Multilingual-CLIP, as ``pt_multilingual_clip.MultilingualCLIP.forward`` computes it, beside a CLIP."""
    weights = load_file(folder / "text" / "model.safetensors")
    encoder = XLMRobertaModel(XLMRobertaConfig.from_pretrained(folder / "text" / "small-xlm-roberta"))
    encoder.load_state_dict({name.removeprefix("transformer."): weights[name] for name in weights if "transformer." in name})
    means = _means(encoder, folder / "text", texts, 80)
    linear = weights["LinearTransformation.weight"], weights["LinearTransformation.bias"]
    return clip(folder / "image", images, texts)[0], unit(torch.nn.functional.linear(means, *linear))


def pictures(images: Sequence[bytes]) -> list[Image.Image]:
    """Decoded, upright, in RGB."""
    return [load_image(Image.open(io.BytesIO(image))) for image in images]


def unit(features: torch.Tensor) -> np.ndarray:
    """Rows of unit length."""
    return torch.nn.functional.normalize(features, dim=1).numpy()


def _pair(model: Any, processor: Any, folder: Path, images: Sequence[bytes], texts: Sequence[str], length: int) -> Pair:
    pixels = processor(images=pictures(images), return_tensors="pt")
    tokens = _tokens(folder, texts, length)
    with torch.inference_mode():
        return unit(model.get_image_features(**pixels).pooler_output), unit(model.get_text_features(**tokens).pooler_output)


def _means(encoder: Any, folder: Path, texts: Sequence[str], length: int) -> torch.Tensor:
    """The mean over each text's hidden states, float32 [N, W]."""
    tokens = AutoTokenizer.from_pretrained(folder)(
        list(texts), padding=True, max_length=length, truncation=True, return_tensors="pt"
    )
    ids, mask = tokens["input_ids"], tokens["attention_mask"]
    with torch.inference_mode():
        hidden = encoder.eval()(input_ids=ids, attention_mask=mask).last_hidden_state
    return (hidden * mask[:, :, None]).sum(dim=1) / mask.sum(dim=1)[:, None]


def _tokens(folder: Path, texts: Sequence[str], length: int) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return tokenizer(list(texts), padding="max_length", max_length=length, truncation=True, return_tensors="pt")
