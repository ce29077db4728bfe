"""Command ``clipserve search serve``: options, then uvicorn."""

import argparse
import contextlib
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from types import FrameType

import uvicorn

from clip_client import logs
from clip_client.errors import InvalidInput, Unavailable
from clip_client.logs import LogOptions
from clip_client.token_files import token_in
from clip_client.trace_export import exported
from clip_search.cli.token_file import read_token
from clip_search.memory_trim import limit_heaps
from clip_search.options import Bounds, FetchOptions, HttpOptions, IndexOptions, MilvusOptions, Options
from clip_search.sidecar import Sidecar
from clip_search.storage.lance_threads import limit_threads
from clip_search.storage.permissions import UMASK
from clip_search.web.app import app
from clip_search.web.protocol import bounded
from clip_search.web.tokens import Tokens
from clip_search.web.traces import Traces

_LOG = logging.getLogger(__name__)
_KEEP_ALIVE_S = 30  # of a connection without requests; clients let go of theirs before, or a request could meet its end
_SWITCH_S = 0.0001  # with Python's 5 ms a search would wait so long each time that another thread reads rows to add


def main(arguments: argparse.Namespace) -> int:
    """Read the options and serve; return the exit status."""
    os.umask(UMASK)
    sys.setswitchinterval(_SWITCH_S)
    options = parsed(arguments)
    limit_threads(options.data)
    log = LogOptions(arguments.log_format, arguments.log_level)
    with _terminated(), logs.written(log), exported(arguments.traces, arguments.traces_share, "clipserve-search") as tracer:
        return serve(options, Traces(tracer))


def serve(options: Options, traces: Traces) -> int:
    """Serve until a signal; return the exit status."""
    limit_heaps()
    _allow_connections(options.bounds)
    listening = _listening(options.http)
    tokens = Tokens(options.http)
    sidecar = Sidecar(options)
    if options.http.host not in ("127.0.0.1", "::1", "localhost") and not tokens.are_asked_for:
        _LOG.warning("%s can be reached from outside and no token is asked for: --token-file", options.http.host)
    config = uvicorn.Config(
        app(sidecar, tokens, traces),
        log_config=None,  # its lines go where ours go
        log_level="warning",
        access_log=False,
        loop="uvloop",
        http=bounded(options.bounds, options.http.proxies),
        ws="none",
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
    )
    server = uvicorn.Server(config)
    print(
        f"listening on http://{_shown(options.http)}, the page is there too; /docs tells the API\nCtrl-C stops it", flush=True
    )
    server.run(sockets=[listening])
    return 0


@contextlib.contextmanager
def _terminated() -> Iterator[None]:
    """Have SIGTERM end this process as it does, but after all that is to be done at the end.

    uvicorn sends itself the signal again once it has stopped; the process would be gone before logs and spans are written.
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise _Terminated

    if signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:  # somebody else's
        yield
        return
    signal.signal(signal.SIGTERM, end)
    try:
        yield
    except _Terminated:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


class _Terminated(BaseException):
    """Signal that ends the process."""


def parsed(arguments: argparse.Namespace) -> Options:
    """Return the options that a command line says; raise InvalidInput for a value that can't be used."""
    index = IndexOptions(
        engine=arguments.engine,
        recall_target=arguments.recall,
        exact_rows=arguments.exact_rows,
        memory_bytes=int(arguments.memory * 2**30),
        threads=arguments.threads,
        milvus=MilvusOptions(
            arguments.milvus_uri, token_in(arguments.milvus_token_file) if arguments.milvus_token_file else ""
        ),
    )
    if missing := [str(path) for path in arguments.images if not path.exists()]:
        raise InvalidInput(f"--images {missing[0]}: there is no such folder or picture")
    networks, ports = tuple(arguments.allow_network), tuple(arguments.allow_port)
    fetch = FetchOptions(folders=tuple(arguments.images), networks=networks, ports=ports)
    http = HttpOptions(
        host=arguments.host,
        port=arguments.port,
        token="" if arguments.token_file else read_token(None),
        token_file=arguments.token_file,
        origins=tuple(arguments.cors),
        names=tuple(arguments.name),
        body_bytes=arguments.body_mb * 2**20,
        log_addresses=arguments.log_addresses,
        proxies=tuple(arguments.trusted_proxy),
        columns=tuple(filter(None, arguments.columns_to_return.split(","))),
    )
    return Options(
        arguments.data, arguments.index, arguments.triton, arguments.model, arguments.text_cache, index, fetch, http,
        Bounds(client_requests=arguments.client_requests), read_only=arguments.read_only, share=arguments.share,
        feedback=arguments.feedback, next_triton=arguments.next_triton,
    )  # fmt: skip


def _allow_connections(bounds: Bounds) -> None:
    """Let the process open as many files as its connections and its tables need, as far as the system allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * bounds.connections if hard == resource.RLIM_INFINITY else min(4 * bounds.connections, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _listening(options: HttpOptions) -> socket.socket:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((options.host, options.port))
    except OSError as problem:
        raise Unavailable(
            f"can't listen on {_shown(options)} ({problem.strerror or problem}): pass another --port"
        ) from problem
    return listening


def _shown(options: HttpOptions) -> str:
    return f"[{options.host}]:{options.port}" if ":" in options.host else f"{options.host}:{options.port}"
