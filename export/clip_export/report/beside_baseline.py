"""Section of a report about the baseline: the checkpoint and its parent, figure by figure."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Callable
from typing import Any

from clip_client.printable_text import printable
from clip_client.terminal import Console
from clip_export.baseline import bootstrap
from clip_export.baseline.figures import CLICKS, Figure, points, short_title, title
from clip_export.baseline.trial import Comparison
from clip_export.report import tables
from clip_export.report.tables import Cells

_QUERIES = 1  # column


def _heading(comparison: Comparison) -> str:
    """Return the section's heading."""
    return f"beside the baseline {comparison.parent.checkpoint}"


def _cells(comparison: Comparison, *, narrow: bool) -> Cells:
    """Return heading and rows of the table: a figure each; without the number of queries where it is to be narrow."""
    names = ["", "queries", "parent", "this", "change", "95 %", ""]
    rows = [names, *(_row(figure, short_title if narrow else title) for figure in comparison.figures)]
    return [[cell for number, cell in enumerate(row) if not (narrow and number == _QUERIES)] for row in rows]


def _row(figure: Figure, called: Callable[[str], str]) -> list[str]:
    return [
        called(figure.name),
        f"{figure.queries:,}",
        f"{figure.parent:.3f}",
        f"{figure.this:.3f}",
        points(figure.change),
        f"{points(figure.low)} to {points(figure.high)}",
        figure.verdict,
    ]


def show(comparison: Comparison, console: Console) -> None:
    """Print the section."""
    console.print(f"\n{_heading(comparison)}", style="italic", highlight=False, markup=False)
    tables.show(_cells(comparison, narrow=True), console)
    for line in lines(comparison):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def markdown(comparison: Comparison) -> list[str]:
    """Return the section's lines: the verdict first, then the table, then the rest."""
    first, *others = (html.escape(line, quote=False) for line in lines(comparison))
    table = tables.markdown(_cells(comparison, narrow=False))
    return ["", f"## {_heading(comparison)}", "", f"**{first}**", "", *table, "", *(f"{line}  " for line in others)]


def lines(comparison: Comparison) -> list[str]:
    """Return the verdict, then origin, clicks, pictures and method, a line each."""
    told = [verdict(comparison)]
    told += comparison.lineage.lines() if comparison.lineage else []
    told += [f"Clicks: {printable(str(comparison.clicks.source))}, {comparison.clicks.books()}", *comparison.notes]
    if comparison.reference != "torch-fp32":
        told.append(f"The baseline ran as {comparison.reference}, the checkpoint as torch-fp32")
    return [
        *told,
        "DCG is of the places of what was chosen among what was shown, as each model orders it; it decides. For information: "
        "what comes first there, and what is among the first 10 of all pictures",
        f"Changes are in points, with 95 % intervals by a paired bootstrap over the queries, {bootstrap.RESAMPLES:,} resamples",
    ]


def verdict(comparison: Comparison) -> str:
    """Return one sentence: better, or each reason that it isn't."""
    if comparison.objections:
        return f"Not better than {comparison.parent.checkpoint}: {'; '.join(comparison.objections)}"
    clicks = next(figure for figure in comparison.figures if figure.name == CLICKS)
    return f"Better than {comparison.parent.checkpoint}: held-out clicks rise by {clicks.interval}, and nothing falls too far"


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Return the section as data."""
    clicks = comparison.clicks
    return {
        "parent": comparison.parent.to_fields(),
        "reference": comparison.reference,
        "lineage": dataclasses.asdict(comparison.lineage) if comparison.lineage else None,
        "clicks": {
            "source": str(clicks.source),
            "read": clicks.read,
            "judged": len(clicks.rows),
            "queries": clicks.topics,
            "left_out": dict(clicks.left_out),
            "weighted": clicks.weighted,
        },
        "figures": [{**dataclasses.asdict(figure), "change": figure.change} for figure in comparison.figures],
        "interval": {"level": bootstrap.LEVEL, "resamples": bootstrap.RESAMPLES, "seed": bootstrap.SEED},
        "notes": [*comparison.notes],
        "objections": comparison.objections,
    }
