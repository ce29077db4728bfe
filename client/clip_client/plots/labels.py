"""Labels in figures: one line or a few, of any script, that matplotlib takes for text alone."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Any

import matplotlib as mpl
from matplotlib import font_manager

_NO_GLYPH = "\N{WHITE SQUARE}"
_INVISIBLE = ("Cf", "Mn", "Me")  # joiners, variation selectors and accents: left out where a font lacks them
_FALLBACKS = (
    "DejaVu Sans",
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Noto Sans JP", "Noto Sans KR", "Source Han Sans SC"),
    *(
        "PingFang SC",
        "Hiragino Sans GB",
        "Hiragino Sans",
        "Apple SD Gothic Neo",
        "Microsoft YaHei",
        "Yu Gothic",
        "Malgun Gothic",
    ),
    *("WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "IPAexGothic", "Droid Sans Fallback", "Arial Unicode MS"),
    *("Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Devanagari", "Noto Sans Thai", "Nirmala UI", "Leelawadee UI"),
    *("Noto Emoji", "Segoe UI Emoji", "Segoe UI Symbol", "Symbola"),
)
"""Fonts of systems, for scripts that matplotlib's own font lacks; none in colour, which it can't draw."""


def style() -> dict[str, Any]:
    """Return the properties of every text: no formula in dollar signs, and fonts for many scripts."""
    return {"parse_math": False, "usetex": False, "fontfamily": families()}


def families() -> list[str]:
    """Return the user's fonts, then those installed of the fallbacks."""
    own = list(mpl.rcParams["font.family"])
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return own + [name for name in _FALLBACKS if name in installed]


def shown(text: object, width: int, *, lines: int = 1) -> str:
    """Return a text of at most ``lines`` lines of ``width`` columns; wide characters take two columns.

    What no font has becomes a square, what can't be printed a blank, and a cut is marked by an ellipsis.
    """
    words = _printable(str(text)).split()
    rows: list[str] = []
    for word in words:
        for piece in _pieces(word, width):
            if rows and _columns(rows[-1]) + 1 + _columns(piece) <= width:
                rows[-1] += f" {piece}"
            else:
                rows.append(piece)
    if len(rows) <= lines:
        return "\n".join(rows)
    last = " ".join(rows[lines - 1 : lines + 1])
    return "\n".join([*rows[: lines - 1], f"{_cut(last, width - 1).rstrip()}…"])


def _printable(text: str) -> str:
    """Return a text without what moves the pen, and with a square for each character that no font has."""
    known = _characters(tuple(families()))
    return "".join(_drawable(char, known) for char in unicodedata.normalize("NFC", text))


def _drawable(char: str, known: frozenset[int]) -> str:
    if ord(char) in known and char.isprintable():
        return char
    kind = unicodedata.category(char)
    if kind in _INVISIBLE:
        return ""
    return " " if kind[0] in "CZ" else _NO_GLYPH


@lru_cache(maxsize=8)
def _characters(names: tuple[str, ...]) -> frozenset[int]:
    """Return the characters that fonts have between them."""
    known: set[int] = set()
    for name in names:
        path = font_manager.findfont(font_manager.FontProperties(family=[name]))
        known |= font_manager.get_font(path).get_charmap().keys()
    return frozenset(known)


def _pieces(word: str, width: int) -> list[str]:
    """Divide a word that is longer than a line."""
    pieces = []
    while word:
        piece = _cut(word, width) or word[0]
        pieces.append(piece)
        word = word[len(piece) :]
    return pieces


def _cut(text: str, width: int) -> str:
    """Return as much of the beginning as fits."""
    used = 0
    for n, char in enumerate(text):
        used += _columns(char)
        if used > width:
            return text[:n]
    return text


def _columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)
