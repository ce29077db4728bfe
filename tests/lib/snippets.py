"""Command lines of the documents' shell snippets."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

_ENVIRONMENT = re.compile(r"[A-Z_]+=.*")


@dataclass(frozen=True)
class Command:
    """Command line of a snippet: a program with its arguments, and the environment variables before it."""

    environment: dict[str, str]
    words: tuple[str, ...]


def commands(content: str) -> list[Command]:
    """Return the command lines of a shell snippet."""
    lines = content.replace("\\\n", " ").splitlines()
    return [_command(part) for line in lines for part in _parts(shlex.split(line, comments=True)) if part]


def _parts(words: list[str]) -> Iterator[list[str]]:
    part: list[str] = []
    for word in words:
        if word in ("&&", ";", "|"):
            yield part
            part = []
        else:
            part.append(word)
    yield part


def _command(words: list[str]) -> Command:
    count = next((n for n, word in enumerate(words) if not _ENVIRONMENT.fullmatch(word)), len(words))
    return Command(dict(word.split("=", 1) for word in words[:count]), tuple(words[count:]))
