"""One sidecar owns a database in an object store: a lease that ends by itself, whatever becomes of its owner."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path

import lancedb
import object_stores
import obstore
import pytest
import sidecars
from object_stores import SHORT, Sidecar
from obstore.store import LocalStore, MemoryStore, ObjectStore
from servers import free_ports

from clip_client import Unavailable
from clip_client.search import Row, Term
from clip_search.storage import object_store
from clip_search.storage.database import Database
from clip_search.storage.lease import Lease, Times
from clip_search.storage.object_store import Cell, Stored, Version
from clip_search.storage.schema import About

NAME = "owner"
NOWHERE = "127.0.0.1:9"


class Panic(BaseException):
    """Panic of Rust code, which isn't an Exception."""


class Faulty(Cell):
    """A cell whose requests fail as a test wants it."""

    fault = ""

    def read(self) -> Stored | None:
        if self.fault == "down":
            raise OSError("no route to the store")
        return super().read()

    def write(self, content: bytes, before: Version | None) -> Version | None:
        fault, self.fault = self.fault, self.fault if self.fault in ("down", "careless", "panic") else ""
        if fault == "down":
            raise OSError("no route to the store")
        if fault == "panic":
            raise Panic("index out of bounds")
        if fault == "careless":
            obstore.put(self._store, self._name, content)
            return {"e_tag": "1"}
        version = super().write(content, before)
        if fault == "answer lost":
            raise OSError("the connection broke")
        return None if fault == "sent twice" else version


def lease(store: ObjectStore, cell: type[Cell] = Cell) -> Lease:
    return Lease(cell(store, NAME), "s3://bucket/db", SHORT)


def left(store: ObjectStore) -> Lease:
    """A lease whose owner stood still at once."""
    owner = lease(store)
    owner._closing.set()
    owner._renewing.join()
    return owner


def noted(store: ObjectStore, until_s: float, **more: object) -> None:
    """Write somebody's note, whatever is there."""
    until = (datetime.now(timezone.utc) + timedelta(seconds=until_s)).isoformat()
    note = {"owner": "sidecar 7 on elsewhere", "token": "x", "until": until, "released": False, **more}
    obstore.put(store, NAME, json.dumps(note).encode())


def soon(become: Callable[[], object], within_s: float = 10) -> None:
    end = time.monotonic() + within_s
    while not become():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_second_is_told_who_has_it_until_when() -> None:
    store = MemoryStore()
    first = lease(store)
    with pytest.raises(
        Unavailable, match=r"s3://bucket/db is in use by sidecar \d+ on \S+ until 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC, and"
    ):
        lease(store)
    time.sleep(SHORT.lease_s + 1)  # it is renewed meanwhile
    first.check()
    with pytest.raises(Unavailable, match="is in use by"):
        lease(store)
    first.close()
    start = time.monotonic()
    lease(store).close()  # given away, nobody waits
    assert time.monotonic() - start < SHORT.lease_s / 2


def test_of_many_at_once_one_gets_it() -> None:
    store = MemoryStore()

    def attempt(_: int) -> Lease | None:
        with suppress(Unavailable):
            return lease(store)
        return None

    with ThreadPoolExecutor(8) as pool:
        [winner] = filter(None, pool.map(attempt, range(8)))
    winner.check()
    winner.close()


def test_an_owner_that_stood_still_is_followed_and_writes_no_more() -> None:
    store = MemoryStore()
    still = left(store)
    still.check()
    with pytest.raises(Unavailable, match="is in use by"):
        lease(store)
    time.sleep(SHORT.lease_s - SHORT.margin_s)
    with pytest.raises(Unavailable, match=r"nothing is written: the lease on s3://bucket/db can't be renewed \(no answer\)"):
        still.check()  # before anybody else may write
    time.sleep(SHORT.margin_s)
    following = lease(store)
    still._closing.clear()
    still._renew_forever()  # it wakes up, and ends since it has lost
    with pytest.raises(Unavailable, match=r"nothing is written: .* is in use by sidecar"):
        still.check()
    following.check()
    still.close()  # takes nothing away
    following.check()
    following.close()


def test_an_owner_whose_clock_is_late_is_not_robbed() -> None:
    store, finished = MemoryStore(), threading.Event()

    def renew() -> None:
        while not finished.wait(SHORT.renew_s):
            noted(store, -3600)

    noted(store, -3600)
    owner = threading.Thread(target=renew)
    owner.start()
    with pytest.raises(Unavailable, match="in use by sidecar 7 on elsewhere until"):
        lease(store)
    finished.set()
    owner.join()
    lease(store).close()


@pytest.mark.parametrize(("fault", "reason"), [("down", "no route to the store"), ("panic", "index out of bounds")])
def test_an_outage_stops_writing_for_as_long_as_it_lasts(fault: str, reason: str) -> None:
    owner = lease(MemoryStore(), Faulty)
    owner._cell.fault = fault  # type: ignore[attr-defined]
    soon(owner.trouble)
    with pytest.raises(Unavailable, match=rf"can't be renewed \({reason}\): it is tried again"):
        owner.check()
    owner._cell.fault = ""  # type: ignore[attr-defined]
    soon(lambda: not owner.trouble())  # nobody else came meanwhile
    owner.close()


def test_a_renewal_that_failed_is_tried_again_soon() -> None:
    owner = Lease(Faulty(MemoryStore(), NAME), "s3://bucket/db", Times(lease_s=600, renew_s=2, again_s=0.01))
    owner._cell.fault = "down"  # type: ignore[attr-defined]
    soon(lambda: owner._problem)
    version, start = owner._version, time.monotonic()
    owner._cell.fault = ""  # type: ignore[attr-defined]
    soon(lambda: owner._version != version)
    assert time.monotonic() - start < 1.5  # before the next one would be due
    assert not owner._problem
    owner.close()


@pytest.mark.parametrize("fault", ["answer lost", "sent twice"])
def test_a_put_that_was_done_although_nobody_knew_is_no_loss(fault: str) -> None:
    store = MemoryStore()
    owner = lease(store, Faulty)
    owner._cell.fault = fault  # type: ignore[attr-defined]
    soon(lambda: not owner._cell.fault)  # type: ignore[attr-defined]
    time.sleep(2 * SHORT.renew_s)
    owner.check()
    assert owner._renewing.is_alive()
    owner.close()
    assert json.loads(bytes(obstore.get(store, NAME).bytes()))["released"]


def test_a_note_that_was_removed_ends_it() -> None:
    store = MemoryStore()
    owner = lease(store)
    obstore.delete(store, NAME)
    soon(owner.trouble)
    with pytest.raises(Unavailable, match="nothing is written: the note of who owns s3://bucket/db was removed"):
        owner.check()
    lease(store).close()


def test_a_store_without_conditions_is_refused() -> None:
    class Careless(Faulty):
        fault = "careless"

    with pytest.raises(Unavailable, match=r"doesn't keep the conditions of puts"):
        lease(MemoryStore(), Careless)


NOTE = {"owner": "a", "token": "b", "until": "2026-01-01T00:00:00+00:00", "released": False}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b"[" * 100_000,
        json.dumps({**NOTE, "until": "tomorrow"}).encode(),
        json.dumps({**NOTE, "until": "2026-01-01T00:00:00"}).encode(),
        json.dumps({**NOTE, "until": 7}).encode(),
        json.dumps({**NOTE, "owner": None}).encode(),
        json.dumps({**NOTE, "more": 1}).encode(),
    ],
)
def test_a_note_that_is_none_is_named(content: bytes) -> None:
    store = MemoryStore()
    obstore.put(store, NAME, content)
    with pytest.raises(Unavailable, match=r"the note of who owns s3://bucket/db can't be read \(.*remove it if"):
        lease(store)


def test_a_store_that_can_only_create_keeps_the_second_away(tmp_path: Path) -> None:
    cell = Cell(LocalStore(tmp_path), NAME)
    assert cell.read() is None
    assert cell.write(b"1", None) is not None
    assert cell.write(b"2", None) is None
    found = cell.read()
    assert found is not None
    assert found.content == b"1"


@pytest.mark.parametrize("database", ["memory://db", "hdfs://host/db", "oss://bucket/db"])
def test_stores_that_nothing_is_known_of_are_refused(database: str) -> None:
    with pytest.raises(
        Unavailable, match=f"no lease is known for {database.split(':')[0]}://: expected a folder, or one of s3"
    ):
        object_store.cell(database, NAME)


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as environment, object_stores.s3(environment) as bucket:
        yield bucket


@pytest.mark.parametrize("same", ["{}", "{}/", "{}?x=y"])
def test_a_database_on_s3_has_one_owner_by_whichever_path(bucket: str, tmp_path: Path, same: str) -> None:
    database = f"{bucket}/{tmp_path.name}"
    first = Database(database, tmp_path / "one")
    first.create("a", About(4, ""), {})
    with pytest.raises(Unavailable, match=r"is in use by sidecar \d+ on"):
        Database(same.format(database), tmp_path / "two")
    Database(f"{database}-2", tmp_path / "two").close()
    first.close()
    second = Database(same.format(database), tmp_path / "two")
    assert second.names() == ["a"]
    second.close()


def test_a_bucket_that_is_not_there_is_named(bucket: str, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"s3://nowhere/db can't be (reserved|opened) \("):
        Database("s3://nowhere/db", tmp_path)


def test_without_the_library_it_is_said_which_is_missing(bucket: str, tmp_path: Path) -> None:
    lancedb.connect(f"{bucket}/x")  # LanceDB itself needs none
    code = "import sys; sys.modules['obstore.store'] = None; from clip_search.cli.parser import main; main(sys.argv[1:])"
    options = ["serve", "--data", f"{bucket}/x", "--index", tmp_path, "--port", str(free_ports(1)[0])]
    ended = subprocess.run([sys.executable, "-c", code, *options], capture_output=True, text=True, timeout=60)
    assert ended.stderr == f"error: {bucket}/x needs another library: pip install 'clipserve[object-store]'\n"


@pytest.fixture
def started(bucket: str, tmp_path: Path) -> Iterator[Callable[[str], Sidecar]]:
    """Starts sidecars on one database, each with a folder of its own; they are killed at the end."""
    running: list[Sidecar] = []

    def start(name: str) -> Sidecar:
        running.append(Sidecar(Path(f"{bucket}/db"), NOWHERE, ("--index", str(tmp_path / name))))
        running[-1].wait_open()
        return running[-1]

    yield start
    for sidecar in running:
        sidecar.process.kill()
        sidecar.process.wait()


def test_a_sidecar_that_stood_still_writes_no_more_once_another_came(
    bucket: str, tmp_path: Path, started: Callable[[str], Sidecar]
) -> None:
    first = started("one")
    with first.client() as search:
        search.create("a", dimension=4)
        search.add("a", [Row(id="first", vector=[1, 0, 0, 0])])
        options = ["--data", f"{bucket}/db", "--index", tmp_path / "x", "--port", str(free_ports(1)[0])]
        refused = subprocess.run([sidecars.CLIPSERVE, "search", "serve", *options], capture_output=True, text=True, timeout=60)
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
        assert f"error: {bucket}/db is in use by sidecar {first.process.pid} on " in refused.stderr
        first.process.send_signal(signal.SIGSTOP)
        time.sleep(SHORT.lease_s)
        second = started("two")
        with second.client() as other:
            other.add("a", [Row(id="second", vector=[0, 1, 0, 0])])
    first.process.send_signal(signal.SIGCONT)
    with first.client() as search:  # the connection of before was closed meanwhile
        with pytest.raises(Unavailable, match="nothing is written"):
            search.add("a", [Row(id="third", vector=[0, 0, 1, 0])])
        with pytest.raises(Unavailable, match="nothing is written"):
            search.delete("a", ids=["first"])
        with pytest.raises(Unavailable, match="nothing is written"):
            search.drop("a")
        with pytest.raises(Unavailable, match="nothing is written"):
            search.create("b", dimension=4)
        soon(lambda: f"is in use by sidecar {second.process.pid} on" in first.missing().get("database", ""))
        assert [hit.id for hit in search.query("a", Term(vector=[1, 0, 0, 0]), k=1)] == ["first"]
    first.stop()
    with second.client() as other:  # what the first did at its end, too, took nothing away
        assert {row["id"] for row in other.rows("a")} == {"first", "second"}
