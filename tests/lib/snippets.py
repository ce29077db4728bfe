"""Snippets, code spans and links of the documents, read by a Markdown parser."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "examples" / "emoji" / "README.md", *(ROOT / "docs").rglob("*.md")]
)
_MARKDOWN = MarkdownIt("commonmark").enable("table")
_ENVIRONMENT = re.compile(r"[A-Z_]+=.*")


@dataclass(frozen=True)
class Piece:
    """Part of a document: a block of code, a code span or the target of a link."""

    document: Path
    line: int
    language: str
    content: str

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True)
class Command:
    """Command line of a snippet: a program with its arguments, and the environment variables before it."""

    environment: dict[str, str]
    words: tuple[str, ...]


def blocks(*languages: str) -> list[Piece]:
    """Return the blocks of code in these languages, all if none is named."""
    return [
        Piece(path, token.map[0] + 1, token.info, token.content)
        for path in DOCUMENTS
        for token in _MARKDOWN.parse(path.read_text(encoding="utf-8"))
        if token.type in ("fence", "code_block") and (not languages or token.info in languages)
    ]


def code_spans() -> list[Piece]:
    """Return the code spans in running text and tables."""
    return [Piece(path, line, "", child.content) for path, line, child in _inline() if child.type == "code_inline"]


def links() -> list[Piece]:
    """Return the targets of links and images."""
    attributes = {"link_open": "href", "image": "src"}
    return [
        Piece(path, line, "", str(child.attrs[attributes[child.type]]))
        for path, line, child in _inline()
        if child.type in attributes
    ]


def anchors(path: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    tokens = _MARKDOWN.parse(path.read_text(encoding="utf-8"))
    titles = [after.content for token, after in pairwise(tokens) if token.type == "heading_open"]
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def tracked(*patterns: str) -> list[str]:
    """Return the paths of the repository's files."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    return subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()


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


def _inline() -> Iterator[tuple[Path, int, Token]]:
    for path in DOCUMENTS:
        for token in _MARKDOWN.parse(path.read_text(encoding="utf-8")):
            for child in token.children or ():
                yield path, (token.map or [0])[0] + 1, child
