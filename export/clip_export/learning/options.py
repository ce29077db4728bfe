"""Options of ``clipserve learn``: the command line, its defaults, its checks."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from clip_client import help_texts
from clip_client.argument_types import count
from clip_client.errors import InvalidInput

Taught = Literal["text"]
Adapter = Literal["full", "layers", "lora"]

_MOST_HELD_OUT = 0.8  # of the texts: the rest is to be learned from


@dataclass(frozen=True, kw_only=True)
class Options:
    """Parsed command line; its defaults are those of the command."""

    collection: str
    checkpoint: str
    output: Path
    url: str | None = None
    token_file: Path | None = None
    feedback: Path | None = None
    replay: Path | None = None
    tower: Taught = "text"
    adapter: Adapter = "full"
    position_correction: bool = True
    held_out: float = 0.2
    steps: int = 600
    rate: float | None = None
    seed: int = 0


def parsed(argv: Sequence[str] | None) -> Options:
    """Parse and check the command line.

    Raises:
        InvalidInput: if the output is there already.
    """
    options = Options(**vars(parser(argv).parse_args(argv)))
    if options.output.exists():
        raise InvalidInput(f"--output {options.output} is there already: name a folder that isn't, or remove it")
    return options


def parser(argv: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = argparse.ArgumentParser(
        prog="clipserve learn",
        description="Tune a checkpoint on what people chose among the hits of a collection. The text tower alone changes, "
        "so that the vectors of the pictures stay as they are.",
        epilog="The same command goes on after any stop. Exit status: 0 learned, 2 bad input, 130 interrupted.",
        formatter_class=help_texts.Formatter,
    )
    _add_sources(parser)
    _add_learning(parser)
    help_texts.add_version(parser)
    help_texts.add_examples(
        parser,
        "clipserve learn --collection photos --checkpoint FOLDER --output LEARNED",
        "clipserve learn --collection photos --feedback clicks.parquet --checkpoint FOLDER --output LEARNED",
    )
    return parser


def _add_sources(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--collection", required=True, metavar="NAME", help="collection that was searched; its pictures' vectors are used")
    add(
        "--checkpoint", required=True, metavar="FOLDER|HUB_ID", help="parent: the checkpoint that made the collection's vectors"
    )
    add("--output", required=True, type=Path, metavar="FOLDER", help="folder for the new checkpoint; must not exist")
    add("--url", help="sidecar with the collection (default: CLIPSERVE_URL, or http://localhost:1234)")
    add("--token-file", type=Path, metavar="FILE", help="the sidecar's token (default: the variable CLIPSERVE_SEARCH_TOKEN)")
    add("--feedback", type=Path, metavar="FILE", help="parquet of search feedback --export (default: ask the sidecar)")
    add(
        "--replay",
        type=Path,
        metavar="FILE",
        help="parquet with texts that must keep their meaning (text, and perhaps id of a picture; default: the captions)",
    )


def _add_learning(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--tower", choices=get_args(Taught), default=Options.tower, help="tower that changes (default: %(default)s)")
    add(
        "--adapter",
        choices=get_args(Adapter),
        default=Options.adapter,
        help="weights that change: all of the tower (full), all but its embeddings (layers), or low-rank additions to its "
        "matrices (lora) (default: %(default)s)",
    )
    add(
        "--no-position-correction",
        dest="position_correction",
        action="store_false",
        help="count every choice alike, though what stands above is chosen more often; for comparison",
    )
    add(
        "--held-out",
        type=share,
        default=Options.held_out,
        metavar="SHARE",
        help="share of the queries that are kept to judge the result (default: %(default)s)",
    )
    add("--steps", type=count, default=Options.steps, metavar="N", help="steps of training (default: %(default)s)")
    add("--rate", type=rate, default=Options.rate, metavar="X", help="learning rate (default: 0.2 / the tower's width)")
    add("--seed", type=seed, default=Options.seed, metavar="N", help="of all that is drawn (default: %(default)s)")


def share(text: str) -> float:
    """Parse a share of queries that leaves some to learn from."""
    value = float(text)
    if not 0 <= value <= _MOST_HELD_OUT:
        raise argparse.ArgumentTypeError(f"{text} isn't between 0 and {_MOST_HELD_OUT}")
    return value


def rate(text: str) -> float:
    """Parse a learning rate."""
    value = float(text)
    if not (math.isfinite(value) and 0 < value <= 1):
        raise argparse.ArgumentTypeError(f"{text} isn't above 0 and at most 1")
    return value


def seed(text: str) -> int:
    """Parse a seed."""
    value = int(text)
    if not 0 <= value < 2**31:
        raise argparse.ArgumentTypeError(f"{text} isn't between 0 and {2**31 - 1}")
    return value
