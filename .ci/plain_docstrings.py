"""Extension of griffe: docstrings as Markdown, without the roles of reStructuredText and the prompts of Python."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":\w+:`~?([^`]+)`")
_SESSION = re.compile(r"(?:^(?:>>>|\.\.\.) .*\n?)+", re.MULTILINE)


class PlainDocstrings(griffe.Extension):
    """Change each docstring before it is rendered."""

    def on_instance(self, *, obj: griffe.Object, **others: Any) -> None:
        """Rewrite the docstring of a module, class, function or attribute."""
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)


def markdown(text: str) -> str:
    """Return a docstring as Markdown."""
    return _SESSION.sub(_block, _ROLE.sub(r"`\1`", text).replace("``", "`"))


def _block(session: re.Match[str]) -> str:
    lines = [line[4:] for line in session[0].splitlines()]
    return "\n".join(["```python", *lines, "```", ""])
