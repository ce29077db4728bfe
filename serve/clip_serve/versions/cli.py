"""``clipserve publish``: put another version of a checkpoint into service while the server runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from clip_client import command_runner, help_texts, model_repository, ports
from clip_client.argument_types import count
from clip_client.errors import ClipError, InvalidInput
from clip_client.model_versions import versioned
from clip_client.settings import Formatter
from clip_serve.versions.publisher import Choice, Publisher
from clip_serve.versions.servers import Servers

_SERVER = f"http://127.0.0.1:{ports.HTTP}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        _publish(parser(argv).parse_args(argv))
    except ClipError as problem:
        print(f"error: {problem}", file=sys.stderr, flush=True)
        return command_runner.FAILED
    return 0


def _publish(arguments: argparse.Namespace) -> None:
    choice = Choice(arguments.beside, arguments.replace, arguments.new_space)
    goes_back = arguments.rollback or arguments.to is not None
    if goes_back == (arguments.source is not None):
        raise InvalidInput("expected either a folder to publish, or --rollback or --to N")
    if choice.beside and choice.alone:
        raise InvalidInput("--beside and --replace exclude each other: there is one version or there are two")
    addresses = [] if arguments.no_server else arguments.server or [_SERVER]
    publisher = Publisher(arguments.repository, arguments.name, Servers(addresses, arguments.timeout), _say)
    number = publisher.serve(arguments.to or 0, choice) if goes_back else publisher.publish(arguments.source, choice)
    if choice.beside:
        own = versioned(arguments.name, number)
        _say(f"version {number} answers as {own} beside: clipserve publish --to {number} goes over to it")


def _say(text: str) -> None:
    print(text, flush=True)


def parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser of the command, which has no settings besides its arguments."""
    del argv
    parser = argparse.ArgumentParser(
        prog="clipserve publish",
        description="Put another version of a checkpoint into service: beside the one that serves, then in its place.",
        formatter_class=Formatter,
    )
    parser.add_argument("source", nargs="?", type=Path, metavar="FOLDER", help="repository that export published it into")
    parser.add_argument("--repository", type=Path, default=model_repository.FOLDER, help="model repository that is served")
    parser.add_argument("--name", default="clip", help="published name")
    parser.add_argument("--rollback", action="store_true", help="go back to the version that served before")
    parser.add_argument("--to", type=count, metavar="N", help="go over to a version that is kept")
    parser.add_argument("--beside", action="store_true", help="load it, and leave requests where they are")
    parser.add_argument("--replace", action="store_true", help="unload the old one first, where memory is short for both")
    parser.add_argument("--new-space", action="store_true", help="allow embeddings that can't be compared with the old ones")
    parser.add_argument(
        "--server", action="append", metavar="URL", help=f"HTTP address of a server to wait for; several times ({_SERVER})"
    )
    parser.add_argument("--no-server", action="store_true", help="change the repository alone; servers follow by themselves")
    parser.add_argument("--timeout", type=count, default=600, metavar="SECONDS", help="bound on each wait for a server")
    help_texts.add_version(parser)
    help_texts.add_examples(
        parser,
        "clipserve publish next",
        "clipserve publish next --beside",
        "clipserve publish --rollback",
    )
    return parser
