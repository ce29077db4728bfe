"""Options of ``clipserve search serve``."""

import argparse
import ipaddress
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from clip_client.argument_types import add_reach, count, port
from clip_client.logs import LogOptions, add_log_options
from clip_client.settings import Repeated, Switch
from clip_client.trace_export import add_trace_options
from clip_search.options import Bounds, Engine, HttpOptions, IndexOptions, Options


def add_serve_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the database, the model and the index, and those of who may ask."""
    add = parser.add_argument
    add("--data", default="search-data", metavar="DIR", help="the LanceDB database: a folder, or an object store's URI")
    add("--index", type=Path, metavar="DIR", help="where derived indexes are kept; in DIR/indexes of the database if unset")
    add("--read-only", action=Switch,
        help="follow a database that another sidecar writes; needs an --index of its own")  # fmt: skip
    add("--triton", default=Options.triton, metavar="HOST:PORT", help="Triton's gRPC endpoint")
    add("--next-triton", default=Options.next_triton, metavar="HOST:PORT",
        help="a second one, for the models that search reembed goes over to")  # fmt: skip
    add("--model", default=Options.model, metavar="NAME", help="what the checkpoint was published as")
    add("--text-cache", type=_entries, default=Options.text_cache, metavar="N",
        help="text embeddings that are remembered; 0 for none")  # fmt: skip
    add("--share", type=_share_of_clients, default=Options.share, metavar="SHARE",
        help="of the clients, whose text queries the version that is published beside answers")  # fmt: skip
    index = IndexOptions()
    add(
        "--engine",
        choices=get_args(Engine),
        default=index.engine,
        help="index in memory, LanceDB's own on disk or in the object store, or a Milvus server's",
    )
    add("--milvus-uri", default="", metavar="URI", help="of that server, http://HOST:19530; a path names a database")
    add("--milvus-token-file", type=Path, metavar="FILE", help="with what it asks for, USER:PASSWORD or an API key")
    add("--recall", type=_share, default=index.recall_target, metavar="SHARE",
        help="of the true nearest 10, to be found by text queries")  # fmt: skip
    add("--memory", type=_gigabytes, default=index.memory_bytes / 2**30, metavar="GB", help="what the process may take")
    add("--exact-rows", type=count, default=index.exact_rows, metavar="N", help="up to so many rows are searched exactly")
    add("--threads", type=count, default=index.threads, metavar="N", help="used while an index is built")
    _access_options(parser)


def _access_options(parser: argparse.ArgumentParser) -> None:
    """Options of who may ask, for what, and how much at once."""
    add, http = parser.add_argument, HttpOptions()
    add("--host", default=http.host, help="address to listen on")
    add("--port", type=port, default=http.port, help="TCP port")
    add(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="clients must send its token, or one of its lines NAME:SCOPES:TOKEN, which are read again when they change",
    )
    _repeated(parser, "--images", Path, "DIR", "pictures below it may be read by path; a single picture may be named, too")
    _repeated(parser, "--cors", str, "ORIGIN", "site whose pages may call; '*' for any")
    _repeated(parser, "--name", str, "HOST", "host name that the sidecar is reached by")
    _repeated(parser, "--trusted-proxy", ipaddress.ip_network, "CIDR", "addresses whose X-Forwarded-For names the client")
    add_reach(parser)
    add("--client-requests", type=count, default=Bounds.client_requests, metavar="N",
        help="of one client at once; above, it gets what others leave while they ask")  # fmt: skip
    add("--feedback", action=Switch, default=True,
        help="take clicks and marks on hits; without, the page shows no buttons for them")  # fmt: skip
    add("--body-mb", type=count, default=http.body_bytes // 2**20, metavar="MB", help="largest request")
    add("--log-addresses", action=Switch, default=http.log_addresses, help="log the addresses of clients, too")
    add_log_options(parser, LogOptions.level, "info has a line for each request")
    add_trace_options(parser)
    add("--columns-to-return", default=",".join(http.columns), metavar="A,B", help="metadata in clip-retrieval's route")


def _repeated(parser: argparse.ArgumentParser, flag: str, kind: Callable[[str], Any], metavar: str, text: str) -> None:
    parser.add_argument(flag, type=kind, action=Repeated, default=[], metavar=metavar, help=f"{text} (repeatable)")


def _share(text: str) -> float:
    if not 0 < float(text) <= 1:
        raise argparse.ArgumentTypeError(f"the recall target is {text}: expected above 0, at most 1")
    return float(text)


def _share_of_clients(text: str) -> float:
    if not 0 <= float(text) <= 1:
        raise argparse.ArgumentTypeError(f"the share of the clients is {text}: expected 0 to 1, 0.1 for a tenth")
    return float(text)


def _gigabytes(text: str) -> float:
    if not 0 < float(text) < 10**9:
        raise argparse.ArgumentTypeError(f"{text} GB of memory: expected a number above 0")
    return float(text)


def _entries(text: str) -> int:
    if int(text) < 0:
        raise argparse.ArgumentTypeError(f"{text} entries of a cache: expected a number from 0 on")
    return int(text)
