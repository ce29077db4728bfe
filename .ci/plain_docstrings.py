"""Extension of griffe: docstrings without the roles of reStructuredText, which Markdown doesn't know."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":\w+:`~?([^`]+)`")


class PlainDocstrings(griffe.Extension):
    """Change a docstring before it is rendered."""

    def on_instance(self, *, obj: griffe.Object, **others: Any) -> None:
        """Write ``:meth:`embed``` as code."""
        if obj.docstring:
            obj.docstring.value = _ROLE.sub(r"`\1`", obj.docstring.value).replace("``", "`")
