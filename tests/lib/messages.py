"""Messages of our programs as their sources have them, and as the documents quote them: `…` for what differs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from documents import ROOT, documents, tracked

_QUOTE = re.compile(r"^`([^`]+)`$", re.M)
_PACKAGES = ("client", "embed", "export", "search", "serve")


def is_quoted_right(quote: str, texts: set[str]) -> bool:
    """Tell if a text of our sources has a quote's words; `…` in the quote stands for anything."""
    pattern = re.compile(".+".join(map(re.escape, quote.split("…"))), re.DOTALL)
    return any(pattern.fullmatch(text) for text in texts)


def quoted() -> list[str]:
    """Return the messages that the page on troubleshooting quotes: code alone on its line."""
    page = next(path for path in documents() if path.name == "troubleshooting.md")
    return _QUOTE.findall(page.read_text(encoding="utf-8"))


def written() -> set[str]:
    """Return all texts in our sources."""
    paths = [path for package in _PACKAGES for path in tracked(f"{package}/*.py")]
    return {text for path in paths for text in _texts((ROOT / path).read_text(encoding="utf-8"))}


def _texts(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
