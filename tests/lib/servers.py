"""Real servers under test: clipserve's Triton, and a small HTTP server for images."""

from __future__ import annotations

import contextlib
import http.server
import itertools
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from workers import ports

CLIPSERVE = Path(sys.executable).with_name("clipserve")
_PORTS = ports()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    return list(itertools.islice(filter(_is_free, _PORTS), count))


def _is_free(port: int) -> bool:
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False


@dataclass
class Server:
    """One ``clipserve serve`` in a process of its own."""

    repository: Path
    options: tuple[str, ...] = ()
    ports: list[int] = field(default_factory=lambda: free_ports(3))

    def __post_init__(self) -> None:
        flags = ("--http-port", "--grpc-port", "--metrics-port")
        ports = [text for flag, port in zip(flags, self.ports, strict=True) for text in (flag, str(port))]
        command = [CLIPSERVE, "serve", "--repository", self.repository, *ports, *self.options]
        # Messages go to a file: in a pipe that nobody reads there is room for 64 KB of them, and then all would stand still.
        self._messages = tempfile.TemporaryFile("w+")  # noqa: SIM115  (read once it has ended)
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._messages, text=True)

    @property
    def address(self) -> str:
        """Of the gRPC endpoint."""
        return f"127.0.0.1:{self.ports[1]}"

    @property
    def http(self) -> str:
        """URL of the HTTP endpoint."""
        return f"http://127.0.0.1:{self.ports[0]}"

    def wait_ready(self) -> None:
        """Wait until it says that it is ready."""
        line = self.process.stdout.readline()
        assert line.startswith("ready after"), self.ended()

    def wait_back(self) -> None:
        """Wait while a Triton that crashed is started again: one test fails then, not all that follow."""
        deadline = time.monotonic() + 60
        while not self._is_ready() and self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.5)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.http}/v2/health/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def family(self) -> list[psutil.Process]:
        """The launcher, tritonserver and its stubs."""
        launcher = psutil.Process(self.process.pid)
        return [launcher, *launcher.children(recursive=True)]

    def tritonserver(self) -> psutil.Process:
        """The real one."""
        return next(process for process in self.family() if process.name() == "tritonserver")

    def stub(self, model: str) -> psutil.Process:
        """The Python process of a model."""
        return next(process for process in self.family() if f"{model}_0_0" in process.cmdline())

    def stop(self) -> tuple[int, str, str]:
        """SIGTERM, then the exit status and what was printed."""
        self.process.terminate()
        return self.ended()

    def ended(self, timeout_s: float = 15) -> tuple[int, str, str]:
        """Wait for the end; exit status, standard output, standard error."""
        out, _ = self.process.communicate(timeout=timeout_s)
        self._messages.seek(0)
        return self.process.returncode, out, self._messages.read()


@contextlib.contextmanager
def running(repository: Path, *options: str) -> Iterator[Server]:
    """A server that is ready, stopped at the end."""
    server = Server(repository, options)
    try:
        server.wait_ready()
        yield server
    finally:
        server.process.terminate()
        server.ended()


class _Handler(http.server.BaseHTTPRequestHandler):
    files: dict[str, bytes]

    def do_GET(self) -> None:
        if self.path.startswith("/hang"):
            threading.Event().wait(5)
        if self.path.startswith("/drip"):
            return self.drip()
        if self.path.startswith("/headers"):
            return self.drip_headers()
        if self.path.startswith("/loop"):
            self.send_response(302)
            self.send_header("Location", self.path)
            self.end_headers()
            return
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
            return
        body = self.files.get(self.path)
        self.send_response(200 if body is not None else 404)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body or b"")

    def drip(self) -> None:
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(50):
                self.wfile.write(b"x")
                self.wfile.flush()
                threading.Event().wait(0.1)

    def drip_headers(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        with contextlib.suppress(OSError):
            for _ in range(50):
                self.wfile.write(b"x")
                self.wfile.flush()
                threading.Event().wait(0.1)

    def log_message(self, *args: object) -> None:
        pass


@contextlib.contextmanager
def http_files(files: dict[str, bytes]) -> Iterator[str]:
    """An HTTP server of these files; gives its URL."""
    handler = type("Handler", (_Handler,), {"files": files})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
