"""CLIP checkpoints made from configs: seeded random weights, the real vocabulary."""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

VOCABULARY = Path(__file__).parent / "data" / "bpe_simple_vocab_16e6.txt.gz"

PROCESSOR = {
    "image_processor_type": "CLIPImageProcessor",
    "do_convert_rgb": True,
    "do_resize": True,
    "size": {"shortest_edge": 224},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}


def make(
    folder: Path,
    *,
    vision: dict[str, Any] | None = None,
    text: dict[str, Any] | None = None,
    projection: int = 512,
    processor: dict[str, Any] | None = None,
    pad_token: str = "<|endoftext|>",
) -> Path:
    """Write a small checkpoint (by default the shapes of B/32, with few and narrow layers) and return its folder."""
    small = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    torch.manual_seed(0)
    config = CLIPConfig(
        vision_config={**small, **(vision or {})},
        text_config={**small, "eos_token_id": 49407, "bos_token_id": 49406, **(text or {})},
        projection_dim=projection,
    )
    CLIPModel(config).save_pretrained(folder)
    write_tokenizer(folder, pad_token)
    (folder / "preprocessor_config.json").write_text(json.dumps({**PROCESSOR, **(processor or {})}))
    return folder


def write_tokenizer(folder: Path, pad_token: str = "<|endoftext|>") -> None:
    """CLIP's own byte-pair tokenizer, as the hub's checkpoints carry it."""
    vocabulary, merges = _vocabulary()
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, pad_token=pad_token, model_max_length=77)
    tokenizer.save_pretrained(folder)


@cache
def _vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    codes = [*range(33, 127), *range(161, 173), *range(174, 256)]
    characters = [chr(code) for code in codes] + [chr(256 + n) for n in range(256 - len(codes))]
    lines = gzip.decompress(VOCABULARY.read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    merges = [(first, second) for first, second in (line.split() for line in lines)]
    words = [*characters, *(c + "</w>" for c in characters), *("".join(pair) for pair in merges)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    return {word: n for n, word in enumerate(words)}, merges
