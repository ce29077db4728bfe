"""Progress messages of an export."""

from __future__ import annotations

from collections.abc import Callable

from clip_client.terminal import Console

Progress = Callable[[str], None]
"""Gets a phrase for each step of the work."""


def shown(console: Console, update: Progress) -> Progress:
    """Return a live line on a terminal, plain lines elsewhere."""
    return update if console.is_terminal else lambda text: console.print(text, highlight=False)
