"""``clipserve search``: serve, and the verbs of a client on the command line."""

from __future__ import annotations

import argparse
import importlib
import ipaddress
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from clip_client import door
from clip_client.arguments import count, port, ports
from clip_client.errors import ClipError

FAILED = 1
_URL = "http://127.0.0.1:1234"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0, or 1 for anything that went wrong."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except ClipError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return FAILED


def _serve(arguments: argparse.Namespace) -> int:
    from clip_search.cli import serve

    return serve.main(arguments)


def _client(verb: str, module: str = "commands") -> Callable[[argparse.Namespace], int]:
    """A verb of a client, looked up when it is called: each loads only what it needs."""

    def run(arguments: argparse.Namespace) -> int:
        return int(getattr(importlib.import_module(f"clip_search.cli.{module}"), verb)(arguments))

    return run


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="clipserve search", description="Store, index and search embeddings.")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    _serve_options(_verb(verbs, "serve", _serve, "start the sidecar; runs until SIGINT or SIGTERM", client=False))
    _add_options(
        _verb(
            verbs,
            "add",
            _client("add", "folder.adding"),
            "bring a collection in line with a folder of pictures; only what is new or has changed is sent",
        )
    )
    _query_options(_verb(verbs, "query", _client("query"), "search by a text, or by a picture's file"))
    _verb(verbs, "stats", _client("stats"), "rows, columns, and how they are searched").add_argument(
        "--json", action="store_true"
    )
    _verb(verbs, "rebuild", _client("rebuild"), "index everything anew")
    _filter_options(_verb(verbs, "filter", _client("filter_", "filtering"), "copy the best matches to a folder"))
    _import_options(_verb(verbs, "import", _client("import_", "clip_retrieval.importing"), "add a folder of clip-retrieval's"))
    _verb(verbs, "export", _client("export", "clip_retrieval.exporting"), "write a folder as clip-retrieval's").add_argument(
        "folder", type=Path
    )
    return parser


def _verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], int],
    text: str,
    *,
    client: bool = True,
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=text, description=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.set_defaults(run=run)
    if client:
        parser.add_argument("--url", default=_URL, help="where the sidecar listens")
        parser.add_argument("--collection", default="default", metavar="NAME", help="which collection")
        parser.add_argument("--token-file", type=Path, metavar="FILE", help="what the sidecar asks for, if it does")
    return parser


def _serve_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--data",
        default="search-data",
        metavar="DIR",
        help="the LanceDB database: a folder, or an object store that LanceDB takes",
    )
    add("--index", type=Path, metavar="DIR", help="where derived indexes are kept; in DIR/indexes of the database if unset")
    add("--triton", default="localhost:8001", metavar="HOST:PORT", help="Triton's gRPC endpoint")
    add("--model", default="clip", metavar="NAME", help="what the checkpoint was published as")
    add("--host", default="127.0.0.1", help="address to listen on")
    add("--port", type=port, default=1234, help="TCP port")
    add(
        "--images",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="pictures below it may be read by path (repeatable)",
    )
    add("--engine", choices=("faiss", "lancedb"), default="faiss", help="index in memory, or LanceDB's own on disk")
    add("--recall", type=float, default=0.98, metavar="SHARE", help="of the true nearest 10, to be found by text queries")
    add("--memory", type=float, default=4.0, metavar="GB", help="what one index may take")
    add("--exact-rows", type=count, default=10_000, metavar="N", help="up to so many rows are searched exactly")
    add("--threads", type=count, default=max(1, (os.cpu_count() or 2) // 2), metavar="N", help="used while an index is built")
    add("--text-cache", type=int, default=10_000, metavar="N", help="text embeddings that are remembered; 0 for none")
    add("--token-file", type=Path, metavar="FILE", help="clients must send the token in it")
    add("--cors", action="append", default=[], metavar="ORIGIN", help="site whose pages may call; '*' for any (repeatable)")
    add("--name", action="append", default=[], metavar="HOST", help="host name that the sidecar is reached by (repeatable)")
    add("--allow-network", type=ipaddress.ip_network, action="append", default=[], metavar="CIDR",
        help="network that isn't public but may be fetched from (repeatable)")  # fmt: skip
    add("--allow-port", type=ports, action="append", default=[], metavar="N[-M]",
        help="port that may be fetched from besides 80 and 443 (repeatable)")  # fmt: skip
    add("--body-mb", type=count, default=64, metavar="MB", help="largest request")
    add("--columns-to-return", default="url,image_path,caption,NSFW", metavar="A,B", help="metadata in clip-retrieval's route")


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


if __name__ == "__main__":
    sys.exit(door.run("clipserve search", main))
