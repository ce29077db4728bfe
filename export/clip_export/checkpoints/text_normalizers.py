"""Steps that Python code applies to texts, written as normalizers of a ``tokenizer.json``."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Regex, Tokenizer, normalizers

LOWER = [normalizers.Replace(Regex(r"(?<=\p{L})Σ(?!\p{L})"), "ς"), normalizers.Lowercase()]
"""``str.lower()``, which knows the sigma at the end of a word."""

NO_PUNCTUATION = [normalizers.Replace(Regex(r"[!-/:-@\[-`{-~]"), "")]
"""Removal of ``string.punctuation``."""

ONE_SPACE = [normalizers.Replace(Regex(r"[\s\x1c-\x1f]+"), " "), normalizers.Strip()]
"""Runs of white space, as Python defines it -> one space, none at the ends."""


def prepended(content: str, steps: Sequence[normalizers.Normalizer]) -> str:
    """Return a ``tokenizer.json`` that applies the steps before its own normalizer."""
    tokenizer = Tokenizer.from_str(content)
    own = [tokenizer.normalizer] if tokenizer.normalizer else []
    tokenizer.normalizer = normalizers.Sequence([*steps, *own])
    return str(tokenizer.to_str())
