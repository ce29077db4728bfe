"""``search add`` as a sync: each run does what has changed since the last, and nothing else."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import sidecars
from servers import CLIPSERVE, Server
from sidecars import Sidecar

from clip_client import Clip
from clip_client.search import Row, Search
from clip_search.cli.folder.sync import Disk, Known, State, Wanted, plan
from pictures import encoded, picture


@pytest.fixture(scope="module")
def sidecar(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    with sidecars.running(tmp_path_factory.mktemp("search"), server.address) as sidecar:
        yield sidecar


@pytest.fixture
def search(sidecar: Sidecar) -> Iterator[Search]:
    with sidecar.client() as search:
        yield search
        for collection in search.collections():
            search.drop(collection["name"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six pictures, one with a caption."""
    folder = tmp_path / "2023"
    (folder / "sub").mkdir(parents=True)
    for n in range(6):
        draw(folder / ("sub" if n % 2 else "") / f"{n}.jpg", n)
    (folder / "0.txt").write_text("nought")
    return folder


def draw(path: Path, seed: int) -> None:
    path.write_bytes(encoded(picture(40 + seed % 30, 50, seed=seed)))


def add(sidecar: Sidecar, folder: Path, *options: object, status: int = 0) -> str:
    where = ["--url", sidecar.url, "--collection", "photos"]
    command = [CLIPSERVE, "search", "add", *where, str(folder), *map(str, options)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == status, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stdout + ended.stderr


def sent(sidecar: Sidecar) -> int:
    """Number of answered requests that added rows."""
    metrics = sidecar.ask("GET", "/metrics")[1].decode()
    wanted = 'clipserve_requests_total{route="/v1/collections/{name}/rows",status="201"} '
    return int(sum(float(line.removeprefix(wanted)) for line in metrics.splitlines() if line.startswith(wanted)))


def rows(search: Search) -> dict[str, dict]:
    return {row["id"]: row for row in search.rows("photos", vectors=True)}


def vectors_are_of_their_files(search: Search, clip: Clip) -> None:
    """Each row has the embedding of what lies at its source now."""
    stored = rows(search)
    expected = clip.embed_image([row["source"] for row in stored.values()])
    np.testing.assert_allclose([row["vector_image"] for row in stored.values()], expected, atol=1e-5)


def test_the_second_run_sends_nothing(sidecar: Sidecar, search: Search, folder: Path) -> None:
    assert "read 6 = 6 added + 0 unchanged + 0 replaced + 0 left out" in add(sidecar, folder)
    before, requests = rows(search), sent(sidecar)
    assert "read 6 = 0 added + 6 unchanged + 0 replaced + 0 left out" in add(sidecar, folder)
    assert sent(sidecar) == requests
    assert {id: row["row"] for id, row in rows(search).items()} == {id: row["row"] for id, row in before.items()}


def test_new_changed_moved_and_gone_files(sidecar: Sidecar, search: Search, folder: Path, clip: Clip) -> None:
    add(sidecar, folder)
    before = rows(search)
    draw(folder / "2.jpg", 102)
    draw(folder / "new.jpg", 103)
    (folder / "4.jpg").rename(folder / "sub" / "four.jpg")
    (folder / "sub" / "5.jpg").unlink()
    told = add(sidecar, folder)
    assert "read 6 = 1 added + 3 unchanged + 2 replaced + 0 left out" in told
    assert "1 moved" in told
    assert "1 row whose file is gone: --prune removes it" in told
    after = rows(search)
    assert set(after) == {"0.jpg", "sub/1.jpg", "2.jpg", "sub/3.jpg", "sub/four.jpg", "sub/5.jpg", "new.jpg"}
    np.testing.assert_array_equal(after["sub/four.jpg"]["vector_image"], before["4.jpg"]["vector_image"])
    told = add(sidecar, folder, "--prune")
    assert "read 6 = 0 added + 6 unchanged + 0 replaced + 0 left out" in told
    assert "1 row removed whose file is gone" in told
    assert "sub/5.jpg" not in rows(search)
    vectors_are_of_their_files(search, clip)


def test_a_moved_file_keeps_its_vector_thumbnail_and_columns(sidecar: Sidecar, search: Search, folder: Path) -> None:
    add(sidecar, folder)
    old = rows(search)["0.jpg"]
    marked = Row(id="0.jpg", same_as="0.jpg", metadata={"stars": 5})
    assert search.add("photos", [marked], on_conflict="replace").replaced == 1
    (folder / "0.jpg").rename(folder / "zero.jpg")
    (folder / "0.txt").rename(folder / "zero.txt")
    assert "1 moved" in add(sidecar, folder)
    new = rows(search)["zero.jpg"]
    assert {name: new["metadata"][name] for name in ("caption", "stars")} == {"caption": "nought", "stars": 5}
    np.testing.assert_array_equal(new["vector_image"], old["vector_image"])
    status, content = sidecar.ask("GET", f"/v1/collections/photos/thumbnails/{new['row']}")
    assert (status, content[:2]) == (200, b"\xff\xd8")
    assert new["source"] == str(folder / "zero.jpg")


def test_a_whole_folder_that_was_moved_isnt_embedded_again(sidecar: Sidecar, search: Search, folder: Path) -> None:
    add(sidecar, folder)
    moved = folder.rename(folder.with_name("elsewhere"))
    told = add(sidecar, moved)
    assert "read 6 = 0 added + 0 unchanged + 6 replaced + 0 left out" in told
    assert "6 moved" in told
    assert {row["source"] for row in rows(search).values()} == {str(path) for path in moved.rglob("*.jpg")}


def test_a_file_moved_over_another(sidecar: Sidecar, search: Search, folder: Path, clip: Clip) -> None:
    add(sidecar, folder)
    (folder / "2.jpg").replace(folder / "4.jpg")
    assert "read 5 = 0 added + 4 unchanged + 1 replaced + 0 left out" in add(sidecar, folder)
    assert set(rows(search)) == {"0.jpg", "4.jpg", "sub/1.jpg", "sub/3.jpg", "sub/5.jpg"}
    vectors_are_of_their_files(search, clip)


def test_a_copy_is_a_row_of_its_own(sidecar: Sidecar, search: Search, folder: Path) -> None:
    add(sidecar, folder)
    shutil.copy(folder / "2.jpg", folder / "copy.jpg")
    assert "read 7 = 1 added + 6 unchanged" in add(sidecar, folder)
    assert {"2.jpg", "copy.jpg"} <= set(rows(search))


def test_a_changed_caption_isnt_embedded_again(sidecar: Sidecar, search: Search, folder: Path) -> None:
    add(sidecar, folder)
    before = rows(search)["0.jpg"]
    (folder / "0.txt").write_text("zero")
    (folder / "2.json").write_text('{"year": 2000}')
    told = add(sidecar, folder)
    assert "read 6 = 0 added + 4 unchanged + 2 replaced + 0 left out" in told
    assert "0 moved, 2 with new metadata alone" in told
    after = rows(search)
    assert (after["0.jpg"]["metadata"]["caption"], after["2.jpg"]["metadata"]["year"]) == ("zero", 2000)
    np.testing.assert_array_equal(after["0.jpg"]["vector_image"], before["vector_image"])
    (folder / "0.txt").unlink()
    assert "1 replaced" in add(sidecar, folder)
    assert rows(search)["0.jpg"]["metadata"]["caption"] is None
    (folder / "2.json").write_text("{broken")
    add(sidecar, folder)
    assert rows(search)["2.jpg"]["metadata"]["year"] == 2000  # what can't be read isn't gone


def test_a_table_that_isnt_named_again_takes_nothing_away(
    sidecar: Sidecar, search: Search, folder: Path, tmp_path: Path
) -> None:
    table = tmp_path / "table.csv"
    table.write_text("file_name,caption,year\n0.jpg,given,2000\n2.jpg,two,2002\n")
    add(sidecar, folder, "--metadata", table)
    assert "6 unchanged" in add(sidecar, folder)
    assert "6 unchanged" in add(sidecar, folder, "--metadata", table)
    (folder / "0.txt").write_text("zero")
    (folder / "0.json").write_text('{"stars": 5}')
    assert "1 replaced" in add(sidecar, folder)
    assert rows(search)["0.jpg"]["metadata"] == {"caption": "given", "year": 2000, "stars": 5}
    table.write_text("file_name,year\n2.jpg,2003\n")
    assert "2 replaced" in add(sidecar, folder, "--metadata", table)
    assert rows(search)["2.jpg"]["metadata"] == {"caption": "two", "year": 2003, "stars": None}


def test_a_touched_file_is_unchanged(sidecar: Sidecar, search: Search, folder: Path) -> None:
    add(sidecar, folder)
    os.utime(folder / "2.jpg", (1, 1))
    assert "6 unchanged" in add(sidecar, folder)


def test_two_folders_with_the_same_names(sidecar: Sidecar, search: Search, folder: Path, clip: Clip) -> None:
    other = folder.with_name("2024")
    shutil.copytree(folder, other)
    for n in (0, 2, 4):
        draw(other / f"{n}.jpg", 50 + n)
    add(sidecar, folder)
    told = add(sidecar, other)
    assert "read 6 = 6 added + 0 unchanged + 0 replaced + 0 left out" in told
    assert "6 have their folder's name in their id" in told
    stored = rows(search)
    assert len(stored) == 12
    assert stored["2024/2.jpg"]["source"] == str(other / "2.jpg")
    vectors_are_of_their_files(search, clip)
    for again in (folder, other, folder):
        assert "6 unchanged" in add(sidecar, again)
    shutil.rmtree(folder)
    assert "rows whose files" not in add(sidecar, other, "--prune")  # only what came from below the folder
    assert len(rows(search)) == 12


def test_the_folder_above_finds_the_rows_of_the_one_below(sidecar: Sidecar, search: Search, folder: Path) -> None:
    add(sidecar, folder)
    assert "6 unchanged" in add(sidecar, folder.parent)
    assert set(rows(search)) >= {"0.jpg", "sub/1.jpg"}


def test_prune_of_a_folder_that_is_empty_now(sidecar: Sidecar, search: Search, folder: Path) -> None:
    add(sidecar, folder)
    shutil.rmtree(folder)
    folder.mkdir()
    assert "no pictures in" in add(sidecar, folder, status=1)
    assert len(rows(search)) == 6
    assert "6 rows removed" in add(sidecar, folder, "--prune")
    assert rows(search) == {}


def test_replace_sends_everything(sidecar: Sidecar, search: Search, folder: Path) -> None:
    add(sidecar, folder)
    assert "read 6 = 0 added + 0 unchanged + 6 replaced + 0 left out" in add(sidecar, folder, "--replace")
    assert rows(search)["0.jpg"]["metadata"]["caption"] == "nought"


def test_a_picture_that_broke_is_named_and_its_old_row_stays(sidecar: Sidecar, search: Search, folder: Path) -> None:
    add(sidecar, folder)
    (folder / "2.jpg").write_bytes(b"broken")
    told = add(sidecar, folder, status=1)
    assert "read 6 = 0 added + 5 unchanged + 0 replaced + 1 left out" in told
    assert "left out 2.jpg: " in told
    assert len(rows(search)) == 6


def test_rows_that_were_added_without_a_state(sidecar: Sidecar, search: Search, folder: Path) -> None:
    """By the SDK, or by a version that kept none: they are sent once more, and keep their columns."""
    search.create("photos")
    given = [
        Row(id="0.jpg", image=folder / "0.jpg", metadata={"stars": 5}),
        Row(id="2.jpg", image=(folder / "2.jpg").read_bytes()),
        Row(id="4.jpg", image=(folder / "4.jpg").read_bytes(), source="2023/4.jpg"),
        Row(id="sub/1.jpg", image=(folder / "sub" / "1.jpg").read_bytes(), source="https://example.com/1.jpg"),
        Row(id="other", text="no file", source="/nowhere/at/all.jpg"),
    ]
    search.add("photos", given)
    told = add(sidecar, folder)
    assert "read 6 = 3 added + 0 unchanged + 3 replaced + 0 left out" in told
    assert "6 unchanged" in add(sidecar, folder)
    stored = rows(search)
    assert set(stored) == {"0.jpg", "2.jpg", "4.jpg", "sub/1.jpg", "2023/sub/1.jpg", "sub/3.jpg", "sub/5.jpg", "other"}
    assert stored["0.jpg"]["metadata"] == {"stars": 5, "caption": "nought"}


def test_an_interrupted_run_goes_on_where_it_stopped(sidecar: Sidecar, search: Search, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for n in range(400):
        draw(folder / f"{n}.jpg", n)
    search.create("photos")
    command = [CLIPSERVE, "search", "add", "--url", sidecar.url, "--collection", "photos", str(folder)]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # tests in a shell's background inherit deafness
    first = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=heard
    )
    while search.stats("photos")["rows"] == 0:
        time.sleep(0.01)
    first.send_signal(signal.SIGINT)
    told, errors = first.communicate(timeout=60)
    assert "Traceback" not in errors
    there = search.stats("photos")["rows"]
    assert there < 400
    told = add(sidecar, folder)
    assert f"read 400 = {400 - there} added + {there} unchanged + 0 replaced + 0 left out" in told
    requests = sent(sidecar)
    assert "400 unchanged" in add(sidecar, folder)
    assert sent(sidecar) == requests


def test_requests_that_are_too_large_are_cut(server: Server, folder: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (900, 900, 3), np.uint8)
    for n in range(3):
        (folder / f"large{n}.png").write_bytes(encoded(picture(500, 500, seed=n)) + bytes(300_000))
    from PIL import Image

    (folder / "too large.png").write_bytes(encoded(Image.fromarray(noise), "PNG"))
    with sidecars.running(tmp_path / "data", server.address, "--body-mb", "1") as sidecar:
        told = add(sidecar, folder, status=1)
    assert "read 10 = 9 added + 0 unchanged + 0 replaced + 1 left out" in told
    assert "left out too large.png: the body has" in told


def test_another_machine_sees_the_state(sidecar: Sidecar, search: Search, folder: Path, tmp_path: Path) -> None:
    add(sidecar, folder)
    command = [CLIPSERVE, "search", "add", "--url", sidecar.url, "--collection", "photos", "2023"]
    environment = {**os.environ, "HOME": str(tmp_path / "home")}
    ended = subprocess.run(command, capture_output=True, text=True, cwd=folder.parent, env=environment, timeout=60)
    assert "6 unchanged" in ended.stdout
    assert not list(folder.rglob(".*"))


def test_the_state_isnt_shown_with_hits_or_as_a_column(sidecar: Sidecar, search: Search, folder: Path) -> None:
    add(sidecar, folder)
    (hit,) = search.query("photos", "a cat", k=1)
    assert set(hit.metadata) == {"caption"}
    assert search.stats("photos")["columns"] == {"caption": "string"}
    (row,) = search.get("photos", ["0.jpg"])
    assert json.loads(row["source_state"])["size"] == (folder / "0.jpg").stat().st_size


def test_two_runs_at_once(sidecar: Sidecar, search: Search, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for n in range(150):
        draw(folder / f"{n}.jpg", n)
    search.create("photos")
    command = [CLIPSERVE, "search", "add", "--url", sidecar.url, "--collection", "photos", str(folder)]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    told = [run.communicate(timeout=120)[0] for run in runs]
    counts = [
        tuple(map(int, re.findall(r"(\d+) (?:added|unchanged|replaced|left)", output.splitlines()[-1]))) for output in told
    ]
    assert [run.returncode for run in runs] == [0, 0]
    assert [sum(count) for count in counts] == [150, 150]
    assert sum(count[0] for count in counts) == 150
    assert len(rows(search)) == 150


def test_a_run_goes_on_after_the_sidecar_was_started_again(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for n in range(400):
        draw(folder / f"{n}.jpg", n)
    with sidecars.running(tmp_path / "data", server.address) as sidecar, sidecar.client() as search:
        search.create("photos")
        command = [CLIPSERVE, "search", "add", "--url", sidecar.url, "--collection", "photos", str(folder)]
        first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while search.stats("photos")["rows"] == 0:
            time.sleep(0.01)
        sidecar.process.kill()
        told, errors = first.communicate(timeout=60)
    assert first.returncode == 1
    assert "stopped; what is in stays, run it again for the rest" in told
    assert "can't be reached" in errors
    assert "Traceback" not in errors
    with sidecars.running(tmp_path / "data", server.address) as sidecar, sidecar.client() as search:
        there = search.stats("photos")["rows"]
        assert 0 < there < 400
        assert f"read 400 = {400 - there} added + {there} unchanged + 0 replaced + 0 left out" in add(sidecar, folder)


def captions(search: Search) -> dict[str, str | None]:
    return {row["source"].partition("/photos/")[2]: row["metadata"].get("caption") for row in rows(search).values()}


def test_tables_of_folders_above_and_below_take_nothing_away(sidecar: Sidecar, search: Search, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    for year in ("2023", "2024"):
        (folder / year).mkdir(parents=True)
        draw(folder / year / "a.jpg", int(year))
        (folder / year / "captions.json").write_text(json.dumps([{"file": "a.jpg", "caption": year}]))
    draw(folder / "2024" / "b.jpg", 1)
    add(sidecar, folder / "2023")
    add(sidecar, folder / "2024")
    wanted = {"2023/a.jpg": "2023", "2024/a.jpg": "2024", "2024/b.jpg": None}
    assert captions(search) == wanted
    assert "read 3 = 0 added + 3 unchanged + 0 replaced + 0 left out" in add(sidecar, folder)
    (folder / "captions.json").write_text(json.dumps([{"file": "2024/b.jpg", "caption": "b"}]))
    add(sidecar, folder)
    add(sidecar, folder / "2024")  # where nothing says what the table above does
    assert captions(search) == wanted | {"2024/b.jpg": "b"}
    (folder / "captions.json").unlink()
    add(sidecar, folder)
    assert captions(search) == wanted


def test_a_folder_that_was_moved_and_linked_is_moved(
    sidecar: Sidecar, search: Search, clip: Clip, folder: Path, tmp_path: Path
) -> None:
    add(sidecar, folder)
    shutil.move(folder / "sub", tmp_path / "disk")
    (folder / "sub").symlink_to(tmp_path / "disk")
    (folder / "2.jpg").rename(folder / "two.jpg")
    (folder / "2.jpg").symlink_to("two.jpg")
    told = add(sidecar, folder, "--prune")
    assert "read 6 = 0 added + 2 unchanged + 4 replaced + 0 left out" in told
    assert "4 moved" in told
    assert sorted(rows(search)) == ["0.jpg", "4.jpg", "sub/1.jpg", "sub/3.jpg", "sub/5.jpg", "two.jpg"]
    vectors_are_of_their_files(search, clip)
    assert "6 unchanged" in add(sidecar, folder, "--prune")


def test_a_folder_in_a_files_place_isnt_the_file(sidecar: Sidecar, search: Search, folder: Path) -> None:
    add(sidecar, folder)
    (folder / "4.jpg").unlink()
    (folder / "4.jpg").mkdir()
    assert "1 row whose file is gone" in add(sidecar, folder, status=1)
    add(sidecar, folder, "--prune", status=1)
    assert "4.jpg" not in rows(search)


class TestPlan:
    """The plan alone."""

    DISK = Disk("/p", lambda number: "", lambda path, is_itself: True)

    def wanted(self, name: str, mtime_ns: int = 1) -> Wanted:
        return Wanted(name, f"/p/{name}", 10, mtime_ns, "")

    def known(self, name: str, digest: str = "x", mtime_ns: int = 1) -> Known:
        return Known(name, f"/p/{name}", State(digest, 10, mtime_ns, "", (), "/p"))

    def test_a_file_with_the_same_size_and_time_isnt_read(self) -> None:
        disk = Disk("/p", lambda number: pytest.fail("it was read"), lambda path, is_itself: True)
        steps = plan([self.wanted("a")], [self.known("a")], disk).steps
        assert [step.kind for step in steps] == ["unchanged"]

    def test_of_several_lost_rows_the_one_of_the_same_name_is_taken(self) -> None:
        disk = Disk("/p", lambda number: "x", lambda path, is_itself: True)
        planned = plan([self.wanted("q/b"), self.wanted("q/z")], [self.known("a"), self.known("b"), self.known("c")], disk)
        assert [(step.kind, step.row and step.row.id) for step in planned.steps] == [("moved", "b"), ("moved", "a")]
        assert [row.id for row in planned.gone] == ["c"]

    def test_a_row_whose_file_is_there_isnt_moved(self) -> None:
        disk = Disk("/p", lambda number: "x", lambda path, is_itself: False)
        planned = plan([self.wanted("q/b")], [self.known("b")], disk)
        assert [step.kind for step in planned.steps] == ["new"]
        assert planned.gone == []

    def test_ids_grow_until_they_are_free(self) -> None:
        taken = [Known(id, "/elsewhere", None) for id in ("a", "q/a", "p/q/a", "p/q/a (2)")]
        planned = plan([self.wanted("a")], taken, Disk("/p/q", lambda number: "", lambda path, is_itself: False))
        assert [step.id for step in planned.steps] == ["a (2)"]
        assert planned.renamed == {"a (2)": "a"}

    @pytest.mark.parametrize(
        "text", [None, "", "null", "[]", "{}", '{"size": "x"}', '{"digest": 1', "1e999", '{"size": 1e999}']
    )
    def test_a_state_that_cant_be_read_is_none(self, text: str | None) -> None:
        assert State.from_text(text) is None

    def test_a_state_reads_back(self) -> None:
        state = State("x", 2**40, 2**60, "y", ("a", "b"), "/p")
        assert State.from_text(state.to_text()) == state
