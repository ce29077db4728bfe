"""The sidecar's files are its user's alone, those too that an older version made."""

from __future__ import annotations

import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sidecars

from clip_client.search import Row
from clip_search.storage.database import Database
from clip_search.storage.schema import About

NOWHERE = "127.0.0.1:9"


@pytest.fixture(autouse=True)
def usual_mask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    """Modes of all that is in a folder, itself too; links have none of their own."""
    found = [folder, *folder.rglob("*")]
    return {
        str(path.relative_to(folder)): stat.S_IMODE(path.lstat().st_mode)
        for path in found
        if not path.is_symlink() and path.exists()
    }


def open_ones(folder: Path) -> list[str]:
    return sorted(name for name, mode in modes(folder).items() if mode & 0o077)


def opened(folder: Path) -> None:
    """Give everybody every right, as an older version with another mask might have."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)


def made(folder: Path) -> None:
    store = Database(str(folder), folder / "indexes")
    store.create("a", About(4, ""), {})
    (folder / "indexes" / "a" / "image").mkdir(parents=True)
    (folder / "indexes" / "a" / "image" / "current.json").write_text("{}")
    store.close()


def test_what_a_sidecar_writes_is_its_users_alone(tmp_path: Path) -> None:
    data, apart = tmp_path / "data", tmp_path / "apart"
    with sidecars.running(data, NOWHERE, "--exact-rows", "400") as sidecar, sidecar.client() as search:
        search.create("a", dimension=sidecars.SIZE)
        search.add("a", [Row(id=str(n), vector=vector) for n, vector in enumerate(sidecars.unit(500))])
        search.rebuild("a", wait=True)
        search.delete("a", ids=["3"])
        assert len(modes(data)) > 20
        assert open_ones(data) == []
    opened(data)
    with sidecars.running(data, NOWHERE, "--index", str(apart)):
        assert open_ones(data) == []  # the indexes of before lie there still
        assert open_ones(apart) == []


def test_folders_of_before_are_mended_when_they_are_opened(tmp_path: Path) -> None:
    made(tmp_path / "data")
    opened(tmp_path / "data")
    assert len(open_ones(tmp_path / "data")) > 5
    Database(str(tmp_path / "data"), tmp_path / "data" / "indexes").close()
    assert open_ones(tmp_path / "data") == []


def test_what_belongs_to_the_user_is_left_alone(tmp_path: Path) -> None:
    data = tmp_path / "data"
    made(data)
    (data / "pictures").mkdir()
    (data / "pictures" / "a.jpg").touch()
    (data / "notes.txt").touch()
    (data / "indexes" / "other").mkdir()
    opened(data)
    Database(str(data), tmp_path / "apart").close()
    assert open_ones(data) == [".", "notes.txt", "pictures", "pictures/a.jpg"]
    opened(data)
    (data / "indexes").rename(tmp_path / "indexes")
    Database(str(data), tmp_path / "indexes").close()
    assert open_ones(tmp_path / "indexes") == [".", "other"]


def test_links_lead_nowhere_and_odd_files_hold_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    made(data)
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    opened(elsewhere)
    (data / "b.lance").symlink_to(elsewhere)
    (data / "a.lance" / "link").symlink_to(elsewhere / "file")
    (data / "a.lance" / "folder").symlink_to(elsewhere)
    (data / "a.lance" / "broken").symlink_to(tmp_path / "nowhere")
    os.mkfifo(data / "a.lance" / "pipe")
    monkeypatch.chdir(data / "a.lance")  # a socket's address has 107 characters at most
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
    start = time.monotonic()
    Database(str(data), data / "indexes").close()
    assert time.monotonic() - start < 5
    assert open_ones(elsewhere) == [".", "file"]


def test_a_folder_that_is_meant_to_be_shared_stays_so(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o1777)
    Database(str(data), tmp_path / "indexes").close()
    assert stat.S_IMODE(data.stat().st_mode) == 0o1777


@pytest.mark.parametrize("mode", [0o000, 0o044, 0o2755])
def test_modes_that_are_odd_keep_what_is_the_owners(tmp_path: Path, mode: int) -> None:
    data = tmp_path / "data"
    made(data)
    (data / "a.lance" / "odd").mkdir(mode=mode)
    (data / "a.lance" / "odd").chmod(mode)
    Database(str(data), data / "indexes").close()
    assert stat.S_IMODE((data / "a.lance" / "odd").stat().st_mode) == mode & ~0o077
