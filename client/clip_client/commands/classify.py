"""``clipserve classify``: pictures, and the labels that fit them best."""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from clip_client import help_texts
from clip_client.argument_types import count
from clip_client.classification import Classification
from clip_client.cli import USAGE_ERROR
from clip_client.commands.labels import labels, templates
from clip_client.commands.model_options import add_model_options, opened
from clip_client.commands.output import Ledger, Rows, say
from clip_client.commands.picture_names import picture_names
from clip_client.errors import InvalidInput
from clip_client.images import ImageLike
from clip_client.prompt_templates import DEFAULT, TEMPLATES
from clip_client.stream_parts import PAUSE

_WIDEST = 40  # columns for a label


def main(argv: Sequence[str] | None = None) -> int:
    """Print the best labels of each picture as it comes; return 1 if one is left out, 2 for labels that can't be used."""
    made = parser(argv)
    arguments = made.parse_args(argv)
    try:
        names, sentences = labels(arguments.labels), templates(arguments.templates)
    except InvalidInput as problem:
        made.exit(USAGE_ERROR, f"{made.prog}: error: {problem}\n")
    width = min(max(map(len, ("label", *names))), _WIDEST)
    rows, ledger = Rows({"label": width, "probability": 11, "picture": 0}, as_json=arguments.json), Ledger(arguments.errors)
    waiting: deque[str] = deque()
    with opened(arguments) as clip:
        classifier = clip.zero_shot(names, templates=sentences)
        pictures = _pictures(arguments, waiting, ledger)
        for result in classifier.stream(pictures, on_error="none"):
            name = waiting.popleft()
            if result.classification is None:
                ledger.leave_out(name, result.reason)
            else:
                _write(rows, name, result.classification, arguments.top)
                ledger.taken += 1
    return ledger.close("classified")


def parser(argv: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """Return the parser of the command."""
    made = argparse.ArgumentParser(
        prog="clipserve classify",
        description="Print the label that fits each picture best, and its probability among the labels.",
        formatter_class=help_texts.Formatter,
    )
    made.add_argument(
        "pictures", nargs="+", metavar="FOLDER|PICTURE", help="folders, files and URLs; - for a list of them on standard input"
    )
    made.add_argument(
        "--labels", required=True, metavar="LABELS|FILE", help="labels with commas between them, or a file with one a line"
    )
    made.add_argument(
        "--templates",
        action="append",
        default=[],
        metavar="NAME|TEXT",
        help=f"sentence with {{}} for the label, or one of {', '.join(TEMPLATES)}; {DEFAULT!r} if left out (repeatable)",
    )
    made.add_argument("--top", type=count, default=1, metavar="K", help="labels of each picture (default: 1)")
    made.add_argument("--json", action="store_true", help="for machines: an object a picture, one a line")
    made.add_argument("--errors", type=Path, metavar="FILE", help="write what was left out there, a JSON object a line")
    made.add_argument("--null", "-0", action="store_true", help="names on standard input end with a NUL each")
    add_model_options(made)
    help_texts.add_version(made)
    help_texts.add_examples(
        made,
        "clipserve classify photos --labels cat,dog,car",
        'clipserve classify photos/car.jpg --labels labels.txt --templates "a drawing of a {}." --top 3',
        "clipserve classify - --null --labels cat,dog --json --errors errors.jsonl",
    )
    return made


def _pictures(arguments: argparse.Namespace, waiting: deque[str], ledger: Ledger) -> Iterator[ImageLike]:
    """Yield the pictures, and note their names in the same order; leave out those that can't be taken."""
    for named in picture_names(arguments.pictures, say, null=arguments.null):
        if named is None:
            yield PAUSE
            continue
        name, reason = named
        if reason:
            ledger.leave_out(name, reason)
            continue
        waiting.append(name)
        yield name if name.lower().startswith(("http://", "https://")) else Path(name)


def _write(rows: Rows, name: str, outcome: Classification, top: int) -> None:
    best = np.argsort(-outcome.probabilities, kind="stable")[:top]
    scores = [(outcome.labels[n], float(outcome.probabilities[n]), float(outcome.cosines[n])) for n in best]
    listed = [{"label": label, "probability": probability, "cosine": cosine} for label, probability, cosine in scores]
    rows.write({"picture": name, "labels": listed}, *((label, probability, name) for label, probability, _ in scores))
