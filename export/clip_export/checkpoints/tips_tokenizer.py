"""TIPS v2's tokenizer, which ends texts with nothing -> one that ends them with the padding token."""

from __future__ import annotations

from typing import Any

from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

CLASS = "Tipsv2Tokenizer"
"""transformers' name of it."""


def ended(tokenizer: Any) -> str:
    """Return its ``tokenizer.json`` with the padding token behind each text, where padding would begin.

    A text and its absence are told apart by an end token. The tower looks at nothing from there on, as transformers masks it.
    """
    copy = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    end, number = tokenizer.pad_token, tokenizer.pad_token_id
    copy.post_processor = TemplateProcessing(single=f"$A {end}", special_tokens=[(end, number)])
    return str(copy.to_str())
