"""Table of known checkpoints, for ``clipserve export --known``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from clip_client.errors import NotFound
from clip_client.terminal import print_table
from clip_export.checkpoints import known
from clip_export.checkpoints.known import Known

_FIGURES = ("parameters", "weights")
_HEADER = ("--model", *_FIGURES, "family", "repository", "tried")


def show(word: str) -> None:
    """Print the known checkpoints: folded to a terminal's width, elsewhere a line each with tabs between the columns.

    Args:
        word: only those that have it in one of their columns; empty for all.

    Raises:
        NotFound: if none has it.
    """
    rows = [row for row in _rows(known.checkpoints()) if word.lower() in " ".join(row).lower()]
    if not rows:
        near = ", ".join(known.nearest(word))
        raise NotFound(f"no known checkpoint has {word[:80]!r} in its row{f'; the nearest: {near}' if near else ''}")
    print_table(_HEADER, rows, figures=_FIGURES)


def _rows(checkpoints: Sequence[Known]) -> Iterator[tuple[str, ...]]:
    for checkpoint in checkpoints:
        yield (
            checkpoint.name,
            _millions(checkpoint.parameters),
            f"{checkpoint.download_mb / 1000:.2f} GB" if checkpoint.download_mb else "",
            checkpoint.family,
            checkpoint.layout,
            checkpoint.tried,
        )


def _millions(parameters: float) -> str:
    if parameters >= 1000:
        return f"{parameters / 1000:.2f} B"
    return f"{parameters:.0f} M" if parameters else ""
