"""Texts and JSON that people keep beside pictures, in any encoding that can be told."""

import codecs
import json
import re
from pathlib import Path
from typing import Any

from clip_client.errors import InvalidInput
from clip_client.regular_files import read_regular

_MOST_BYTES = 2**20  # of a text or the fields of one picture
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # starts as UTF-16's does
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_FOREIGN = re.compile(r"[^\x00-\x7f]{4}")  # no Western text has four accents in a row; other alphabets read so have
_PUNCTUATION = frozenset("‘’‚“”„–—…€•«»©®™°±²³´·¹º¼½¾¿¡£§ª×÷\xa0")


def read_text(path: Path) -> tuple[str, str]:
    """Return a text without the space around it, and a remark where its encoding had to be guessed.

    Raises:
        InvalidInput: it can't be read, is too large, or its encoding isn't known.
    """
    text, remark = decoded(read_regular(path, _MOST_BYTES)[0])
    return text.strip(), remark


def read_fields(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; raise InvalidInput if it can't be read, isn't JSON, or isn't an object."""
    fields = parsed_json(decoded(read_regular(path, _MOST_BYTES)[0])[0])
    if not isinstance(fields, dict):
        raise InvalidInput(f"holds a {type(fields).__name__}: expected an object, {{name: value}}")
    return fields


def decoded(content: bytes) -> tuple[str, str]:
    """Return bytes as text, and a remark where the encoding had to be guessed.

    A byte order mark says which encoding it is. Without one it is UTF-8; else UTF-16 where every other byte is zero; else
    Windows-1252 (Latin-1 with more punctuation) where that gives letters, at most half of them beyond ASCII and never four in
    a row: other encodings look like that, with accents on most letters.

    Raises:
        InvalidInput: it is none of these.
    """
    for mark, name in _BOMS:
        if content.startswith(mark):
            return _strict(content, name), ""
    if b"\0" in content:
        return _wide(content)
    try:
        return content.decode("utf-8"), ""
    except UnicodeDecodeError:
        return _western(content), "read as Windows-1252 (Latin-1), since it isn't UTF-8"


def _strict(content: bytes, encoding: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as problem:
        raise InvalidInput(f"isn't {encoding.upper().removesuffix('-SIG')} ({problem.reason}): save it as UTF-8") from problem


def _wide(content: bytes) -> tuple[str, str]:
    """Decode UTF-16 without a mark: one side of its bytes is zero where a text is mostly Latin."""
    sides = {"utf-16-le": (content[1::2], content[::2]), "utf-16-be": (content[::2], content[1::2])}
    for name, (high, low) in sides.items():
        if 2 * high.count(0) >= len(high) and 0 not in low:
            return _strict(content, name), f"read as {name.upper()}, which no byte order mark says"
    raise InvalidInput("has zero bytes and isn't UTF-16: is it a text? save it as UTF-8")


def _western(content: bytes) -> str:
    try:
        text = content.decode("cp1252")
    except UnicodeDecodeError:
        text = ""
    special = [char for char in text if ord(char) > 127]
    known = all(char.isalpha() or char in _PUNCTUATION for char in special)
    if not text or 2 * len(special) > len(text) or not known or _FOREIGN.search(text):
        raise InvalidInput("is neither UTF-8, UTF-16 nor Latin-1: save it as UTF-8")
    return text


def parsed_json(text: str) -> Any:
    """Parse a JSON text; raise InvalidInput if it isn't JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise InvalidInput(f"isn't JSON ({problem}): look at it with python -m json.tool") from problem
