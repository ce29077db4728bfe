"""Files of a folder: what is a picture, what isn't, and what looks like one."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from clip_client.errors import InvalidInput
from clip_client.picture_files import scan
from clip_client.preprocess import FORMATS, Limits
from clip_client.regular_files import read_regular
from pictures import encoded, picture

JPEG = encoded(picture(20, 20))


def names(folder: Path) -> list[str]:
    return [file.name for file in scan(folder).pictures]


@pytest.mark.parametrize(
    "name",
    [
        "a.jpg",
        "a.JPG",
        "a.jfif",
        "a.jpe",
        "a.Jpeg",
        "a.avif",
        "a.TIF",
        "a.pjpeg",
        "a.jif",
        "a.jpg ",
        ".jpg.png",
        "a b.webp",
        "-.gif",
    ],
)
def test_endings(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(JPEG)
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("format", [format for format in FORMATS if format != "BMP"])
def test_a_picture_without_an_ending(format: str, tmp_path: Path) -> None:
    (tmp_path / "IMG_0001").write_bytes(encoded(picture(20, 20), format))
    (tmp_path / "README").write_text("BMW and other words")
    listing = scan(tmp_path)
    assert [file.name for file in listing.pictures] == ["IMG_0001"]
    assert listing.others == ["README"]


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", "a.txt", "a.jpg.bak", "a.mp4", ".hidden"])
def test_other_files(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(JPEG)
    listing = scan(tmp_path)
    assert (listing.pictures, listing.others) == ([], [name])


def test_what_macos_writes_beside_a_picture(tmp_path: Path) -> None:
    (tmp_path / "._a.jpg").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    (tmp_path / "._b.jpg").write_bytes(JPEG)
    listing = scan(tmp_path)
    assert ([file.name for file in listing.pictures], listing.others) == (["._b.jpg"], ["._a.jpg"])


@pytest.mark.parametrize("name", ["a.jxl", "a.JXL", "a.avci", "a.svg", "a.jpx", "a.jxr", "a.xpm"])
def test_pictures_of_other_kinds_are_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"x")
    assert "isn't taken: convert it" in scan(tmp_path).left_out[name]


def test_what_isnt_a_file_is_named_and_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "folder.jpg" / "inside.jpg").write_bytes(JPEG)
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    (tmp_path / "lost.jpg").symlink_to("nowhere")
    (tmp_path / "lost").symlink_to("nowhere")
    (tmp_path / ".#lock.md").symlink_to("user@host.1234")
    (tmp_path / "self.jpg").symlink_to("self.jpg")
    (tmp_path / "empty.jpg").write_bytes(b"")
    with (tmp_path / "huge.jpg").open("wb") as huge:
        huge.truncate(10 * 2**30)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(tmp_path / "socket.jpg"))
        listing = scan(tmp_path)
    assert [file.name for file in listing.pictures] == ["folder.jpg/inside.jpg"]
    reasons = {name: reason.partition(":")[0].partition(";")[0] for name, reason in listing.left_out.items()}
    assert reasons == {
        "pipe.jpg": "a pipe, not a file",
        "folder.jpg": "a folder, not a picture",
        "zero.jpg": "a device, not a file",
        "lost.jpg": "a link to nothing",
        "lost": "a link to nothing",
        "self.jpg": "a link that can't be followed (Too many levels of symbolic links)",
        "empty.jpg": "the file is empty (0 bytes)",
        "huge.jpg": "has 10,737,418,240 bytes, at most 33,554,432 are taken",
        "socket.jpg": "a socket, not a file",
    }
    assert sorted(listing.others) == [".#lock.md", "pipe"]


def test_links_are_followed_and_each_file_is_taken_once(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    (inside / "z").mkdir(parents=True)
    (outside / "deep").mkdir(parents=True)
    for path in (inside / "z" / "own.jpg", outside / "deep" / "far.jpg", tmp_path / "single.jpg"):
        path.write_bytes(JPEG)
    os.link(inside / "z" / "own.jpg", inside / "z" / "hard.jpg")
    (inside / "album").symlink_to(outside)
    (inside / "album again").symlink_to(outside)
    (inside / "a.jpg").symlink_to("z/own.jpg")
    (inside / "single.jpg").symlink_to(tmp_path / "single.jpg")
    (inside / "up").symlink_to("..")
    (outside / "loop").symlink_to(outside)
    (outside / "back").symlink_to(inside)
    listing = scan(inside)
    assert [file.name for file in listing.pictures] == ["album/deep/far.jpg", "single.jpg", "z/hard.jpg", "z/own.jpg"]
    assert listing.left_out == {}
    assert {"album again", "a.jpg"} <= set(listing.repeated)
    assert {file.path for file in listing.pictures} >= {str((tmp_path / "single.jpg").resolve())}


def test_names_of_any_bytes(tmp_path: Path) -> None:
    raw = [b"caf\xe9.jpg", b"new\nline.jpg", "‮bidi.jpg".encode(), b"\xff\xfe.jpg", "e\u0301.jpg".encode(), "é.jpg".encode()]
    for name in raw:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(JPEG)
    assert {os.fsencode(name) for name in names(tmp_path)} == set(raw)


def test_a_folder_deeper_than_a_path_can_be_is_named(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(25):
        os.mkdir("d" * 200, dir_fd=here)
        inside = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inside
    os.close(here)
    (tmp_path / "a.jpg").write_bytes(JPEG)
    listing = scan(tmp_path)
    assert [file.name for file in listing.pictures] == ["a.jpg"]
    assert "File name too long" in str(listing.left_out)


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's right to read everything."""
    before = os.geteuid()
    os.seteuid(before or 65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_what_nobody_may_read_is_named() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "locked").mkdir()
        for path in ("open.jpg", "closed.jpg", "no ending", "locked/inside.jpg"):
            (folder / path).write_bytes(JPEG)
        for path, mode in (("closed.jpg", 0), ("no ending", 0), ("locked", 0), ("", 0o755)):
            (folder / path).chmod(mode)
        with as_nobody():
            listing = scan(folder)
            with pytest.raises(InvalidInput, match="can't be read \\(Permission denied\\)"):
                read_regular(folder / "closed.jpg", 10_000)
        (folder / "locked").chmod(0o755)
    assert [file.name for file in listing.pictures] == ["closed.jpg", "open.jpg"]
    assert set(listing.left_out) == {"locked/", "no ending"}


def test_a_folder_that_isnt_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no folder"):
        scan(tmp_path / "none")


def test_what_is_read_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"12345")
    assert read_regular(tmp_path / "a.jpg", 5)[0] == b"12345"
    with pytest.raises(InvalidInput, match="has 5 bytes, at most 4"):
        read_regular(tmp_path / "a.jpg", 4)
    with pytest.raises(InvalidInput, match="a folder, not a file"):
        read_regular(tmp_path, 4)
    assert scan(tmp_path, Limits(image_bytes=4)).pictures == []
