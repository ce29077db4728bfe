"""Files derived from a table: a manifest names them with their checksums, so that a damaged one is noticed and made again."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MANIFEST = "current.json"
_BLOCK_BYTES = 2**20


class Damaged(Exception):
    """A derived file isn't what was written; the message names it."""


def checksum(path: Path) -> str:
    """Return the checksum of a file's content: its length and CRC-32, since all of an index is read through at each opening.

    Raises:
        Damaged: it isn't there, isn't a file, or can't be read.
    """
    check_file(path)
    size = crc = 0
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                size, crc = size + len(block), zlib.crc32(block, crc)
        return f"{size}-{crc:08x}"
    except OSError as problem:
        raise Damaged(f"{path} can't be read ({problem.strerror or problem})") from problem


def check_file(path: Path) -> None:
    """Refuse what isn't a file: a pipe that is read never ends.

    Raises:
        Damaged: it is something else, or missing.
    """
    if not path.is_file():
        raise Damaged(f"{path} {'is not a file' if path.exists() else 'is missing'}")


def check(path: Path, expected: str) -> None:
    """Refuse a file that isn't the one whose checksum was noted.

    Raises:
        Damaged: it differs, or can't be read.
    """
    if checksum(path) != expected:
        raise Damaged(f"{path} isn't what was written")


def write_manifest(folder: Path, content: Mapping[str, Any]) -> None:
    """Put a manifest into the place of the one before, in one step."""
    body = json.dumps(content, sort_keys=True)
    new = folder / f"{MANIFEST}.new"
    for path in (new, folder / MANIFEST):
        if path.is_dir():
            remove(path)
    new.write_text(json.dumps({"checksum": _checksum_of(body), "content": content}), encoding="utf-8")
    new.replace(folder / MANIFEST)


def read_manifest(folder: Path, table: str) -> dict[str, Any] | None:
    """Return what :func:`write_manifest` wrote for this table; None in a folder where nothing was written yet.

    Raises:
        Damaged: it is broken, missing beside files, without checksums, or of another table.
    """
    path = folder / MANIFEST
    try:
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            return None
        check_file(path)
        content = _checked(path, json.loads(path.read_bytes()))
    except (OSError, ValueError, RecursionError) as problem:
        raise Damaged(f"{path} can't be read ({problem})") from problem
    if content.get("table") != table:
        raise Damaged(f"{path} is of another collection")
    return content


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder for derived files; what is in its way goes."""
    for path in (folder, *folder.parents[:1]):
        if (path.exists() or path.is_symlink()) and not path.is_dir():
            remove(path)
    folder.mkdir(parents=True, exist_ok=True)


def remove_others(folder: Path, keep: set[str]) -> None:
    """Remove from a folder what the manifest doesn't name."""
    for path in folder.iterdir():
        if path.name not in keep | {MANIFEST}:
            remove(path)


def _checked(path: Path, manifest: Any) -> dict[str, Any]:
    if not isinstance(manifest, dict) or not isinstance(content := manifest.get("content"), dict):
        raise Damaged(f"{path} has no checksums, as older versions wrote it")
    if _checksum_of(json.dumps(content, sort_keys=True)) != manifest.get("checksum"):
        raise Damaged(f"{path} isn't what was written")
    return content


def _checksum_of(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"
