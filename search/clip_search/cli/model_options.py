"""Options of the verbs that are about models: feedback on their answers, comparison, going over to another."""

import argparse
from pathlib import Path

from clip_client.argument_types import count, instant


def add_reembed_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``reembed``."""
    parser.add_argument("collection", metavar="NAME", help="which one")
    verb = parser.add_mutually_exclusive_group()
    verb.add_argument("--to", metavar="MODEL", help="name of a published checkpoint, or number of a version, to go over to")
    verb.add_argument("--back", nargs="?", const="", metavar="MODEL",
        help="let the vectors that are kept answer again; their checkpoint may have another name by now")  # fmt: skip
    verb.add_argument("--drop-old", action="store_true", help="remove the vectors that don't answer, or that are being made")
    verb.add_argument("--left-out", action="store_true", help="list the rows that couldn't be embedded, a JSON object a line")
    parser.add_argument("--wait", action="store_true", help="until it is done; Ctrl-C leaves the sidecar at it")
    parser.add_argument("--missing", type=_share, default=0.01, metavar="SHARE",
        help="of the rows, which may be left out since their pictures can't be had")  # fmt: skip
    parser.add_argument("--share-of-cores", type=_share, default=0.5, metavar="SHARE",
        help="of the time, in which the model embeds for it")  # fmt: skip
    parser.add_argument("--thumbnails", action="store_true",
        help="embed the sidecar's small pictures where the others can't be had: worse vectors")  # fmt: skip
    parser.add_argument("--yes", action="store_true", help="don't ask before dropping")
    parser.add_argument("--json", action="store_true", help="for machines")


def _share(text: str) -> float:
    if not 0 <= float(text) <= 1:
        raise argparse.ArgumentTypeError(f"the share is {text}: expected 0 to 1, 0.1 for a tenth")
    return float(text)


def add_feedback_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``feedback``."""
    outcome = parser.add_mutually_exclusive_group()
    outcome.add_argument("--json", action="store_true", help="for machines")
    outcome.add_argument("--export", type=Path, metavar="FILE", help="write all of it as parquet, a row for each answer")
    outcome.add_argument("--delete", action="store_true", help="remove it for good")
    parser.add_argument("--before", type=instant, metavar="TIME", help="delete what came before it, e.g. 2026-01-31; UTC")
    parser.add_argument("--limit", type=count, default=20, metavar="N", help="show the latest N answers")
    parser.add_argument("--yes", action="store_true", help="don't ask before deleting")


def add_compare_models_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``compare-models``."""
    parser.add_argument("collection", help="which one")
    parser.add_argument("--to", default="", metavar="HEX", help="compare with this model; that with most answers if unset")
    parser.add_argument("--json", action="store_true", help="for machines")
