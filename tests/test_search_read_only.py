"""Sidecars that only read: they follow another's database, refuse changes, and write nothing to it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import browsers
import numpy as np
import pytest
import sidecars
from collections_on_disk import COUNT, VECTORS, fill, hit_ids, rows
from page_world import opened
from playwright.sync_api import expect
from sidecars import SIZE, unit

from clip_client import Unauthorized, Unavailable
from clip_client.errors import ClipError, InvalidInput
from clip_client.search import Row, Term
from clip_search.errors import ReadOnly
from clip_search.options import IndexOptions, MilvusOptions, Options
from clip_search.sidecar import Sidecar
from clip_search.storage.database import Database
from clip_search.storage.rows import NewRow

NOWHERE = "127.0.0.1:9"
ENGINES = ("faiss", "lancedb")


@dataclasses.dataclass
class World:
    """A sidecar that writes collection ``a``, and two that read, an engine each."""

    folder: Path
    writer: Sidecar
    readers: list[Sidecar]

    def soon(self, seen: Callable[[Sidecar], bool]) -> None:
        """Wait until every reader sees something."""
        deadline = time.monotonic() + 60
        for reader in self.readers:
            while not _sees(reader, seen):
                assert time.monotonic() < deadline
                time.sleep(0.05)


def _sees(reader: Sidecar, seen: Callable[[Sidecar], bool]) -> bool:
    try:
        return seen(reader)
    except (ClipError, KeyError):  # the collection isn't open, or is opened again
        return False


def sidecar(data: Path, **options: object) -> Sidecar:
    made = Sidecar(Options(str(data), triton=NOWHERE, **options))  # type: ignore[arg-type]
    made.open_all()
    return made


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    writer = sidecar(tmp_path / "db")
    fill(writer.create("a", SIZE, "model1", {}))
    index = [IndexOptions(engine=engine, exact_rows=400, tail_rows=200) for engine in ENGINES]  # type: ignore[arg-type]
    readers = [sidecar(tmp_path / "db", index_folder=tmp_path / each.engine, read_only=True, index=each) for each in index]
    yield World(tmp_path, writer, readers)
    for each in (*readers, writer):
        each.close()


def nearest(reader: Sidecar, query: np.ndarray, where: str = "") -> str:
    return next(iter(hit_ids(reader.collection("a"), query, 1, where)), "")


def test_changes_of_the_writer_are_seen(world: World) -> None:
    collection = world.writer.collection("a")
    new = unit(2, seed=7)
    rows_before = [reader.collection("a").stats()["rows"] for reader in world.readers]
    assert rows_before == [COUNT, COUNT]
    collection.add([NewRow("new", {"image": new[0]}, {"place": "Ulm"})], on_conflict="error", fingerprint="").result()
    world.soon(lambda reader: nearest(reader, new[0]) == "new")
    world.soon(lambda reader: nearest(reader, VECTORS[3], "place = 'Ulm'") == "new")  # a column that is new, too
    collection.add([NewRow("new", {"image": new[1]})], on_conflict="replace", fingerprint="").result()
    world.soon(lambda reader: nearest(reader, new[1]) == "new" and nearest(reader, new[0]) != "new")
    collection.delete(where="year >= 50").result()
    world.soon(lambda reader: reader.collection("a").engines["image"].size() == 501)
    world.soon(lambda reader: "r77" not in hit_ids(reader.collection("a"), VECTORS[77], 20))
    collection.rebuild()  # the files of the versions before go
    world.soon(lambda reader: reader.collection("a").present(["r1", "r99", "new"]) == {"r1", "new"})
    assert all(reader.collection("a").row_of("r1") == collection.row_of("r1") for reader in world.readers)


def test_collections_come_and_go_with_the_writers(world: World) -> None:
    world.writer.create("b", 4, "", {})
    world.soon(lambda reader: reader.names() == ["a", "b"])
    world.writer.drop("b")
    world.soon(lambda reader: reader.names() == ["a"])
    world.soon(lambda reader: not [*world.folder.glob("*/b")])  # its name goes first
    world.writer.drop("a")
    again = world.writer.create("a", SIZE, "", {})
    again.add([NewRow("other", {"image": VECTORS[3]})], on_conflict="error", fingerprint="").result()
    world.soon(lambda reader: nearest(reader, VECTORS[3]) == "other")


def test_a_folder_that_is_away_takes_no_collection_with_it(world: World) -> None:
    folder, away = world.folder / "db", world.folder / "away"
    folder.rename(away)
    for _ in ("no folder", "an empty mount point"):
        for reader in world.readers:
            with pytest.raises(Unavailable, match="its folder is away"):
                reader._follow()
            assert reader.names() == ["a"]
        assert nearest(world.readers[0], VECTORS[3]) == "r3"
        folder.mkdir(exist_ok=True)
    folder.rmdir()
    away.rename(folder)
    new = unit(1, seed=8)[0]
    added = NewRow("new", {"image": new})
    world.writer.collection("a").add([added], on_conflict="error", fingerprint="").result()
    world.soon(lambda reader: nearest(reader, new) == "new")


CHANGES: tuple[Callable[[Sidecar], object], ...] = (
    lambda reader: reader.create("x", 4, "", {}),
    lambda reader: reader.drop("a"),
    lambda reader: reader.collection("a").add(rows(1), on_conflict="replace", fingerprint=""),
    lambda reader: reader.collection("a").delete(ids=["r1"]),
    lambda reader: reader.collection("a").table.append(None),  # whatever comes past the others
    lambda reader: reader.database.drop("a"),
)


def test_changes_are_refused(world: World) -> None:
    for change in CHANGES:
        with pytest.raises(ReadOnly, match=r"only reads \(--read-only\): send changes to the one that writes"):
            change(world.readers[0])
    assert len(world.writer.collection("a").table) == COUNT


def test_nothing_is_written_to_the_database(world: World) -> None:
    def files() -> dict[Path, tuple[int, int]]:
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in (world.folder / "db").rglob("*")}

    world.writer.close()
    before = files()
    for reader in world.readers:
        reader.collection("a").maintain()
        reader.collection("a").rebuild()
    assert files() == before
    assert world.readers[0].collection("a").stats()["indexes"]["image"]["parts"][0]["rows"] == COUNT  # its own index
    assert [path.name for path in world.folder.glob("faiss/a/image/part-*")]
    assert nearest(world.readers[0], VECTORS[5]) == nearest(world.readers[1], VECTORS[5]) == "r5"
    later = sidecar(world.folder / "db", index_folder=world.folder / "later", read_only=True)  # without any writer
    assert later.names() == ["a"]
    later.close()


def test_a_reader_starts_again_from_its_own_files_and_catches_up(world: World) -> None:
    reader = world.readers.pop(0)
    reader.collection("a").rebuild()
    reader.close()
    world.writer.collection("a").delete(ids=["r5"]).result()
    world.writer.collection("a").add(rows(5), on_conflict="error", fingerprint="").result()
    options = IndexOptions(exact_rows=400, tail_rows=200)
    again = sidecar(world.folder / "db", index_folder=world.folder / "faiss", read_only=True, index=options)
    world.readers.append(again)
    stats = again.collection("a").stats()["indexes"]["image"]
    assert (stats["rows"], stats["parts"][0]["rows"], stats["parts"][0]["hidden"], stats["tail_rows"]) == (COUNT, COUNT, 1, 1)
    assert nearest(again, VECTORS[5]) == "r5"


def test_it_wants_a_folder_of_its_own_and_a_database_that_is_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="--read-only needs a folder of its own for the indexes: name a local one, --index"):
        Options(str(tmp_path), read_only=True).indexes  # noqa: B018
    with pytest.raises(InvalidInput, match=r"--read-only takes no --engine milvus, .* pass faiss or lancedb"):
        Options(str(tmp_path), read_only=True, index=IndexOptions(engine="milvus", milvus=MilvusOptions("http://127.0.0.1:9")))
    with pytest.raises(Unavailable, match=r"nowhere can't be read: there is no such folder; name that of another sidecar"):
        Database(str(tmp_path / "nowhere"), tmp_path / "index", read_only=True)
    assert not (tmp_path / "nowhere").exists()
    first = Database(str(tmp_path), tmp_path / "index", read_only=True)
    with pytest.raises(Unavailable, match="index is in use by another sidecar"):
        Database(str(tmp_path), tmp_path / "index", read_only=True)
    first.close()


def test_over_http_and_on_the_page(world: World, tmp_path: Path) -> None:
    options = ("--read-only", "--index", str(tmp_path / "third"))
    with sidecars.running(tmp_path / "db", NOWHERE, *options) as reader, reader.client() as search:
        status, answer = reader.ask("POST", "/v1/collections/a/rows", {"rows": [{"id": "x", "text": "y"}]})
        assert (status, answer["error"]["type"]) == (403, "ReadOnly")
        for change in (
            lambda: search.create("b", dimension=4),
            lambda: search.drop("a"),
            lambda: search.delete("a", ["r1"]),
            lambda: search.add("a", [Row(id="x", vector=VECTORS[0])]),
        ):
            with pytest.raises(Unauthorized, match="this sidecar only reads"):
                change()
        assert search.query("a", Term(vector=VECTORS[9]), k=1)[0].id == "r9"
        search.rebuild("a", wait=True)  # its own index
        listed = reader.ask("GET", "/v1/collections")[1]
        assert listed["read_only"]
        assert listed["collections"][0]["read_only"]
        assert 0 <= search.stats("a")["behind_s"] < 60
        assert set(reader.ask("GET", "/health/ready")[1]["behind_s"]) == {"a"}
        assert b'clipserve_collection_behind_seconds{collection="a"}' in reader.ask("GET", "/metrics")[1]
        with browsers.running() as browser, opened(browser, reader) as page:
            expect(page.get_by_label("Collection")).to_have_value("a")
            expect(page.locator("#add")).to_be_hidden()
    assert world.writer.database.names() == ["a"]
