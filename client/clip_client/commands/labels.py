"""Labels and templates of a command line."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from clip_client.errors import InvalidInput
from clip_client.prompt_templates import DEFAULT
from clip_client.text_files import read_text
from clip_client.zero_shot import checked_labels, checked_templates

_LINE_END = re.compile(r"\r\n|\r|\n")


def labels(given: str) -> tuple[str, ...]:
    """Return the labels of ``a,b,c``, or those of a file, one a line; empty lines are passed over.

    Raises:
        InvalidInput: a file that can't be read or holds them in one line; a label that is empty or there twice; none at all.
    """
    if os.path.isfile(given):
        return _of_file(Path(given))
    if os.sep in given or given.lower().endswith((".txt", ".csv", ".lst")):
        raise InvalidInput(f"no file {given}: check the path, or pass labels with commas between them, cat,dog")
    return checked_labels([label.strip() for label in given.split(",")])


def templates(given: Sequence[str]) -> tuple[str, ...]:
    """Return templates, with those of each name; the usual one if none is given; raises as ``checked_templates``."""
    return tuple(template for one in given or [DEFAULT] for template in checked_templates(one))


def _of_file(path: Path) -> tuple[str, ...]:
    try:
        text, _ = read_text(path)
        lines = {n: line.strip() for n, line in enumerate(_LINE_END.split(text), 1) if line.strip()}
        if len(lines) == 1 and "," in text:
            raise InvalidInput("holds one line with commas: write one label a line, or pass the line itself to --labels")
        first: dict[str, int] = {}
        for n, label in lines.items():
            if (before := first.setdefault(label, n)) != n:
                raise InvalidInput(f"lines {before} and {n} are both {label!r}: write each label once")
        return checked_labels([*lines.values()])
    except InvalidInput as problem:
        raise InvalidInput(f"{path}: {problem}") from problem
