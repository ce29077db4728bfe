"""docs/coverage.md: tables of all cases in a fixed order, with figures that a second run repeats."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from case import Row

_DURATIONS_S = (5, 10, 20, 40, 80, 160)
"""Bounds of the durations that the tables tell: exact seconds would differ from run to run."""

_HEAD = """# Coverage

{summary}

Written by `make coverage`, which runs each line in a process of its own, with
{versions}.
`exact` means that pixels, tokens and embeddings were compared with the checkpoint's own library, through the same code as
`clipserve export`, and that the worst cosine of all items is the one told; below {least} a line says `wrong`. `refused` comes
with the message that a user reads.

## Hub ids

The repositories are rebuilt small behind a local server of the hub's API, and found by their plain id with the client of
huggingface_hub itself. File names, pull requests, pickles, configuration, tokenizer and processor are laid out as in the real
repository; widths, depths and vocabularies are cut, and weights are random. The layouts are written down from memory of the
repositories, not downloaded. After clipserve's own comparison, the library loads the same plain id from the same server, and
its embeddings are compared once more, without what all of them have in common.

{hubs}

## Model types of transformers

Every type of the installed transformers that has both `get_image_features` and `get_text_features`.

{types}
"""

_ARCHITECTURES = """
## Architectures of open_clip

Every configuration of the installed open_clip, with fewer and narrower layers where it allows that, and random weights.

{rows}
"""


def document(hubs: Sequence[Row], types: Sequence[Row], architectures: Sequence[Row], versions: str, least: float) -> str:
    """Return the page."""
    parts = {"hub ids": hubs, "model types of transformers": types, "architectures of open_clip": architectures}
    page = _HEAD.format(
        summary=summary(parts),
        versions=versions,
        least=least,
        hubs=_table(("id", "layout", "weights"), ((row.name, row.kind, row.weights) for row in hubs), hubs),
        types=_table(("type", "tried as"), ((row.model_type, row.name) for row in types), types),
    )
    if not architectures:
        return page
    return page + _ARCHITECTURES.format(
        rows=_table(("name", "towers"), ((row.name, row.kind) for row in architectures), architectures)
    )


def summary(parts: Mapping[str, Sequence[Row]]) -> str:
    """Return one sentence with the numbers of exact, refused and wrong ones."""
    told = []
    for title, rows in parts.items():
        counts = {verdict: sum(row.verdict == verdict for row in rows) for verdict in ("exact", "refused", "wrong", "failed")}
        others = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if verdict != "exact" and count)
        told += [f"{counts['exact']} of {len(rows)} {title} exact{f' ({others})' if others else ''}"] if rows else []
    return "; ".join(told) + "."


def _table(names: Sequence[str], cells: Iterator[Sequence[str]], rows: Sequence[Row]) -> str:
    head = [*names, "result", "seconds"]
    lines = [head, ["---"] * len(head)]
    for begun, row in zip(cells, rows, strict=True):
        lines.append([*(_escaped(cell) for cell in begun), _result(row), _duration(row.seconds)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _result(row: Row) -> str:
    if row.verdict == "exact":
        return f"exact, {math.floor(row.cosine * 10_000) / 10_000:.4f}" if row.cosine < 1 else "exact, 1.0000"
    return f"**{row.verdict}**: {_escaped(row.why)}"


def _duration(seconds: float) -> str:
    bound = next((bound for bound in _DURATIONS_S if seconds < bound), None)
    return f"< {bound}" if bound else f"≥ {_DURATIONS_S[-1]}"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
