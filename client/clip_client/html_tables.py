"""Tables for notebooks and terminals; every text is escaped, nothing is loaded from anywhere."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_LONGEST = 200  # characters of a text in a cell
_CELL = "padding:2px 8px;text-align:left;vertical-align:top"


@dataclass(frozen=True)
class Bar:
    """Cell with a number from 0 to 1 as the length of a bar.

    Attributes:
        label: in front of the number.
        share: the number.
    """

    label: str
    share: float


@dataclass(frozen=True)
class Picture:
    """Cell with a picture.

    Attributes:
        address: a ``data:`` URL.
        label: read out where the picture isn't seen.
    """

    address: str
    label: str


def table(rows: Sequence[Sequence[Any]], *, head: Sequence[str] = (), more: int = 0) -> str:
    """Return an HTML table of texts, numbers, :class:`Bar` and :class:`Picture`, and a line for ``more`` rows behind them."""
    titles = "".join(f'<th style="{_CELL}">{escaped(title)}</th>' for title in head)
    lines = [f"<tr>{titles}</tr>"] if head else []
    lines += ["<tr>" + "".join(f'<td style="{_CELL}">{_cell(value)}</td>' for value in row) + "</tr>" for row in rows]
    rest = f"<p>… and {more} more</p>" if more > 0 else ""
    return f"<table>{''.join(lines)}</table>{rest}"


def escaped(text: Any) -> str:
    """Return a text for HTML, in any place of it: escaped, and cut where it is long."""
    whole = str(text)
    return html.escape(whole if len(whole) <= _LONGEST else whole[: _LONGEST - 1] + "…", quote=True)


def text_lines(title: str, rows: Sequence[tuple[str, Sequence[tuple[str, float]], str]]) -> str:
    """Return a title and a line per row: its name, labels with percentages, or the reason of a failure."""
    shares = [", ".join(f"{label} {share:.1%}" for label, share in ranked) for _, ranked, _ in rows]
    return "\n".join([title, *(f"  {row[0]}: {listed or row[2]}" for row, listed in zip(rows, shares, strict=True))])


def _cell(value: Any) -> str:
    if isinstance(value, Bar):
        width = max(0.0, min(1.0, value.share)) * 100
        bar = f'<div style="background:#4c8bf5;height:4px;width:{width:.0f}%"></div>'
        return f'<div style="min-width:100px">{escaped(value.label)} {value.share:.1%}{bar}</div>'
    if isinstance(value, Picture):
        return f'<img src="{html.escape(value.address)}" alt="{escaped(value.label)}" style="max-width:120px;max-height:120px">'
    return escaped(f"{value:.3f}" if isinstance(value, float) else value)
