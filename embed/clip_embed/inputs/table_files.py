"""Files of tables: one, several by a pattern, or all of a folder."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from typing import Any

from clip_client.errors import InvalidInput
from clip_embed.inputs.braces import expanded
from clip_embed.locations import opened_url, remote_errors, shown

NOTHING = "nothing is there, or its server can't be reached: check the name"
_STARS = frozenset("*?[")


def table_files(location: str, endings: Sequence[str]) -> list[str]:
    """Return the files of a location in the order of their names; a plain name stays, whether or not it is there.

    Raises:
        InvalidInput: a folder or a pattern without any.
    """
    files = _remote(location, endings) if "://" in location else _local(location, endings)
    if not files:
        raise InvalidInput(f"no tables at {shown(location)}: expected files that end in {', '.join(endings)}")
    return files


def folder_of(file: str) -> str:
    """Return the folder of a file, a path or a URL."""
    return file.partition("?")[0].rpartition("/")[0] if "://" in file else os.path.dirname(os.path.abspath(file))


def label_of(file: str, location: str) -> str:
    """Return a file's name for messages: below the folder of the input, without secrets."""
    plain, folder = shown(file), f"{shown(location).rstrip('/')}/"
    return plain.removeprefix(folder) if plain.startswith(folder) else plain.rpartition("/")[2]


def _local(location: str, endings: Sequence[str]) -> list[str]:
    if os.path.isdir(location):
        below = (os.path.join(folder, name) for folder, _, names in os.walk(location) for name in names)
        return sorted(file for file in below if _is_table(os.path.relpath(file, location), endings))
    if os.path.lexists(location):
        return [location]
    return sorted(file for pattern in expanded(location) for file in _matches(pattern))


def _matches(pattern: str) -> list[str]:
    return glob.glob(pattern, recursive=True) if _STARS & set(pattern) and not os.path.exists(pattern) else [pattern]


def _remote(location: str, endings: Sequence[str]) -> list[str]:
    if location.partition("://")[0].lower() in ("http", "https"):
        return expanded(location)
    files, path = opened_url(location)
    with remote_errors(location):
        return _of_store(files, path, location, endings)


def _of_store(files: Any, path: str, location: str, endings: Sequence[str]) -> list[str]:
    if _STARS & set(path):
        return [files.unstrip_protocol(name) for pattern in expanded(path) for name in sorted(files.glob(pattern))]
    if "{" in path:
        return [files.unstrip_protocol(name) for name in expanded(path)]
    if not files.isdir(path):
        return [location]
    below = sorted(files.find(path))
    root = path.strip("/")
    return [files.unstrip_protocol(n) for n in below if _is_table(n.strip("/").removeprefix(root).strip("/"), endings)]


def _is_table(name: str, endings: Sequence[str]) -> bool:
    """Tell if a file is a table; names with ``_`` or ``.`` in front are records of the programs that wrote it."""
    hidden = any(part.startswith((".", "_")) for part in name.split("/"))
    return not hidden and name.lower().endswith(tuple(endings))
