"""``clipserve export``: checkpoint -> variants -> gate -> model repository."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from clip_client import command_runner
from clip_client.errors import ClipError, InvalidInput
from clip_client.preprocess import PREPROCESSING, Preprocessing
from clip_client.spec import TOWERS, ModelSpec, Tower
from clip_export import checkpoint, choice, evaluation, families, listing, oracle_record, plots, report, speed
from clip_export.artifacts import Artifacts, Judge, Judged, Missing, Step
from clip_export.gate import Allowed
from clip_export.lock import alone
from clip_export.oracle import Compared
from clip_export.publish import publish
from clip_export.report import Report
from clip_export.variants import ALL, DEFAULT, VARIANTS, listed, named
from clip_export.variants.base import Variant

BUNDLED = Path(__file__).parents[2] / "examples" / "emoji"
"""A checkpoint and pictures to judge it on, in a clone of the repository; an installed package doesn't carry them."""

_REPOSITORY = Path("model_repository")

BAD_INPUT, REFUSED, INTERRUPTED = 2, 3, 130
"""Exit statuses: something passed can't be used; below the gate, or not what the checkpoint's library gives; Ctrl-C."""

Rows = Mapping[Tower, Sequence[Judged | Missing]]


@dataclass(frozen=True)
class Options:
    """The command line, parsed."""

    model: str
    revision: str | None
    text_model: str | None
    name: str
    variants: tuple[Variant, ...]
    chosen: Mapping[Tower, Variant | None]
    preprocessing: Preprocessing
    objective: str
    allowed: Allowed
    artifacts: Path
    repository: Path
    eval: Path | None
    calibration: Path | None
    json: Path | None
    force: bool
    list: bool


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0, 2 for bad input, 3 if the gate refused."""
    console = Console(stderr=True)
    try:
        options = parsed(argv)
        if options.list:
            listing.show(options.artifacts, options.repository)
            return 0
        return run(options, console)
    except BrokenPipeError:  # of whoever reads the report
        raise
    except (ClipError, OSError) as problem:
        console.print(f"error: {problem}", style="red", markup=False, highlight=False, soft_wrap=True)
        return BAD_INPUT
    except KeyboardInterrupt:
        console.print("interrupted: nothing was published; what was built is kept", highlight=False)
        return INTERRUPTED


def parsed(argv: Sequence[str] | None) -> Options:
    """Parse and check the command line.

    Raises:
        InvalidInput: an unknown variant or one that can't be served, no checkpoint where none is bundled, no folder for the
            report.
    """
    arguments = _parser().parse_args(argv)
    if arguments.model is None and not arguments.list:
        _use_bundled(arguments)
    if arguments.json and not arguments.json.parent.is_dir():
        raise InvalidInput(f"--json {arguments.json}: there is no folder {arguments.json.parent}")
    variants = listed(arguments.variants)
    chosen = {"image": _to_publish(arguments.image_variant), "text": _to_publish(arguments.text_variant)}
    return Options(
        model=arguments.model,
        revision=arguments.revision,
        text_model=arguments.text_model,
        name=arguments.name,
        variants=tuple(dict.fromkeys([*variants, *filter(None, chosen.values())])),
        chosen={tower: chosen[tower] for tower in TOWERS},
        preprocessing=arguments.preprocessing,
        objective=arguments.objective,
        allowed=Allowed(arguments.max_loss, arguments.min_cosine),
        artifacts=arguments.artifacts,
        repository=arguments.repository,
        eval=arguments.eval,
        calibration=arguments.calibration,
        json=arguments.json,
        force=arguments.force,
        list=arguments.list,
    )


def _use_bundled(arguments: argparse.Namespace) -> None:
    if not (BUNDLED / "emoji-clip").is_dir():
        raise InvalidInput("no checkpoint is bundled with this installation: pass --model FOLDER|HUB_ID")
    arguments.model = str(BUNDLED / "emoji-clip")
    arguments.eval = arguments.eval or BUNDLED / "pictures"


def _to_publish(name: str | None) -> Variant | None:
    if name and not named(name).backend:
        raise InvalidInput(f"{name} is only measured, Triton doesn't serve it: choose one of ONNX, OpenVINO or TensorRT")
    return named(name) if name else None


def run(options: Options, console: Console) -> int:
    """Export as the options say: build, judge, time, choose, publish, report."""
    _quiet()
    found = checkpoint.find(options.model, options.revision, options.text_model)
    folder = options.artifacts / found.slug
    with console.status("reading the checkpoint") as status, alone(folder):
        step = _step(console, status.update)
        family = families.of(found)
        spec = family.spec(found, options.name)
        inputs = evaluation.Inputs(spec, found.tokenizer_json, options.preprocessing)
        pictures = BUNDLED / "pictures"
        judged_on, calibration = evaluation.load(
            options.eval, options.calibration, pictures if pictures.is_dir() else None, inputs
        )
        for skipped in judged_on.skipped:
            console.print(f"skipped {skipped}", style="yellow", markup=False)
        artifacts = Artifacts(folder, spec, partial(family.towers, found, spec), step)
        libraries = oracle_record.compared(found, family, artifacts, options.eval)
        if differences := [problem for tower in TOWERS if (problem := libraries[tower].problem(tower))]:
            return _refused(differences, libraries, spec, options, console)
        judge = artifacts.judge(judged_on, calibration, options.allowed)
        rows: Rows = {tower: [judge.judged(variant, tower) for variant in options.variants] for tower in TOWERS}
        built = {tower: [row for row in rows[tower] if isinstance(row, Judged)] for tower in TOWERS}
        speeds = {tower: speed.measure(built[tower], tower, spec, folder, step) for tower in TOWERS}
        best = {tower: _chosen(options, tower, built[tower], speeds[tower]) for tower in TOWERS}
        chosen = {tower: judge.as_served(row) if row else None for tower, row in best.items()}
        problems = [problem for tower in TOWERS if (problem := _objection(options, tower, chosen[tower], rows[tower]))]
        published = {} if problems else {tower: row for tower, row in chosen.items() if row}
        if published:
            publish(published, spec, found.tokenizer_json, options.preprocessing, options.repository)
        every = [row for tower in TOWERS for row in rows[tower]]
        pair = _together(judge, published)
        whole = Report(spec, judged_on, calibration, options.preprocessing, libraries, every, speeds, published, pair)
        report.save(whole, folder, plots.save(whole, folder))
    report.show(whole)
    console.print(f"report, with plots: {folder / report.REPORT_MD}", markup=False, highlight=False, soft_wrap=True)
    if options.json:
        _write_json(options.json, report.as_json(whole))
    return _closing(problems, options, console)


def _refused(
    differences: Sequence[str], libraries: Mapping[Tower, Compared], spec: ModelSpec, options: Options, console: Console
) -> int:
    """Stop before anything is built: what would be served isn't what the checkpoint's library gives."""
    if options.json:
        _write_json(options.json, {"spec": spec.to_fields(), "library": report.libraries_json(libraries), "variants": []})
    return _closing(differences, options, console)


def _chosen(options: Options, tower: Tower, built: Sequence[Judged], speeds: Mapping[str, speed.Speed | str]) -> Judged | None:
    """The row that the user named, else the best."""
    if wanted := options.chosen[tower]:
        return next((row for row in built if row.variant == wanted.name), None)
    return choice.best(built, speeds, options.objective)


def _objection(options: Options, tower: Tower, row: Judged | None, rows: Sequence[Judged | Missing]) -> str:
    """Why a tower isn't published; empty if it is."""
    if row is None:
        wanted = options.chosen[tower]
        reasons = [one.reason for one in rows if isinstance(one, Missing) and wanted and one.variant == wanted.name]
        why = f"{wanted.name}: {reasons[0]}" if wanted and reasons else "no variant that Triton serves passes the gate"
        return f"the {tower} tower isn't published: {why}; build others with --variants, or name one with --{tower}-variant"
    if row.failures and not options.force:
        why = "; ".join(row.failures)
        return f"{row.variant} of the {tower} tower isn't published: {why}; choose another variant, or pass --force"
    return ""


def _together(judge: Judge, published: Mapping[Tower, Judged]) -> Mapping[str, float]:
    return judge.retrieval(published["image"], published["text"]) if published else {}


def _closing(problems: Sequence[str], options: Options, console: Console) -> int:
    for problem in problems:
        console.print(problem, style="red", markup=False, soft_wrap=True)
    if problems:
        return REFUSED
    where = "" if options.repository == _REPOSITORY else f" --repository {options.repository}"
    done = f"published {options.name!r} in {options.repository}; start it with: clipserve serve{where}"
    console.print(done, markup=False, highlight=False, soft_wrap=True)
    return 0


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _step(console: Console, update: Step) -> Step:
    """Progress: a live line on a terminal, plain lines elsewhere."""
    return update if console.is_terminal else lambda text: console.print(text, highlight=False)


def _quiet() -> None:
    """Keep the libraries' own notices off the screen; they are set before any of them is loaded."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")


def _parser() -> argparse.ArgumentParser:
    known = ", ".join(VARIANTS)
    parser = argparse.ArgumentParser(
        prog="clipserve export",
        description="Turn a CLIP checkpoint into fast variants, check each against PyTorch, and publish one per tower.",
        epilog="Exit status: 0 published, 2 bad input, 3 a variant to publish is below the gate, "
        "or the checkpoint's own library gives other embeddings.",
    )
    parser.add_argument("--model", metavar="FOLDER|HUB_ID", help="checkpoint in Hugging Face format (default: the bundled one)")
    parser.add_argument("--revision", help="branch, tag or commit on the hub")
    parser.add_argument("--text-model", metavar="FOLDER|HUB_ID", help="another text tower, for the image tower of --model")
    parser.add_argument("--name", default="clip", help="name of the published models (default: %(default)s)")
    parser.add_argument(
        "--variants", default=DEFAULT, metavar="V,V", help=f"what to build: {ALL}, or some of {known} (default: %(default)s)"
    )
    parser.add_argument("--image-variant", metavar="V", help="variant of the image tower to publish (default: the best)")
    parser.add_argument("--text-variant", metavar="V", help="variant of the text tower to publish (default: the best)")
    parser.add_argument(
        "--for",
        dest="objective",
        choices=choice.OBJECTIVES,
        default="latency",
        help="what the best has least of: latency of one item, time for many (throughput), size (default: %(default)s)",
    )
    parser.add_argument(
        "--preprocessing",
        choices=PREPROCESSING,
        default="exact",
        help="of images in the server: the checkpoint's own to the bit, or faster and nearly so (default: %(default)s)",
    )
    parser.add_argument(
        "--eval", type=Path, metavar="FOLDER", help="pictures to judge on, with captions or in folders by class"
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="FOLDER",
        help="pictures, with captions if there are any, to calibrate int8 with (default: a part of --eval, else the bundled)",
    )
    parser.add_argument(
        "--max-loss",
        type=float,
        default=Allowed.lost_points,
        metavar="POINTS",
        help="most points of recall or accuracy that a variant may lose (default: %(default)s)",
    )
    parser.add_argument(
        "--min-cosine",
        type=float,
        default=Allowed.int8_cosine_mean,
        metavar="C",
        help="least mean cosine of an int8 variant to PyTorch (default: %(default)s)",
    )
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"), help="where variants are kept")
    parser.add_argument("--repository", type=Path, default=_REPOSITORY, help="what Triton reads")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there as JSON too")
    parser.add_argument("--force", action="store_true", help="publish even a variant that is below the gate")
    parser.add_argument("--list", action="store_true", help="show what is built and what is published, and do nothing else")
    return parser


if __name__ == "__main__":
    sys.exit(command_runner.run("clipserve export", main))
