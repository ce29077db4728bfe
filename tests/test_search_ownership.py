"""One sidecar owns a database, by whichever path and with whichever folder for its indexes it comes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import sidecars
from servers import free_ports
from sidecars import Sidecar

from clip_client import Unavailable
from clip_client.search import Row
from clip_search.storage.database import Database
from clip_search.storage.schema import About

NOWHERE = "127.0.0.1:9"


def linked(folder: Path) -> str:
    link = folder.parent / "link"
    if not link.is_symlink():
        link.symlink_to(folder)
    return str(link)


PATHS: dict[str, Callable[[Path], str]] = {
    "the same": str,
    "slash": lambda folder: f"{folder}/",
    "dots": lambda folder: f"{folder.parent}/x/../{folder.name}/.",
    "link": linked,
    "link to its parent": lambda folder: f"{linked(folder.parent)}/{folder.name}",
    "relative": lambda folder: os.path.relpath(folder),
    "URI": lambda folder: f"file://{folder}",
    "another URI": lambda folder: f"file-object-store://{folder}",
    "home": lambda folder: "~/database",
}


@pytest.mark.parametrize("path", PATHS)
def test_another_folder_for_the_indexes_does_not_go_round_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    folder = tmp_path / "home" / "database"
    (folder.parent / "x").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(folder.parent))
    first = Database(str(folder), tmp_path / "indexes")
    with pytest.raises(Unavailable, match=r"(database|link) is in use by another sidecar: stop"):
        Database(PATHS[path](folder), tmp_path / "others")
    first.close()
    Database(PATHS[path](folder), tmp_path / "others").close()


def test_two_databases_do_not_share_a_folder_of_indexes(tmp_path: Path) -> None:
    first = Database(str(tmp_path / "a"), tmp_path / "indexes")
    with pytest.raises(Unavailable, match="indexes is in use by another sidecar"):
        Database(str(tmp_path / "b"), tmp_path / "indexes")
    Database(str(tmp_path / "b"), tmp_path / "others").close()  # what was refused holds nothing
    first.close()


def test_nobody_takes_the_lock_for_a_collection(tmp_path: Path) -> None:
    store = Database(str(tmp_path), tmp_path / "indexes")
    store.create("a", About(4, ""), {})
    assert store.names() == ["a"]
    store.close()


def pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize("make", [Path.mkdir, pipe, lambda path: path.symlink_to("/dev/zero")])
def test_a_lock_that_is_something_else_is_named(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / ".clipserve-lock")
    with pytest.raises(Unavailable, match=r"can't be opened \(.*clipserve-lock"):
        Database(str(tmp_path), tmp_path / "indexes")


def test_the_second_sidecar_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    data, sidecar = tmp_path / "data", Sidecar(tmp_path / "data", NOWHERE, ("--index", str(tmp_path / "one")))
    sidecar.wait_open()
    options = ["--data", data, "--index", tmp_path / "two", "--port", str(free_ports(1)[0])]
    ended = subprocess.run([sidecars.CLIPSERVE, "search", "serve", *options], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert "data is in use by another sidecar" in ended.stderr
    with sidecar.client() as search:
        search.create("a", dimension=4)
        search.add("a", [Row(id="a", vector=[1, 0, 0, 0])])
    sidecar.process.kill()
    sidecar.process.wait()
    with sidecars.running(data, NOWHERE, "--index", str(tmp_path / "two")) as second, second.client() as search:
        assert search.stats("a")["rows"] == 1
