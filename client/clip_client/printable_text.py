"""Texts of others as they can be printed: no character moves the cursor of a terminal."""

import unicodedata

_JOINER = "\u200d"  # not printable by Unicode, but part of emoji


def printable(text: str, keep: str = "") -> str:
    """Return a text whose characters move no cursor, but for those in ``keep``; others are escaped, as ``\\x1b`` is."""
    shown = "".join(char if char.isprintable() or char in keep or char == _JOINER else repr(char)[1:-1] for char in text)
    return shown.encode("utf-8", "backslashreplace").decode()


def padded(text: str, width: int, *, right: bool = False) -> str:
    """Return a text filled up to columns of a terminal, where Chinese characters and emoji take two, and accents none."""
    columns = sum(0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF") for char in text)
    space = " " * (width - columns)
    return space + text if right else text + space
