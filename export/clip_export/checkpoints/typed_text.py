"""Names as they were typed or pasted: what is around them taken off, what can't be in them refused."""

from __future__ import annotations

import re
import unicodedata

from clip_client.errors import InvalidInput

EXPECTED = "expected a folder, a hub id such as openai/clip-vit-base-patch32, or open_clip:MODEL/TAG"

_LONGEST, _SHOWN = 4096, 200  # characters: of a path on Linux; of a name in a message
_SIMPLE = re.compile(r"[\w./~@:+-]+")
_CONTROL = ("Cc", "Cs", "Zl", "Zp")
_INVISIBLE = "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"
_DASHES = str.maketrans(dict.fromkeys("‐‑‒–—−", "-") | dict.fromkeys(_INVISIBLE, ""))
_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’", "«": "»", "<": ">"}


def cleaned(model: str) -> str:
    """Return a name without quotes and white space around it.

    Raises:
        InvalidInput: if nothing is left, it is too long, or it has line breaks or other control characters.
    """
    text = _bared(model)
    while len(text) > 1 and _QUOTES.get(text[0]) == text[-1]:
        text = _bared(text[1:-1])
    if not text:
        raise InvalidInput(f"the name of the checkpoint is empty: {EXPECTED}")
    if len(text) > _LONGEST:
        raise InvalidInput(f"the name of the checkpoint has {len(text):,} characters, {quoted(text)}: {EXPECTED}")
    if any(unicodedata.category(character) in _CONTROL for character in text):
        raise InvalidInput(f"the name of the checkpoint has line breaks or control characters, {quoted(text)}: {EXPECTED}")
    return text


def plain(text: str) -> str:
    """Return a name with the letters, dashes and spaces of a keyboard, as pages and papers often don't have them."""
    return unicodedata.normalize("NFKC", text).translate(_DASHES)


def quoted(text: str) -> str:
    """Return a name for a message: on one line, not too long, without the password of a URL, in quotes if it is odd."""
    text = re.sub(r"//[^/@\s]*@", "//", text)
    if len(text) > _SHOWN:
        return f"{text[:_SHOWN]!r}…"
    return text if _SIMPLE.fullmatch(text) else repr(text)


def _bared(text: str) -> str:
    return text.strip().strip(_INVISIBLE).strip()
