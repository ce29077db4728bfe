"""Folders and files that people name as a checkpoint."""

from __future__ import annotations

import difflib
import os
import re
import stat
from pathlib import Path
from typing import Literal

from clip_client.errors import InvalidInput
from clip_export.checkpoints.file_names import CONFIG, OPEN_CLIP_CONFIG, PICKLES, SAFETENSORS

WEIGHT_ENDINGS = (SAFETENSORS, *(pattern.removeprefix("*") for pattern in PICKLES if pattern != "*.pkl"))
"""Endings of files that are taken as a checkpoint."""

_LONGEST_NAME = 255  # bytes, on Linux

_WHOLE = re.compile(r"(pytorch_model|model|open_clip_model|open_clip_pytorch_model)\.(safetensors|bin)")
_SHARD = re.compile(r".+-\d{5}-of-\d{5}\.\w+")
_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\")


def kind(path: Path) -> Literal["folder", "file", "other", "unreadable", ""]:
    """Return the kind of a path, links followed; empty if nothing is there."""
    try:
        mode = os.stat(path).st_mode
    except PermissionError:
        return "unreadable"
    except (OSError, ValueError):
        return ""
    return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"


def expanded(text: str) -> Path:
    """Return the path with the home folder put in for ``~``; as it is where there can be no such user."""
    try:
        return Path(text).expanduser()
    except (RuntimeError, ValueError):
        return Path(text)


def is_weights(text: str) -> bool:
    """Return True for the name of a file of weights."""
    return text.lower().endswith(WEIGHT_ENDINGS)


def is_path(text: str) -> bool:
    """Return True for a text that can only be a path here."""
    return text.startswith(("/", "./", "../", "~")) or text in (".", "..") or is_weights(text)


def folder_of(path: Path) -> tuple[Path, str]:
    """Return the checkpoint's folder for a folder, and a note where it is another.

    A repository in the hub's cache, ``models--ORG--NAME``, stands for the snapshot of its main branch.
    """
    snapshots = path / "snapshots"
    if path.name.startswith("models--") and kind(snapshots) == "folder":
        try:
            commit = (path / "refs" / "main").read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            commit = ""
        present = [commit] if commit else sorted(os.listdir(snapshots))
        if len(present) == 1 and kind(snapshots / present[0]) == "folder":
            return snapshots / present[0], f"{path.name} is of the hub's cache: its snapshot {present[0]} is taken"
    return path, ""


def folder_of_weights(path: Path) -> Path | None:
    """Return the folder of a checkpoint of which a file is the weights; None for a file that stands alone.

    Raises:
        InvalidInput: if the file is no weights, or a part of them.
    """
    settings = [name for name in (CONFIG, OPEN_CLIP_CONFIG) if kind(path.parent / name) == "file"]
    if not is_weights(path.name):
        where = (
            f"pass its folder, {path.parent}"
            if settings
            else f"expected a folder, or a file that ends in {', '.join(WEIGHT_ENDINGS)}"
        )
        raise InvalidInput(f"the file {path} isn't a checkpoint: {where}")
    if _SHARD.fullmatch(path.name):
        raise InvalidInput(f"the file {path} is a part of the weights: pass its folder, {path.parent}")
    return path.parent if settings and _WHOLE.fullmatch(path.name) else None


def refuse_windows(text: str) -> None:
    """Raise InvalidInput for a path as Windows writes it."""
    if _WINDOWS.match(text) or "\\" in text:
        drive = re.match(r"([A-Za-z]):[\\/]*", text)
        rest = (text[drive.end() :] if drive else text).replace("\\", "/")
        here = f"/mnt/{drive[1].lower()}/{rest}" if drive else rest
        raise InvalidInput(f"{text[:200]!r} is a path of Windows, and isn't here: write it with /, as {here[:200]!r}")


def nearest(path: Path) -> str:
    """Return the path beside a missing one whose name is most like its; empty if there is none."""
    try:
        names = os.listdir(path.parent)
    except (OSError, ValueError):
        return ""
    alike = difflib.get_close_matches(path.name[:_LONGEST_NAME], names, n=1)
    return str(path.parent / alike[0]) if alike else ""
