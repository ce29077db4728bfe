"""Deletions and replacements on a full disk: LanceDB says nothing of files that came out empty."""

from __future__ import annotations

import collections
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lancedb.merge
import pytest
from collections_on_disk import Opener, rows

from clip_search.collection import Collection
from clip_search.errors import StorageFull
from clip_search.storage import deletion_files

SCRIPT = Path(__file__).parent / "lib" / "full_disk_deletions.py"
Usage = collections.namedtuple("Usage", "total used free")


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def delete(collection: Collection) -> None:
    collection.delete(ids=["r3"]).result()


def replace(collection: Collection) -> None:
    collection.add(rows(3, 4), on_conflict="replace", fingerprint="").result()


def there(collection: Collection) -> set[str]:
    return {row["id"] for row in collection.table.page("", -1, 100, ["id"])}


@pytest.fixture
def collection(opener: Opener) -> Collection:
    """Twenty rows, of which one is gone."""
    made = opener.open()
    made.add(rows(*range(20)), on_conflict="error", fingerprint="").result()
    made.delete(ids=["r0"]).result()
    return made


@pytest.mark.parametrize("damage", [emptied, halved])
@pytest.mark.parametrize("change", [delete, replace])
def test_a_change_whose_files_are_torn_is_taken_back(
    opener: Opener,
    collection: Collection,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Collection], None],
    damage: Callable[[Path], None],
) -> None:
    folder = opener.folder / "db" / "a.lance" / "_deletions"
    before = set(folder.iterdir())

    def spoiled(write: Callable[..., Any]) -> Callable[..., Any]:
        def written(*args: Any, **options: Any) -> Any:
            outcome = write(*args, **options)
            for path in set(folder.iterdir()) - before:
                damage(path)
            return outcome

        return written

    whole, version = there(collection), collection.table.version
    with monkeypatch.context() as patch:
        patch.setattr(lancedb.merge.LanceMergeInsertBuilder, "execute", spoiled(lancedb.merge.LanceMergeInsertBuilder.execute))
        patch.setattr(type(collection.table._handle.raw), "delete", spoiled(type(collection.table._handle.raw).delete))
        with pytest.raises(StorageFull, match="full for a moment, nothing was deleted or replaced"):
            change(collection)
    assert there(collection) == whole
    assert collection.table.version == version
    change(collection)
    assert there(collection) == (whole - {"r3"} if change is delete else whole)
    assert there(opener.open()) == there(collection)


@pytest.mark.parametrize("change", [delete, replace])
def test_nothing_is_hidden_while_there_is_no_room(
    collection: Collection, monkeypatch: pytest.MonkeyPatch, change: Callable[[Collection], None]
) -> None:
    version = collection.table.version
    with monkeypatch.context() as patch:
        patch.setattr(deletion_files.shutil, "disk_usage", lambda _: Usage(10**9, 10**9 - 10**6, 10**6))
        with pytest.raises(
            StorageFull, match=r"the disk has 1,000,000 bytes left, less than the 15,625,000 that a change needs"
        ):
            change(collection)
        assert collection.table.version == version
    change(collection)


@pytest.mark.long
def test_a_real_disk_that_is_full_again_and_again_loses_nothing(tmp_path: Path) -> None:
    """On the code of before, the table can't be read any more after some 5 of 60 rounds."""
    order = ["unshare", "--mount", "--map-root-user", sys.executable, SCRIPT, tmp_path]
    if subprocess.run([*order[:3], "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespace can be had here")
    run = subprocess.run(order, capture_output=True, text=True, check=False, timeout=600)
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout.splitlines()[-1])
    assert told["rows"] == told["expected"]
    assert told["deleted"] > 20
    assert told["refused"] > 20
