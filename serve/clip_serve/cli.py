"""``clipserve serve``: start Triton on a model repository."""

import argparse
import ipaddress
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from clip_client import command_runner, help_texts, logs, model_repository, ports
from clip_client.argument_types import count, port
from clip_client.errors import ClipError, InvalidInput
from clip_client.logs import LogOptions, add_log_options
from clip_client.settings import Formatter, add_settings
from clip_client.trace_export import add_trace_options
from clip_inside_triton import TRITON_RELEASE
from clip_serve import environment, launcher
from clip_serve.endpoints import Endpoints, numeric
from clip_serve.http_gateway import READY
from clip_serve.launcher import Launch
from clip_serve.log_lines import LogLines
from clip_serve.repository import Overrides, check


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status: 0 after a signal to stop, 1 after an error."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        arguments = parser(argv).parse_args(argv)
    except ClipError as problem:
        LogLines("text").notice(f"error: {problem}")
        return command_runner.FAILED
    with logs.written(LogOptions(arguments.log_format, arguments.log_level)):
        return _run(arguments, LogLines(arguments.log_format))


def _run(arguments: argparse.Namespace, lines: LogLines) -> int:
    try:
        if arguments.install:
            print(f"ready: {environment.ensure(lines.notice).folder}")
        else:
            _serve(arguments, lines)
    except ClipError as problem:
        lines.notice(f"error: {problem}")
        return command_runner.FAILED
    return 0


def _serve(arguments: argparse.Namespace, lines: LogLines) -> None:
    names = check(arguments.repository)
    endpoints = Endpoints(
        numeric(arguments.host), arguments.http_port, arguments.grpc_port, arguments.metrics_port, arguments.host
    )
    endpoints.check_free()
    if arguments.log:
        _check_writable(arguments.log)
    if not ipaddress.ip_address(endpoints.host).is_loopback:
        lines.notice(
            f"warning: {endpoints.host} can be reached from outside, and this Triton ({TRITON_RELEASE}) has known holes: "
            "use the container there, docker compose up triton"
        )
    overrides = Overrides(arguments.instances, arguments.threads)
    launch = Launch(
        environment.ensure(lines.notice),
        arguments.repository,
        overrides,
        endpoints,
        arguments.log,
        lines,
        arguments.log_level,
        arguments.traces or "",
        arguments.traces_share,
    )
    launcher.serve(launch, on_ready=lambda seconds: print(_banner(names, endpoints, seconds), flush=True), notice=lines.notice)


def _banner(names: Sequence[str], endpoints: Endpoints, seconds: float) -> str:
    lines = [
        f"ready after {seconds:.1f} s, serving {', '.join(names)}",
        f"  gRPC     {endpoints.url_host}:{endpoints.grpc_port}",
        f"  health   http://{endpoints.url_host}:{endpoints.http_port}{READY}",
        f"  metrics  http://{endpoints.url_host}:{endpoints.metrics_port}/metrics",
        "Ctrl-C stops it",
    ]
    return "\n".join(lines)


def _check_writable(log: Path) -> None:
    try:
        os.close(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    except OSError as problem:
        raise InvalidInput(f"the log can't be written: {problem}") from problem


def parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = argparse.ArgumentParser(
        prog="clipserve serve",
        description="Start Triton on a model repository, without Docker. Runs until SIGINT or SIGTERM.",
        formatter_class=Formatter,
    )
    parser.add_argument(
        "--repository", type=Path, default=model_repository.FOLDER, help="model repository that export published"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--http-port", type=port, default=ports.HTTP, metavar="PORT", help="for health checks")
    parser.add_argument("--grpc-port", type=port, default=ports.GRPC, metavar="PORT", help="for the SDK")
    parser.add_argument("--metrics-port", type=port, default=ports.METRICS, metavar="PORT", help="for Prometheus")
    parser.add_argument("--log", type=Path, metavar="FILE", help="write Triton's log there, in full")
    add_log_options(parser, "warning", "info shows the steps of requests, debug all that Triton tells")
    add_trace_options(parser)
    parser.add_argument("--instances", type=count, metavar="N", help="copies of each encoder; as published if unset")
    parser.add_argument("--threads", type=count, metavar="N", help="threads of each copy; as published if unset")
    parser.add_argument("--install", action="store_true", help="make the server's Python environment, and exit")
    help_texts.add_version(parser)
    add_settings(parser, "serve", argv)
    help_texts.add_examples(
        parser,
        "clipserve serve",
        "clipserve serve --repository model_repository --grpc-port 9001 --threads 4",
        "clipserve serve --install",
    )
    return parser


if __name__ == "__main__":
    sys.exit(command_runner.run("clipserve serve", main))
