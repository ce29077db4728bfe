"""Command ``clipserve search``: its verbs and their options."""

import argparse
import importlib
import ipaddress
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

from clip_client import command_runner
from clip_client.argument_types import count, port, ports
from clip_client.errors import ClipError
from clip_client.settings import Formatter, Repeated, add_settings
from clip_search.options import Engine, HttpOptions, IndexOptions, Options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status: 0, or 1 for an error."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        arguments = _parser(argv).parse_args(argv)
        module, _, function = arguments.run.rpartition(".")
        return int(getattr(importlib.import_module(f"clip_search.cli.{module}"), function)(arguments))
    except ClipError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return command_runner.FAILED


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="clipserve search", description="Store, index and search embeddings.")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    for name, (run, text, add_options) in _VERBS.items():
        verb = verbs.add_parser(name, help=text, description=text, formatter_class=Formatter)
        verb.set_defaults(run=run)
        if name != "serve":
            _client_options(verb)
        add_options(verb)
    if argv[:1] == ["serve"]:
        add_settings(verbs.choices["serve"], "search", argv)
    return parser


def _client_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", default=f"http://{HttpOptions.host}:{HttpOptions.port}", help="where the sidecar listens")
    parser.add_argument("--collection", default="default", metavar="NAME", help="which collection")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="what the sidecar asks for, if it does")


def _serve_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--data", default="search-data", metavar="DIR", help="the LanceDB database: a folder, or an object store's URI")
    add("--index", type=Path, metavar="DIR", help="where derived indexes are kept; in DIR/indexes of the database if unset")
    add("--triton", default=Options.triton, metavar="HOST:PORT", help="Triton's gRPC endpoint")
    add("--model", default=Options.model, metavar="NAME", help="what the checkpoint was published as")
    add("--text-cache", type=_entries, default=Options.text_cache, metavar="N",
        help="text embeddings that are remembered; 0 for none")  # fmt: skip
    index = IndexOptions()
    add("--engine", choices=get_args(Engine), default=index.engine, help="index in memory, or LanceDB's own on disk")
    add("--recall", type=_share, default=index.recall_target, metavar="SHARE",
        help="of the true nearest 10, to be found by text queries")  # fmt: skip
    add("--memory", type=_gigabytes, default=index.memory_bytes / 2**30, metavar="GB", help="what one index may take")
    add("--exact-rows", type=count, default=index.exact_rows, metavar="N", help="up to so many rows are searched exactly")
    add("--threads", type=count, default=index.threads, metavar="N", help="used while an index is built")
    _access_options(parser)


def _access_options(parser: argparse.ArgumentParser) -> None:
    """Options of who may ask, for what, and how much at once."""
    add, http = parser.add_argument, HttpOptions()
    add("--host", default=http.host, help="address to listen on")
    add("--port", type=port, default=http.port, help="TCP port")
    add("--token-file", type=Path, metavar="FILE", help="clients must send the token in it")
    _repeated(parser, "--images", Path, "DIR", "pictures below it may be read by path")
    _repeated(parser, "--cors", str, "ORIGIN", "site whose pages may call; '*' for any")
    _repeated(parser, "--name", str, "HOST", "host name that the sidecar is reached by")
    _repeated(parser, "--allow-network", ipaddress.ip_network, "CIDR", "network that isn't public but may be fetched from")
    _repeated(parser, "--allow-port", ports, "N[-M]", "port that may be fetched from besides 80 and 443")
    add("--body-mb", type=count, default=http.body_bytes // 2**20, metavar="MB", help="largest request")
    add("--columns-to-return", default=",".join(http.columns), metavar="A,B", help="metadata in clip-retrieval's route")


def _repeated(parser: argparse.ArgumentParser, flag: str, kind: Callable[[str], Any], metavar: str, text: str) -> None:
    parser.add_argument(flag, type=kind, action=Repeated, default=[], metavar=metavar, help=f"{text} (repeatable)")


def _share(text: str) -> float:
    if not 0 < float(text) <= 1:
        raise argparse.ArgumentTypeError(f"the recall target is {text}: expected above 0, at most 1")
    return float(text)


def _gigabytes(text: str) -> float:
    if not 0 < float(text) < 10**9:
        raise argparse.ArgumentTypeError(f"{text} GB of memory: expected a number above 0")
    return float(text)


def _entries(text: str) -> int:
    if int(text) < 0:
        raise argparse.ArgumentTypeError(f"{text} entries of a cache: expected a number from 0 on")
    return int(text)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="its pictures are sent, with the .txt and .json beside them")
    parser.add_argument(
        "--metadata", type=Path, metavar="FILE", help="parquet, CSV, JSON lines or JSON with file_name and fields to keep"
    )
    parser.add_argument("--replace", action="store_true", help="embed those again that are there already")
    parser.add_argument("--prune", action="store_true", help="remove rows from below the folder whose files are gone")
    _errors_option(parser)


def _errors_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--errors", type=Path, metavar="FILE", help="write what was left out there, a JSON object a line")


def _query_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("query", help="a text, or the path of a picture")
    parser.add_argument("-k", type=count, default=10, help="how many")
    parser.add_argument("--filter", default="", metavar="SQL", help='over the columns, e.g. "year > 2000"')
    parser.add_argument("--open", action="store_true", help="show the search on the page")
    parser.add_argument("--json", action="store_true", help="for machines")


def _filter_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("query", help="a text, or the path of a picture")
    parser.add_argument("output_folder", type=Path, help="is made if it isn't there")
    parser.add_argument("--num-results", type=count, default=100, metavar="N", help="at most so many")
    parser.add_argument("--threshold", type=float, metavar="SCORE", help="only with at least this score")
    parser.add_argument("--filter", default="", metavar="SQL", help="over the columns")
    _errors_option(parser)


def _import_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="with img_emb, text_emb or image.index, and metadata")
    parser.add_argument("--fingerprint", default="", help="of the model that made the vectors, if known")
    parser.add_argument("--prefix", default="", metavar="TEXT", help="in front of each row's number, which together are its id")
    parser.add_argument("--replace", action="store_true", help="write rows anew whose ids are there already")
    _errors_option(parser)


_VERBS: dict[str, tuple[str, str, Callable[[argparse.ArgumentParser], object]]] = {
    "serve": ("serve.main", "start the sidecar; runs until SIGINT or SIGTERM", _serve_options),
    "add": (
        "folder.adding.add",
        "bring a collection in line with a folder of pictures; only what is new or has changed is sent",
        _add_options,
    ),
    "query": ("commands.query", "search by a text, or by a picture's file", _query_options),
    "stats": (
        "commands.stats",
        "rows, columns, and how they are searched",
        lambda parser: parser.add_argument("--json", action="store_true"),
    ),
    "rebuild": ("commands.rebuild", "index everything anew", lambda parser: None),
    "filter": ("filtering.filter_", "copy the best matches to a folder", _filter_options),
    "import": ("clip_retrieval.importing.import_", "add a folder of clip-retrieval's", _import_options),
    "export": (
        "clip_retrieval.exporting.export",
        "write a folder as clip-retrieval's",
        lambda parser: parser.add_argument("folder", type=Path),
    ),
}
"""Verb -> the function that runs it, imported from this room when it is called; one line of help; its own options."""


if __name__ == "__main__":
    sys.exit(command_runner.run("clipserve search", main))
