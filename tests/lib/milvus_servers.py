"""A real Milvus standalone (PyPI ``milvus``) that nobody but this machine reaches: python milvus_servers.py FOLDER PORT.

It listens on all addresses whatever its configuration says, so it gets a network of its own (Linux' namespaces), where it may
have its usual ports too; this process listens on loopback outside, and passes on what comes. If it dies, Milvus does.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import importlib.util
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from servers import free_ports

_NEW_USER, _NEW_NET, _DEATH_SIGNAL = 0x10000000, 0x40000000, 1
_SET_FLAGS, _UP = 0x8914, 0x1
_PORT = 19530
_STARTING_S = 180
_QUICK = "  checkIndexInterval: 500\n  checkSegmentInterval: 500\n  UpdateNextTargetInterval: 1\n"
"""Looks for indexes that are ready, in ms and s: by default it takes half a minute until searches use one."""


def obstacle() -> str:
    """Why there can be none here; empty if there can."""
    if importlib.util.find_spec("milvus") is None:
        return "there is no Milvus for this platform: pip install milvus==2.3.5"
    probe = f"import ctypes; u = ctypes.CDLL(None).unshare; raise SystemExit(u({_NEW_NET}) and u({_NEW_USER | _NEW_NET}))"
    alone = subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0
    return "" if alone else "no network of its own can be had here"


@dataclass
class Milvus:
    """A server; started again, it has what it had."""

    folder: Path
    port: int = field(default_factory=lambda: free_ports(1)[0])
    process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it is healthy."""
        self.process = subprocess.Popen([sys.executable, __file__, str(self.folder), str(self.port)], stdout=subprocess.PIPE)
        assert self.process.stdout
        assert self.process.stdout.readline() == b"ready\n", f"Milvus didn't start: {self.folder}/log"

    def kill(self) -> None:
        """Kill it as ``kill -9`` does."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Milvus]:
    """A server, killed at the end."""
    server = Milvus(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def _unpacked(folder: Path) -> Path:
    """Folder of the program, with its configuration for this folder."""
    import milvus

    milvus._initialize_data_files(str(folder))
    config = milvus.MilvusServerConfig(data_dir=str(folder))
    config.resolve()
    written = folder / "configs" / "milvus.yaml"
    written.write_text(written.read_text().replace("queryCoord:\n", f"queryCoord:\n{_QUICK}", 1))
    return folder / "bin"


def _alone() -> None:
    """Move to a network of our own with nothing but loopback; what is open stays outside."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_NET) and libc.unshare(_NEW_USER | _NEW_NET):
        raise OSError(ctypes.get_errno(), "no network of its own")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh", b"lo", _UP))


def _dies_with_us() -> None:
    ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)


def _started(folder: Path) -> subprocess.Popen[bytes]:
    programs = _unpacked(folder)
    environment = {
        **os.environ,
        "DEPLOY_MODE": "STANDALONE",
        "METRICS_PORT": "9091",
        "MILVUS_RUN_DIR": str(folder / "run"),
        "LD_LIBRARY_PATH": str(programs),
    }
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            [programs / "milvus", "run", "standalone"],
            cwd=folder, env=environment, stdout=log, stderr=log, preexec_fn=_dies_with_us,
        )  # fmt: skip


def _wait_healthy(process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _STARTING_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError):
            if b"OK" in urllib.request.urlopen("http://127.0.0.1:9091/healthz", timeout=10).read():
                return
        time.sleep(0.1)
    raise SystemExit("Milvus isn't healthy")


async def _passed_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on both directions of a connection."""

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while content := await source.read(2**18):
                target.write(content)
                await target.drain()
        target.close()

    try:
        inner, outer = await asyncio.open_connection("127.0.0.1", _PORT)
    except OSError:
        return writer.close()
    await asyncio.gather(copy(reader, outer), copy(inner, writer))


async def _serve(outside: socket.socket) -> None:
    server = await asyncio.start_server(_passed_on, sock=outside)
    print("ready", flush=True)
    await server.serve_forever()


def main(folder: str, port: str) -> None:
    """Serve until killed."""
    outside = socket.create_server(("127.0.0.1", int(port)))
    _alone()
    Path(folder).mkdir(exist_ok=True)
    process = _started(Path(folder))
    _wait_healthy(process)
    asyncio.run(_serve(outside))


if __name__ == "__main__":
    main(*sys.argv[1:])
