"""Command ``clipserve search``: its parser, and the call of the verb."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from clip_client import command_runner, help_texts
from clip_client.argument_types import add_timeout
from clip_client.client_variables import URL
from clip_client.errors import ClipError
from clip_client.settings import Formatter, add_settings
from clip_search.cli import without_pandas
from clip_search.cli.verbs import VERBS
from clip_search.options import HttpOptions

PROGRAM = "clipserve search"
_LANCE_LOG = "LANCEDB_LOG"  # read when LanceDB is imported; its warnings are about its insides, whenever it splits a list, say


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status: 0, or 1 for an error."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        arguments = parser(argv).parse_args(argv)
        os.environ.setdefault(_LANCE_LOG, "error")
        if argv[:1] == ["serve"]:
            without_pandas.settle()
        module, _, function = arguments.run.rpartition(".")
        return int(getattr(importlib.import_module(f"clip_search.cli.{module}"), function)(arguments))
    except ClipError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return command_runner.FAILED


def parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser of the command."""
    made = argparse.ArgumentParser(
        prog=PROGRAM, description="Store, index and search embeddings.", formatter_class=help_texts.Formatter
    )
    help_texts.add_version(made)
    verbs = made.add_subparsers(required=True, metavar="VERB")
    for name, verb in VERBS.items():
        own = verbs.add_parser(name, help=verb.help, description=_sentence(verb.help), formatter_class=Formatter)
        own.set_defaults(run=verb.run)
        if verb.is_client:
            _client_options(own, verb.timeout_s)
        if verb.has_collection:
            own.add_argument("--collection", default="default", metavar="NAME", help="which collection")
        verb.add_options(own)
        help_texts.add_examples(own, *(f"{PROGRAM} {name} {example}".rstrip() for example in verb.examples))
    help_texts.add_examples(made, *(f"{PROGRAM} {name} {VERBS[name].examples[0]}" for name in ("serve", "add", "query")))
    if argv[:1] == ["serve"]:
        add_settings(verbs.choices["serve"], "search", argv)
    return made


def _client_options(parser: argparse.ArgumentParser, timeout_s: float) -> None:
    usual = os.environ.get(URL) or f"http://{HttpOptions.host}:{HttpOptions.port}"
    parser.add_argument("--url", default=usual, help="where the sidecar listens")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="what the sidecar asks for, if it does")
    add_timeout(parser, timeout_s)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


if __name__ == "__main__":
    sys.exit(command_runner.run(PROGRAM, main))
