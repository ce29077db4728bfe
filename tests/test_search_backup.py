"""Backups: consistent beside writes, incremental, checked; restores that are exact, overwrite nothing, survive kills."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lance
import lancedb
import numpy as np
import object_stores
import pytest
import sidecars

from clip_client.search import Row
from clip_search.cli.parser import main
from clip_search.collection import Collection
from clip_search.options import IndexOptions
from clip_search.storage import lance_manifest
from clip_search.storage.database import Database
from clip_search.storage.rows import NewRow
from clip_search.storage.schema import About

SIZE = 8
NOWHERE = "127.0.0.1:9"
LEAD = IndexOptions(engine="lancedb", exact_rows=10**9)


class World:
    """A database with one open collection."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.is_open = folder, True
        self.database = Database(str(folder), folder / "indexes")
        if "a" not in self.database.names():
            self.database.create("a", About(SIZE, ""), {"n": "int"})
        table = self.database.open("a")
        self.collection = Collection(
            "a", table, folder / "indexes" / "a", LEAD, lambda count, **_: (np.empty((0, SIZE), np.float32), "vectors")
        )

    def add(self, *ids: str) -> None:
        vectors = sidecars.unit(len(ids), SIZE)
        rows = [
            NewRow(id, {"image": vector}, {"n": n}, None, None, None)
            for n, (id, vector) in enumerate(zip(ids, vectors, strict=True))
        ]
        self.collection.add(rows, on_conflict="replace", fingerprint="").result(60)

    def ids(self) -> set[str]:
        return {id for batch in self.collection.table.ids() for id in batch}

    def close(self) -> None:
        if self.is_open:
            self.collection.close()
            self.database.close()
        self.is_open = False


def no_texts(count: int, **_: Any) -> Any:
    return np.empty((0, SIZE), np.float32), "vectors"


def ids_in(folder: Path | str) -> set[str]:
    """Ids as LanceDB itself reads them."""
    return set(lancedb.connect(str(folder)).open_table("a").to_arrow()["id"].to_pylist())


def told(capsys: pytest.CaptureFixture[str], *words: Any) -> dict[str, Any]:
    """Return what a command prints as JSON."""
    capsys.readouterr()
    assert main([*map(str, words), "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def refused(capsys: pytest.CaptureFixture[str], *words: Any) -> str:
    """Return the error of a command."""
    capsys.readouterr()
    assert main([*map(str, words)]) == 1
    return capsys.readouterr().err


@pytest.fixture
def world(tmp_path: Path) -> Any:
    made = World(tmp_path / "data")
    made.add("x", "y", "z")
    yield made
    made.close()


def test_a_backup_beside_an_open_database_is_incremental_and_restores_each_moment(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, backup = world.folder, tmp_path / "backup"
    first = told(capsys, "backup", data, backup)
    assert first["rows"] == {"a": 3}
    assert first["copied_bytes"] == first["bytes"] > 0
    world.add("v", "w")
    world.collection.delete(ids=["x"]).result(60)
    world.collection.rebuild()  # compacts and drops old versions
    second = told(capsys, "backup", data, backup)
    assert told(capsys, "backup", data, backup, "--collection", "a")["copied_bytes"] == 0
    assert second["rows"] == {"a": 4}
    assert lancedb.connect(str(data)).open_table("a").tags.list() == {}
    told(capsys, "restore", backup, tmp_path / "old", "--snapshot", first["snapshot"], "--verify")
    told(capsys, "restore", backup, tmp_path / "new")
    assert ids_in(tmp_path / "old") == {"x", "y", "z"}
    assert ids_in(tmp_path / "new") == world.ids() == {"v", "w", "y", "z"}
    assert told(capsys, "restore", backup, "--verify")["rows"] == {"a": 4}


def test_a_restored_collection_goes_its_own_way(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told(capsys, "backup", world.folder, tmp_path / "backup")
    world.add("later")
    world.close()
    shutil.rmtree(world.folder / "a.lance")  # its indexes stay, with a row more
    told(capsys, "restore", tmp_path / "backup", world.folder, "--verify")
    again = World(world.folder)
    assert again.collection.table.identity != world.collection.table.identity
    assert again.ids() == {"x", "y", "z"}
    again.add("new")
    assert len(again.collection.search(sidecars.unit(1, SIZE)[0], "image", 10, "")[1]) == 4
    again.close()
    assert not (world.folder / ".clipserve-restore").exists()


def test_nothing_is_overwritten_and_every_refusal_says_why(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, backup = world.folder, tmp_path / "backup"
    assert "there is no such backup" in refused(capsys, "restore", backup, tmp_path / "new")
    (tmp_path / "empty").mkdir()
    assert "there is no snapshot here" in refused(capsys, "restore", tmp_path / "empty", tmp_path / "new")
    snapshot = told(capsys, "backup", data, backup)["snapshot"]
    assert "in use by another sidecar" in refused(capsys, "restore", backup, data)
    told(capsys, "restore", backup, tmp_path / "new")
    assert "collection a is there already" in refused(capsys, "restore", backup, tmp_path / "new")
    assert "no database to restore to" in refused(capsys, "restore", backup)
    assert "no collection b in snapshot" in refused(capsys, "restore", backup, tmp_path / "b", "--collection", "b")
    assert f"expected {snapshot}" in refused(capsys, "restore", backup, tmp_path / "b", "--snapshot", "1999")
    assert "no collection b" in refused(capsys, "backup", data, backup, "--collection", "b")
    assert "there is no such database" in refused(capsys, "backup", tmp_path / "none", backup)
    assert "within each other" in refused(capsys, "backup", data, data / "backup")
    assert "within each other" in refused(capsys, "restore", backup, backup / "data")


def damaged(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def emptied(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize(("damage", "reason"), [(damaged, "is damaged"), (emptied, "is damaged"), (os.unlink, "is missing")])
def test_damage_is_found_and_nothing_of_it_restored(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], None], reason: str
) -> None:
    backup = tmp_path / "backup"
    told(capsys, "backup", world.folder, backup)
    for file in sorted(backup.glob("objects/*/*")):
        content = file.read_bytes()
        damage(file)
        assert reason in refused(capsys, "restore", backup, "--verify")
        assert reason in refused(capsys, "restore", backup, tmp_path / "new")
        assert not (tmp_path / "new" / "a.lance").exists()
        file.write_bytes(content)
        shutil.rmtree(tmp_path / "new")
    told(capsys, "restore", backup, tmp_path / "new", "--verify")
    assert ids_in(tmp_path / "new") == {"x", "y", "z"}


@pytest.mark.parametrize("path", ["../../evil", "data/../../evil", "/evil", "data/a b", "evil"])
def test_a_snapshot_names_no_files_elsewhere(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], path: str
) -> None:
    told(capsys, "backup", world.folder, tmp_path / "backup")
    [file] = tmp_path.glob("backup/snapshots/*")
    content = json.loads(file.read_bytes())
    content["snapshot"]["collections"]["a"]["files"][0]["path"] = path
    file.write_text(json.dumps(content))
    assert "its checksum is another one" in refused(capsys, "restore", tmp_path / "backup", tmp_path / "new")
    from clip_search.cli.backup import snapshots

    file.write_text(json.dumps({**content, "sha256": snapshots._checksum(content["snapshot"])}))
    assert "it names a file" in refused(capsys, "restore", tmp_path / "backup", tmp_path / "new")


_KILLED = """
import os, sys
from clip_search.cli.parser import main
from clip_search.storage.file_places import Folder
write, left = Folder.write, [int(sys.argv[1])]
def killed(self, path, pieces):
    if left[0] == 0:
        def cut():
            for piece in pieces:
                yield piece[: len(piece) // 2]
                os.kill(os.getpid(), 9)
        return write(self, path, cut())
    left[0] -= 1
    return write(self, path, pieces)
Folder.write = killed
sys.exit(main(sys.argv[2:]))
"""


def killed(writes: int, *words: Any) -> int:
    """Run a command that is killed in a write; return its exit status."""
    return subprocess.run(
        [sys.executable, "-c", _KILLED, str(writes), *map(str, words)], timeout=300, capture_output=True
    ).returncode


@pytest.mark.long
@pytest.mark.parametrize("writes", [0, 2])
def test_both_go_on_after_a_kill(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], writes: int) -> None:
    backup, new = tmp_path / "backup", tmp_path / "new"
    assert killed(writes, "backup", world.folder, backup) == -signal.SIGKILL
    assert "there is no snapshot here" in refused(capsys, "restore", backup, new)
    whole = told(capsys, "backup", world.folder, backup)
    assert (whole["copied_bytes"] < whole["bytes"]) == (writes > 0)
    assert killed(writes, "restore", backup, new) == -signal.SIGKILL
    assert not (new / "a.lance").exists()
    told(capsys, "restore", backup, new, "--verify")
    assert ids_in(new) == {"x", "y", "z"}


@pytest.mark.long
def test_a_backup_under_load_has_exactly_the_rows_of_its_moment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begun: list[int] = []
    done: list[int] = []
    stop = threading.Event()
    with sidecars.running(tmp_path / "data", NOWHERE) as sidecar, sidecar.client() as search:
        search.create("a", dimension=sidecars.SIZE)

        def write() -> None:
            vector = sidecars.unit(1)[0]
            while not stop.is_set():
                begun.append(len(begun))
                search.add("a", [Row(id=f"r{begun[-1]}", vector=vector)])
                if begun[-1] % 5 == 4:
                    search.delete("a", [f"r{begun[-1] - 2}"])
                done.append(begun[-1])

        writer = threading.Thread(target=write)
        writer.start()
        snapshots = []
        for _ in range(3):
            before = len(done)
            name = told(capsys, "backup", tmp_path / "data", tmp_path / "backup")["snapshot"]
            snapshots.append((name, before, len(begun)))
        stop.set()
        writer.join()
    shutil.rmtree(tmp_path / "data")
    for name, before, after in snapshots:
        told(capsys, "restore", tmp_path / "backup", tmp_path / name, "--snapshot", name, "--verify")
        there = ids_in(tmp_path / name)
        prefixes = [states(steps) for steps in range(before, 2 * after + 2)]
        assert there in prefixes, (name, before, after)


def states(steps: int) -> set[str]:
    """Return the ids after a number of the writer's changes: an add, after each fifth a deletion."""
    ids: set[str] = set()
    number = changes = 0
    while True:
        if changes == steps:
            return ids
        ids.add(f"r{number}")
        changes += 1
        if number % 5 == 4:
            if changes == steps:
                return ids
            ids.discard(f"r{number - 2}")
            changes += 1
        number += 1


@pytest.mark.long
def test_an_object_store_takes_backups_and_restores(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with object_stores.s3(monkeypatch) as bucket:
        told(capsys, "backup", world.folder, f"{bucket}/backup")
        world.add("w")
        second = told(capsys, "backup", world.folder, f"{bucket}/backup")
        assert 0 < second["copied_bytes"] < second["bytes"]
        told(capsys, "restore", f"{bucket}/backup", f"{bucket}/data", "--verify")
        assert "collection a is there already" in refused(capsys, "restore", f"{bucket}/backup", f"{bucket}/data")
        assert ids_in(f"{bucket}/data") == {"w", "x", "y", "z"}
        told(capsys, "backup", f"{bucket}/data", tmp_path / "local")
        told(capsys, "restore", tmp_path / "local", tmp_path / "new")
        assert ids_in(tmp_path / "new") == {"w", "x", "y", "z"}


def test_a_manifest_is_read_as_lance_reads_it(world: World) -> None:
    for number in range(4):
        world.add(f"more{number}")
    world.collection.delete(ids=["x", "more1"]).result(60)
    world.collection.table.index_scalars()
    world.add("last")
    table = world.folder / "a.lance"
    version = world.collection.table.version
    contents = lance_manifest.contents((table / lance_manifest.names_of(version)[0]).read_bytes())
    theirs = lance.dataset(str(table), version=version)
    fragments = theirs.get_fragments()
    files = {f"data/{file.path}" for fragment in fragments for file in fragment.data_files()}
    deletions = {each.metadata.deletion_file.path(each.fragment_id) for each in fragments if each.metadata.deletion_file}
    assert deletions
    assert set(contents.files) == files | deletions
    assert set(contents.indexes) == {f"_indices/{index['uuid']}" for index in theirs.list_indices()} != set()
    assert contents.rows == theirs.count_rows()
