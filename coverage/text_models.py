"""Small text models of transformers' kinds, which dual encoders name, and the tokenizers that lie beside them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import other_checkpoints
import small_tokenizers
import transformers
from other_checkpoints import SMALL

_KINDS: dict[str, Callable[[Path], int]] = {
    "t5": small_tokenizers.t5,
    "bert": small_tokenizers.bert,
    "nllb": small_tokenizers.nllb,
    "xlm": other_checkpoints.write_xlm_roberta,
}


def write_tokenizer(folder: Path, kind: str) -> int:
    """Write a tokenizer; return the size of its vocabulary."""
    return _KINDS[kind](folder)


def write_text_encoder(folder: Path, kind: str) -> None:
    """Write configuration and tokenizer of a text model, whose weights nobody asks for."""
    folder.mkdir(parents=True)
    size = write_tokenizer(folder, kind)
    (_bert if kind == "bert" else _m2m_100)(size).save_pretrained(folder)


def _bert(size: int) -> Any:
    return transformers.BertConfig(**SMALL, vocab_size=size)


def _m2m_100(size: int) -> Any:
    parts = {f"{part}_{name}": 2 for part in ("encoder", "decoder") for name in ("layers", "attention_heads")}
    return transformers.M2M100Config(d_model=64, vocab_size=size, encoder_ffn_dim=64, decoder_ffn_dim=64, **parts)
