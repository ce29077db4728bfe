"""CLIP checkpoints made from configs: seeded random weights, the real vocabulary or the beginning of it."""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

VOCABULARY = Path(__file__).parents[1] / "data" / "bpe_simple_vocab_16e6.txt.gz"

ALL_MERGES = 49152 - 256 - 2
MERGES = 4_000
"""Enough for common words to be tokens; tokenizers are read and written quickly, and the text tower is small."""
END = 2 * 256 + MERGES + 1
"""The end token, which is the last one."""

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
    merges: int = MERGES,
    notice: str = "",
) -> Path:
    """Write a small checkpoint (by default the shapes of B/32, with few and narrow layers) and return its folder."""
    size = tokens(merges)
    small = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    torch.manual_seed(0)
    config = CLIPConfig(
        vision_config={**small, **(vision or {})},
        text_config={**small, "vocab_size": size, "eos_token_id": size - 1, "bos_token_id": size - 2, **(text or {})},
        projection_dim=projection,
    )
    if notice:
        config.notice = notice
    CLIPModel(config).save_pretrained(folder)
    write_tokenizer(folder, pad_token, merges)
    (folder / "preprocessor_config.json").write_text(json.dumps({**PROCESSOR, **(processor or {})}))
    return folder


def tokens(merges: int) -> int:
    """Size of the vocabulary with so many merges; its last two tokens are the start and the end of a text."""
    return 2 * 256 + merges + 2


def write_tokenizer(folder: Path, pad_token: str, merges: int) -> None:
    """CLIP's own byte-pair tokenizer with its first merges; with all of them as the hub's checkpoints carry it."""
    words, pairs = vocabulary(merges)
    tokenizer = CLIPTokenizer(vocab=words, merges=pairs, pad_token=pad_token, model_max_length=77)
    tokenizer.save_pretrained(folder)


@cache
def vocabulary(merges: int) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Numbers of tokens, and the pairs that are merged, in order."""
    codes = [*range(33, 127), *range(161, 173), *range(174, 256)]
    characters = [chr(code) for code in codes] + [chr(256 + n) for n in range(256 - len(codes))]
    lines = gzip.decompress(VOCABULARY.read_bytes()).decode().split("\n")[1 : merges + 1]
    pairs = [(first, second) for first, second in (line.split() for line in lines)]
    words = [*characters, *(c + "</w>" for c in characters), *("".join(pair) for pair in pairs)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    return {word: n for n, word in enumerate(words)}, pairs
