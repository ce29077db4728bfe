"""What an export did: a table for people, JSON for machines."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from clip_client.spec import ModelSpec, Tower
from clip_export.artifacts import Judged
from clip_export.evaluation import Evaluation


def table(rows: Sequence[Judged], published: Mapping[Tower, Judged]) -> Table:
    """Variants by tower with their scores; failed ones name what failed."""
    result = Table(box=SIMPLE_HEAD)
    for heading in ("tower", "variant"):
        result.add_column(heading, no_wrap=True)
    for heading in ("min", "mean", "batch", "padding", "MB"):
        result.add_column(heading, justify="right", no_wrap=True)
    result.add_column("")
    for row in sorted(rows, key=lambda row: row.tower):
        scores = row.scores
        cosines = (scores.cosine_min, scores.cosine_mean, scores.batch_invariance, scores.padding_invariance)
        cells = ["" if cosine is None else f"{cosine:.6f}" for cosine in cosines]
        verdict = _verdict(row, published.get(row.tower) is row)
        result.add_row(row.tower, row.variant, *cells, f"{row.size_bytes / 1e6:,.0f}", verdict)
    return result


def show(rows: Sequence[Judged], published: Mapping[Tower, Judged], evaluation: Evaluation) -> None:
    """Print the table to standard output, in full also where that isn't a terminal."""
    console = Console()
    console = console if console.is_terminal else Console(width=120)
    counts = f"{len(evaluation.pixels)} pictures, {len(evaluation.tokens)} texts"
    console.print(f"\nCosine to torch on {evaluation.source}: {counts}", highlight=False, markup=False, soft_wrap=True)
    console.print(table(rows, published))


def as_json(
    spec: ModelSpec, rows: Sequence[Judged], published: Mapping[Tower, Judged], evaluation: Evaluation
) -> dict[str, Any]:
    """The same as data: spec, evaluation, a row per tower and variant."""
    return {
        "spec": spec.to_fields(),
        "evaluation": {"source": evaluation.source, "skipped": list(evaluation.skipped)},
        "variants": [
            {
                "tower": row.tower,
                "variant": row.variant,
                "folder": str(row.folder),
                "size_bytes": row.size_bytes,
                **dataclasses.asdict(row.scores),
                "failures": row.failures,
                "published": published.get(row.tower) is row,
            }
            for row in rows
        ],
    }


def _verdict(row: Judged, is_published: bool) -> str:
    failed = f"[red]below the gate: {', '.join(row.failures)}[/red]" if row.failures else ""
    return " ".join(part for part in ("published" if is_published else "", failed) if part)
