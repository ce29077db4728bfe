"""Documents of the repository, read by a Markdown parser: their code, links and anchors."""

from __future__ import annotations

import functools
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[1]
SITE = ROOT / "docs"
MARKDOWN = MarkdownIt("commonmark").enable("table")
_ADDRESSES = {"link_open": "href", "image": "src"}


@dataclass(frozen=True)
class Piece:
    """Part of a document: a block of code, a code span or the target of a link."""

    document: Path
    line: int
    language: str
    content: str

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def documents() -> list[Path]:
    """Return the documents that people read, in the order of their paths."""
    others = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "examples/emoji/README.md")]
    return sorted([*others, *SITE.rglob("*.md")])


def blocks(*languages: str) -> list[Piece]:
    """Return the blocks of code in these languages, all if none is named."""
    return [
        Piece(path, token.map[0] + 1, token.info, token.content)
        for path in documents()
        for token in _tokens(path.read_text(encoding="utf-8"))
        if token.map and token.type in ("fence", "code_block") and (not languages or token.info in languages)
    ]


def code_spans() -> list[Piece]:
    """Return the code spans in running text and tables."""
    return [Piece(path, line, "", child.content) for path, line, child in _inline() if child.type == "code_inline"]


def links() -> list[Piece]:
    """Return the targets of links and images."""
    return [
        Piece(path, line, "", str(child.attrs[_ADDRESSES[child.type]]))
        for path, line, child in _inline()
        if child.type in _ADDRESSES
    ]


def anchors(path: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    tokens = _tokens(path.read_text(encoding="utf-8"))
    titles = [after.content for token, after in pairwise(tokens) if token.type == "heading_open"]
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def tracked(*patterns: str) -> list[str]:
    """Return the paths of the repository's files."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    return subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


@functools.cache
def _tokens(content: str) -> list[Token]:
    """Parse a document once, however often it is asked for: parsing is what takes the time."""
    return MARKDOWN.parse(content)


def _inline() -> Iterator[tuple[Path, int, Token]]:
    for path in documents():
        for token in _tokens(path.read_text(encoding="utf-8")):
            for child in token.children or ():
                yield path, (token.map or [0])[0] + 1, child
