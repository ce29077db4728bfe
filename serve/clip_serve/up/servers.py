"""Triton and the search sidecar of a run, on free ports of loopback."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import urllib3

from clip_client import ports
from clip_client.errors import Unavailable
from clip_client.spec import ModelSpec
from clip_serve.up import free_ports
from clip_serve.up.messages import remark, say
from clip_serve.up.options import Options
from clip_serve.up.parts import Part, ignore
from clip_serve.up.stop import Stop

_TRITON = (ports.HTTP, ports.GRPC, ports.METRICS)
_TRIES = 3  # with other ports, where another program took one in the meantime
_END_S = 15  # patience with the end of a server; Triton takes up to 10 s
_READY_S = 120  # patience with the collections
_ASK_S = 2


@dataclass(frozen=True)
class Served:
    """A search that answers: its address, its model, and a check that raises Unavailable once it has ended."""

    url: str
    model: str
    fingerprint: str
    check: Callable[[], None]


@contextlib.contextmanager
def running(options: Options, spec: ModelSpec, images: Sequence[Path], stop: Stop) -> Iterator[Served]:
    """Run both servers; end them on leaving.

    Args:
        images: folders below which the page may show pictures in full.

    Raises:
        Unavailable: one of them didn't start; the message has its last words.
        Stopped: a signal came.
    """
    with contextlib.ExitStack() as parts:
        started = time.monotonic()
        triton, (_, grpc, _) = _started("Triton", partial(_triton, options), _TRITON, stop)
        parts.callback(triton.end, _END_S)
        say(f"Triton serves {spec.checkpoint} at {free_ports.HOST}:{grpc} ({time.monotonic() - started:.0f} s)")
        command = partial(_search, options, spec, images, grpc)
        search, (port,) = _started("the search", command, [options.port], stop)
        parts.callback(search.end, _END_S)
        if port != options.port:
            say(f"port {options.port} is in use: the page gets {port}")
        url = f"http://{free_ports.HOST}:{port}"
        served = Served(url, spec.checkpoint, spec.fingerprint, partial(_check, (triton, search)))
        _wait_ready(served, stop)
        yield served


def _triton(options: Options, chosen: Sequence[int]) -> list[str]:
    flags = zip(("--http-port", "--grpc-port", "--metrics-port"), map(str, chosen), strict=True)
    place = ["--repository", str(options.repository), "--host", free_ports.HOST]
    return ["serve", *options.server_settings, *place, *(word for flag in flags for word in flag)]


def _search(options: Options, spec: ModelSpec, images: Sequence[Path], grpc: int, chosen: Sequence[int]) -> list[str]:
    place = ["--data", str(options.data), "--host", free_ports.HOST, "--port", str(chosen[0])]
    model = ["--triton", f"{free_ports.HOST}:{grpc}", "--model", spec.name]
    return ["search", "serve", *options.server_settings, *place, *model, *(f"--images={folder}" for folder in images)]


def _started(
    name: str, command: Callable[[Sequence[int]], list[str]], preferred: Sequence[int], stop: Stop
) -> tuple[Part, list[int]]:
    """Start a server on free ports; return it with them once it listens."""
    for tries in range(_TRIES, 0, -1):
        chosen = free_ports.choose(preferred)
        part = Part(name, command(chosen), out=ignore, err=partial(_relay, name))
        try:
            part.wait_spoken(stop)
            return part, chosen
        except BaseException as problem:
            part.end(_END_S)
            taken = [port for port in chosen if not free_ports.is_free(port)]
            if not (isinstance(problem, Unavailable) and taken and tries > 1):
                raise
            remark(f"{name}: port {taken[0]} was taken a moment ago: trying others")
    raise AssertionError("the last try returns or raises")


def _relay(name: str, line: str) -> None:
    remark(f"{name}: {line}")


def _check(parts: Sequence[Part]) -> None:
    for part in parts:
        part.check()


def _wait_ready(served: Served, stop: Stop) -> None:
    """Wait until the collections are open and Triton is reached; one that can't be opened stops no other."""
    deadline = time.monotonic() + _READY_S
    while missing := _missing(served.url):
        stop.wait(0.05)
        served.check()
        if time.monotonic() > deadline:
            raise Unavailable(f"the search isn't ready within {_READY_S} s: {missing}")


def _missing(url: str) -> str:
    """Return the parts that aren't ready yet, with reasons; empty when all are."""
    try:
        answer = urllib3.request("GET", f"{url}/health/ready", timeout=_ASK_S, retries=False)
        reasons = dict[str, str](json.loads(answer.data)["not_ready"])
    except (urllib3.exceptions.HTTPError, ValueError, KeyError, TypeError) as problem:
        return f"no answer ({problem})"
    return "; ".join(f"{name}: {reason}" for name, reason in reasons.items() if not name.startswith("collection "))
