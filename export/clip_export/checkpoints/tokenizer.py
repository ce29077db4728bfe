"""Tokenizer of a checkpoint, in any of transformers' forms -> one ``tokenizer.json`` with the same tokens."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from clip_client.errors import InvalidInput
from clip_client.spec import TOKENIZER_FILE
from clip_export.checkpoints import siglip_tokenizer, tips_tokenizer
from clip_export.checkpoints.file_names import VOCABULARIES
from clip_export.library_errors import reading

_TRUNCATED_AT = 2**16  # tokens; a placeholder, of a stored truncation only the side is used
_UNKNOWN = "\U0002a6d6"  # a character that hardly a vocabulary has, and that no normalizer drops


@dataclass(frozen=True)
class TextTokenizer:
    """A tokenizer as transformers loads it from a checkpoint's folder.

    Attributes:
        content: of a ``tokenizer.json``; only the sides of its truncation and padding count.
        pad_token: fills rows; None if there is no such token.
        max_length: most tokens that the checkpoint's settings allow.
        padding_side: ``right`` or ``left``.
        inputs: names of the model's inputs, ``attention_mask`` among them if padding is masked.
    """

    content: str
    pad_token: int | None
    max_length: float
    padding_side: str
    inputs: tuple[str, ...]


def read(folder: Path, label: str, vocabulary: float = math.inf) -> TextTokenizer:
    """Load the tokenizer of a checkpoint's folder as ``AutoTokenizer`` does, without code of the folder's.

    Args:
        folder: of the files.
        label: the checkpoint's name, for messages.
        vocabulary: number of tokens that the text tower knows. Added tokens beyond, which no library could embed, are left out.

    Raises:
        InvalidInput: if there is no file of a known kind, transformers can't load it, or it isn't of these weights.
    """
    if not any((folder / name).exists() for name in VOCABULARIES):
        raise InvalidInput(
            f"{label} has no tokenizer.json, nor a vocab.json, vocab.txt or spiece.model: save the checkpoint's tokenizer too"
        )
    from transformers import AutoTokenizer

    with reading(label, "the tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        if getattr(tokenizer, "split_special_tokens", False):
            raise InvalidInput(f'{label}: the tokenizer has "split_special_tokens" on, which isn\'t supported: set it to false')
        content = _within(
            _settled(_serialized(tokenizer, label), tokenizer.truncation_side, tokenizer.padding_side), vocabulary, label
        )
        return TextTokenizer(
            content=_kept(folder / TOKENIZER_FILE, content),
            pad_token=tokenizer.pad_token_id,
            max_length=tokenizer.model_max_length + (type(tokenizer).__name__ == tips_tokenizer.CLASS),
            padding_side=tokenizer.padding_side,
            inputs=tuple(tokenizer.model_input_names),
        )


def _serialized(tokenizer: Any, label: str) -> str:
    if type(tokenizer).__name__ == tips_tokenizer.CLASS:
        return tips_tokenizer.ended(tokenizer)
    if tokenizer.is_fast:
        return str(tokenizer.backend_tokenizer.to_str())
    if type(tokenizer).__name__ == "SiglipTokenizer":
        return siglip_tokenizer.converted(tokenizer, label)
    raise InvalidInput(
        f"{label}: transformers has its {type(tokenizer).__name__} in Python only, which can't be followed: save the "
        "checkpoint's tokenizer as tokenizer.json"
    )


def _settled(content: str, truncation_side: str, padding_side: str) -> str:
    """Remove the truncation and padding that an earlier call left behind, except those at the beginning of texts."""
    tokenizer = Tokenizer.from_str(content)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if truncation_side == "left":
        tokenizer.enable_truncation(_TRUNCATED_AT, direction="left")
    if padding_side == "left":
        tokenizer.enable_padding(direction="left")
    return str(tokenizer.to_str())


def _within(content: str, vocabulary: float, label: str) -> str:
    state = json.loads(content)
    kept = [token for token in state["added_tokens"] if token["id"] < vocabulary]
    within = content if kept == state["added_tokens"] else json.dumps({**state, "added_tokens": kept})
    tokenizer = Tokenizer.from_str(within)
    tokenizer.no_truncation()
    encoded = tokenizer.encode(f"a {_UNKNOWN}").ids  # raises where a text could
    if (largest := max([*tokenizer.get_vocab().values(), *encoded])) >= vocabulary:
        raise InvalidInput(
            f"{label}: the tokenizer has tokens up to {largest}, the text tower {vocabulary} in all: save the tokenizer that "
            "belongs to the weights"
        )
    return within


def _kept(file: Path, content: str) -> str:
    """Return the checkpoint's own file, byte for byte, where it gives the same tokens, so that its digest names the tokenizer.

    Only the sides of its stored truncation and padding matter: ``clip_client.tokens`` sets its own.
    """
    if not file.exists():
        return content
    own = file.read_text(encoding="utf-8")
    try:
        stored = Tokenizer.from_str(own)
        sides = [(state or {}).get("direction", "right") for state in (stored.truncation, stored.padding)]
        same = json.loads(_settled(own, *sides)) == json.loads(content)
    except Exception:  # transformers reads parts of files that tokenizers doesn't
        return content
    return own if same else content
