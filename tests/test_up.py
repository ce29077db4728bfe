"""`clipserve up`: real parts under one command; whatever happens, nothing stays behind and no row is lost."""

from __future__ import annotations

import dataclasses
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from servers import free_ports, http_files
from ups import STARTED, Up

from clip_client import ModelSpec
from clip_client.search import Search
from clip_serve.up import free_ports as chosen_ports
from clip_serve.up import published
from pictures import encoded, picture

BOOKS = re.compile(r"read (\d+) = (\d+) added \+ (\d+) unchanged \+ (\d+) replaced \+ (\d+) left out")


def draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(picture(40 + seed % 30, 50, seed=seed)))


def ids(search: Search, collection: str = "default") -> set[str]:
    return {row["id"] for row in search.rows(collection)}


def books(text: str) -> list[tuple[int, ...]]:
    """Counts of every closing line; each balances."""
    lines = [tuple(map(int, line)) for line in BOOKS.findall(text)]
    assert all(read == sum(parts) for read, *parts in lines)
    return lines


@pytest.fixture(scope="module")
def run(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A run that watches a folder with odd names and bad files."""
    folder = tmp_path_factory.mktemp("up") / "my photos"
    for n, name in enumerate(("a.jpg", "sub/b c.jpg", "sub/deep/ünïcode – 猫.jpg", "it's.jpg", "back\\slash.jpg", "stays.jpg")):
        draw(folder / name, n)
    (folder / "a.txt").write_text("the first")
    (folder / "broken.jpg").write_bytes((folder / "a.jpg").read_bytes()[:300])
    (folder / "loop").symlink_to(folder)
    run = Up(folder, "--watch", repository=repository, data=folder.parent / "data", port=free_ports(1)[0])
    run.folder = folder
    run.wait_watching()
    yield run
    if run.process.poll() is None:
        assert run.stop() == 0


@pytest.fixture(autouse=True)
def _nothing_runs_on() -> Iterator[None]:
    """A test that fails leaves no run behind."""
    before = len(STARTED)
    yield
    for left in STARTED[before:]:
        if left.process.poll() is None:
            left.process.terminate()
            left.process.wait(60)


@pytest.fixture
def search(run: Up) -> Iterator[Search]:
    with run.client() as search:
        yield search


def soon(run: Up, condition: Callable[[], object]) -> float:
    """Wait until a condition holds; return the seconds that it took."""
    start = time.monotonic()
    run.wait_for(condition, 30)
    return time.monotonic() - start


def test_it_adds_what_a_folder_holds_and_names_the_rest(run: Up, search: Search) -> None:
    assert books(run.out)[0] == (7, 6, 0, 0, 1)
    assert "left out broken.jpg: " in run.err
    assert ids(search) >= {"a.jpg", "sub/b c.jpg", "sub/deep/ünïcode – 猫.jpg", "it's.jpg", "back\\slash.jpg"}
    assert search.query("default", "a picture", k=3)
    assert f"watching {run.folder}; Ctrl-C ends it" in run.out


def test_the_models_notice_comes_with_the_flag_that_changes_it(spec: ModelSpec, capsys: pytest.CaptureFixture[str]) -> None:
    published.tell(dataclasses.replace(spec, notice="Made for drawings."))
    published.tell(dataclasses.replace(spec, notice=""))
    told = f"{spec.checkpoint}: Made for drawings. Another model: --model openai/clip-vit-base-patch32\n"
    assert capsys.readouterr().out == told


def test_each_server_gets_the_next_port_that_is_free() -> None:
    (taken,) = free_ports(1)
    with socket.create_server(("127.0.0.1", taken)):
        first, second = chosen_ports.choose([taken, taken])
    assert taken < first < second


def test_a_picture_that_comes_is_found_and_one_that_goes_is_not(run: Up, search: Search) -> None:
    draw(run.folder / "new.jpg", 50)
    soon(run, lambda: "new.jpg" in ids(search))
    assert search.get("default", ["new.jpg"])[0]["source"] == str(run.folder / "new.jpg")
    soon(run, lambda: re.search(r"^\d\d:\d\d:\d\d  read 8 = 1 added .* 1 left out: new\.jpg$", run.out, re.M))
    odd = {"it's.jpg", "back\\slash.jpg", "sub/deep/ünïcode – 猫.jpg"}
    assert odd < ids(search)
    for name in ("new.jpg", *odd):
        (run.folder / name).unlink()
    soon(run, lambda: not ids(search) & {"new.jpg", *odd})
    assert "stays.jpg" in ids(search)
    soon(run, lambda: "4 removed: back\\slash.jpg, it's.jpg, new.jpg, 1 more" in run.out)
    assert run.err.count("left out broken.jpg: ") == 1


@pytest.mark.slow
def test_it_takes_less_than_five_seconds(run: Up, search: Search) -> None:
    """The best of three, since a test may run on a busy machine."""
    came, went = list[float](), list[float]()
    for n in range(3):
        draw(run.folder / "timed.jpg", 200 + n)
        came.append(soon(run, lambda: "timed.jpg" in ids(search)))
        (run.folder / "timed.jpg").unlink()
        went.append(soon(run, lambda: "timed.jpg" not in ids(search)))
    assert min(came) < 5
    assert min(went) < 5


@pytest.mark.slow
def test_a_changed_picture_is_embedded_again_and_a_moved_one_moves(run: Up, search: Search) -> None:
    before = search.get("default", ["sub/b c.jpg"], vectors=True)[0]
    draw(run.folder / "sub" / "b c.jpg", 60)
    soon(run, lambda: any(row["row"] != before["row"] for row in search.get("default", ["sub/b c.jpg"])))
    after = search.get("default", ["sub/b c.jpg"], vectors=True)[0]
    assert (after["vector_image"] != before["vector_image"]).any()
    (run.folder / "sub" / "b c.jpg").rename(run.folder / "sub" / "moved.jpg")
    soon(run, lambda: {"sub/b c.jpg", "sub/moved.jpg"} & ids(search) == {"sub/moved.jpg"})


@pytest.mark.slow
def test_a_caption_that_comes_later_is_taken(run: Up, search: Search) -> None:
    (run.folder / "stays.txt").write_text("it stays")
    soon(run, lambda: search.get("default", ["stays.jpg"])[0]["metadata"].get("caption") == "it stays")


@pytest.mark.slow
def test_a_file_that_is_still_being_written_is_taken_when_it_is_whole(run: Up, search: Search) -> None:
    content = encoded(picture(300, 300, seed=70))
    with open(run.folder / "slow.jpg", "wb") as file:
        for part in range(4):
            file.write(content[part * len(content) // 4 : (part + 1) * len(content) // 4])
            file.flush()
            time.sleep(0.7)
            assert "slow.jpg" not in ids(search)
    soon(run, lambda: "slow.jpg" in ids(search))
    assert "left out slow.jpg" not in run.err


def test_a_file_that_is_being_written_keeps_no_other_waiting(run: Up, search: Search) -> None:
    content = encoded(picture(300, 300, seed=70))
    with open(run.folder / "slow.jpg", "wb") as file:
        file.write(content[:1000])
        file.flush()
        draw(run.folder / "quick.jpg", 71)
        soon(run, lambda: "quick.jpg" in ids(search))
        file.write(content[1000:])
    soon(run, lambda: "slow.jpg" in ids(search))
    assert "left out slow.jpg" not in run.err


def test_a_folder_that_vanishes_takes_no_row_with_it(run: Up, search: Search) -> None:
    before = ids(search)
    away = run.folder.rename(run.folder.with_name("away"))
    soon(run, lambda: f"{run.folder} isn't there" in run.out)
    run.folder.mkdir()  # as a disk that is unmounted
    soon(run, lambda: f"{run.folder} is there again" in run.out)
    time.sleep(2)
    assert ids(search) == before
    run.folder.rmdir()
    away.rename(run.folder)
    soon(run, lambda: run.out.count(" is there again") == 2)
    draw(run.folder / "after.jpg", 80)
    soon(run, lambda: ids(search) == before | {"after.jpg"})
    (run.folder / "after.jpg").unlink()
    soon(run, lambda: ids(search) == before)


@pytest.mark.slow
def test_a_folder_below_that_is_emptied_by_another_in_its_place_keeps_its_rows(run: Up, search: Search) -> None:
    before = ids(search)
    away = (run.folder / "sub").rename(run.folder.with_name("sub-away"))
    (run.folder / "sub").mkdir()
    draw(run.folder / "mark.jpg", 81)
    soon(run, lambda: ids(search) == before | {"mark.jpg"})
    (run.folder / "sub").rmdir()
    away.rename(run.folder / "sub")
    (run.folder / "mark.jpg").unlink()
    soon(run, lambda: ids(search) == before)


def test_a_second_run_gives_its_folder_to_the_first(run: Up, search: Search, repository: Path, tmp_path: Path) -> None:
    draw(tmp_path / "second" / "z.jpg", 90)
    second = Up(tmp_path / "second", repository=repository, data=run.data, port=free_ports(1)[0])
    assert second.ended() == 0
    assert f"process {run.process.pid} has {run.data}, with tiny at {run.url}" in second.out
    assert "z.jpg" in ids(search)
    other = Up("--model", "another/model", repository=repository, data=run.data, port=free_ports(1)[0])
    assert other.ended() == 1
    assert f"process {run.process.pid} has" in other.err
    assert "stop it to serve another/model" in other.err


@pytest.mark.slow
def test_a_part_that_dies_is_named_and_ends_the_run(repository: Path, tmp_path: Path) -> None:
    draw(tmp_path / "photos" / "a.jpg", 1)
    port = free_ports(1)[0]
    with socket.create_server(("127.0.0.1", port)):
        run = Up(tmp_path / "photos", "--watch", repository=repository, data=tmp_path / "data", port=port)
        run.wait_watching()
    assert f"port {port} is in use: the page gets {run.url.rpartition(':')[2]}" in run.out
    next(process for process in run.family() if process.name() == "tritonserver").kill()
    assert run.ended() == 1
    assert re.search(r"^error: Triton ended \(exit status 1\): .*tritonserver", run.err, re.M)


@pytest.mark.long
def test_without_a_terminal_it_ends_once_all_is_added(repository: Path, tmp_path: Path) -> None:
    for n in range(3):
        draw(tmp_path / "photos" / f"{n}.jpg", n)
    (tmp_path / "photos" / "list.txt").write_text("0.jpg\n\n./0.jpg\nnot there.jpg\r\n")
    run = Up(tmp_path / "photos" / "list.txt", repository=repository, data=tmp_path / "data", port=free_ports(1)[0])
    assert run.ended() == 1
    assert "3 lines = 2 to be added + 1 repeated + 0 left out" in run.out
    assert books(run.out) == [(2, 1, 0, 0, 1)], run.err
    assert "left out not there.jpg: a link to nothing" in run.err


MOMENTS = [("", 0), ("", 1), ("", 3), ("Triton serves", 0), ("Triton serves", 1), ("the page:", 0), ("the page:", 0.7)]
MOMENTS += [("the page:", 1.5), ("watching", 0), ("watching", 0.5)]
"""Words that a run has printed, and seconds after that: all stages of a run."""


def interrupted(repository: Path, folder: Path, moment: tuple[str, float], number: signal.Signals) -> None:
    for n in range(40):
        draw(folder / "photos" / f"{n}.jpg", n)
    port = free_ports(1)[0]
    run = Up(folder / "photos", "--watch", repository=repository, data=folder / "data", port=port)
    run.wait_for(lambda: moment[0] in run.out and len(run.family()) > 1)
    deadline = time.monotonic() + moment[1]
    run.wait_for(lambda: time.monotonic() > deadline)
    status = run.stop(number)
    assert status == (0 if "watching" in run.out else 130)
    assert chosen_ports.is_free(port)
    assert not (folder / "data" / ".clipserve-up" / "owner.json").exists()
    assert not list(Path("/dev/shm").glob(f"clipserve-{run.process.pid}-*"))


def whole(repository: Path, folder: Path) -> None:
    """Each row is whole, and a run after that adds the rest."""
    run = Up(folder / "photos", "--watch", repository=repository, data=folder / "data", port=free_ports(1)[0])
    run.wait_watching()
    with run.client() as search:
        rows = {row["id"]: row for row in search.rows("default", vectors=True)}
        assert rows.keys() == {f"{n}.jpg" for n in range(40)}
        assert all(row["vector_image"].any() and row["source_state"] for row in rows.values())
    assert run.stop(signal.SIGTERM) == 0


@pytest.mark.parametrize(
    ("moment", "number"),
    [(("", 1), signal.SIGTERM), pytest.param(("the page:", 0.7), signal.SIGINT, marks=pytest.mark.slow)],
)
def test_a_signal_leaves_nothing(moment: tuple[str, float], number: signal.Signals, repository: Path, tmp_path: Path) -> None:
    interrupted(repository, tmp_path, moment, number)


@pytest.mark.slow
def test_signals_at_any_moment_leave_no_process_no_port_and_no_half_row(repository: Path, tmp_path: Path) -> None:
    for n, moment in enumerate(MOMENTS):
        interrupted(repository, tmp_path, moment, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)[n % 3])
    whole(repository, tmp_path)


@pytest.mark.slow
def test_a_killed_run_takes_its_parts_along(repository: Path, tmp_path: Path) -> None:
    draw(tmp_path / "photos" / "a.jpg", 1)
    run = Up(tmp_path / "photos", "--watch", repository=repository, data=tmp_path / "data", port=free_ports(1)[0])
    run.wait_watching()
    family = run.family()
    run.process.kill()
    _, alive = psutil.wait_procs(family, timeout=15)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
    again = Up(repository=repository, data=tmp_path / "data", port=free_ports(1)[0])
    again.wait_for(lambda: "search at" in again.out)
    assert again.stop() == 0


@pytest.mark.slow
def test_a_list_with_pictures_from_the_web_is_watched(repository: Path, tmp_path: Path) -> None:
    draw(tmp_path / "a.jpg", 1)
    content = encoded(picture(40, 40, seed=5))
    with http_files({"/b.jpg": content, "/not.jpg": b"<html>"}) as url:
        listed = tmp_path / "list.txt"
        secret = url.replace("http://", "http://user:secret@")
        listed.write_text(f"a.jpg\n{secret}/b.jpg?x=1\n{url}/b.jpg\n{url}/gone.jpg\n{url}/not.jpg\n")
        run = Up(listed, "--watch", repository=repository, data=tmp_path / "data", port=free_ports(1)[0])
        run.wait_watching()
        assert "5 lines = " in run.out
        assert f"left out {url}/gone.jpg: " in run.err
        assert "secret" not in run.out + run.err
        with run.client() as search:
            assert len(ids(search)) == 2
            row = next(row for row in search.rows("default") if row["metadata"].get("url"))
            assert row["metadata"]["url"] == f"{url}/b.jpg"
            listed.write_text(f"{url}/b.jpg\n")
            soon(run, lambda: len(ids(search)) == 1)
        assert (tmp_path / "a.jpg").exists()
        assert run.stop() == 0


def test_a_folder_that_is_not_there_is_said_before_anything_starts(tmp_path: Path) -> None:
    run = Up(tmp_path / "none", repository=tmp_path / "repository", data=tmp_path / "data", port=free_ports(1)[0])
    assert run.ended() == 1
    expected = "a folder of pictures, a list of them, shards, a table or a data set"
    assert run.err == f"error: no folder {tmp_path}/none: expected {expected}\n"
    assert not (tmp_path / "data").exists()


@pytest.mark.slow
def test_an_export_that_fails_is_named_and_what_to_do(tmp_path: Path) -> None:
    draw(tmp_path / "photos" / "a.jpg", 1)
    places = {"repository": tmp_path / "repository", "data": tmp_path / "data", "port": free_ports(1)[0]}
    hub = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hub")}
    run = Up(tmp_path / "photos", "--model", "somebody/model", **places, **hub)
    assert run.ended(180) == 1
    assert "nothing is published in" in run.out
    assert "the hub can't be reached" in run.err
    assert "error: the export failed (exit status 2), so nothing was started: the lines above say why" in run.err
