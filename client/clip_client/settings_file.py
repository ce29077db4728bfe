"""TOML file of settings: its tables, and the line of each key."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from clip_client.errors import InvalidInput

_MOST_LINES = 1_000  # of one value; the line of a key is looked for no longer


def read(file: Path) -> tuple[Mapping[str, Any], Mapping[tuple[str, ...], int]]:
    """Return a file's content, and the line of each key and table by its path: ``("search", "port")``.

    Raises:
        InvalidInput: it isn't there, or can't be read.
    """
    try:
        if file.is_file():
            text = file.read_text(encoding="utf-8-sig")
            return _loads(text), dict(_lines(text))
    except (OSError, ValueError, RecursionError) as problem:
        raise InvalidInput(f"{file} can't be read ({problem}): expected TOML, a table [search], say") from problem
    raise InvalidInput(f"{file} isn't a file: name a TOML file in --config or CLIPSERVE_CONFIG")


def _loads(text: str) -> dict[str, Any]:
    """Parse TOML; the parser is loaded only where there is a file."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads(text)


def _lines(text: str) -> Iterator[tuple[tuple[str, ...], int]]:
    """Yield paths of tables and keys of valid TOML with their lines; each statement is a small document of its own."""
    above: tuple[str, ...] = ()
    for start, statement in _statements(text.splitlines()):
        content = _loads(statement)
        if statement.lstrip().startswith("["):
            above = _header(content)
            yield above, start
        else:
            yield from ((above + below, start) for below in _paths(content))


def _statements(lines: list[str]) -> Iterator[tuple[int, str]]:
    """Yield the first line's number and the text of each statement."""
    start = 0
    for end, line in enumerate(lines):
        if start == end and (not line.strip() or line.lstrip().startswith("#")):
            start = end + 1
            continue
        statement = "\n".join(lines[start : end + 1])
        if _is_whole(statement):
            yield start + 1, statement
            start = end + 1
        elif end - start > _MOST_LINES:
            return


def _is_whole(statement: str) -> bool:
    try:
        _loads(statement)
    except ValueError:
        return False
    return True


def _header(content: Any) -> tuple[str, ...]:
    """Return the path of ``[a.b]``, or of ``[[a.b]]``, parsed alone."""
    content = content[-1] if isinstance(content, list) else content
    return next(((name, *_header(value)) for name, value in content.items()), ())


def _paths(content: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield the path of every key, tables included."""
    for name, value in content.items():
        yield (name,)
        if isinstance(value, dict):
            yield from ((name, *below) for below in _paths(value))
