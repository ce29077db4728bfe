"""Damage to a derived file of a collection, as a disk or another program may do it."""

from __future__ import annotations

import contextlib
import os
import random
from pathlib import Path


def damage(folder: Path, draw: random.Random) -> str:
    """Damage one file below a folder: a bit is flipped, it is cut, emptied, or gone. Returns its name; empty if there is none.

    A damaged copy takes the file's place, or it is changed where it lies.
    """
    with contextlib.suppress(OSError, IndexError, ValueError):  # replaced by the sidecar this moment; none
        path = draw.choice(sorted(path for path in folder.rglob("*.*") if path.is_file() and path.stat().st_size))
        how = draw.choice(("flip", "flip", "cut", "empty", "delete"))
        if how == "delete":
            path.unlink()
            return path.name
        content = bytearray(path.read_bytes())
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        kept = {"flip": len(content), "cut": draw.randrange(len(content)), "empty": 0}[how]
        _write(path, bytes(content[:kept]), in_place=draw.random() < 0.5 and how == "flip")
        return path.name
    return ""


def _write(path: Path, content: bytes, in_place: bool) -> None:
    """Write a file over an old one; one that is mapped isn't cut where it lies, which would end the process that reads it."""
    if in_place:
        with open(path, "r+b") as file:
            file.write(content)
        return
    copy = path.with_name(f".{path.name}.damaged")
    copy.write_bytes(content)
    os.replace(copy, path)
