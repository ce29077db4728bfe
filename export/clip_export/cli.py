"""``clipserve export``: checkpoint -> variants -> gate -> model repository."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console

from clip_client.errors import ClipError, InvalidInput
from clip_client.spec import TOWERS, Tower
from clip_export import checkpoint, evaluation, families, report
from clip_export.artifacts import Artifacts, Judged, Step
from clip_export.publish import publish
from clip_export.variants import VARIANTS, named
from clip_export.variants.base import Variant

BUNDLED = Path(__file__).parents[2] / "examples" / "emoji"
"""A checkpoint and pictures to judge it on, in a clone of the repository; an installed package doesn't carry them."""

_REPOSITORY = Path("model_repository")

BAD_INPUT, REFUSED, INTERRUPTED = 2, 3, 130
"""Exit statuses: something passed can't be used; a variant to publish is below the gate; Ctrl-C."""


@dataclass(frozen=True)
class Options:
    """The command line, parsed."""

    model: str
    revision: str | None
    text_model: str | None
    name: str
    variants: tuple[Variant, ...]
    chosen: dict[Tower, Variant]
    artifacts: Path
    repository: Path
    eval: Path | None
    json: Path | None
    force: bool


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0, 2 for bad input, 3 if the gate refused."""
    console = Console(stderr=True)
    try:
        return run(parsed(argv), console)
    except ClipError as problem:
        console.print(f"error: {problem}", style="red", markup=False, highlight=False, soft_wrap=True)
        return BAD_INPUT
    except OSError as problem:
        console.print(f"error: {problem}", style="red", markup=False, highlight=False, soft_wrap=True)
        return BAD_INPUT
    except KeyboardInterrupt:
        console.print("interrupted: nothing was published; what was built is kept", highlight=False)
        return INTERRUPTED


def parsed(argv: Sequence[str] | None) -> Options:
    """Parse and check the command line.

    Raises:
        InvalidInput: an unknown variant, no checkpoint where none is bundled, no folder for the report.
    """
    arguments = _parser().parse_args(argv)
    if arguments.model is None:
        _use_bundled(arguments)
    if arguments.json and not arguments.json.parent.is_dir():
        raise InvalidInput(f"--json {arguments.json}: there is no folder {arguments.json.parent}")
    variants = tuple(dict.fromkeys(named(name.strip()) for name in arguments.variants.split(",")))
    wanted = {"image": arguments.image_variant, "text": arguments.text_variant}
    chosen = {tower: named(wanted[tower]) if wanted[tower] else variants[0] for tower in TOWERS}
    return Options(
        model=arguments.model,
        revision=arguments.revision,
        text_model=arguments.text_model,
        name=arguments.name,
        variants=tuple(dict.fromkeys([*variants, *chosen.values()])),
        chosen=chosen,
        artifacts=arguments.artifacts,
        repository=arguments.repository,
        eval=arguments.eval,
        json=arguments.json,
        force=arguments.force,
    )


def _use_bundled(arguments: argparse.Namespace) -> None:
    if not (BUNDLED / "emoji-clip").is_dir():
        raise InvalidInput("no checkpoint is bundled with this installation: pass --model FOLDER|HUB_ID")
    arguments.model = str(BUNDLED / "emoji-clip")
    arguments.eval = arguments.eval or BUNDLED / "pictures"


def run(options: Options, console: Console) -> int:
    """Export as the options say: build, judge, publish, report."""
    _quiet()
    found = checkpoint.find(options.model, options.revision, options.text_model)
    folder = options.artifacts / found.slug
    with console.status("reading the checkpoint") as status, _alone(folder):
        family = families.of(found)
        spec = family.spec(found, options.name)
        judged_on = evaluation.load(options.eval, spec, found.tokenizer_json)
        for skipped in judged_on.skipped:
            console.print(f"skipped {skipped}", style="yellow", markup=False)
        artifacts = Artifacts(folder, spec, judged_on, lambda: family.towers(found, spec))
        rows = _judged(artifacts, options.variants, _step(console, status.update))
        chosen = {row.tower: row for row in rows if row.variant == options.chosen[row.tower].name}
        refused = [row for row in chosen.values() if row.failures and not options.force]
        if not refused:
            publish(chosen, spec, found.tokenizer_json, options.repository)
    published = {} if refused else chosen
    report.show(rows, published, judged_on)
    if options.json:
        content = report.as_json(spec, rows, published, judged_on)
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return _closing(refused, options, console)


def _judged(artifacts: Artifacts, variants: Sequence[Variant], step: Step) -> list[Judged]:
    return [row for variant in variants for row in artifacts.judged(variant, step)]


def _closing(refused: Sequence[Judged], options: Options, console: Console) -> int:
    for row in refused:
        console.print(
            f"{row.variant} of the {row.tower} tower isn't published: {', '.join(row.failures)} below "
            f"{named(row.variant).limit}; choose another variant, or pass --force",
            style="red",
            markup=False,
            soft_wrap=True,
        )
    if refused:
        return REFUSED
    where = "" if options.repository == _REPOSITORY else f" --repository {options.repository}"
    done = f"published {options.name!r} in {options.repository}; start it with: clipserve serve{where}"
    console.print(done, markup=False, highlight=False, soft_wrap=True)
    return 0


def _step(console: Console, update: Step) -> Step:
    """Progress: a live line on a terminal, plain lines elsewhere."""
    return update if console.is_terminal else lambda text: console.print(text, highlight=False)


def _quiet() -> None:
    """Keep the libraries' own notices off the screen; they are set before any of them is loaded."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the artefacts' folder, so that two exports of one checkpoint don't write over each other."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", blocking=False)
    try:
        lock.acquire()
    except Timeout as problem:
        raise InvalidInput(f"another export works in {folder}: wait for it, or pass --artifacts OTHER") from problem
    try:
        yield
    finally:
        lock.release()


def _parser() -> argparse.ArgumentParser:
    known = ", ".join(VARIANTS)
    parser = argparse.ArgumentParser(
        prog="clipserve export",
        description="Turn a CLIP checkpoint into fast variants, check each against PyTorch, and publish one per tower.",
        epilog="Exit status: 0 published, 2 bad input, 3 a variant to publish is below the gate.",
    )
    parser.add_argument("--model", metavar="FOLDER|HUB_ID", help="checkpoint in Hugging Face format (default: the bundled one)")
    parser.add_argument("--revision", help="branch, tag or commit on the hub")
    parser.add_argument("--text-model", metavar="FOLDER|HUB_ID", help="another text tower, for the image tower of --model")
    parser.add_argument("--name", default="clip", help="name of the published models (default: %(default)s)")
    parser.add_argument(
        "--variants", default="onnx-fp32,openvino-fp16", metavar="V,V", help=f"what to build: {known} (default: %(default)s)"
    )
    parser.add_argument("--image-variant", metavar="V", help="variant of the image tower to publish (default: the first)")
    parser.add_argument("--text-variant", metavar="V", help="variant of the text tower to publish (default: the first)")
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"), help="where variants are kept")
    parser.add_argument("--repository", type=Path, default=_REPOSITORY, help="what Triton reads")
    parser.add_argument("--eval", type=Path, metavar="FOLDER", help="pictures to judge on, with captions if there are any")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there as JSON too")
    parser.add_argument("--force", action="store_true", help="publish even what is below the gate")
    return parser


if __name__ == "__main__":
    sys.exit(main())
