"""Report of an export: tables for people, Markdown and JSON for the folder."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clip_client.counting import counted
from clip_client.preprocess import Preprocessing
from clip_client.spec import TOWERS, ModelSpec, Tower
from clip_client.terminal import Console
from clip_export import hardware
from clip_export.artifact_files import REPORT_JSON, REPORT_MD
from clip_export.baseline.trial import Comparison
from clip_export.builds.speed import BATCHES, WORDS, Speed
from clip_export.builds.verdicts import Judged, Missing, Try
from clip_export.checkpoints.conversion import Origins
from clip_export.evaluation.items import Calibration, Evaluation
from clip_export.evaluation.retrieval import KS
from clip_export.oracle.comparison import Compared
from clip_export.report import beside_baseline, tables
from clip_export.variants import REFERENCE, named

_RECALLS = {"text_to_image": "t→i R@", "image_to_text": "i→t R@"}


@dataclass(frozen=True)
class Report:
    """Results of one export.

    Attributes:
        origins: of the weights.
        libraries: torch-fp32 beside the checkpoint's own library, per tower.
        rows: verdict per tower and variant, or the reason that there is none.
        speeds: by tower and variant; a text is the reason that one couldn't be measured.
        published: the row of each tower that went into the repository; empty if the gate refused.
        retrieval: recalls and accuracy of the two that were published, together.
        baseline: the checkpoint beside its parent, where that was asked for.
    """

    spec: ModelSpec
    origins: Origins
    evaluation: Evaluation
    calibration: Calibration
    preprocessing: Preprocessing
    libraries: Mapping[Tower, Compared]
    rows: Sequence[Judged | Missing]
    speeds: Mapping[Tower, Mapping[str, Speed | str]]
    published: Mapping[Tower, Judged]
    retrieval: Mapping[str, float]
    baseline: Comparison | None = None

    def speed(self, row: Judged | Missing) -> Speed | None:
        """Return the speed of a row, if it was measured."""
        speed = self.speeds[row.tower].get(row.variant)
        return speed if isinstance(speed, Speed) else None

    def times(self, row: Judged, batch: int) -> float | None:
        """Return the speed-up of a row over torch-fp32 at a batch size."""
        mine, torch = self.speed(row), self.speeds[row.tower].get(REFERENCE.name)
        return torch.latency_ms[batch] / mine.latency_ms[batch] if mine and isinstance(torch, Speed) else None


def show(report: Report) -> None:
    """Print the tables to standard output; those that are wider than the terminal, or 80 characters elsewhere, in parts."""
    console = Console()
    for line in _sources(report):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if report.baseline:
        beside_baseline.show(report.baseline, console)
    for tower in TOWERS:
        console.print(f"\n{tower} tower", style="italic", highlight=False)
        tables.show(_cells(report, tower), console)
    for line in notes(report):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def save(report: Report, folder: Path, plots: Sequence[Path]) -> None:
    """Write ``report.json`` and ``report.md`` into the checkpoint's folder of artefacts."""
    (folder / REPORT_JSON).write_text(json.dumps(as_json(report), indent=1) + "\n", encoding="utf-8")
    lines = [f"# {report.spec.checkpoint}", "", *(f"{source}  " for source in _sources(report))]
    lines += beside_baseline.markdown(report.baseline) if report.baseline else []
    for tower in TOWERS:
        lines += ["", f"## {tower} tower", "", *tables.markdown(_cells(report, tower))]
    lines += ["", *(f"{note}  " for note in notes(report)), ""]
    lines += [f"![{plot.stem}]({plot.name})" for plot in plots]
    (folder / REPORT_MD).write_text("\n".join(lines) + "\n", encoding="utf-8")


def as_json(report: Report) -> dict[str, Any]:
    """Return the report as data: spec, machine, evaluation, a row per tower and variant."""
    return {
        "spec": report.spec.to_fields(),
        "weights": dataclasses.asdict(report.origins),
        "machine": hardware.description(),
        "evaluation": {
            "source": report.evaluation.source,
            "pictures": len(report.evaluation.pixels),
            "texts": len(report.evaluation.tokens),
            "skipped": list(report.evaluation.skipped),
            "calibration": report.calibration.source,
        },
        "library": libraries_json(report.libraries),
        **({"baseline": beside_baseline.as_json(report.baseline)} if report.baseline else {}),
        "published": {
            "variants": {tower: row.variant for tower, row in report.published.items()},
            "preprocessing": report.preprocessing,
            "retrieval": dict(report.retrieval),
        },
        "variants": [_row(report, row) for row in report.rows],
    }


def libraries_json(libraries: Mapping[Tower, Compared]) -> dict[str, Any]:
    """Return the comparison of each tower with its library as data."""
    return {tower: dataclasses.asdict(compared) for tower, compared in libraries.items()}


def notes(report: Report) -> list[str]:
    """Return lines below the table: tries, cautions, lengths of timed texts, retrieval of the published pair."""
    lines = [_tries(row) for row in report.rows if isinstance(row, Judged) and (len(row.tries) > 1 or row.failures)]
    cautions = {row.variant: named(row.variant).caution() for row in report.rows if isinstance(row, Judged)}
    lines += [f"{name}: {caution}" for name, caution in cautions.items() if caution]
    lengths = {speed.tokens for speed in report.speeds["text"].values() if isinstance(speed, Speed)}
    if len(lengths) > 1:
        short, context = sorted(filter(None, lengths))
        lines.append(f"texts of {WORDS} words: torch computes {context} tokens, as transformers pads them, the others {short}")
    lines += [f"{compared.library}: {note}" for compared in report.libraries.values() for note in compared.notes]
    if report.preprocessing != "exact" and "image" in report.published:
        lines.append(f"{report.preprocessing} preprocessing: {_served(report.published['image'])}")
    if report.retrieval:
        pair = ", ".join(f"{name} {score:.3f}" for name, score in report.retrieval.items())
        lines.append(f"published together: {pair}")
    return lines


def _served(row: Judged) -> str:
    """Return the scores of the published image tower behind pixels that aren't exact."""
    lost = "".join(f", {name} {points:.1f} points lost" for name, points in row.scores.lost.items())
    return f"cosine {row.scores.cosine_mean:.4f} ({row.scores.cosine_min:.4f} at least) to torch with exact pixels{lost}"


def _sources(report: Report) -> list[str]:
    counts = f"{counted(len(report.evaluation.pixels), 'picture')}, {counted(len(report.evaluation.tokens), 'text')}"
    computer = hardware.description()
    machine = f"{computer['cores']} cores of {computer['cpu']}" + (f", {computer['gpu']}" if computer["gpu"] else "")
    judged = f"Judged on {report.evaluation.source}: {counts}; int8 calibrated on {report.calibration.source}; {machine}"
    return [judged, *_unlabelled(report.evaluation), *report.origins.lines()]


def _unlabelled(evaluation: Evaluation) -> list[str]:
    """Return the line about an evaluation that tells nothing of retrieval."""
    if evaluation.owners.size or evaluation.labels.size:
        return []
    return [
        "Without captions or folders by class, only cosines to PyTorch were judged, nothing that is retrieved: "
        "--eval FOLDER takes pictures with either"
    ]


def _cells(report: Report, tower: Tower) -> list[list[str]]:
    """Return heading and rows: cosines, retrieval, latency, speed-up over torch, size, verdict; without empty columns."""
    rows = [_library_line(report.libraries[tower]), *(_line(report, row) for row in report.rows if row.tower == tower)]
    filled = [any(row[column] for row in rows) for column in _COLUMNS[:-1]]
    kept = [column for column, is_filled in zip(_COLUMNS[:-1], filled, strict=True) if is_filled]
    return [[*kept, ""], *([*(row[column] for column in kept), row[_VERDICT]] for row in rows)]


_LIBRARY, _VERDICT = "library", "verdict"
_COLUMNS = (
    "variant",
    "cos min",
    "mean",
    *(f"{short}{'/'.join(map(str, KS))}" for short in _RECALLS.values()),
    "i→i",
    "zero-shot",
    *(f"ms @{batch}" for batch in BATCHES),
    "/s",
    "× torch",
    "MB",
    "RAM",
    "load s",
    _VERDICT,
)


def _library_line(compared: Compared) -> dict[str, str]:
    """Return the cells of the row that compares torch-fp32 with the checkpoint's own library."""
    cells = {"variant": _LIBRARY, _VERDICT: f"not compared with its own library: {compared.missing}"}
    if not compared.missing:
        cells |= {"cos min": f"{compared.cosine_min:.5f}", "mean": f"{compared.cosine_mean:.5f}"}
        cells[_VERDICT] = f"{compared.library}: torch-fp32 beside it, {counted(compared.items, 'item')}"
    return dict.fromkeys(_COLUMNS, "") | cells


def _line(report: Report, row: Judged | Missing) -> dict[str, str]:
    """Return the cells of a row by column."""
    if isinstance(row, Missing):
        return dict.fromkeys(_COLUMNS, "") | {"variant": row.variant, _VERDICT: row.reason}
    scores, shares = row.scores, row.scores.retrieval
    cells = {
        "variant": row.variant,
        "cos min": f"{scores.cosine_min:.5f}",
        "mean": f"{scores.cosine_mean:.5f}",
        **{f"{short}{'/'.join(map(str, KS))}": _recalls(shares, name) for name, short in _RECALLS.items()},
        "i→i": "" if scores.agreement is None else f"{scores.agreement:.3f}",
        "zero-shot": f"{shares['zero_shot_accuracy']:.3f}" if "zero_shot_accuracy" in shares else "",
        "MB": f"{row.size_bytes / 1e6:,.0f}" if row.size_bytes else "",
        _VERDICT: _verdict(report, row),
    }
    return dict.fromkeys(_COLUMNS, "") | cells | _speed_cells(report, row)


def _speed_cells(report: Report, row: Judged) -> dict[str, str]:
    speed = report.speed(row)
    if speed is None:
        return {}
    times = report.times(row, max(BATCHES))
    return {
        **{f"ms @{batch}": f"{time:.{1 if time >= 10 else 2}f}" for batch, time in speed.latency_ms.items()},
        "/s": f"{speed.per_second:,.0f}",
        "× torch": f"{times:.1f}" if times else "",
        "RAM": f"{speed.memory_bytes / 1e6:,.0f}",
        "load s": f"{speed.load_s:.1f}",
    }


def _recalls(shares: Mapping[str, float], name: str) -> str:
    """Return three in one cell, as shares without their zero: .556 .779 .842"""
    recalls = [shares.get(f"{name}_r@{k}") for k in KS]
    return " ".join(f"{recall:.3f}".removeprefix("0") for recall in recalls if recall is not None)


def _verdict(report: Report, row: Judged) -> str:
    published = "published" if report.published.get(row.tower) is row else ""
    slow = report.speeds[row.tower].get(row.variant)
    untimed = f"not timed: {slow}" if isinstance(slow, str) else ""
    failed = f"below the gate: {'; '.join(row.failures)}" if row.failures else ""
    recipe = row.recipe if len(row.tries) > 1 else ""
    return "; ".join(part for part in (published, recipe, failed, untimed) if part)


def _tries(row: Judged) -> str:
    told = [
        f"{attempt.recipe or 'built once'}: {_cost(row, attempt)}{'; '.join(attempt.failures) or 'passed'}"
        for attempt in row.tries
    ]
    return f"{row.variant} of the {row.tower} tower, {counted(len(told), 'try', 'tries')}: " + " → ".join(told)


def _cost(row: Judged, attempt: Try) -> str:
    """Return what an approximation costs and gains, before the gate's verdict."""
    if attempt.cost is None:
        return ""
    lost = "" if attempt.cost.lost_points is None else f", {attempt.cost.lost_points:.1f} points lost"
    times = f"{attempt.cost.times:.2f} × {named(row.variant).approximates} for one item"
    return f"{times}, cosine {attempt.cost.cosine_mean:.4f}{lost}, "


def _row(report: Report, row: Judged | Missing) -> dict[str, Any]:
    if isinstance(row, Missing):
        return {"tower": row.tower, "variant": row.variant, "missing": row.reason}
    speed = report.speed(row)
    return {
        "tower": row.tower,
        "variant": row.variant,
        "folder": str(row.artefact.folder),
        "size_bytes": row.size_bytes,
        "recipe": row.recipe,
        "tries": [dataclasses.asdict(attempt) for attempt in row.tries],
        **dataclasses.asdict(row.scores),
        "failures": row.failures,
        "published": report.published.get(row.tower) is row,
        "speed": dataclasses.asdict(speed) | {"per_second": speed.per_second} if speed else None,
        "times_torch": {batch: report.times(row, batch) for batch in speed.latency_ms} if speed else None,
    }
