"""Run one tritonserver from start to stop, and leave nothing behind."""

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import IO

import clip_client
from clip_client.errors import Unavailable
from clip_client.request_lines import VARIABLE
from clip_inside_triton import BACKENDS, STAND_INS
from clip_serve import http_gateway, leftovers
from clip_serve.crashes import Crashed, Crashes
from clip_serve.endpoints import Endpoints
from clip_serve.environment import Environment, Notice
from clip_serve.http_gateway import Gateway
from clip_serve.launcher_metrics import LauncherMetrics
from clip_serve.log_lines import LogLines
from clip_serve.process_watch import POLL_S, Start, Watch, check_running, end_at_once
from clip_serve.repository import Overrides, instances, loaded_at_start, overridden
from clip_serve.triton_flags import log_flags, logs_requests, trace_flags
from clip_serve.versions.door import Door
from clip_serve.versions.roller import Roller

_STUB_S = 300  # Triton's patience with one model: compiling a large tower takes a while
_LEAST_SHARED, _MOST_SHARED, _SHARED_PARTS = 16 * 2**20, 64 * 2**20, 64
"""Bounds on what each Python process begins with, and its share of what is free: growing beside requests is a risk."""
_START_S = 2 * _STUB_S  # patience with a start
_EXIT_S = 5  # Triton's patience with requests under way when it stops
_KILL_S = 8  # patience with a stop, before all that is left is killed; a stop promises 10 s
_PR_SET_PDEATHSIG = 1
_NOISE = (
    b"CudaDriverHelper",
    b"CUDA driver version is insufficient",
    b"pinned system memory",
    b"Signal (15) received",
    b"NODELAY NOT SUPPORTED",
)
_BACKENDS = "backends"
_UMASK = 0o077  # no other user reads the server's files
_LIFELINE = "CLIPSERVE_LIFELINE"

# Protocols that change the server or read its memory. All users of the machine can read a command line, so the key is no secret
# but unsendable: gRPC takes 16 KB of metadata with a request, and refuses more.
_RESTRICTED = "model-repository,shared-memory,trace,logging"
_UNSENDABLE = "x" * 17_000
_HTTP_RESTRICTED = "shared-memory,trace,logging,metadata,inference,model-config,statistics"  # on a socket of the launcher's own


@dataclass(frozen=True)
class Launch:
    """One run of the server: environment, repository, overrides, addresses, log."""

    environment: Environment
    repository: Path
    overrides: Overrides
    endpoints: Endpoints
    log: Path | None
    lines: LogLines = field(default_factory=lambda: LogLines("text"))
    log_level: str = "warning"
    traces: str = ""  # URL of the collector that Triton sends its spans to; empty for none
    traces_share: float = 1.0  # of requests without a trace of their own

    @property
    def explanation(self) -> str:
        """Place to read the cause of a failure."""
        return f"{self.log} says why" if self.log else "the lines above say why"


class Stopped(Exception):
    """A signal asked the launcher to stop."""


def serve(launch: Launch, on_ready: Callable[[float], None], notice: Notice) -> None:
    """Run tritonserver until SIGINT or SIGTERM, which stops it within 10 s; after a crash, start it again.

    Raises:
        Unavailable: if it didn't start, it or one of its Python processes was killed or halted, or crashes come too often.
        InvalidInput: if a port was taken a moment ago.
    """
    leftovers.sweep()
    names = (launch.endpoints.name.lower(), socket.gethostname().lower())
    with _signals_stop(), contextlib.suppress(Stopped), _run_folder() as run, _gateways(launch.endpoints, run, names) as health:
        started, crashes, figures = time.monotonic(), Crashes(), LauncherMetrics(lambda: health.trouble())
        health.metrics = figures.text
        refresh = partial(overridden, launch.repository, launch.overrides, run / "repository")
        _assemble_backends(launch.environment, run)
        while True:
            served = refresh()
            roller = Roller(launch.repository, refresh, Door(run / http_gateway.HTTP_SOCKET, _STUB_S), notice)
            try:
                with _running(_command(launch, served, run), launch, run, notice) as server:
                    _wait_ready(server, run, launch.explanation)
                    leftovers.close_own()
                    watch = Watch(server, instances(served), launch.explanation)
                    health.trouble, health.versions, figures.processes = watch.trouble, roller.versions, watch.processes
                    try:
                        roller.start(watch)
                        on_ready(time.monotonic() - started)
                        watch.run()
                    finally:
                        roller.stop()
            except Crashed as problem:
                started, health.trouble = time.monotonic(), http_gateway.loading
                figures.note_crash()
                crashes.note(problem)
                notice(f"{problem}: starting again")
                leftovers.remove_own_memory()


@contextlib.contextmanager
def _run_folder() -> Iterator[Path]:
    """Make a folder of this run alone, closed to others; remove it and the run's shared memory at the end."""
    try:
        yield leftovers.run_folder()
    finally:
        leftovers.remove_own()


@contextlib.contextmanager
def _gateways(endpoints: Endpoints, run: Path, names: tuple[str, ...]) -> Iterator[http_gateway.Health]:
    """Answer on the ports of HTTP and metrics."""
    health = http_gateway.Health()
    with (
        endpoints.listening(endpoints.http_port) as http,
        endpoints.listening(endpoints.metrics_port) as metrics,
        http_gateway.opened(
            Gateway(http, run / http_gateway.HTTP_SOCKET, http_gateway.HEALTH, names),
            Gateway(metrics, run / http_gateway.METRICS_SOCKET, http_gateway.METRICS, names),
            health,
        ),
    ):
        yield health


@contextlib.contextmanager
def _running(command: list[str | Path], launch: Launch, run: Path, notice: Notice) -> Iterator[subprocess.Popen[bytes]]:
    """Run the server; stop it at the end: in order, or at once when a part of it is broken."""
    for socket_name in (http_gateway.HTTP_SOCKET, http_gateway.METRICS_SOCKET):
        (run / socket_name).unlink(missing_ok=True)  # a crashed server's
    server = _spawn(command, launch, run)
    try:
        yield server
    except Unavailable:
        end_at_once(server)  # in order, it would wait for the process that is gone
        raise
    finally:
        _stop(server, notice)


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


def shared_bytes(folder: Path) -> int:
    """Return the shared memory that each Python process begins with, by what is free in its folder."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError:  # Triton will name it
        return _LEAST_SHARED
    return min(max(_LEAST_SHARED, free // _SHARED_PARTS), _MOST_SHARED)


def _command(launch: Launch, repository: Path, run: Path) -> list[str | Path]:
    environment, endpoints, shared = launch.environment, launch.endpoints, shared_bytes(leftovers.SHARED_MEMORY)
    return [
        environment.tritonserver / "bin" / "tritonserver",
        f"--model-repository={repository}",
        f"--backend-directory={run / _BACKENDS}",
        f"--backend-config=python,shm-region-prefix-name={leftovers.prefix()}",
        f"--backend-config=python,shm-default-byte-size={shared}",
        f"--backend-config=python,shm-growth-byte-size={shared}",
        f"--backend-config=python,stub-timeout-seconds={_STUB_S}",
        f"--cache-directory={environment.tritonserver / 'caches'}",
        f"--http-address=unix:{run / http_gateway.HTTP_SOCKET}",
        f"--grpc-address={endpoints.url_host}",
        f"--grpc-port={endpoints.grpc_port}",
        f"--metrics-address=unix:{run / http_gateway.METRICS_SOCKET}",
        f"--grpc-restricted-protocol={_RESTRICTED}:nobody={_UNSENDABLE}",
        f"--http-restricted-api={_HTTP_RESTRICTED}:nobody={_UNSENDABLE}",
        "--model-control-mode=explicit",
        *(f"--load-model={model}" for model in loaded_at_start(repository)),
        "--pinned-memory-pool-byte-size=0",  # this and the next: no GPU is looked for
        "--allow-gpu-metrics=false",
        f"--exit-timeout-secs={_EXIT_S}",
        *log_flags(launch.log, launch.log_level),
        *trace_flags(launch.traces, launch.traces_share),
    ]


def _assemble_backends(environment: Environment, run: Path) -> None:
    """Copy a backend directory of real files: Triton refuses a library that resolves to somewhere else.

    Models import from ``python/`` (Triton ignores PYTHONPATH), so clip_client goes there.
    """
    folder = run / _BACKENDS
    shutil.copytree(environment.tritonserver / "backends" / "python", folder / "python")
    shutil.copy2(environment.stub, folder / "python")
    shutil.copytree(Path(clip_client.__file__).parent, folder / "python" / "clip_client")
    shutil.copy2(BACKENDS / "stand_in.py", folder / "python")
    for backend in STAND_INS:
        shutil.copytree(BACKENDS / backend, folder / backend)


def _spawn(command: list[str | Path], launch: Launch, run: Path) -> subprocess.Popen[bytes]:
    libc, launcher = ctypes.CDLL(None), os.getpid()
    lifeline, _held = os.pipe()  # this process alone holds the writing end, as long as it lives

    def die_with_launcher() -> None:
        os.umask(_UMASK)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != launcher:  # it died before the line above
            os._exit(1)

    # A session of its own: Ctrl-C reaches the launcher alone, which then stops the server in order.
    server = subprocess.Popen(
        command,
        env={
            **launch.environment.variables(),
            _LIFELINE: str(lifeline),
            **({VARIABLE: "1"} if logs_requests(launch.log_level) else {}),
        },
        cwd=run,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=die_with_launcher,
        pass_fds=[lifeline],
    )
    os.close(lifeline)
    threading.Thread(target=_relay, args=(server.stdout, launch.lines), daemon=True).start()
    return server


def _relay(lines: IO[bytes], log: LogLines) -> None:
    """Pass the server's messages on, without those about a missing GPU, and those that the launcher words better."""
    for line in lines:
        if not any(noise in line for noise in _NOISE):
            log.triton(line)


def _wait_ready(server: subprocess.Popen[bytes], run: Path, explanation: str) -> None:
    """Return once every model is loaded."""
    deadline, start = time.monotonic() + _START_S, Start(server)
    while not _is_ready(run):
        leftovers.close_own()
        if time.monotonic() > deadline:
            raise Unavailable(f"tritonserver isn't ready after {_START_S} s: {explanation}")
        check_running(server, f"didn't start: {explanation}")
        start.check()
        time.sleep(POLL_S)


def _is_ready(run: Path) -> bool:
    try:
        return http_gateway.is_good(http_gateway.asked(run / http_gateway.HTTP_SOCKET, http_gateway.READY))
    except OSError:
        return False


def _stop(server: subprocess.Popen[bytes], notice: Notice) -> None:
    """End the server in order if it still runs, then everything that it started."""
    if server.poll() is None:
        notice("stopping")
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(_KILL_S)
    end_at_once(server)
