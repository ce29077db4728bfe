"""``clipserve up``: from a folder of pictures to a page, with one command in one terminal."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from clip_client import command_runner, help_texts
from clip_client.argument_types import port
from clip_client.errors import ClipError
from clip_client.logs import LEVELS
from clip_client.settings import Formatter, Repeated, Switch, add_settings
from clip_serve.up import session
from clip_serve.up.messages import remark
from clip_serve.up.options import Options

_EPILOG = (
    "Without a terminal it ends once everything is added; with --watch, or where nothing is to be added, it stays. Exit "
    "status: 0, 1 for an error or pictures that were left out, 130 when it was stopped before the page was up. "
)

_READING = {
    "--input-format": "kind of the input, where its name doesn't tell",
    "--image-key": "shards: endings of pictures, e.g. jpg;png",
    "--caption-key": "shards: endings of captions, e.g. txt",
    "--image-column": "table: column of paths, URLs or encoded pictures",
    "--caption-column": "table: column of captions",
    "--split": "data set: its split",
    "--allow-network": "network that isn't public but may be fetched from (repeatable)",
    "--allow-port": "port that may be fetched from besides 80 and 443 (repeatable)",
}
"""Options of ``clipserve embed`` that are passed on."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status."""
    try:
        return session.run(_options(argv))
    except ClipError as problem:
        remark(f"error: {problem}")
        return command_runner.FAILED


def _options(argv: Sequence[str] | None) -> Options:
    argv = sys.argv[1:] if argv is None else argv
    words = vars(parser(argv).parse_args(argv))
    given = {flag: words.pop(flag[2:].replace("-", "_")) for flag in _READING}
    return Options(**words, reading=tuple(f"{flag}={value}" for flag, values in given.items() for value in values))


def parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = argparse.ArgumentParser(
        prog="clipserve up",
        description="Export a checkpoint if none is published, start Triton and the search, add pictures, and open the page.",
        epilog=_EPILOG,
        formatter_class=Formatter,
    )
    _add_options(parser)
    help_texts.add_version(parser)
    add_settings(parser, "up", argv)
    help_texts.add_examples(
        parser,
        "clipserve up photos",
        "clipserve up photos --watch",
        "clipserve up list.txt",
        "clipserve up 'data/{00000..00049}.tar'",
        "clipserve up photos --model openai/clip-vit-base-patch32",
        "clipserve up",
    )
    return parser


def _add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "pictures",
        nargs="?",
        type=_word,
        metavar="INPUT",
        help="pictures to add: a folder, a list of paths and URLs, or any other input of clipserve embed",
    )
    add("--model", metavar="FOLDER|HUB_ID", help="checkpoint to serve; what is published if unset, else the bundled one")
    add("--watch", action=Switch, help="keep the collection in line with the pictures: new, changed, gone")
    add("--metadata", type=Path, metavar="FILE", help="parquet, CSV, JSON lines or JSON with file_name and fields to keep")
    for flag, about in _READING.items():
        add(flag, action=Repeated, default=[], metavar="WORD", help=about)
    add("--collection", default=Options.collection, metavar="NAME", help="name that the pictures go by")
    add("--data", type=_path, default=Options.data, metavar="DIR", help="database of the search")
    add("--repository", type=_path, default=Options.repository, metavar="DIR", help="model repository")
    add("--artifacts", type=_path, default=Options.artifacts, metavar="DIR", help="what an export builds")
    add("--port", type=port, default=Options.port, help="of the page; the next free one if it is in use")
    add("--open", action=Switch, dest="opens", default=Options.opens, help="open the page in a browser")
    add(
        "--log-level",
        choices=LEVELS,
        default=Options.log_level,
        help="least level that the servers log, see their own --log-level",
    )


def _path(text: str) -> Path:
    return Path(_word(text))


def _word(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("expected a path, got an empty word")
    return text


if __name__ == "__main__":
    sys.exit(command_runner.run("clipserve up", main))
