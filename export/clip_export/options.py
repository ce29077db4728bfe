"""Options of ``clipserve export``: the command line, its defaults, its checks."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clip_client import bundled, help_texts, model_repository
from clip_client.errors import InvalidInput
from clip_client.preprocess import PREPROCESSING, Preprocessing
from clip_client.settings import add_settings
from clip_client.spec import TOWERS, Tower
from clip_export.builds.best_variant import OBJECTIVES
from clip_export.evaluation.gate import Allowed
from clip_export.variants import ALL, DEFAULT, VARIANTS, listed, named
from clip_export.variants.base import Variant


@dataclass(frozen=True, kw_only=True)
class Options:
    """Parsed command line; its defaults are those of the command."""

    model: str
    revision: str | None = None
    text_model: str | None = None
    image_only: bool = False
    name: str = "clip"
    notice: str | None = None
    variants: tuple[Variant, ...]
    chosen: Mapping[Tower, Variant | None]
    objective: str = "latency"
    quick: bool = False
    preprocessing: Preprocessing = "exact"
    eval: Path | None = None
    baseline: str | None = None
    clicks: Path | None = None
    click_pictures: Path | None = None
    calibration: Path | None = None
    allowed: Allowed = field(default_factory=Allowed)
    artifacts: Path = Path("artifacts")
    repository: Path = model_repository.FOLDER
    json: Path | None = None
    force: bool = False
    no_pickle: bool = False
    list: bool = False
    known: str | None = None


def parsed(argv: Sequence[str] | None) -> Options:
    """Parse and check the command line.

    Raises:
        InvalidInput: for an unknown variant or one that can't be served, no checkpoint where none is bundled, no folder for
            the report, half of the options of a baseline.
    """
    values = vars(parser(argv).parse_args(argv))
    del values["config"]
    if values["model"] is None and not values["list"] and values["known"] is None:
        _use_bundled(values)
    if values["json"] and not values["json"].parent.is_dir():
        raise InvalidInput(f"--json {values['json']}: there is no folder {values['json'].parent}")
    _check_baseline(values)
    if values["image_only"] and values["text_model"]:
        raise InvalidInput("--image-only leaves texts out, --text-model is for texts: pass one of them")
    variants = listed(values.pop("variants"))
    chosen = {tower: _to_publish(values.pop(f"{tower}_variant")) for tower in TOWERS}
    return Options(
        variants=tuple(dict.fromkeys([*variants, *filter(None, chosen.values())])),
        chosen=chosen,
        allowed=Allowed(values.pop("max_loss"), values.pop("min_cosine"), values.pop("allow_approximate")),
        **values,
    )


def bundled_pictures() -> Path | None:
    """Return the bundled pictures' folder, if there is one."""
    return bundled.PICTURES if bundled.PICTURES.is_dir() else None


def _use_bundled(values: dict[str, object]) -> None:
    if not bundled.CHECKPOINT.is_dir():
        raise InvalidInput("no checkpoint is bundled with this installation: pass --model FOLDER|HUB_ID")
    values["model"] = str(bundled.CHECKPOINT)
    values["eval"] = values["eval"] or bundled.PICTURES


def _check_baseline(values: Mapping[str, object]) -> None:
    if not values["baseline"]:
        if alone := next((name for name in ("clicks", "click_pictures") if values[name]), ""):
            raise InvalidInput(
                f"--{alone.replace('_', '-')} is for --baseline PARENT, the checkpoint to judge against: pass both"
            )
    elif values["image_only"]:
        raise InvalidInput("--baseline judges what texts find, --image-only leaves texts out: pass one of them")
    elif not values["eval"] and not values["list"]:
        raise InvalidInput("--baseline needs --eval FOLDER, labelled pictures that tell what the checkpoint has forgotten")


def _to_publish(name: str | None) -> Variant | None:
    if name and not named(name).backend:
        raise InvalidInput(f"{name} is only measured, Triton doesn't serve it: choose one of ONNX, OpenVINO or TensorRT")
    return named(name) if name else None


def parser(argv: Sequence[str] | None) -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = argparse.ArgumentParser(
        prog="clipserve export",
        description="Turn a CLIP checkpoint into fast variants, check each against PyTorch, and publish one per tower.",
        epilog="Exit status: 0 published, 2 bad input, 3 a variant to publish is below the gate, "
        "the checkpoint isn't better than its baseline, or its own library gives other embeddings.",
        formatter_class=help_texts.Formatter,
    )
    _add_models(parser)
    _add_choice(parser)
    _add_judgement(parser)
    _add_places(parser)
    help_texts.add_version(parser)
    add_settings(parser, "export", argv)
    help_texts.add_examples(
        parser,
        "clipserve export",
        "clipserve export --model openai/clip-vit-base-patch32 --eval FOLDER",
        "clipserve export --model FOLDER --variants onnx-fp32,openvino-int8 --for size",
        "clipserve export --model LEARNED --baseline PARENT --eval FOLDER",
        "clipserve export --known siglip",
    )
    return parser


def _add_models(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--model",
        metavar="FOLDER|HUB_ID",
        help="checkpoint: a folder, a hub id, a URL, open_clip's MODEL/TAG, … (default: the bundled one)",
    )
    add("--revision", help="branch, tag or commit on the hub")
    add("--text-model", metavar="FOLDER|HUB_ID", help="another text tower, for the image tower of --model")
    add("--image-only", action="store_true", help="export the image tower alone, to search pictures by pictures")
    add("--name", default=Options.name, help="name of the published models (default: %(default)s)")
    add(
        "--notice",
        metavar="TEXT",
        help="sentence on the model's purpose, shown with its results (default: the checkpoint's own)",
    )


def _add_choice(parser: argparse.ArgumentParser) -> None:
    add, known = parser.add_argument, ", ".join(VARIANTS)
    add(
        "--variants",
        default=DEFAULT,
        metavar="V,V",
        help=f"variants to build: {ALL}, or some of {known} (default: %(default)s)",
    )
    add("--image-variant", metavar="V", help="variant of the image tower to publish (default: the best)")
    add("--text-variant", metavar="V", help="variant of the text tower to publish (default: the best)")
    add(
        "--for",
        dest="objective",
        choices=OBJECTIVES,
        default=Options.objective,
        help="cost that the best has least of: latency of one item, time for many (throughput), size (default: %(default)s)",
    )
    add("--quick", action="store_true", help="publish the first of --variants that passes; none is timed")
    add(
        "--preprocessing",
        choices=PREPROCESSING,
        default=Options.preprocessing,
        help="of images in the server: the checkpoint's own to the bit, or faster and nearly so (default: %(default)s)",
    )


def _add_judgement(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--eval", type=Path, metavar="FOLDER", help="pictures to judge on, with captions or in folders by class")
    add(
        "--calibration",
        type=Path,
        metavar="FOLDER",
        help="pictures, with captions if there are any, to calibrate int8 with (default: a part of --eval, else the bundled)",
    )
    add(
        "--baseline",
        metavar="PARENT",
        help="checkpoint that this one was made from: publish only if held-out clicks rise, and --eval doesn't fall",
    )
    add("--clicks", type=Path, metavar="FILE", help="held-out clicks, for --baseline (default: the checkpoint's own)")
    add(
        "--click-pictures",
        type=Path,
        metavar="FOLDER",
        help="pictures that the clicks are about, by their ids (default: the vectors beside the clicks)",
    )
    add(
        "--max-loss",
        type=float,
        default=Allowed.lost_points,
        metavar="POINTS",
        help="most points of recall or accuracy that a variant, or all beside --baseline, may lose (default: %(default)s)",
    )
    add(
        "--min-cosine",
        type=float,
        default=Allowed.int8_cosine_mean,
        metavar="C",
        help="least mean cosine of an int8 variant to PyTorch (default: %(default)s)",
    )
    add(
        "--allow-approximate",
        action="store_true",
        help="let a variant be chosen that computes less than the checkpoint does (openvino-int8-merged)",
    )


def _add_places(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--artifacts", type=Path, default=Options.artifacts, help="folder of the built variants (default: %(default)s)")
    add("--repository", type=Path, default=Options.repository, help="model repository that Triton reads (default: %(default)s)")
    add("--json", type=Path, metavar="FILE", help="write the report there as JSON too")
    add("--no-pickle", action="store_true", help="refuse pickled weights, which are otherwise read in a process that runs none")
    add("--force", action="store_true", help="publish even a variant that is below the gate")
    add("--list", action="store_true", help="show what is built and what is published, and do nothing else")
    add(
        "--known",
        nargs="?",
        const="",
        metavar="WORD",
        help="show known checkpoints and their sizes, or those with a word in their row",
    )
