"""Export one checkpoint: compare with its library and its baseline, build, judge, time, choose, publish, report."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from clip_client.spec import TOWERS, ModelSpec, Tower
from clip_client.terminal import Console
from clip_export import families
from clip_export.baseline import checks, parent
from clip_export.baseline.models import in_torch
from clip_export.baseline.trial import Sources, Trial
from clip_export.builds import speed, tower_digests
from clip_export.builds.best_variant import best
from clip_export.builds.export_lock import locked
from clip_export.builds.judge import Artifacts, Judge
from clip_export.builds.speed import Speed
from clip_export.builds.verdicts import Judged, Missing
from clip_export.checkpoints import lineage
from clip_export.checkpoints.adapter import MERGED
from clip_export.checkpoints.checkpoint import Checkpoint, ImagesOnly
from clip_export.checkpoints.find import find
from clip_export.checkpoints.pickles import FOLDER as CONVERTED
from clip_export.checkpoints.pickles import Pickles
from clip_export.evaluation import items
from clip_export.evaluation.items import Calibration, Evaluation
from clip_export.options import Options, bundled_pictures
from clip_export.oracle import record
from clip_export.progress import Steps
from clip_export.publish.publish import publish
from clip_export.report import plots, report
from clip_export.report.report import Report
from clip_export.variants import named

Rows = Sequence[Judged | Missing]


@dataclass(frozen=True)
class Outcome:
    """Result of an export.

    Attributes:
        folder: of the checkpoint's artefacts.
        objections: to publishing; empty if both towers were published.
        content: of the report, as data.
        report: None where the export stopped because the checkpoint's library gives other embeddings.
    """

    folder: Path
    objections: Sequence[str]
    content: Mapping[str, Any]
    report: Report | None


def export(options: Options, console: Console) -> Outcome:
    """Export as the options say.

    Raises:
        InvalidInput: if the checkpoint, the pictures or the folders can't be used.
        Unavailable: if the hub can't be reached.
    """
    with Steps(console, _number_of_steps(options)) as steps:
        steps.next("reading the checkpoint")
        checkpoint = _checkpoint(options, console)
        folder = options.artifacts / checkpoint.slug
        with locked(folder):
            return _exported(options, checkpoint, steps, console)


def _exported(options: Options, checkpoint: Checkpoint, steps: Steps, console: Console) -> Outcome:
    """Export a checkpoint whose folder of artefacts is this process's own."""
    folder, family = options.artifacts / checkpoint.slug, families.of(checkpoint)
    spec = _noticed(family.spec(checkpoint, options.name), checkpoint, options.notice)
    spec = tower_digests.known(spec, partial(family.towers, checkpoint, spec), folder)
    spec = tower_digests.placed(spec, lineage.read(checkpoint.folder), checkpoint.label)
    evaluation, calibration = _evaluation(options, checkpoint, spec, console)
    artifacts = Artifacts(folder, spec, partial(family.towers, checkpoint, spec), steps)
    trial = _trial(options, checkpoint, artifacts, evaluation, console)
    steps.next()
    libraries = record.compared(checkpoint, family, artifacts, options.eval)
    if differences := [problem for tower in TOWERS if (problem := libraries[tower].problem(tower))]:
        content = {"spec": spec.to_fields(), "library": report.libraries_json(libraries), "variants": []}
        return Outcome(folder, differences, content, None)
    steps.next()
    judge = artifacts.judge(evaluation, calibration, options.allowed)
    beside = trial.judged(evaluation, judge.reference, folder, options.allowed, steps) if trial else None
    if beside and beside.objections and not options.force:
        unbuilt: dict[Tower, dict[str, Speed | str]] = {tower: {} for tower in TOWERS}
        told = (spec, checkpoint.origins, evaluation, calibration, options.preprocessing, libraries)
        return _reported(Report(*told, [], unbuilt, {}, {}, beside), folder, beside.objections)
    rows = _quick_rows(options, judge, steps) if options.quick else _rows(options, judge, steps)
    built = {tower: [row for row in rows[tower] if isinstance(row, Judged)] for tower in TOWERS}
    speeds = {tower: _speeds(options, tower, built[tower], artifacts, steps) for tower in TOWERS}
    chosen = {tower: _chosen(options, tower, judge, built[tower], speeds[tower]) for tower in TOWERS}
    objections = [problem for tower in TOWERS if (problem := _objection(options, tower, chosen[tower], rows[tower]))]
    published = {} if objections else {tower: row for tower, row in chosen.items() if row}
    steps.next("publishing")
    if published:
        spec = _approximate(spec, published["image"])
        publish(published, spec, checkpoint.tokenizer_json, options.preprocessing, options.repository)
    every = [row for tower in TOWERS for row in rows[tower]]
    pair = judge.retrieval(published["image"], published["text"]) if published else {}
    told = (spec, checkpoint.origins, evaluation, calibration, options.preprocessing, libraries)
    return _reported(Report(*told, every, speeds, published, pair, beside), folder, objections, plotted=not options.quick)


def _reported(whole: Report, folder: Path, objections: Sequence[str], *, plotted: bool = False) -> Outcome:
    """Write the report; return it as the outcome."""
    report.save(whole, folder, plots.save(whole, folder) if plotted else [])
    return Outcome(folder, objections, report.as_json(whole), whole)


def _trial(
    options: Options, checkpoint: Checkpoint, artifacts: Artifacts, evaluation: Evaluation, console: Console
) -> Trial | None:
    """Open the baseline and the clicks, and check what can be checked before anything is built; None without a baseline."""
    if options.baseline is None or options.eval is None:
        return None
    artifacts.progress("reading the baseline and the clicks")
    checks.general(evaluation, options.allowed)
    where = (_pickles(options, console), options.artifacts / MERGED.name)
    opened = parent.opened(options.baseline, options.name, checkpoint.tokenizer_json, *where)
    clicks = options.clicks or checkpoint.folder / lineage.HELD_OUT
    sources = Sources(clicks, options.click_pictures, options.eval)
    this = in_torch(artifacts.spec, checkpoint.tokenizer_json, artifacts.towers)
    return Trial.prepared(this, opened, lineage.read(checkpoint.folder), sources)


def _number_of_steps(options: Options) -> int:
    """Return the number of steps: reading, the library, torch, the variants of each tower, their times, publishing."""
    of_tower = 1 if options.quick else len(options.variants) + 1
    return 4 + len(TOWERS) * of_tower


def _rows(options: Options, judge: Judge, steps: Steps) -> dict[Tower, Rows]:
    """Judge every variant of both towers."""
    rows: dict[Tower, Rows] = {}
    for tower in TOWERS:
        rows[tower] = of_tower = list[Judged | Missing]()
        for variant in options.variants:
            steps.next()
            of_tower.append(judge.judged(variant, tower))
    return rows


def _quick_rows(options: Options, judge: Judge, steps: Steps) -> dict[Tower, Rows]:
    """Judge the variants of each tower until one passes."""
    rows: dict[Tower, Rows] = {}
    for tower in TOWERS:
        steps.next()
        rows[tower] = of_tower = list[Judged | Missing]()
        named_first = [variant for variant in (options.chosen[tower], *options.variants) if variant and variant.backend]
        for variant in dict.fromkeys(named_first):
            of_tower.append(row := judge.judged(variant, tower))
            if isinstance(row, Judged) and not row.failures:
                break
    return rows


def _speeds(
    options: Options, tower: Tower, built: Sequence[Judged], artifacts: Artifacts, steps: Steps
) -> Mapping[str, Speed | str]:
    """Measure a tower's variants, or say why that wasn't asked for."""
    if options.quick:
        return {row.variant: "--quick" for row in built}
    steps.next()
    return speed.measure(built, tower, artifacts.spec, artifacts.folder, steps)


def _checkpoint(options: Options, console: Console) -> Checkpoint:
    """Find the checkpoint of the options."""
    merged = options.artifacts / MERGED.name
    checkpoint = find(options.model, options.revision, options.text_model, _pickles(options, console), merged)
    return ImagesOnly.of(checkpoint) if options.image_only else checkpoint


def _pickles(options: Options, console: Console) -> Pickles:
    return Pickles(None if options.no_pickle else options.artifacts / CONVERTED, partial(_print, console))


def _noticed(spec: ModelSpec, checkpoint: Checkpoint, notice: str | None) -> ModelSpec:
    """Give a spec the notice of the options, else the checkpoint's own."""
    return dataclasses.replace(spec, notice=checkpoint.notice if notice is None else notice)


def _approximate(spec: ModelSpec, row: Judged) -> ModelSpec:
    """Let the spec tell of an image variant that approximates another."""
    return dataclasses.replace(spec, approximation=f"{row.variant}: {row.recipe}") if named(row.variant).approximates else spec


def _evaluation(options: Options, checkpoint: Checkpoint, spec: ModelSpec, console: Console) -> tuple[Evaluation, Calibration]:
    """Read the pictures to judge on and to calibrate with; print the names of skipped ones."""
    inputs = items.Inputs(spec, checkpoint.tokenizer_json, options.preprocessing)
    evaluation, calibration = items.load(options.eval, options.calibration, bundled_pictures(), inputs)
    for skipped in evaluation.skipped:
        console.print(f"skipped {skipped}", style="yellow", markup=False)
    return evaluation, calibration


def _print(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _chosen(
    options: Options, tower: Tower, judge: Judge, built: Sequence[Judged], speeds: Mapping[str, Speed | str]
) -> Judged | None:
    """Return the row that the user named, else the best, judged as it will be served."""
    if variant := options.chosen[tower]:
        row = next((row for row in built if row.variant == variant.name), None)
    elif options.quick:
        row = next((row for row in built if named(row.variant).backend and not row.failures), None)
    else:
        row = best(built, speeds, options.objective)
    return judge.as_served(row) if row else None


def _objection(options: Options, tower: Tower, row: Judged | None, rows: Rows) -> str:
    """Return the reason that a tower isn't published; empty if it is."""
    if row is None:
        asked = options.chosen[tower]
        reasons = [row.reason for row in rows if isinstance(row, Missing) and asked and row.variant == asked.name]
        why = f"{asked.name}: {reasons[0]}" if asked and reasons else "no variant that Triton serves passes the gate"
        return f"the {tower} tower isn't published: {why}; build others with --variants, or name one with --{tower}-variant"
    if named(row.variant).approximates and not options.allowed.approximate:
        return (
            f"{row.variant} of the {tower} tower isn't published: it approximates {named(row.variant).approximates}; "
            "choose another variant, or pass --allow-approximate"
        )
    if row.failures and not options.force:
        why = "; ".join(row.failures)
        return f"{row.variant} of the {tower} tower isn't published: {why}; choose another variant, or pass --force"
    return ""
