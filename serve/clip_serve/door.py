"""HTTP door: health and metrics, asked of Triton over private sockets; everything else is refused unread.

Triton 24.10 reads any body that is sent to it before it looks at the path, and some end it. It therefore speaks HTTP on Unix
sockets in a folder of the user's own, and these few lines stand on the TCP ports.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

HTTP_SOCKET, METRICS_SOCKET = "http", "metrics"
READY = "/v2/health/ready"
_HEALTH = re.compile(r"/v2/health/(live|ready)|/v2/models/[\w-]+(/versions/\d+)?/ready")
_METRICS = re.compile(r"/metrics")
_HEAD_BYTES = 16_384  # of request line and headers; browsers and Prometheus send less than 2,000
_HEAD_S = 5  # for a client to send them
_TRITON_S = 2  # for each part of Triton's answer
_ANSWER_S = 8  # for all of it, and for a client to take it
_CONNECTIONS = 100  # at once; health checks and scrapes are a few


@dataclass(frozen=True)
class Door:
    """One TCP port.

    Attributes:
        listening: socket that is bound to it.
        triton: Unix socket of Triton's that answers behind it.
        paths: what may be asked for.
        names: host names that it goes by, besides addresses and ``localhost``.
    """

    listening: socket.socket
    triton: Path
    paths: re.Pattern[str]
    names: tuple[str, ...]


@dataclass
class Health:
    """State of the server that the launcher knows and Triton doesn't.

    Attributes:
        trouble: says why nothing can be answered; readiness is refused as long as it says anything.
    """

    trouble: Callable[[], str] = lambda: "the models are being loaded"


class Refused(Exception):
    """A request that isn't passed on."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@contextlib.contextmanager
def opened(http: Door, metrics: Door, health: Health) -> Iterator[None]:
    """Answer on both ports, from a thread."""
    loop, finished = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=[_stand((http, metrics), health, finished)], daemon=True)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(finished.set)
        thread.join(1)


def health_door(listening: socket.socket, run: Path, names: tuple[str, ...]) -> Door:
    """The door in front of Triton's HTTP."""
    return Door(listening, run / HTTP_SOCKET, _HEALTH, names)


def metrics_door(listening: socket.socket, run: Path, names: tuple[str, ...]) -> Door:
    """The door in front of Triton's metrics."""
    return Door(listening, run / METRICS_SOCKET, _METRICS, names)


def asked(triton: Path, path: str) -> bytes:
    """Triton's whole answer, status line and headers included.

    Raises:
        OSError: nobody answers there, or not in time.
    """
    answer = bytearray()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_TRITON_S)
        connection.connect(str(triton))
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        while part := connection.recv(2**16):
            answer += part
    return bytes(answer)


def is_good(answer: bytes) -> bool:
    """Say if an answer's status is 200."""
    return re.match(rb"HTTP/1\.\d 200 ", answer) is not None


async def _stand(doors: tuple[Door, ...], health: Health, finished: asyncio.Event) -> None:
    waiting = asyncio.Semaphore(_CONNECTIONS)

    def serve(door: Door) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        return lambda reader, writer: _serve(door, health, waiting, (reader, writer))

    servers = [await asyncio.start_server(serve(door), sock=door.listening, limit=_HEAD_BYTES) for door in doors]
    await finished.wait()
    for server in servers:
        server.close()
    connections = asyncio.all_tasks() - {asyncio.current_task()}
    for connection in connections:
        connection.cancel()
    await asyncio.gather(*connections, return_exceptions=True)


async def _serve(
    door: Door,
    health: Health,
    waiting: asyncio.Semaphore,
    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
) -> None:
    """One connection: one request, one answer."""
    reader, writer = streams
    with contextlib.suppress(OSError, asyncio.TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        if not waiting.locked():
            async with waiting:
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _HEAD_S)
                writer.write(await asyncio.wait_for(_answer(head.decode("latin-1"), door, health), _ANSWER_S))
                await asyncio.wait_for(writer.drain(), _ANSWER_S)
    writer.close()


async def _answer(head: str, door: Door, health: Health) -> bytes:
    try:
        path = _checked(head, door)
        if path == READY and (reason := health.trouble()):
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, reason)
        return await asyncio.to_thread(asked, door.triton, path)
    except Refused as refused:
        return _said(refused.status, str(refused))
    except OSError:
        return _said(HTTPStatus.SERVICE_UNAVAILABLE, "Triton doesn't answer yet, or no longer")


def _checked(head: str, door: Door) -> str:
    """The path that is asked for, of a request that may be passed on."""
    request, *lines = head.split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    method, _, rest = request.partition(" ")
    path = rest.rpartition(" ")[0]
    _check_asker(headers, door.names)
    if method != "GET":
        raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "only GET is answered here; inference is gRPC's, on the port beside")
    if not door.paths.fullmatch(path):
        raise Refused(HTTPStatus.NOT_FOUND, "health or metrics is all that is answered here; inference is gRPC's")
    return path


def _check_asker(headers: Mapping[str, str], names: tuple[str, ...]) -> None:
    """A browser says which page asks; no page has business here, nor has a name that is pointed at this machine."""
    if "origin" in headers or headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        raise Refused(HTTPStatus.FORBIDDEN, "no page may ask here: open the address itself")
    host = headers.get("host", "")
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        name = ""
    if name not in ("localhost", *names) and not _is_address(name):
        raise Refused(HTTPStatus.FORBIDDEN, "the Host header names neither an address nor this machine: ask by its address")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _said(status: HTTPStatus, reason: str) -> bytes:
    body = f"{reason}\n"
    kind = "Content-Type: text/plain; charset=utf-8\r\nConnection: close"
    return f"HTTP/1.1 {status.value} {status.phrase}\r\n{kind}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
