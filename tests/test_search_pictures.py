"""Pictures in full, and pictures of queries: from where they may come, as what they are, within bounds, and nothing else."""

from __future__ import annotations

import base64
import io
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import sidecars
import urllib3
from camera_pictures import heic
from PIL import Image
from servers import Server, free_ports, http_files
from sidecars import PICTURES, Sidecar, base64_of

from clip_client.errors import InvalidInput, Unavailable
from clip_client.file_names import as_source
from clip_client.search import Row, Search, Term
from clip_search import fetch
from clip_search.budget import Budget
from clip_search.errors import NotFound, StorageFull
from clip_search.kept_queries import MOST_BYTES, KeptQueries
from clip_search.options import FetchOptions, Options
from pictures import bomb, encoded, hostile, jpegs, picture

VECTOR = [1.0, 0, 0, 0]
PATH = "/v1/collections/full"


@pytest.fixture
def folder(sidecar: Sidecar) -> Iterator[Path]:
    """A folder below the one that the sidecar reads."""
    folder = sidecar.data.parent / "pictures" / "full"
    folder.mkdir()
    yield folder
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    folder.rmdir()


class Full:
    """A collection of rows with sources."""

    def __init__(self, sidecar: Sidecar, search: Search) -> None:
        self.sidecar, self.search, self.count = sidecar, search, 0
        search.create("full", dimension=4, fingerprint="")

    def row(self, source: str | Path | None, **metadata: Any) -> int:
        """The number of a new row."""
        self.count += 1
        row = Row(id=str(self.count), vector=VECTOR, source=source and str(source), metadata=metadata)
        assert self.search.add("full", [row]).added == 1
        return int(self.search.get("full", [row.id or ""])[0]["row"])

    def get(self, source: str | Path | None, query: str = "", **metadata: Any) -> urllib3.BaseHTTPResponse:
        url = f"{self.sidecar.url}{PATH}/pictures/{self.row(source, **metadata)}{query}"
        return urllib3.request("GET", url, retries=False, timeout=30)

    def refused(self, source: str | Path | None, **metadata: Any) -> str:
        """The reason why there is no picture in full."""
        answer = self.get(source, **metadata)
        assert (answer.status, answer.headers["Content-Type"]) == (404, "application/json"), answer.data[:200]
        return str(answer.json()["message"])


@pytest.fixture
def full(sidecar: Sidecar, search: Search) -> Full:
    return Full(sidecar, search)


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


# as what they are


@pytest.mark.parametrize(
    ("format", "media_type", "ending"),
    [("JPEG", "image/jpeg", ".jpg"), ("PNG", "image/png", ".png"), ("WEBP", "image/webp", ".webp"),
     ("GIF", "image/gif", ".gif"), ("AVIF", "image/avif", ".avif"), ("MPO", "image/jpeg", ".jpg")],
)  # fmt: skip
def test_what_browsers_show_goes_out_as_it_is(full: Full, folder: Path, format: str, media_type: str, ending: str) -> None:
    options: dict[str, Any] = {"save_all": True, "append_images": [picture(60, 40, 1)]} if format in ("GIF", "MPO") else {}
    content = encoded(picture(60, 40), format, **options)
    answer = full.get(written(folder / f"a b{ending}", content))
    assert (answer.status, answer.data == content, answer.headers["Content-Type"]) == (200, True, media_type)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"] == "sandbox"
    assert answer.headers["Content-Disposition"] == f"inline; filename=\"a b{ending}\"; filename*=UTF-8''a%20b{ending}"
    assert "private" in answer.headers["Cache-Control"]


@pytest.mark.parametrize("format", ["TIFF", "BMP"])
def test_others_go_out_as_jpeg(full: Full, folder: Path, format: str) -> None:
    answer = full.get(written(folder / "scan.tif", encoded(picture(5000, 60), format)))
    image = Image.open(io.BytesIO(answer.data))
    assert (answer.status, answer.headers["Content-Type"], image.format, image.width) == (200, "image/jpeg", "JPEG", 4096)
    assert "scan.jpg" in answer.headers["Content-Disposition"]


def test_a_cameras_file_goes_out_as_jpeg_and_is_kept_as_a_query(full: Full, folder: Path) -> None:
    content = heic(picture(120, 80))
    row = full.row(written(folder / "photo.heic", content))
    answer = urllib3.request("GET", f"{full.sidecar.url}{PATH}/pictures/{row}")
    assert (answer.status, Image.open(io.BytesIO(answer.data)).size) == (200, (120, 80))
    assert "photo.jpg" in answer.headers["Content-Disposition"]
    assert full.sidecar.ask("GET", f"{PATH}/thumbnails/{row}")[0] == 200
    assert full.sidecar.ask("POST", "/v1/queries", {"image": base64_of(content)})[0] == 201


def test_a_picture_beyond_fifty_megapixels_goes_out_smaller(full: Full, folder: Path) -> None:
    content = encoded(Image.new("L", (8200, 6150), 200), "PNG")
    answer = full.get(written(folder / "large.png", content))
    image = Image.open(io.BytesIO(answer.data))
    assert (answer.headers["Content-Type"], image.size) == ("image/jpeg", (4096, 3072))
    assert full.sidecar.rss() < 2**31


def test_two_hundred_megapixels_are_refused_with_the_reason(full: Full, folder: Path) -> None:
    assert re.search("too large|pixels, at most", full.refused(written(folder / "bomb.png", bomb())))
    assert re.search(
        "too large|pixels, at most", full.refused(written(folder / "b.png", encoded(Image.new("1", (20000, 10000)), "PNG")))
    )


@pytest.mark.parametrize("name", ["html", "svg", "text", "postscript", "empty", "header only"])
def test_what_is_no_picture_is_not_sent_whatever_its_name(full: Full, folder: Path, name: str) -> None:
    assert "no picture in full" in full.refused(written(folder / "a.jpg", hostile()[name][0]))


def test_a_name_says_what_the_file_is_and_breaks_no_header(full: Full, folder: Path) -> None:
    for name, expected in {
        "x.html": "x.html.jpg",
        'a"\r\nSet-Cookie: b.jpg': "a___Set-Cookie_ b.jpg",
        "evil.svg": "evil.svg.jpg",
        "猫 \u202egpj.exe": "猫 _gpj.exe.jpg",
        "photo.PNG": "photo.jpg",
        "a.JPEG": "a.JPEG",
        "x" * 200 + ".jpg": "x" * 150 + ".jpg",
    }.items():
        source = as_source(str(written(folder / name, PICTURES[0])))
        answer = full.get(source, "?download=1")
        assert answer.status == 200, (name, answer.data)
        disposition = answer.headers["Content-Disposition"]
        assert disposition.startswith('attachment; filename="')
        assert _unquoted(disposition) == expected
        assert "Set-Cookie" not in answer.headers


def _unquoted(disposition: str) -> str:
    return unquote(disposition.partition("filename*=UTF-8''")[2])


# from where they may come


def test_only_from_below_the_folders_that_were_named(full: Full, folder: Path) -> None:
    secret = full.sidecar.data.parent / "secret.jpg"
    (folder / "link.jpg").symlink_to(secret)
    (folder / "up").symlink_to(secret.parent)
    for source in (
        secret,
        folder / ".." / ".." / "secret.jpg",
        folder / "link.jpg",
        folder / "up" / "secret.jpg",
        "/etc/passwd",
    ):
        assert "outside the folders" in full.refused(source), source
    for source in ("relative.jpg", "a\0b.jpg", "data:image/png;base64,AAAA", "ftp://a/b.jpg", "javascript:alert(1)"):
        assert "no picture in full" in full.refused(source), source
    assert f"this file no longer exists: {folder}/gone.jpg" in full.refused(folder / "gone.jpg")
    assert "isn't a file" in full.refused(folder)
    assert "indexed without a source" in full.refused(None)
    assert full.sidecar.ask("GET", f"{PATH}/pictures/99999")[0] == 404


def test_a_pipe_or_a_device_holds_nobody_up(full: Full, folder: Path) -> None:
    os.mkfifo(folder / "pipe.jpg")
    (folder / "zero.jpg").symlink_to("/dev/zero")
    start = time.monotonic()
    assert "isn't a file" in full.refused(folder / "pipe.jpg")
    assert "outside" in full.refused(folder / "zero.jpg")
    assert time.monotonic() - start < 10


def test_a_link_that_comes_between_check_and_opening_is_refused(folder: Path, tmp_path: Path) -> None:
    """A thread exchanges the file with a link to one outside all the time: each read gives the file, or an error."""
    inside, outside, link = (tmp_path / name for name in ("inside", "outside.jpg", "link.jpg"))
    inside.mkdir()
    outside.write_bytes(b"secret")
    options, path, ended = FetchOptions(folders=(inside,)), inside / "a.jpg", threading.Event()

    def exchange() -> None:
        while not ended.is_set():
            (inside / "new").write_bytes(b"open")
            (inside / "new").replace(path)
            link.unlink(missing_ok=True)
            link.symlink_to(outside)
            link.replace(path)

    thread = threading.Thread(target=exchange)
    thread.start()
    contents: set[bytes] = set()
    refusals: set[str] = set()
    try:
        for _ in range(3_000):
            try:
                contents.add(fetch.read(str(path), options))
            except InvalidInput as problem:
                refusals.add(re.sub(".*(outside the folders|no image file|isn't a file).*", r"\1", str(problem)))
    finally:
        ended.set()
        thread.join()
    assert contents == {b"open"}
    assert "outside the folders" in refusals


def test_a_file_that_is_opened_is_checked_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (tmp_path / "in" / "a.jpg").symlink_to(tmp_path / "secret.jpg")
    monkeypatch.setattr(fetch, "contained", lambda path, options: Path(path))  # as if the link had come just now
    with pytest.raises(InvalidInput, match=r"in/a.jpg is outside the folders that this sidecar reads"):
        fetch.opened(str(tmp_path / "in" / "a.jpg"), FetchOptions(folders=(tmp_path / "in",)))


def test_a_stored_url_goes_through_the_guard_of_all_fetches(full: Full) -> None:
    with http_files(
        {"/a%20b.jpg": PICTURES[0], "/a b.jpg": PICTURES[0], "/page.jpg": b"<!doctype html><script>1</script>"}
    ) as url:
        answer = full.get(f"{url}/a%20b.jpg")
        assert (answer.status, answer.data == PICTURES[0]) == (200, True), answer.data[:200]
        assert 'filename="a b.jpg"' in answer.headers["Content-Disposition"]
        assert "not a picture" in full.refused(f"{url}/page.jpg")
        assert "answers 404" in full.refused(f"{url}/none.jpg")
    assert "isn't a public address" in full.refused("http://10.0.0.1/a.jpg")
    assert "isn't a public address" in full.refused("http://169.254.169.254/latest/meta-data/a.jpg")
    assert "can't be reached" in full.refused(f"http://127.0.0.1:{free_ports(1)[0]}/a.jpg")


def test_the_first_source_that_can_be_had_is_taken_and_columns_may_hold_anything(full: Full, folder: Path) -> None:
    path = written(folder / "a.jpg", PICTURES[0])
    assert full.get("/nowhere/b.jpg", image_path=str(path)).data == PICTURES[0]
    assert full.get(path, image_path="/nowhere/b.jpg").data == PICTURES[0]
    reasons = full.refused("/nowhere/b.jpg", image_path=str(folder / "gone.jpg"))
    assert "gone.jpg" in reasons
    assert "/nowhere/b.jpg is outside" in reasons


def test_a_column_image_path_of_numbers_breaks_neither_picture_nor_thumbnail(full: Full, folder: Path) -> None:
    row = full.row(written(folder / "a.jpg", PICTURES[0]), image_path=5)
    assert full.sidecar.ask("GET", f"{PATH}/pictures/{row}")[1] == PICTURES[0]
    assert full.sidecar.ask("GET", f"{PATH}/thumbnails/{row}")[0] == 200


def test_a_file_whose_name_is_no_text_is_found_by_its_uri(full: Full, folder: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.jpg"))
    source = as_source(str(written(path, PICTURES[0])))
    row = full.row(source)
    assert source.startswith("file://")
    assert full.sidecar.ask("GET", f"{PATH}/pictures/{row}")[1] == PICTURES[0]
    assert full.sidecar.ask("GET", f"{PATH}/thumbnails/{row}")[0] == 200


def test_slow_readers_are_few_and_block_nobody(full: Full, folder: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (2400, 2400, 3), np.uint8))
    row = full.row(written(folder / "noise.png", encoded(noise, "PNG", compress_level=0)))
    small = full.row(written(folder / "small.jpg", PICTURES[0]))
    before = full.sidecar.rss()
    request = f"GET {PATH}/pictures/{row} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    sockets = [socket.create_connection(("127.0.0.1", full.sidecar.port)) for _ in range(70)]
    try:
        for reader in sockets:
            reader.sendall(request)
            reader.settimeout(20)
        answers = [reader.recv(12) for reader in sockets]
        assert answers.count(b"HTTP/1.1 200") == 64
        assert answers.count(b"HTTP/1.1 503") == 6
        assert full.sidecar.rss() - before < 300 * 2**20
        assert full.search.query("full", Term(vector=VECTOR), k=1)
    finally:
        for reader in sockets:
            reader.close()
    deadline = time.monotonic() + 20
    while (answer := full.sidecar.ask("GET", f"{PATH}/pictures/{small}"))[0] != 200 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert answer == (200, PICTURES[0])


# pictures of queries


def test_a_picture_of_a_query_is_kept_by_its_content(sidecar: Sidecar) -> None:
    status, kept = sidecar.ask("POST", "/v1/queries", {"image": base64_of(PICTURES[0])})
    assert status == 201
    assert re.fullmatch("[a-z2-7]{16}", kept["id"])
    answer = urllib3.request("GET", f"{sidecar.url}/v1/queries/{kept['id']}")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "image/jpeg")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert max(Image.open(io.BytesIO(answer.data)).size) <= 640
    again = [sidecar.ask("POST", "/v1/queries", {"image": base64_of(content)})[1] for content in (PICTURES[0], answer.data)]
    assert again == [kept, kept]
    assert sidecar.ask("POST", "/v1/queries", {"image": base64_of(PICTURES[1])})[1] != kept
    folder = sidecar.data / ".clipserve-queries"
    assert {path.name for path in folder.iterdir()} >= {kept["id"]}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())} == {0o700, 0o600}


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"image": base64_of(hostile()["html"][0])}, 400, "not a picture"),
        ({"image": base64_of(bomb())}, 400, "too large|pixels"),
        ({"image": "%%"}, 400, "isn't base64"),
        ({"image": ""}, 400, "not a picture"),
        ({}, 400, "image: Field required"),
        ({"image": "AAAA", "id": "x"}, 400, "id"),
    ],
)
def test_what_is_no_picture_is_not_kept(sidecar: Sidecar, body: dict[str, Any], status: int, message: str) -> None:
    got, answer = sidecar.ask("POST", "/v1/queries", body)
    assert (got, bool(re.search(message, answer["message"]))) == (status, True), answer


@pytest.mark.parametrize("id", ["aaaaaaaaaaaaaaaa", "x", "..%2f..%2fsecret", "%00", "A" * 16, "new-1", "a" * 5000])
def test_an_id_of_no_picture(sidecar: Sidecar, id: str) -> None:
    status, answer = sidecar.ask("GET", f"/v1/queries/{id}")
    assert (status, "message" in answer) == (404, True)


@pytest.fixture
def kept(tmp_path: Path) -> KeptQueries:
    return KeptQueries(tmp_path / "queries", Budget("decoding", 2**30, 1))


def test_the_thousand_latest_stay(kept: KeptQueries, tmp_path: Path) -> None:
    first = kept.keep(PICTURES[0])
    os.utime(tmp_path / "queries" / first, (1, 1))
    for n in range(1_100):  # names as of others, older than any that is kept now
        path = tmp_path / "queries" / base64.b32encode(n.to_bytes(10, "big")).decode().lower()
        path.write_bytes(b"x")
        os.utime(path, (10 + n, 10 + n))
    assert kept.keep(PICTURES[0]) == first  # which makes it the latest
    second = kept.keep(PICTURES[1])
    names = {path.name for path in (tmp_path / "queries").iterdir()}
    assert len(names) == 1_000
    assert {first, second} <= names
    assert kept.get(first)[:2] == b"\xff\xd8"


def test_a_picture_that_is_all_noise_becomes_small_enough(kept: KeptQueries) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (900, 900, 3), np.uint8))
    assert len(kept.get(kept.keep(encoded(noise, "PNG")))) <= MOST_BYTES


def test_a_damaged_picture_is_gone_and_can_be_kept_again(kept: KeptQueries, tmp_path: Path) -> None:
    id = kept.keep(PICTURES[0])
    path = tmp_path / "queries" / id
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(NotFound, match=f"no picture {id}: the last 1,000 are kept"):
        kept.get(id)
    assert not path.exists()
    assert kept.keep(PICTURES[0]) == id
    assert kept.get(id)


def test_a_full_disk_or_a_folder_that_is_none_refuses_and_leaves_nothing(
    kept: KeptQueries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(StorageFull, match="the disk is full, the picture isn't kept"):
            kept.keep(PICTURES[0])
    assert list((tmp_path / "queries").iterdir()) == []
    (tmp_path / "queries").rmdir()
    (tmp_path / "queries").write_text("a file")
    with pytest.raises(Unavailable, match=r"the picture isn't kept \(.*\): look at the disk"):
        kept.keep(PICTURES[0])


def test_a_database_in_an_object_store_has_them_beside_its_indexes(tmp_path: Path) -> None:
    assert Options("s3://bucket/search", index_folder=tmp_path).queries == tmp_path / ".clipserve-queries"
    assert Options(str(tmp_path / "data"), index_folder=tmp_path).queries == tmp_path / "data" / ".clipserve-queries"


def test_a_process_that_is_killed_leaves_whole_pictures_only(tmp_path: Path) -> None:
    """It keeps one picture after the other until it is killed; what is there then is whole, and the rest goes with the next."""
    program = (
        "import sys; from pathlib import Path; sys.path.insert(0, {lib!r}); from pictures import encoded, picture\n"
        "from clip_search.kept_queries import KeptQueries; from clip_search.budget import Budget\n"
        "kept = KeptQueries(Path({folder!r}), Budget('decoding', 2**30, 1)); n = 0\n"
        "while True:\n    n += 1; print(kept.keep(encoded(picture(60, 40, n))), flush=True)\n"
    ).format(lib=str(Path(__file__).parent / "lib"), folder=str(tmp_path / "queries"))
    acknowledged: list[str] = []
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    for _ in range(25):
        acknowledged.append(process.stdout.readline().strip())
    process.send_signal(signal.SIGKILL)
    process.wait()
    (tmp_path / "queries" / "new-left").write_bytes(b"half")
    kept = KeptQueries(tmp_path / "queries", Budget("decoding", 2**30, 1))
    assert len({*acknowledged}) == 25
    assert all(kept.get(id) for id in acknowledged)
    kept.keep(jpegs(1)[0])
    assert all(re.fullmatch("[a-z2-7]{16}", path.name) for path in (tmp_path / "queries").iterdir())


def test_the_token_is_asked_for_foreign_pages_are_refused_and_without_folders_no_file_is_read(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("s3cret-token")
    token = {"Authorization": "Bearer s3cret-token"}
    asked = [("GET", f"{PATH}/pictures/0"), ("GET", f"{PATH}/facets"), ("GET", "/v1/queries/a"), ("POST", "/v1/queries"),
             ("POST", f"{PATH}/duplicates")]  # fmt: skip
    options = ["--token-file", str(tmp_path / "token")]
    with (
        sidecars.running(tmp_path / "data", server.address, *options) as guarded,
        guarded.client(token="s3cret-token") as search,
    ):
        row = Full(guarded, search).row(written(tmp_path / "a.jpg", PICTURES[0]))
        for method, path in asked:
            content = {} if method == "POST" else None
            assert guarded.ask(method, path, content)[0] == 401
            assert guarded.ask(method, path, content, **token, **{"Sec-Fetch-Site": "cross-site"})[0] == 403
        status, answer = guarded.ask("GET", f"{PATH}/pictures/{row}", **token)
        assert (status, "(none): name its folder, --images DIR" in answer["message"]) == (404, True)
