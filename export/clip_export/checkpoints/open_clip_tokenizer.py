"""open_clip's tokenizers as one ``tokenizer.json`` each.

open_clip first cleans a text in Python. Replacements of characters are followed. Two steps are left out: ftfy's repair of
wrongly decoded text, and HTML's rarer entities.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Regex, normalizers

from clip_client.errors import InvalidInput
from clip_export.checkpoints import tokenizer
from clip_export.checkpoints.text_normalizers import LOWER, NO_PUNCTUATION, ONE_SPACE, prepended
from clip_export.checkpoints.tokenizer import TextTokenizer

_CLEAN = {
    "whitespace": ONE_SPACE,
    "lower": [*ONE_SPACE, *LOWER],
    "canonicalize": [normalizers.Replace("_", " "), *NO_PUNCTUATION, *LOWER, *ONE_SPACE],
}
_ENTITIES = {"&lt;": "<", "&gt;": ">", "&quot;": '"', "&#39;": "'", "&nbsp;": " ", "&amp;": "&"}


def read(text: Mapping[str, Any], folder: Path, label: str) -> TextTokenizer:
    """Make the tokenizer that a ``text_cfg`` asks for.

    Args:
        text: open_clip's configuration of the text tower.
        folder: of Hugging Face's tokenizer, if it is one.
        label: the checkpoint's name, for messages.

    Raises:
        InvalidInput: if it does something that a ``tokenizer.json`` can't.
    """
    settings = dict(text.get("tokenizer_kwargs", {}))
    named = bool(text.get("hf_tokenizer_name"))
    clean = settings.pop("clean", "whitespace" if named else "lower")
    if text.get("tokenizer_mode"):
        settings["tokenizer_mode"] = text["tokenizer_mode"]
    if clean not in _CLEAN or settings:
        raise InvalidInput(
            f"{label}: the tokenizer's settings {settings or clean} can't be followed, expected clean as one of "
            f"{', '.join(_CLEAN)} and nothing else"
        )
    own = tokenizer.read(folder, label) if named else _simple()
    content = prepended(_reachable(own.content, _CLEAN[clean]), [*_repaired(), *_CLEAN[clean]])
    return dataclasses.replace(own, content=content)


def _reachable(content: str, steps: Sequence[normalizers.Normalizer]) -> str:
    """Remove the added tokens that no cleaned text can hold, such as those in brackets that lose them."""
    cleaned = normalizers.Sequence([*steps])
    state = json.loads(content)
    kept = [token for token in state["added_tokens"] if cleaned.normalize_str(token["content"]) == token["content"]]
    return content if kept == state["added_tokens"] else json.dumps({**state, "added_tokens": kept})


def _simple() -> TextTokenizer:
    """Make ``open_clip.SimpleTokenizer``: OpenAI's byte pairs, with other names of the end tokens than transformers."""
    import open_clip
    from transformers import CLIPTokenizer

    simple = open_clip.SimpleTokenizer()
    start, end = (simple.decoder[token] for token in (simple.sot_token_id, simple.eot_token_id))
    names = {"bos_token": start, "eos_token": end, "unk_token": end, "pad_token": end}
    tokenizer = CLIPTokenizer(vocab=simple.encoder, merges=list(simple.bpe_ranks), **names)
    return TextTokenizer(str(tokenizer.backend_tokenizer.to_str()), 0, math.inf, "right", ("input_ids",))


def _repaired() -> Iterator[normalizers.Normalizer]:
    """Yield the steps of ``ftfy.fix_text`` for entities, ligatures, full width, curled quotes and control characters."""
    from ftfy import chardata

    for entity, character in _ENTITIES.items():
        yield normalizers.Replace(entity, character)
    for code, characters in {**chardata.LIGATURES, **chardata.WIDTH_MAP}.items():
        yield normalizers.Replace(chr(code), characters)
    yield normalizers.Replace(Regex("[\u02bc\u2018-\u201b]"), "'")
    yield normalizers.Replace(Regex("[\u201c-\u201f]"), '"')
    yield normalizers.Replace(Regex("[\x00-\x08\x0b\x0e-\x1f\x7f\ufeff]"), "")
    yield normalizers.NFC()
