"""Three sidecars that read one database on S3 beside one that writes, whoever is killed or can't be reached."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import object_stores
import pytest
from object_stores import SHORT
from seaweed import Seaweed
from servers import CLIPSERVE, free_ports
from sidecars import unit

from clip_client import Unavailable
from clip_client.errors import NotFound
from clip_client.search import Row, Term

NOWHERE = "127.0.0.1:9"
SIZE, COUNT = 16, 300
VECTORS = unit(COUNT, SIZE)
PATIENCE_S = 60  # on a busy machine; the times are printed
DATA = "s3://bucket/db"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Seaweed]:
    seaweed = Seaweed(tmp_path / "seaweed")
    for name, value in seaweed.environment.items():
        monkeypatch.setenv(name, value)
    yield seaweed
    seaweed.stop()


def started(folder: Path, *options: str) -> object_stores.Sidecar:
    return object_stores.Sidecar(Path(DATA), NOWHERE, ("--index", str(folder), "--exact-rows", "100", *options))


def seen(readers: Sequence[object_stores.Sidecar], sees: Callable[[object_stores.Sidecar], bool], what: str) -> None:
    """Wait until all readers see a change; print the seconds since the call."""
    start = time.monotonic()
    for reader in readers:
        while not sees(reader):
            assert time.monotonic() - start < PATIENCE_S
            time.sleep(0.05)
        print(f"{what}: seen after {time.monotonic() - start:.2f} s")


def hits(reader: object_stores.Sidecar, vector: object, k: int = 3) -> list[str]:
    with reader.client() as search:
        try:
            return [hit.id for hit in search.query("a", Term(vector=vector), k=k)]
        except (NotFound, Unavailable):
            return []


@pytest.mark.long
@pytest.mark.timeout(300)
def test_readers_follow_the_writer_and_outlive_it(store: Seaweed, tmp_path: Path) -> None:
    writer = started(tmp_path / "writer", "--engine", "lancedb")
    engines = ("faiss", "faiss", "lancedb")
    readers = [started(tmp_path / f"{n}", "--read-only", "--engine", engine) for n, engine in enumerate(engines)]
    processes = [writer, *readers]
    try:
        for each in processes:
            each.wait_open(PATIENCE_S)
        with writer.client() as search:
            search.create("a", dimension=SIZE)
            search.add("a", [Row(id=f"r{n}", vector=vector) for n, vector in enumerate(VECTORS)])
            seen(readers, lambda reader: hits(reader, VECTORS[7], 1) == ["r7"], "a new collection")
            new = unit(5, SIZE, seed=4)
            for n, vector in enumerate(new):
                search.add("a", [Row(id=f"new{n}", vector=vector)])
                seen(readers, lambda reader, n=n, vector=vector: hits(reader, vector, 1) == [f"new{n}"], "an add")
                search.delete("a", [f"r{n}"])
                seen(readers, lambda reader, n=n: f"r{n}" not in hits(reader, VECTORS[n]), "a deletion")
            search.rebuild("a", wait=True)
        writer.process.send_signal(signal.SIGKILL)
        writer.process.wait()
        time.sleep(SHORT.lease_s)
        for reader in readers:
            assert hits(reader, new[2], 1) == ["new2"]
            assert reader.ask("GET", "/v1/collections/a")[1]["rows"] == COUNT
            assert set(reader.missing()) == {"triton"}
        processes.append(again := started(tmp_path / "writer"))  # once the lease is over
        again.wait_open(PATIENCE_S)
        with again.client() as search:
            search.add("a", [Row(id="later", vector=-new[0])])
        seen(readers, lambda reader: hits(reader, -new[0], 1) == ["later"], "an add of the next writer")
        store.process.send_signal(signal.SIGSTOP)  # takes connections and doesn't answer
        start = time.monotonic()
        assert hits(readers[0], -new[0], 1) == ["later"]
        assert readers[0].ask("GET", "/v1/collections/a")[0] == 200
        print(f"asked in {time.monotonic() - start:.2f} s while the store stood still")
        store.process.send_signal(signal.SIGCONT)
        store.stop()
        assert hits(readers[0], -new[0], 1) == ["later"]  # from memory
        lag = readers[0].ask("GET", "/v1/collections/a")[1]
        print("without the store:", lag.get("behind_s"), lag.get("message"))
        store.__post_init__()
        with again.client() as search:
            seen([again], lambda writer: not set(writer.missing()) - {"triton"}, "the store, by the writer")
            search.add("a", [Row(id="back", vector=-new[1])])
        seen(readers, lambda reader: hits(reader, -new[1], 1) == ["back"], "an add after the store came back")
    finally:
        for each in processes:
            each.process.kill()
            each.process.wait()


def refusal(folder: Path, *options: str) -> str:
    """Message of a sidecar that doesn't start."""
    where = ["--data", DATA, "--triton", NOWHERE, "--port", str(free_ports(1)[0]), "--index", str(folder), *options]
    ended = subprocess.run([CLIPSERVE, "search", "serve", *where], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    return ended.stderr


@pytest.mark.long
@pytest.mark.parametrize("options", [(), ("--read-only",)])
def test_a_store_that_cannot_be_read_is_named_within_seconds(
    store: Seaweed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    message = refusal(tmp_path / "index", *options)
    assert "s3://bucket/db can't be read" in message
    assert "look at its address and credentials" in message
    assert "wrong" not in message
    monkeypatch.setenv("AWS_ENDPOINT", f"http://127.0.0.1:{free_ports(1)[0]}")
    assert "s3://bucket/db can't be read" in refusal(tmp_path / "index", *options)
