"""Notices of checkpoints: a sentence on a checkpoint's purpose, from its author; shown wherever its results are."""

import json
from pathlib import Path

KEY = "notice"
"""Key of a checkpoint's configuration, and field of the published spec."""

OTHER_MODEL = "Another model: clipserve export --model openai/clip-vit-base-patch32"
"""Hint that is shown beside a notice: the flag that changes the model."""

_CONFIGS = ("config.json", "open_clip_config.json")
_LONGEST = 300  # characters, four lines of a terminal
_JOINERS = "\u200c\u200d"  # not printable by Unicode, but part of words and emoji


def cleaned(notice: str) -> str:
    """Return a notice as one printable line of at most 300 characters: it may come from a stranger's checkpoint."""
    line = " ".join("".join(char if char.isprintable() or char in _JOINERS else " " for char in notice).split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1].rstrip()}…"


def told(notice: str) -> str:
    """Return a notice with the hint; empty for none."""
    return f"{notice} {OTHER_MODEL}" if notice else ""


def of_folder(folder: Path) -> str:
    """Return the notice of a checkpoint's folder, cleaned; empty where it has none or can't be read."""
    for name in _CONFIGS:
        try:
            notice = json.loads((folder / name).read_bytes())[KEY]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if isinstance(notice, str):
            return cleaned(notice)
    return ""
