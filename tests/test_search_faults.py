"""Faults around the sidecar: it is killed, Triton goes away, the disk is full, a restart finds everything."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import sidecars
from amount import amount
from servers import Server, free_ports
from sidecars import Sidecar, unit

from clip_client import ClipError, Unavailable
from clip_client.search import Row, Search, Term
from pictures import encoded, picture

pytestmark = pytest.mark.long

SIZE, PART = 64, 50
KILLS = amount(2, 5, "KILLS")
NOWHERE = "127.0.0.1:9"


def add_until_killed(sidecar: Sidecar, start: int, acknowledged: set[str], vectors: np.ndarray) -> None:
    """Add rows, and replace some, noting what was acknowledged."""
    with contextlib.suppress(ClipError), sidecar.client() as search:
        for n in range(start, start + 10_000, PART):
            ids = [f"r{m}" for m in range(n, n + PART)]
            rows = [Row(id=id, vector=vectors[int(id[1:]) % len(vectors)], metadata={"n": int(id[1:])}) for id in ids]
            search.add("a", rows, on_conflict="replace")
            acknowledged.update(ids)


def check_whole(search: Search, acknowledged: set[str], vectors: np.ndarray) -> None:
    """Every acknowledged row is there and found; what is there is whole."""
    rows = {row["id"]: row for row in search.rows("a", vectors=True)}
    assert acknowledged <= set(rows)
    assert search.stats("a")["rows"] == len(rows)
    assert search.stats("a")["indexes"]["image"]["rows"] == len(rows)
    numbers = [int(id[1:]) for id in rows]
    assert [row["metadata"]["n"] for row in rows.values()] == numbers
    stored = np.stack([row["vector_image"] for row in rows.values()]) if rows else np.empty((0, SIZE))
    np.testing.assert_allclose(stored, vectors[np.array(numbers, int) % len(vectors)], atol=1e-6)


@pytest.mark.timeout(120 + 30 * KILLS)
def test_what_was_acknowledged_survives_kill_9_while_rows_are_added(tmp_path: Path) -> None:
    vectors, acknowledged = unit(5000, SIZE), set[str]()
    options = ["--exact-rows", "500"]
    for kill in range(KILLS):
        with contextlib.closing(_Killed(Sidecar(tmp_path, NOWHERE, tuple(options)))) as killed:
            sidecar = killed.sidecar
            sidecar.wait_open()
            with sidecar.client() as search:
                search.create("a", dimension=SIZE) if kill == 0 else check_whole(search, acknowledged, vectors)
            adding = [
                threading.Thread(target=add_until_killed, args=(sidecar, 10_000 * (4 * kill + n), acknowledged, vectors))
                for n in range(4)
            ]
            for thread in adding:
                thread.start()
            time.sleep(0.4 + 0.13 * (kill % 7))  # at another point of the upkeep each time
            sidecar.process.kill()
            for thread in adding:
                thread.join()
    with sidecars.running(tmp_path, NOWHERE, *options) as sidecar, sidecar.client() as search:
        assert acknowledged
        check_whole(search, acknowledged, vectors)


class _Killed:
    def __init__(self, sidecar: Sidecar) -> None:
        self.sidecar = sidecar

    def close(self) -> None:
        self.sidecar.process.kill()
        self.sidecar.process.wait()


def test_triton_goes_and_comes_back(repository: Path, tmp_path: Path) -> None:
    ports = free_ports(3)
    first = Server(repository, ports=ports)
    first.wait_ready()
    with sidecars.running(tmp_path, first.address) as sidecar, sidecar.client() as search:
        search.create("a")
        search.add("a", [Row(id="p", image=encoded(picture(40, 40)))])
        vector = search.get("a", ["p"], vectors=True)[0]["vector_image"]
        assert sidecar.missing() == {}
        first.stop()
        assert list(sidecar.missing()) == ["triton"]
        with pytest.raises(Unavailable, match="can't be reached"):
            search.query("a", "a cat")
        with pytest.raises(Unavailable, match="can't be reached"):
            search.add("a", [Row(image=encoded(picture(40, 40, seed=1)))])
        assert search.query("a", Term(vector=vector))[0].id == "p"
        second = Server(repository, ports=ports)
        second.wait_ready()
        assert sidecar.ready_again() < 5
        assert search.query("a", "a cat")[0].id == "p"
        second.stop()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", tmp_path], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root can mount a small file system")
    yield tmp_path
    subprocess.run(["umount", "-l", tmp_path], check=True)


def fill(search: Search, vectors: np.ndarray) -> None:
    for start in range(0, 100_000, len(vectors)):
        search.add("a", [Row(id=f"r{start + n}", vector=vector) for n, vector in enumerate(vectors)])


def test_a_full_disk_refuses_rows_and_goes_on_searching(small_disk: Path) -> None:
    vectors = unit(2000, 256)
    with sidecars.running(small_disk, NOWHERE) as sidecar, sidecar.client() as search:
        search.create("a", dimension=256)
        search.add("a", [Row(id="first", vector=vectors[0])])
        with pytest.raises(Unavailable, match="the disk is full, nothing was added: make room"):
            fill(search, vectors)
        rows = search.stats("a")["rows"]
        assert rows % 2000 == 1
        assert search.query("a", Term(vector=vectors[0]), k=1)[0].score > 0.999
        status, answer = sidecar.ask("POST", "/v1/collections/a/rows", {"rows": [{"id": "x", "vector": vectors[1].tolist()}]})
        assert status in (201, 507), answer  # one row may still fit
        assert search.stats("a")["rows"] - rows == (status == 201)


def test_a_full_disk_leaves_nothing_of_a_collection_that_could_not_be_made(small_disk: Path) -> None:
    with sidecars.running(small_disk, NOWHERE) as sidecar, sidecar.client() as search:
        (small_disk / "filler").write_bytes(b"")
        refused = 0
        for kilobytes in (*range(0, 72, 4), 24 * 1024):
            with contextlib.suppress(OSError), open(small_disk / "filler", "ab", buffering=0) as filler:
                while filler.write(b"x" * 4096):
                    pass
            os.truncate(small_disk / "filler", max(0, (small_disk / "filler").stat().st_size - 1024 * kilobytes))
            status, answer = sidecar.ask("POST", "/v1/collections", {"name": "a", "dimension": 4})
            assert status in (201, 507), answer
            assert sidecar.missing().keys() <= {"triton"}
            assert [one["name"] for one in search.collections()] == ["a"] * (status == 201)
            refused += status == 507
            if status == 201:
                search.drop("a")
        assert 1 < refused < 19


HALVES = ["", "data", "_versions", "_transactions"]


@pytest.mark.parametrize("half", HALVES)
def test_a_collection_that_was_half_made_can_be_dropped_and_made(tmp_path: Path, half: str) -> None:
    (tmp_path / "a.lance" / half).mkdir(parents=True)
    with sidecars.running(tmp_path, NOWHERE) as sidecar, sidecar.client() as search:
        assert "collection a" in sidecar.missing()
        with pytest.raises(ClipError, match="there already: add to it, drop it"):
            search.create("a", dimension=4)
        search.drop("a")
        assert sidecar.missing().keys() <= {"triton"}
        assert sidecar.ask("DELETE", "/v1/collections/a")[0] == 404
        search.create("a", dimension=4)
        search.add("a", [Row(id="a", vector=[1, 0, 0, 0])])
        assert search.stats("a")["rows"] == 1


def test_metadata_are_of_rows_that_are_there(tmp_path: Path) -> None:
    def told() -> list[int]:
        ids = [2, 0, 1, 0, 7, -1, 2**61]
        return [row["id"] for row in sidecar.ask("POST", "/metadata", {"ids": ids, "indice_name": "a"})[1]]

    with sidecars.running(tmp_path, NOWHERE) as sidecar, sidecar.client() as search:
        search.create("a", dimension=4)
        search.add("a", [Row(id=f"r{n}", vector=[1, 0, 0, n], metadata={"caption": f"{n}"}) for n in range(3)])
        assert told() == [2, 0, 1, 0]
        search.delete("a", ["r0"])
        assert told() == [2, 1]
        search.add("a", [Row(id="r2", vector=[1, 0, 0, 9])], on_conflict="replace")
        assert told() == [1]


def test_a_broken_collection_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    with sidecars.running(tmp_path, NOWHERE) as sidecar, sidecar.client() as search:
        for name in ("good", "broken"):
            search.create(name, dimension=4)
            search.add(name, [Row(id="a", vector=[1, 0, 0, 0])])
    for path in (tmp_path / "broken.lance" / "_versions").iterdir():
        path.write_bytes(b"broken")
    shutil.rmtree(tmp_path / "indexes" / "broken", ignore_errors=True)
    with sidecars.running(tmp_path, NOWHERE) as sidecar, sidecar.client() as search:
        assert "collection broken" in sidecar.missing()
        assert search.query("good", Term(vector=[1, 0, 0, 0]))[0].id == "a"
        assert sidecar.ask("POST", "/v1/collections/broken/search", {"vector": [1, 0, 0, 0]})[0] == 503


def test_a_second_sidecar_on_the_same_data_and_a_port_in_use(tmp_path: Path) -> None:
    with sidecars.running(tmp_path, NOWHERE) as sidecar:
        for data, message in ((tmp_path, "in use by another sidecar"), (tmp_path / "other", "can't listen")):
            port = [sidecar.port, free_ports(1)[0]][data == tmp_path]
            command = [sidecars.CLIPSERVE, "search", "serve", "--data", data, "--port", str(port)]
            ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
            assert ended.returncode == 1
            assert message in ended.stderr


def add_until_refused(sidecar: Sidecar, done: list[int]) -> None:
    """Add rows in small parts, noting how many were acknowledged."""
    with contextlib.suppress(ClipError), sidecar.client() as search:
        for start in range(0, 10**6, PART):
            rows = [Row(id=str(n), vector=[1, 0, 0, n]) for n in range(start, start + PART)]
            done.append(search.add("a", rows).added)


def wait_until(condition: Callable[[], bool], within_s: float = 20) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_what_was_queued_is_finished_when_it_is_told_to_stop(tmp_path: Path) -> None:
    with sidecars.running(tmp_path, NOWHERE) as sidecar, sidecar.client() as search:
        search.create("a", dimension=4)
        done: list[int] = []
        adding = threading.Thread(target=add_until_refused, args=(sidecar, done))
        adding.start()
        wait_until(lambda: len(done) > 2)  # more of them are under way as it stops
    adding.join()
    with sidecars.running(tmp_path, NOWHERE) as sidecar, sidecar.client() as search:
        assert search.stats("a")["rows"] == sum(done)
