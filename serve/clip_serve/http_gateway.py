"""HTTP gateway: passes requests for health and metrics on to Triton's private sockets, refuses all others unread.

Triton 24.10 reads any body that is sent to it before it looks at the path, and some end it. It therefore speaks HTTP on Unix
sockets in a private folder, and the gateway listens on the TCP ports.
"""

import asyncio
import contextlib
import re
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from clip_client.host_names import is_address

HTTP_SOCKET, METRICS_SOCKET = "http", "metrics"
READY = "/v2/health/ready"
VERSIONS = "/v2/clipserve/versions"
HEALTH = re.compile(rf"/v2/health/(live|ready)|/v2/models/[\w.-]+(/versions/\d+)?/ready|{VERSIONS}")
METRICS = re.compile(r"/metrics")
_HEAD_BYTES = 16_384  # of request line and headers; browsers and Prometheus send less than 2,000
_HEAD_S = 5  # for a client to send them
_TRITON_S = 2  # for each part of Triton's answer
_ANSWER_S = 8  # for all of it, and for a client to take it
_CONNECTIONS = 100  # at once; health checks and scrapes are a few


@dataclass(frozen=True)
class Gateway:
    """One TCP port."""

    listening: socket.socket  # socket that is bound to it
    triton: Path  # Unix socket of Triton's that answers behind it
    paths: re.Pattern[str]  # that may be asked for
    names: tuple[str, ...]  # host names of this machine, besides addresses and `localhost`


def loading() -> str:
    """Return the reason that a server isn't ready at its start."""
    return "the models are being loaded"


def no_versions() -> str:
    """Return the versions of a server that hasn't loaded any yet."""
    return "{}"


@dataclass
class Health:
    """State of the server that the launcher knows and Triton doesn't: any reason for trouble denies readiness."""

    trouble: Callable[[], str] = loading
    metrics: Callable[[], bytes] = bytes  # of the launcher, which follow Triton's
    versions: Callable[[], str] = no_versions  # JSON: what serves, what is loaded


class Refused(Exception):
    """A request is refused."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@contextlib.contextmanager
def opened(http: Gateway, metrics: Gateway, health: Health) -> Iterator[None]:
    """Answer on both ports, from a thread."""
    loop, finished = asyncio.new_event_loop(), asyncio.Event()

    def answer() -> None:
        with contextlib.closing(loop):  # or Python closes it at its end, with a trace where that comes too late
            loop.run_until_complete(_stand((http, metrics), health, finished))

    thread = threading.Thread(target=answer, name="gateway", daemon=True)
    thread.start()
    try:
        yield
    finally:
        with contextlib.suppress(RuntimeError):  # it has ended by itself
            loop.call_soon_threadsafe(finished.set)
        thread.join(1)


def asked(triton: Path, path: str) -> bytes:
    """Return Triton's whole answer with status line and headers; raise OSError if nobody answers there, or not in time."""
    answer = bytearray()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_TRITON_S)
        connection.connect(str(triton))
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        while part := connection.recv(2**16):
            answer += part
    return bytes(answer)


def is_good(answer: bytes) -> bool:
    """Return True if an answer's status is 200."""
    return re.match(rb"HTTP/1\.\d 200 ", answer) is not None


async def _stand(gateways: tuple[Gateway, ...], health: Health, finished: asyncio.Event) -> None:
    connections = asyncio.Semaphore(_CONNECTIONS)

    def serve(gateway: Gateway) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        return lambda reader, writer: _serve(gateway, health, connections, (reader, writer))

    servers = [await asyncio.start_server(serve(gateway), sock=gateway.listening, limit=_HEAD_BYTES) for gateway in gateways]
    await finished.wait()
    for server in servers:
        server.close()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for connection in tasks:
        connection.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _serve(
    gateway: Gateway,
    health: Health,
    connections: asyncio.Semaphore,
    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
) -> None:
    """Answer one request on a connection."""
    reader, writer = streams
    with contextlib.suppress(OSError, asyncio.TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        if not connections.locked():
            async with connections:
                head = await asyncio.wait_for(_head(reader), _HEAD_S)
                writer.write(await asyncio.wait_for(_answer(head, gateway, health), _ANSWER_S))
                await asyncio.wait_for(writer.drain(), _ANSWER_S)
    writer.close()


async def _head(reader: asyncio.StreamReader) -> str:
    """Read a request's line and headers; of what begins as no request does, the first byte alone: TLS waits for an answer."""
    first = await reader.readexactly(1)
    rest = await reader.readuntil(b"\r\n\r\n") if first.isalpha() else b""
    return (first + rest).decode("latin-1")


async def _answer(head: str, gateway: Gateway, health: Health) -> bytes:
    try:
        path = _checked(head, gateway)
        if path == READY and (reason := health.trouble()):
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, reason)
        if path == VERSIONS:
            return _said(HTTPStatus.OK, health.versions(), "application/json")
        answer = await asyncio.to_thread(asked, gateway.triton, path)
        return await asyncio.to_thread(_with_ours, answer, health) if METRICS.fullmatch(path) and is_good(answer) else answer
    except Refused as refused:
        return _said(refused.status, str(refused))
    except OSError:
        return _said(HTTPStatus.SERVICE_UNAVAILABLE, "Triton doesn't answer yet, or no longer")


def _with_ours(answer: bytes, health: Health) -> bytes:
    """Return Triton's metrics with the launcher's behind them."""
    body = answer.partition(b"\r\n\r\n")[2] + health.metrics()
    head = "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\nConnection: close"
    return f"HTTP/1.1 200 OK\r\n{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _checked(head: str, gateway: Gateway) -> str:
    """Return the path of a request that may be passed on; raise Refused for any other."""
    if len(head) == 1:
        raise Refused(HTTPStatus.BAD_REQUEST, "plain HTTP is spoken here")
    request, *lines = head.split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    method, _, rest = request.partition(" ")
    path = rest.rpartition(" ")[0]
    _check_asker(headers, gateway.names)
    if method != "GET":
        raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "only GET is answered here; inference is gRPC's, on the port beside")
    if not gateway.paths.fullmatch(path):
        raise Refused(HTTPStatus.NOT_FOUND, "health or metrics is all that is answered here; inference is gRPC's")
    return path


def _check_asker(headers: Mapping[str, str], names: tuple[str, ...]) -> None:
    """Refuse requests of web pages, and host names that others point at this machine."""
    if "origin" in headers or headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        raise Refused(HTTPStatus.FORBIDDEN, "no page may ask here: open the address itself")
    host = headers.get("host", "")
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        name = ""
    if name not in ("localhost", *names) and not is_address(name):
        raise Refused(HTTPStatus.FORBIDDEN, "the Host header names neither an address nor this machine: ask by its address")


def _said(status: HTTPStatus, reason: str, kind: str = "text/plain") -> bytes:
    body = f"{reason}\n".encode()
    told = f"Content-Type: {kind}; charset=utf-8\r\nConnection: close\r\nContent-Length: {len(body)}"
    return f"HTTP/1.1 {status.value} {status.phrase}\r\n{told}\r\n\r\n".encode() + body
