"""Pictures of `clipserve up`: lists, and what is gone from a watched folder; no server is needed to tell."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from ups import wait_for

from clip_client import InvalidInput
from clip_serve.up import listing
from clip_serve.up.events import Events
from clip_serve.up.options import Options
from clip_serve.up.snapshot import gone, identity, taken
from clip_serve.up.sources import opened
from clip_serve.up.stop import Stop
from clip_serve.up.watcher import Sync, Watcher
from clip_serve.up.web_pictures import files_of, shown
from pictures import encoded, picture

CONTENT = encoded(picture(30, 30, seed=1))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four pictures, two of them in a folder below."""
    folder = tmp_path / "photos"
    for name in ("a.jpg", "b.jpg", "sub/c.jpg", "sub/deep/d.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(CONTENT)
    return folder


def below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def staged(file: Path, place: Path) -> set[str]:
    """Bring a list's folder in line with it; return the links."""
    with Stop() as stop:
        assert listing.stage(file, listing.read(file), place, stop) == 0
    return {str(path.relative_to(place)) for path in place.rglob("*") if path.is_symlink()}


def test_a_list_becomes_links_and_nothing_else_is_touched(folder: Path, tmp_path: Path) -> None:
    before = below(folder)
    (folder / "b.txt").write_text("a caption")
    (tmp_path / "other.jpg").write_bytes(CONTENT)
    file = folder / "list.txt"
    file.write_text(f"b.jpg\nsub/deep/d.jpg\nsub\n\n  a.jpg \n./a.jpg\n../other.jpg\nfile://{folder}/missing%20one.jpg\n")
    outside = str(tmp_path / "other.jpg").lstrip("/")
    assert staged(file, tmp_path / "place") == {"a.jpg", "b.jpg", "b.txt", "sub", outside, "missing one.jpg"}
    assert listing.read(file).repeated == 2
    assert (tmp_path / "place" / "sub" / "c.jpg").read_bytes() == CONTENT
    assert below(folder) == before | {"b.txt", "list.txt"}
    file.write_text("sub/c.jpg\n")  # a folder takes the place of a link to one
    assert staged(file, tmp_path / "place") == {"sub/c.jpg"}
    file.write_text("sub\n")
    assert staged(file, tmp_path / "place") == {"sub"}
    assert below(folder) == before | {"b.txt", "list.txt"}


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfa.jpg\r\nsub/c.jpg\r\n",
        "a.jpg\nsub/c.jpg".encode("utf-16"),
        b"a.jpg\0sub/c.jpg\0",
        b"\n\na.jpg\n \nsub/c.jpg\n\n",
        b"# pictures, as clipserve embed passes over\na.jpg\nsub/c.jpg\n",
    ],
    ids=["windows", "utf-16", "zeros", "blank lines", "comments"],
)
def test_lists_of_other_programs_are_read(content: bytes, folder: Path) -> None:
    (folder / "list").write_bytes(content)
    assert listing.read(folder / "list").paths == [str(folder / "a.jpg"), str(folder / "sub" / "c.jpg")]


def test_a_list_may_hold_any_name_behind_a_mark_and_is_named_where_it_cannot_be_read(folder: Path) -> None:
    for name in (b"caf\xe9.jpg", b"#1.jpg"):
        (folder / os.fsdecode(name)).write_bytes(CONTENT)
    (folder / "list").write_bytes(b"\xef\xbb\xbfcaf\xe9.jpg\r\n#1.jpg\r\n")
    assert listing.read(folder / "list").paths == [str(folder / "caf\udce9.jpg"), str(folder / "#1.jpg")]
    (folder / "list").write_bytes(b"\xff\xfea")
    with pytest.raises(InvalidInput, match=r"list isn't UTF-16 \(truncated data\): save it as UTF-8"):
        listing.read(folder / "list")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("empty", "no pictures in"),
        ("table.json", "as --metadata"),
        ("none.txt", "lists no pictures"),
        ("one.jpg", "pass its folder"),
    ],
)
def test_what_holds_no_pictures_is_refused_with_what_to_do(name: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "table.json").write_text("file_name\n")
    (tmp_path / "none.txt").write_text("\n")
    (tmp_path / "one.jpg").write_bytes(CONTENT)
    with pytest.raises(InvalidInput, match=reason):
        opened(Options(pictures=tmp_path / name))
    assert opened(Options(pictures=tmp_path / "empty", watch=True)).folder == tmp_path / "empty"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"data": "s3://bucket"}, "takes an object store"),
        ({"model": ""}, "--model is empty"),
        ({"metadata": "none.csv", "pictures": "."}, "there is no such file"),
        ({"watch": True}, "needs a folder or list"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options: dict, reason: str) -> None:
    paths = {name: Path(value) if name in ("data", "metadata", "pictures") else value for name, value in options.items()}
    with pytest.raises(InvalidInput, match=reason):
        Options(**paths)


def test_names_in_a_list_need_not_be_utf_8(folder: Path, tmp_path: Path) -> None:
    name = b"caf\xe9.jpg"
    (folder / os.fsdecode(name)).write_bytes(CONTENT)
    (folder / "list").write_bytes(name + b"\n")
    assert staged(folder / "list", tmp_path / "place") == {os.fsdecode(name)}


def test_a_pipe_is_no_list_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidInput, match="a pipe"):
        listing.read(tmp_path / "pipe")


@pytest.mark.parametrize(
    "url",
    [
        "http://x/../../etc/passwd",
        "http://../..",
        "https://[bad",
        "http://",
        "http://x/%2e%2e%2f%2e%2e%2fa.jpg",
        f"http://x/{'long' * 200}.jpg",
        "http://x/a.jpg?name=../b#/../c",
    ],
)
def test_no_url_leads_out_of_its_folder(url: str) -> None:
    for name in files_of(url):
        assert ".." not in Path(name).parts
        assert len(Path(name).parts) == 2
        assert max(map(len, Path(name).parts)) < 120


def test_a_password_in_a_url_is_not_shown() -> None:
    assert shown("http://me:secret@host/a@b.jpg") == "http://host/a@b.jpg"
    assert "secret" not in files_of("http://me:secret@host/a.jpg")[0]


def test_two_urls_have_two_files_and_one_has_the_same_each_time() -> None:
    urls = ["http://x/a.jpg", "http://y/a.jpg", "http://x/a.jpg?2", "http://x/b/a.jpg", "http://x/a.php?id=1"]
    assert len({name for url in urls for name in files_of(url)}) == 2 * len(urls)
    assert files_of(urls[0]) == files_of(urls[0])


def vanish(path: Path) -> None:
    """Put an empty folder in the place of another, as the end of a mount does."""
    path.rename(path.with_name(f"{path.name} elsewhere"))
    path.mkdir()


def test_a_deleted_picture_is_gone_and_one_on_a_disk_that_went_is_not(folder: Path) -> None:
    before = taken(folder)
    (folder / "a.jpg").unlink()
    vanish(folder / "sub" / "deep")
    now = taken(folder)
    assert gone(before, now, folder) == {"a.jpg": str(folder / "a.jpg")}


def test_what_was_in_a_deleted_folder_is_gone(folder: Path) -> None:
    before = taken(folder)
    (folder / "sub" / "deep" / "d.jpg").unlink()
    (folder / "sub" / "deep").rmdir()
    (folder / "sub" / "c.jpg").unlink()
    (folder / "sub").rmdir()
    assert set(gone(before, taken(folder), folder)) == {"sub/c.jpg", "sub/deep/d.jpg"}


def test_a_picture_that_has_another_name_too_is_not_gone(folder: Path) -> None:
    (folder.parent / "far.jpg").write_bytes(CONTENT)
    for name in ("link.jpg", "other.jpg"):
        (folder / name).symlink_to(folder.parent / "far.jpg")
    before = taken(folder)
    (folder / "link.jpg").unlink()
    assert {"link.jpg", "other.jpg"} & before.pictures.keys() == {"link.jpg"}
    assert gone(before, taken(folder), folder) == {}


def test_a_link_whose_target_went_keeps_its_row_and_a_link_that_went_does_not(folder: Path) -> None:
    (folder.parent / "far.jpg").write_bytes(CONTENT)
    (folder / "link.jpg").symlink_to(folder.parent / "far.jpg")
    before = taken(folder)
    (folder.parent / "far.jpg").unlink()
    assert gone(before, taken(folder), folder) == {}
    (folder / "link.jpg").unlink()
    assert set(gone(before, taken(folder), folder)) == {"link.jpg"}


def test_a_folder_that_is_not_there_has_no_snapshot(folder: Path) -> None:
    assert taken(folder / "nowhere") is None
    assert taken(folder / "a.jpg") is None


def looked(watcher: Watcher) -> Sync | None:
    """Look until two looks agree."""
    return watcher.look() or watcher.look()


def test_a_watcher_waits_for_two_looks_that_agree(folder: Path) -> None:
    watcher = Watcher(folder, taken(folder), print)
    assert looked(watcher) is None
    (folder / "new.jpg").write_bytes(CONTENT)
    assert watcher.look() is None
    assert watcher.is_waiting
    sync = watcher.look()
    assert (sync.gone, sync.is_removal, sync.unfinished) == ({}, False, set())
    watcher.synced(sync)
    assert not watcher.is_waiting
    (folder / "new.jpg").unlink()
    sync = looked(watcher)
    assert (set(sync.gone), sync.is_removal) == ({"new.jpg"}, True)


def test_a_watcher_forgets_what_was_missing_when_its_folder_came_back(folder: Path) -> None:
    told: list[str] = []
    watcher = Watcher(folder, taken(folder), told.append)
    away = folder.rename(folder.with_name("away"))
    assert looked(watcher) is None
    assert watcher.root is None
    (away / "a.jpg").unlink()
    away.rename(folder)
    assert watcher.has_moved()
    sync = looked(watcher)
    assert sync.gone == {}
    assert [line.removeprefix(str(folder)) for line in told] == [
        " isn't there, or can't be read: its rows stay, and it is looked for again",
        " is there again; 1 picture isn't, and its row stays",
    ]
    watcher.synced(sync)
    (folder / "b.jpg").unlink()
    assert set(looked(watcher).gone) == {"b.jpg"}


def test_another_folder_in_the_place_takes_no_row(folder: Path) -> None:
    watcher = Watcher(folder, taken(folder), print)
    vanish(folder)
    (folder / "x.jpg").write_bytes(CONTENT)
    assert looked(watcher).gone == {}


def is_told(events: Events, path: Path) -> bool:
    """Write a file; the listener may not have begun yet."""
    path.write_bytes(CONTENT)
    time.sleep(0.5)
    return events.have_come()


def test_changes_are_told_until_a_name_comes_that_the_library_cannot_read(tmp_path: Path) -> None:
    """From then on the folder is looked at more often."""
    events = Events(tmp_path)
    events.listen(identity(tmp_path))
    for name, works in ((b"a.jpg", True), (b"\xe9.jpg", False)):
        wait_for(lambda name=name: is_told(events, tmp_path / os.fsdecode(name)), 10)
        wait_for(lambda works=works: events.work == works, 10)
    events.close()


def test_a_folder_whose_name_is_not_utf_8_is_looked_at_more_often(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    events = Events(folder)
    events.listen(identity(folder))
    wait_for(lambda: not events.work, 10)
    events.close()
