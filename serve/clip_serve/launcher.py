"""Run one tritonserver from start to stop, and leave nothing behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO

import psutil

import clip_client
from clip_client.errors import InvalidInput, Unavailable
from clip_serve import leftovers
from clip_serve.environment import Environment, Notice
from clip_serve.repository import Overrides, instances, overridden

BACKENDS = Path(__file__).with_name("backends")
_POLL_S = 0.2
_STUB_S = 300  # how long Triton waits for one model: compiling a large tower takes a while
_START_S = 2 * _STUB_S  # when a start is given up
_EXIT_S = 5  # how long Triton waits for requests under way
_KILL_S = 8  # when what is left is killed
_STUB = "triton_python_backend_stub"
_PR_SET_PDEATHSIG = 1
_STDERR = 2
_NOISE = (b"CudaDriverHelper", b"CUDA driver version is insufficient", b"pinned system memory", b"Signal (15) received")
_RESTRICTED = "model-repository,shared-memory,trace,logging"


@dataclass(frozen=True)
class Endpoints:
    """Where the server listens."""

    host: str
    http_port: int
    grpc_port: int
    metrics_port: int

    @property
    def url_host(self) -> str:
        """The host as it stands in front of a port."""
        return f"[{self.host}]" if ":" in self.host else self.host

    def check_free(self) -> None:
        """Raise InvalidInput for the first port that is taken, or a host that isn't this machine's."""
        if len({self.http_port, self.grpc_port, self.metrics_port}) < 3:
            raise InvalidInput("HTTP, gRPC and metrics need a port each: pass three different ones")
        for option in ("http_port", "grpc_port", "metrics_port"):
            port = getattr(self, option)
            with socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((self.host, port))
                except OSError as problem:
                    flag = f"--{option.replace('_', '-')}"
                    raise InvalidInput(
                        f"{self.host}:{port} can't be used ({problem.strerror}): stop what uses it, or pass another {flag}"
                    ) from problem


@dataclass(frozen=True)
class Launch:
    """What to run: the server of an environment, on a repository, with overrides; where it listens and logs."""

    environment: Environment
    repository: Path
    overrides: Overrides
    endpoints: Endpoints
    log: Path | None

    @property
    def explanation(self) -> str:
        """Where to read why something failed."""
        return f"{self.log} says why" if self.log else "the lines above say why"


def numeric(host: str) -> str:
    """The first numeric address of a host name; Triton misreads names.

    Raises:
        InvalidInput: it has none.
    """
    try:
        return str(socket.getaddrinfo(host or "?", None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as problem:
        raise InvalidInput(f"--host {host!r} isn't an address ({problem.strerror}): pass e.g. 127.0.0.1") from problem


class Stopped(Exception):
    """A signal asked the launcher to stop."""


def serve(launch: Launch, on_ready: Callable[[float], None], notice: Notice) -> None:
    """Run tritonserver until SIGINT or SIGTERM, which stops it within 10 s.

    Raises:
        Unavailable: it didn't start, or it or one of its Python processes ended.
    """
    leftovers.sweep()
    with _signals_stop(), contextlib.suppress(Stopped):
        try:
            run = leftovers.run_folder()
            served = overridden(launch.repository, launch.overrides, run / "repository")
            started = time.monotonic()
            server = _spawn(_command(launch, served, run), launch.environment, run)
            try:
                _wait_ready(server, launch)
                stubs = _stubs(server, instances(served))
                on_ready(time.monotonic() - started)
                _watch(server, stubs, launch)
            finally:
                _stop(server, notice)
        finally:
            leftovers.remove_own()


@contextlib.contextmanager
def _signals_stop() -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into Stopped, and ignore those that come while stopping."""

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Stopped

    before = [(number, signal.signal(number, stop)) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _command(launch: Launch, repository: Path, run: Path) -> list[str | Path]:
    environment, endpoints = launch.environment, launch.endpoints
    http_host = f"ipv6:{endpoints.host}" if ":" in endpoints.host else endpoints.host  # as Triton's HTTP library has it
    # Nobody gets the key: these protocols change the server or read its memory, and clients don't need them.
    key = f"{_RESTRICTED}:admin={secrets.token_hex(16)}"
    return [
        environment.tritonserver / "bin" / "tritonserver",
        f"--model-repository={repository}",
        f"--backend-directory={_assemble_backends(environment, run)}",
        f"--backend-config=python,shm-region-prefix-name={leftovers.prefix()}",
        f"--backend-config=python,stub-timeout-seconds={_STUB_S}",
        f"--cache-directory={environment.tritonserver / 'caches'}",
        f"--http-address={http_host}",
        f"--http-port={endpoints.http_port}",
        f"--grpc-address={endpoints.url_host}",
        f"--grpc-port={endpoints.grpc_port}",
        f"--metrics-address={http_host}",
        f"--metrics-port={endpoints.metrics_port}",
        f"--grpc-restricted-protocol={key}",
        f"--http-restricted-api={key}",
        "--model-control-mode=none",
        "--pinned-memory-pool-byte-size=0",  # this and the next: no GPU is looked for
        "--allow-gpu-metrics=false",
        f"--exit-timeout-secs={_EXIT_S}",
        *([f"--log-file={launch.log.resolve()}"] if launch.log else ["--log-info=false"]),
    ]


def _assemble_backends(environment: Environment, run: Path) -> Path:
    """A backend directory of real files: Triton refuses a library that resolves to somewhere else.

    What is in ``python/`` can be imported by every model (PYTHONPATH isn't looked at), so the contract goes there.
    """
    folder = run / "backends"
    shutil.copytree(environment.tritonserver / "backends" / "python", folder / "python")
    shutil.copy2(environment.stub, folder / "python")
    shutil.copytree(Path(clip_client.__file__).parent, folder / "python" / "clip_client")
    shutil.copy2(BACKENDS / "stand_in.py", folder / "python")
    for backend in ("onnxruntime", "openvino"):
        shutil.copytree(BACKENDS / backend, folder / backend)
    return folder


def _spawn(command: list[str | Path], environment: Environment, run: Path) -> subprocess.Popen[bytes]:
    libc, launcher = ctypes.CDLL(None), os.getpid()

    def die_with_launcher() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != launcher:  # it died before the line above
            os._exit(1)

    # A session of its own: Ctrl-C reaches the launcher alone, which then stops the server in order.
    server = subprocess.Popen(
        command,
        env=environment.variables(),
        cwd=run,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=die_with_launcher,
    )
    threading.Thread(target=_relay, args=(server.stdout,), daemon=True).start()
    return server


def _relay(lines: IO[bytes]) -> None:
    """Pass the server's messages on, without those that say that there is no GPU, or what the launcher says better."""
    for line in lines:
        if not any(noise in line for noise in _NOISE):
            with contextlib.suppress(OSError):  # nobody listens any more, but the server must not wait for that
                os.write(_STDERR, line)


def _wait_ready(server: subprocess.Popen[bytes], launch: Launch) -> None:
    """Return once every model is loaded."""
    deadline = time.monotonic() + _START_S
    while not _is_ready(launch.endpoints):
        if time.monotonic() > deadline:
            raise Unavailable(f"tritonserver isn't ready after {_START_S} s: {launch.explanation}")
        _check_running(server, f"didn't start: {launch.explanation}")
        time.sleep(_POLL_S)


def _stubs(server: subprocess.Popen[bytes], expected: int) -> dict[psutil.Process, str]:
    """The server's Python processes with the model of each, from their first argument: <model>/<version>/<file>."""
    children = [child for child in psutil.Process(server.pid).children(recursive=True) if _is_running(child)]
    with contextlib.suppress(psutil.Error):  # one that dies right now
        commands = {child: child.cmdline() for child in children}
        stubs = {child: Path(command[1]).parents[1].name for child, command in commands.items() if command[0].endswith(_STUB)}
        if len(stubs) == expected:
            return stubs
    raise Unavailable(f"a Python process of the server died as it started (of {expected}): start it again")


def _is_ready(endpoints: Endpoints) -> bool:
    directly = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with directly.open(f"http://{endpoints.url_host}:{endpoints.http_port}/v2/health/ready", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _watch(server: subprocess.Popen[bytes], stubs: dict[psutil.Process, str], launch: Launch) -> None:
    """Return never; raise when the server or one of its Python processes ends. Triton itself would stay "ready"."""
    while True:
        _check_running(server, f"ended by itself: {launch.explanation}")
        for stub, model in stubs.items():
            if not _is_running(stub):
                raise Unavailable(f"the Python process of {model} died: stopping, so that a restart can mend it")
        time.sleep(_POLL_S)


def _check_running(server: subprocess.Popen[bytes], otherwise: str) -> None:
    if server.poll() is not None:
        raise Unavailable(f"tritonserver {otherwise} (exit status {server.returncode})")


def _is_running(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _stop(server: subprocess.Popen[bytes], notice: Notice) -> None:
    """End the server and all that it started."""
    family = _family(server)
    if server.poll() is None:
        notice("stopping")
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(_KILL_S)
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family, timeout=1)
    server.wait()


def _family(server: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The server and everything in its session, also what has lost its parent."""
    members = []
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getsid(process.pid) == server.pid:
                members.append(process)
    return members
