"""open_clip's tokenizers as one ``tokenizer.json`` each.

open_clip first cleans a text in Python. What can be said as replacements of characters is; what can't is left out: ftfy's
repair of text that was decoded wrongly, and HTML's rarer entities.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenizers import Regex, normalizers

from clip_client.errors import InvalidInput
from clip_export.tokenizer_files import LOWER, NO_PUNCTUATION, ONE_SPACE, prepended
from clip_export.tokenizer_files import tokenizer_json as hugging_face

_CLEAN = {
    "whitespace": ONE_SPACE,
    "lower": [*ONE_SPACE, *LOWER],
    "canonicalize": [normalizers.Replace("_", " "), *NO_PUNCTUATION, *LOWER, *ONE_SPACE],
}
_ENTITIES = {"&lt;": "<", "&gt;": ">", "&quot;": '"', "&#39;": "'", "&nbsp;": " ", "&amp;": "&"}


def tokenizer_json(text: Mapping[str, Any], folder: Path, label: str, config: Mapping[str, Any]) -> str:
    """Make the tokenizer that a ``text_cfg`` asks for.

    Args:
        text: open_clip's configuration of the text tower.
        folder: where Hugging Face's tokenizer is, if it is one.
        label: the checkpoint's name, for messages.
        config: its ``tokenizer_config.json``.

    Raises:
        InvalidInput: it does what a ``tokenizer.json`` can't.
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
    content = hugging_face(folder, label, config) if named else _simple()
    if clean == "canonicalize":  # it takes the brackets off a special token that somebody writes out
        content = json.dumps({**json.loads(content), "added_tokens": []})
    return prepended(content, [*_repaired(), *_CLEAN[clean]])


def _simple() -> str:
    """``open_clip.SimpleTokenizer``: OpenAI's byte pairs, which transformers has too, under other names of the end tokens."""
    import open_clip
    from transformers import CLIPTokenizer

    simple = open_clip.SimpleTokenizer()
    start, end = (simple.decoder[token] for token in (simple.sot_token_id, simple.eot_token_id))
    names = {"bos_token": start, "eos_token": end, "unk_token": end, "pad_token": end}
    tokenizer = CLIPTokenizer(vocab=simple.encoder, merges=list(simple.bpe_ranks), **names)
    return str(tokenizer.backend_tokenizer.to_str())


def _repaired() -> Iterator[normalizers.Normalizer]:
    """Entities, ligatures, full width, curled quotes and control characters, as ``ftfy.fix_text`` leaves them."""
    from ftfy import chardata

    for entity, character in _ENTITIES.items():
        yield normalizers.Replace(entity, character)
    for code, characters in {**chardata.LIGATURES, **chardata.WIDTH_MAP}.items():
        yield normalizers.Replace(chr(code), characters)
    yield normalizers.Replace(Regex("[\u02bc\u2018-\u201b]"), "'")
    yield normalizers.Replace(Regex("[\u201c-\u201f]"), '"')
    yield normalizers.Replace(Regex("[\x00-\x08\x0b\x0e-\x1f\x7f\ufeff]"), "")
    yield normalizers.NFC()
