"""Relays in front of real servers: TLS, client certificates and tokens, as a proxy has them."""

from __future__ import annotations

import contextlib
import datetime
import http.client
import http.server
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import trustme
from servers import Server, free_ports

_LENGTHS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0)]


@dataclass(frozen=True)
class Certificates:
    """An authority, and what it signed: for a server at 127.0.0.1 and localhost, and for a client."""

    folder: Path

    def __post_init__(self) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.ca))
        self._write("server", authority.issue_cert("127.0.0.1", "localhost"))
        self._write("client", authority.issue_cert("client@example.org"))
        self._write("elsewhere", authority.issue_cert("other.example.org"))
        yesterday = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)
        self._write("expired", authority.issue_cert("127.0.0.1", not_after=yesterday))

    def _write(self, name: str, leaf: trustme.LeafCert) -> None:
        leaf.private_key_and_cert_chain_pem.write_to_path(str(self.folder / f"{name}.pem"))
        leaf.private_key_pem.write_to_path(str(self.folder / f"{name}.key"))

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    def pem(self, name: str) -> Path:
        """Key and certificate of one."""
        return self.folder / f"{name}.pem"

    def key(self, name: str) -> Path:
        return self.folder / f"{name}.key"


@contextlib.contextmanager
def grpc_relay(server: Server, **options: Any) -> Iterator[str]:
    """Address of a gRPC server that passes every call on, with the options of :class:`_Calls`."""
    calls = _Calls(server.address, **options)
    with calls.running() as address:
        yield address


@dataclass
class _Calls(grpc.GenericRpcHandler):
    """Calls, passed on as bytes."""

    target: str
    certificates: Certificates | None = None
    name: str = "server"
    asks_for_client: bool = False
    token: str = ""
    forbidden: str = ""
    port: int = 0
    exchanged: Mapping[str, str] = field(default_factory=dict)  # of the same length, in answers
    damage: Callable[[str, str, bytes], bytes] | None = None  # of a message: "request" or "answer", its call, its bytes

    @contextlib.contextmanager
    def running(self) -> Iterator[str]:
        with ThreadPoolExecutor(4) as pool, grpc.insecure_channel(self.target, options=_LENGTHS) as self.channel:
            relay = grpc.server(pool, [self], options=_LENGTHS)
            if self.certificates:
                pem, ca = self.certificates.pem(self.name).read_bytes(), self.certificates.ca.read_bytes()
                pairs = [(self.certificates.key(self.name).read_bytes(), pem)]
                port = relay.add_secure_port(
                    f"127.0.0.1:{self.port}", grpc.ssl_server_credentials(pairs, ca, require_client_auth=self.asks_for_client)
                )
            else:
                port = relay.add_insecure_port(f"127.0.0.1:{self.port}")
            relay.start()
            yield f"127.0.0.1:{port}"
            relay.stop(None).wait()

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        token = dict(details.invocation_metadata).get("authorization", "")

        def passed_on(request: bytes, context: grpc.ServicerContext) -> Any:
            if self.forbidden and token == f"Bearer {self.forbidden}":
                context.abort(grpc.StatusCode.PERMISSION_DENIED, "readers only")
            if self.token and token != f"Bearer {self.token}":
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "no valid token")
            try:
                sent = self.damage("request", details.method, request) if self.damage else request
                answer = self.channel.unary_unary(details.method)(sent, timeout=context.time_remaining())
                for before, after in self.exchanged.items():
                    answer = answer.replace(before.encode(), after.encode())
                return self.damage("answer", details.method, answer) if self.damage else answer
            except grpc.RpcError as problem:
                context.abort(problem.code(), problem.details())

        return grpc.unary_unary_rpc_method_handler(passed_on)


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=30)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


class _Requests(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    target: str | int  # a Unix socket, or a port
    token: str
    seen: list[str | None]  # values of Authorization

    def do_GET(self) -> None:
        sent = self.headers.get("Authorization")
        self.seen.append(sent)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.token and sent != f"Bearer {self.token}":
            return self.answer(401, {}, b"no valid token")
        connection = (
            http.client.HTTPConnection("127.0.0.1", self.target, timeout=30)
            if isinstance(self.target, int)
            else UnixConnection(self.target)
        )
        headers = {name: value for name, value in self.headers.items() if name not in ("Host", "Authorization")}
        with contextlib.closing(connection):
            connection.request(self.command, self.path, body or None, headers)
            answer = connection.getresponse()
            content = answer.read()
        self.answer(answer.status, dict(answer.getheaders()), content)

    def do_POST(self) -> None:
        self.do_GET()

    do_DELETE = do_POST  # noqa: N815  (http.server's name)

    def answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


@contextlib.contextmanager
def http_relay(
    target: str | int, certificates: Certificates | None = None, *, name: str = "server", token: str = "", client: bool = False
) -> Iterator[tuple[str, list[str | None]]]:
    """Address of an HTTP server that passes requests on, without a scheme; and the values of Authorization that it got."""
    seen: list[str | None] = []
    handler = type("Requests", (_Requests,), {"target": target, "token": token, "seen": seen})
    relay = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    relay.handle_error = lambda *_: None  # type: ignore[method-assign]  (handshakes that fail are meant)
    if certificates:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.pem(name))
        if client:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(certificates.ca)
        relay.socket = context.wrap_socket(relay.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=relay.serve_forever, args=[0.01], daemon=True).start()
    try:
        yield f"127.0.0.1:{relay.server_port}", seen
    finally:
        relay.shutdown()
        relay.server_close()


@contextlib.contextmanager
def open_triton(server: Server, folder: Path) -> Iterator[str]:
    """Socket of a second Triton beside a server, with the same models, which answers inference over HTTP, too."""
    first, path = server.tritonserver(), folder / "http"
    changed = {
        "--http-address": f"unix:{path}",
        "--grpc-port": str(free_ports(1)[0]),
        "--metrics-address": f"unix:{folder / 'm'}",
    }
    options = dict(option.split("=", 1) for option in first.cmdline()[1:] if "=" in option)
    kept = [one for one in first.cmdline()[1:] if one.split("=", 1)[0] not in (*changed, "--http-restricted-api", "--log-info")]
    assert changed.keys() <= options.keys()
    kept = [one.replace("region-prefix-name=", "region-prefix-name=second-") for one in kept]  # of its shared memory
    command = [first.cmdline()[0], *kept, *(f"{name}={value}" for name, value in changed.items())]
    environment = {name: value for name, value in first.environ().items() if not name.startswith("CLIPSERVE_")}
    with open(folder / "log", "wb") as log:
        triton = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    try:
        while not _is_ready(str(path)):
            assert triton.poll() is None, f"{triton.poll()}: {(folder / 'log').read_text()}"
            time.sleep(0.1)
        yield str(path)
    finally:
        triton.terminate()
        triton.wait()


def _is_ready(path: str) -> bool:
    connection = UnixConnection(path)
    with contextlib.closing(connection), contextlib.suppress(OSError):
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().status == 200
    return False
