"""``search add`` of folders as people have them: nothing stops it, and nothing is dropped without a word."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sidecars
from PIL import Image
from servers import CLIPSERVE, Server
from sidecars import Sidecar

from clip_client import Clip
from clip_client.search import Row, Search
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
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def jpeg(seed: int, format: str = "JPEG") -> bytes:
    return encoded(picture(40 + seed % 20, 50, seed=seed), format)


def run(sidecar: Sidecar, verb: str, *arguments: object, status: int = 0) -> str:
    command = [CLIPSERVE, "search", verb, "--url", sidecar.url, "--collection", "photos", *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, timeout=60)
    told = (ended.stdout + ended.stderr).decode("utf-8", "replace")
    assert ended.returncode == status, told
    assert "Traceback" not in told
    return told


def books(told: str) -> tuple[int, int, int, int]:
    """Added, unchanged, replaced and left out, as the last line has them, which must balance."""
    (line,) = re.findall(r"^read (\d+) = (\d+) added \+ (\d+) unchanged \+ (\d+) replaced \+ (\d+) left out$", told, re.M)
    read, *parts = map(int, line)
    assert read == sum(parts)
    assert told.count("left out ") >= parts[3]
    return tuple(parts)


def metadata(search: Search) -> dict[str, dict]:
    """Values that aren't null, by id."""
    return {
        row["id"]: {name: value for name, value in row["metadata"].items() if value is not None}
        for row in search.rows("photos")
    }


def test_thirty_files_of_which_twelve_are_bad(
    sidecar: Sidecar, search: Search, folder: Path, tmp_path: Path, clip: Clip
) -> None:
    good = {f"good{n}.jpg": jpeg(n) for n in range(9)}
    good |= {
        "narrow\u202fspace.jpg": jpeg(20),
        "family \U0001f468\u200d\U0001f469\u200d\U0001f467.jpg": jpeg(21),
        "soft\u00adhyphen.JPEG": jpeg(22),
        "ideographic\u3000space.jfif": jpeg(23),
        "e\u0301.avif": jpeg(24, "AVIF"),
        "\u00e9.avif": jpeg(25, "AVIF"),
        "no ending": jpeg(26),
        "line\nbreak.jpe": jpeg(27),
        os.fsdecode(b"caf\xe9.jpg"): jpeg(28),
    }
    for name, content in good.items():
        (folder / name).write_bytes(content)
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.png").write_bytes(b"no picture")
    (folder / "half.jpg").write_bytes(encoded(picture(300, 300))[:2000])
    (folder / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "zero.jpg").symlink_to("/dev/zero")
    (folder / "lost.jpg").symlink_to("nowhere.jpg")
    (folder / "self.jpg").symlink_to("self.jpg")
    (folder / "folder.jpg").mkdir()
    with (folder / "huge.jpg").open("wb") as huge:
        huge.truncate(10 * 2**30)
    (folder / "lost album").symlink_to("/nowhere")
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(os.path.relpath(folder / "socket.jpg"))
    bound.close()
    errors = tmp_path / "errors.jsonl"

    told = run(sidecar, "add", folder, "--errors", errors, status=1)
    assert books(told) == (18, 0, 0, 12)
    named = {"empty.jpg", "text.png", "half.jpg", "phone.heic", "pipe.jpg", "zero.jpg", "lost.jpg", "self.jpg", "folder.jpg"}
    named |= {"huge.jpg", "lost album", "socket.jpg"}
    assert {json.loads(line)["item"] for line in errors.read_text().splitlines()} == named
    for name, content in good.items():
        (hit,) = search.query("photos", [_image(content)], k=1)
        assert hit.score == pytest.approx(1, abs=1e-3)
        assert Path(folder / name).exists()
    expected = clip.embed_image(list(good.values()))
    embeddings = np.stack([row["vector_image"] for row in search.rows("photos", vectors=True)])
    assert np.allclose((embeddings @ expected.T).max(0), 1, atol=1e-4)

    requests = _added(sidecar)
    assert books(run(sidecar, "add", folder, status=1)) == (0, 18, 0, 12)
    assert _added(sidecar) == requests

    (folder / "good0.jpg").write_bytes(jpeg(100))
    (folder / "good1.jpg").rename(folder / "moved.jpg")
    (folder / "good2.jpg").unlink()
    told = run(sidecar, "add", folder, "--prune", status=1)
    assert books(told) == (0, 15, 2, 12)
    assert "1 moved" in told
    assert "1 row removed" in told
    ids = {row["id"] for row in search.rows("photos")}
    assert {"good0.jpg", "moved.jpg"} <= ids
    assert not {"good1.jpg", "good2.jpg"} & ids
    assert len(ids) == 17


def _image(content: bytes):
    from clip_client.search import Term

    return Term(image=content)


def _added(sidecar: Sidecar) -> str:
    """Counters of requests that add rows; refused ones answer 400."""
    lines = sidecar.ask("GET", "/metrics")[1].decode().splitlines()
    wanted = 'clipserve_requests_total{route="/v1/collections/{name}/rows",status='
    return "\n".join(line for line in lines if line.startswith(wanted) and 'status="200"' not in line)


def test_what_lies_beside_a_picture(sidecar: Sidecar, search: Search, folder: Path) -> None:
    beside = {
        "0.txt": "café".encode("latin-1"),
        "1.txt": "café 日本".encode("utf-16"),
        "2.txt": b"\xef\xbb\xbfcaf\xc3\xa9\r\n",
        "3.TXT": b"upper case",
        "4.json": b'\xef\xbb\xbf{"year": 1999}',
        "5.json": b"",
        "6.json": b"{broken",
        "7.json": b"[1, 2]",
        "8.json": b'{"year": 2000, "nan": NaN, "large": 18446744073709551616, "nothing": null, "nested": {"a": 1}}',
        "9.json": b'{"tags": ["a", "b"], "half": "\\ud800", "with space": true, "id": "mine", "year": 1999.5}',
        "10.json": b'{"year": "unknown", "captions": ["one", "two"]}',
        "11.txt": "日本語のテスト".encode("shift-jis"),
        "12.txt": b"x" * 2**21,
    }
    for n in range(14):
        (folder / f"{n}.jpg").write_bytes(jpeg(n))
    for name, content in beside.items():
        (folder / name).write_bytes(content)
    os.mkfifo(folder / "13.txt")
    told = run(sidecar, "add", folder)
    assert books(told) == (14, 0, 0, 0)
    stored = metadata(search)
    assert [stored[f"{n}.jpg"].get("caption") for n in range(4)] == ["café", "café 日本", "café", "upper case"]
    assert stored["4.jpg"] == {"year": 1999}
    assert stored["8.jpg"] == {"year": 2000}
    assert stored["9.jpg"] == {"tags": '["a", "b"]', "with_space": True, "meta_id": "mine", "year": 1999.5}
    assert stored["10.jpg"] == {"caption": "one\ntwo"}
    for n in (5, 6, 7, 11, 12, 13):
        assert stored[f"{n}.jpg"] == {}
    for said in ("0.txt: read as Windows-1252", "5.json isn't JSON", "6.json isn't JSON", "7.json holds a list"):
        assert said in told
    for said in ("'nan' is nan", "'large' is a whole number beyond 64 bits", "'nested' is", "'half' has half of a surrogate"):
        assert said in told
    for said in ("'year' is 'unknown'", "11.txt is neither UTF-8", "12.txt has 2,097,152 bytes", "13.txt a pipe"):
        assert said in told
    assert books(run(sidecar, "add", folder)) == (0, 14, 0, 0)


def test_numbers_of_both_kinds_in_a_new_column(sidecar: Sidecar, search: Search, folder: Path) -> None:
    for n, score in enumerate(("1", "1.5", "2")):
        (folder / f"{n}.jpg").write_bytes(jpeg(n))
        (folder / f"{n}.json").write_text(f'{{"score": {score}}}')
    assert books(run(sidecar, "add", folder)) == (3, 0, 0, 0)
    assert [row["score"] for row in metadata(search).values()] == [1.0, 1.5, 2.0]


FORMS = {
    "captions.json": '[{"file": "a.jpg", "captions": ["one", "two"]}, {"file": "a.jpg", "captions": ["one", "three", null]}]',
    "metadata.jsonl": '{"file_name": "a.jpg", "caption": "one"}\n{"file_name": "a.jpg", "caption": "two"}\n'
    '{"file_name": "a.jpg", "caption": "three"}',
    "metadata.csv": "file_name,caption\na.jpg,one\na.jpg,two\na.jpg,three\n",
    "captions.csv": "file_name;caption\na.jpg;one\na.jpg;two\na.jpg;three\n",
    "captions.jsonl": '{"file": "a.jpg", "captions": ["one", "two"]}\n{"file": "a.jpg", "captions": "three"}\n',
}


@pytest.mark.parametrize("name", FORMS)
def test_all_captions_of_a_table_in_the_folder_are_kept(name: str, sidecar: Sidecar, search: Search, folder: Path) -> None:
    (folder / "a.jpg").write_bytes(jpeg(0))
    (folder / name).write_text(FORMS[name])
    run(sidecar, "add", folder)
    assert metadata(search) == {"a.jpg": {"caption": "one\ntwo\nthree"}}


def test_all_rows_of_metadata_are_kept(sidecar: Sidecar, search: Search, folder: Path, tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (folder / name).write_bytes(jpeg(ord(name[0])))
    rows = {"file_name": ["a.jpg", "b.jpg", "a.jpg"], "caption": ["one", "b", "two"], "annotator": [1, 2, 3], "set": ["x"] * 3}
    pq.write_table(pa.table(rows), tmp_path / "table.parquet")
    run(sidecar, "add", folder, "--metadata", tmp_path / "table.parquet")
    assert metadata(search) == {
        "a.jpg": {"caption": "one\ntwo", "annotator": "[1, 3]", "set": "x"},
        "b.jpg": {"caption": "b", "annotator": "[2]", "set": "x"},
    }


def test_names_in_metadata(sidecar: Sidecar, search: Search, folder: Path, tmp_path: Path) -> None:
    nfd = unicodedata.normalize("NFD", "é.jpg")
    for n, name in enumerate((nfd, "a.jpg", "b.JPG", "c.jpg", "d.jpg", "bare.jpg")):
        (folder / name).write_bytes(jpeg(n))
    written = ["é.jpg", "./a.jpg", "b.jpg", str(folder / "c.jpg"), ".\\d.jpg", "nowhere.jpg", None]
    pq.write_table(pa.table({"file_name": written, "n": range(7)}), tmp_path / "table.parquet")
    told = run(sidecar, "add", folder, "--metadata", tmp_path / "table.parquet")
    stored = metadata(search)
    assert [stored[name] for name in (nfd, "a.jpg", "b.JPG", "c.jpg", "d.jpg")] == [{"n": n} for n in range(5)]
    assert "'nowhere.jpg' is no picture in" in told
    assert "row 7 names no file" in told
    assert "1 picture without metadata" in told


def test_a_broken_table_in_the_folder_stops_nothing(sidecar: Sidecar, search: Search, folder: Path, tmp_path: Path) -> None:
    (folder / "a.jpg").write_bytes(jpeg(0))
    (folder / "captions.json").write_text("{broken")
    told = run(sidecar, "add", folder)
    assert "captions.json: the pictures go in without it, it can't be used: isn't JSON" in told
    assert books(told) == (1, 0, 0, 0)
    told = run(sidecar, "add", folder, "--metadata", folder / "captions.json", status=1)
    assert "error: " in told
    assert "can't be used" in told


def test_what_is_passed_over_is_counted(sidecar: Sidecar, search: Search, folder: Path) -> None:
    (folder / "a.jpg").write_bytes(jpeg(0))
    (folder / "b.jpg").symlink_to("a.jpg")
    (folder / "a.txt").write_text("read")
    for name in (".DS_Store", "Thumbs.db", "notes.md", "lonely.txt"):
        (folder / name).write_text("x")
    told = run(sidecar, "add", folder)
    assert "4 files passed over that aren't pictures (.db, .md, .txt, no ending)" in told
    assert "1 link passed over" in told


IDS = [
    "narrow\u202fspace", "no-break\u00a0space", "ideographic\u3000space", "soft\u00adhyphen", "\U0001f468\u200d\U0001f469",
    "\u202ebidi", "a'b\"c", "a%b_c\\d", "caf\\xe9", "a/b//c", "a?b#c&d=e", "..", "  ", "[bold]", "\U0010ffff", "\ufdd0", "NULL",
    "e\u0301",
]  # fmt: skip


def test_ids_of_any_characters_work_over_every_route(sidecar: Sidecar, search: Search) -> None:
    search.create("photos")
    content = jpeg(0)
    assert search.add("photos", [Row(id=id, image=content, metadata={"name": id}) for id in IDS]).errors == {}
    assert [row["id"] for row in search.get("photos", IDS)] == IDS
    assert search.query("photos", [_like(IDS[0])], k=50)
    for id in (id for id in IDS if id != ".."):
        status, row = sidecar.ask("GET", f"/v1/collections/photos/rows/{quote(id, safe='')}")
        assert (status, row["id"]) == (200, id)
        assert sidecar.ask("GET", f"/v1/collections/photos/thumbnails/{row['row']}")[0] == 200
        quoted = id.replace("'", "''")
        assert [row["id"] for row in search.rows("photos", where=f"id = '{quoted}'")] == [id]
    assert search.add("photos", [Row(id=id, image=content) for id in IDS], on_conflict="replace").replaced == len(IDS)
    for id in IDS[:9]:
        assert search.delete("photos", [id]) == 1
    status, _ = sidecar.ask("DELETE", f"/v1/collections/photos/rows/{quote(IDS[9], safe='')}")
    assert status == 200
    assert {row["id"] for row in search.rows("photos")} == set(IDS[10:])


def _like(id: str):
    from clip_client.search import Term

    return Term(id=id)


@pytest.mark.parametrize("id", ["", "a\nb", "\x1b[0m", "\x7f", "a\u2028b", "\x85", "x" * 2049])
def test_ids_that_cant_be(id: str, search: Search) -> None:
    search.create("photos")
    with pytest.raises(Exception, match="none of control"):
        search.add("photos", [Row(id=id, text="x")])


class TestSameAs:
    """Rows that are made from others."""

    def test_what_isnt_given_is_taken_over(self, search: Search) -> None:
        search.create("photos")
        search.add("photos", [Row(id="a", image=jpeg(0), text="a cat", metadata={"year": 1, "x": "y"}, source="/s")])
        search.add("photos", [Row(id="b", same_as="a", metadata={"year": 2, "x": None})])
        a, b = search.get("photos", ["a", "b"], vectors=True)
        for name in ("vector_image", "vector_text"):
            np.testing.assert_array_equal(a[name], b[name])
        assert (b["source"], b["metadata"]) == ("/s", {"caption": "a cat", "year": 2, "x": None})

    def test_a_picture_that_is_given_is_embedded(self, search: Search, clip: Clip) -> None:
        search.create("photos")
        search.add("photos", [Row(id="a", image=jpeg(0), metadata={"year": 1})])
        search.add("photos", [Row(id="a", same_as="a", image=jpeg(1))], on_conflict="replace")
        (row,) = search.get("photos", ["a"], vectors=True)
        np.testing.assert_allclose(row["vector_image"], clip.embed_image([jpeg(1)])[0], atol=1e-5)
        assert row["metadata"] == {"year": 1}

    def test_a_row_that_isnt_there_is_that_rows_error(self, search: Search) -> None:
        search.create("photos")
        outcome = search.add("photos", [Row(id="a", same_as="none"), Row(id="b", text="x")])
        assert outcome.added == 1
        assert "no row 'none'" in outcome.errors[0]


class TestFilter:
    """Copies of the best matches."""

    def filled(self, sidecar: Sidecar, folder: Path) -> list[Path]:
        files = [folder / name / "IMG_0001.jpg" for name in ("2023", "2024", "2025")]
        for n, file in enumerate(files):
            file.parent.mkdir()
            file.write_bytes(jpeg(n))
        run(sidecar, "add", folder)
        return files

    def test_files_of_one_name_get_names_of_their_own(
        self, sidecar: Sidecar, search: Search, folder: Path, tmp_path: Path
    ) -> None:
        files = self.filled(sidecar, folder)
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "IMG_0001-2.jpg").write_bytes(b"mine")
        told = run(sidecar, "filter", files[0], tmp_path / "out")
        assert "3 of 3 matches copied" in told
        assert books(told) == (3, 0, 0, 0)
        copies = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
        assert set(copies) == {"IMG_0001.jpg", "IMG_0001-2.jpg", "IMG_0001-3.jpg", "IMG_0001-4.jpg"}
        assert copies.pop("IMG_0001-2.jpg") == b"mine"
        assert sorted(copies.values()) == sorted(file.read_bytes() for file in files)
        assert books(run(sidecar, "filter", files[0], tmp_path / "out")) == (0, 3, 0, 0)
        assert len(list((tmp_path / "out").iterdir())) == 4

    def test_files_that_are_gone_are_named(self, sidecar: Sidecar, search: Search, folder: Path, tmp_path: Path) -> None:
        files = self.filled(sidecar, folder)
        files[1].unlink()
        os.mkfifo(files[1])
        files[2].unlink()
        search.add("photos", [Row(id="a URL", image=jpeg(9), source="https://example.com/a.jpg")])
        told = run(sidecar, "filter", files[0], tmp_path / "out", "--errors", tmp_path / "errors.jsonl", status=1)
        assert books(told) == (1, 0, 0, 3)
        items = {json.loads(line)["item"] for line in (tmp_path / "errors.jsonl").read_text().splitlines()}
        assert items == {"2024/IMG_0001.jpg", "2025/IMG_0001.jpg", "a URL"}

    def test_nothing_is_written_through_a_link(self, sidecar: Sidecar, search: Search, folder: Path, tmp_path: Path) -> None:
        self.filled(sidecar, folder)
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "IMG_0001.jpg").symlink_to(tmp_path / "precious")
        run(sidecar, "filter", "a cat", tmp_path / "out")
        assert not (tmp_path / "precious").exists()

    def test_names_that_arent_utf_8(self, sidecar: Sidecar, search: Search, folder: Path, tmp_path: Path) -> None:
        name = os.fsdecode(b"caf\xe9\n\x1b.jpg")
        (folder / name).write_bytes(jpeg(0))
        run(sidecar, "add", folder)
        assert {row["id"] for row in search.rows("photos")} == {r"caf\xe9\x0a\x1b.jpg"}
        run(sidecar, "filter", "a cat", tmp_path / "out")
        assert (tmp_path / "out" / name).read_bytes() == jpeg(0)

    def test_hits_that_look_like_markup_are_shown(self, sidecar: Sidecar, search: Search) -> None:
        search.create("photos")
        search.add("photos", [Row(id="[/x] [red]", image=jpeg(0), metadata={"caption": "\x1b[2J[/]"})])
        told = run(sidecar, "query", "a cat")
        assert "[/x] [red]" in told
        assert "\x1b[2J" not in told


def test_captions_of_all_sources_are_kept(sidecar: Sidecar, search: Search, folder: Path) -> None:
    (folder / "a.jpg").write_bytes(jpeg(0))
    (folder / "a.txt").write_text("text")
    (folder / "a.json").write_text('{"caption": "fields", "year": 1}')
    (folder / "captions.json").write_text('[{"file": "a.jpg", "captions": ["table", "text"]}]')
    (folder / "metadata.csv").write_text("file_name,caption,year\na.jpg,other table,2\n")
    run(sidecar, "add", folder)
    (row,) = metadata(search).values()
    assert sorted(row["caption"].split("\n")) == ["fields", "other table", "table", "text"]
    assert row["year"] == 2


def test_a_text_belongs_to_the_picture_of_exactly_its_name(sidecar: Sidecar, search: Search, folder: Path) -> None:
    names = [unicodedata.normalize(form, "é") for form in ("NFC", "NFD")]
    for n, name in enumerate(names):
        (folder / f"{name}.jpg").write_bytes(jpeg(n))
    (folder / f"{names[0]}.txt").write_text("composed")
    run(sidecar, "add", folder)
    assert {name: row.get("caption") for name, row in metadata(search).items()} == {
        f"{names[0]}.jpg": "composed",
        f"{names[1]}.jpg": None,
    }
    (folder / f"{names[1]}.txt").write_text("decomposed")
    run(sidecar, "add", folder)
    assert [metadata(search)[f"{name}.jpg"]["caption"] for name in names] == ["composed", "decomposed"]


def test_a_field_that_its_column_cant_hold_costs_no_picture(sidecar: Sidecar, search: Search, folder: Path) -> None:
    search.create("photos", columns={"day": "date", "count": "uint", "tags": "list<int>"})
    fields = [
        '{"day": "soon"}',
        '{"count": -1}',
        '{"tags": ["a"]}',
        f'{{"n": {2**53 + 1}}}',
        '{"n": 0.5}',
        '{"day": "2024-05-01"}',
    ]
    for n, text in enumerate(fields):
        (folder / f"{n}.jpg").write_bytes(jpeg(n))
        (folder / f"{n}.json").write_text(text)
    told = run(sidecar, "add", folder)
    assert books(told) == (6, 0, 0, 0)
    assert metadata(search) == {f"{n}.jpg": {} for n in range(4)} | {"4.jpg": {"n": 0.5}, "5.jpg": {"day": "2024-05-01"}}
    for name in (
        "0.jpg: metadata day",
        "1.jpg: metadata count",
        "2.jpg: metadata tags",
        "3.jpg: metadata n is 9007199254740993",
    ):
        assert name in told


def test_what_is_no_picture_is_named_alike_each_time(sidecar: Sidecar, folder: Path) -> None:
    (folder / "a.jpg").write_bytes(jpeg(0))
    (folder / "b.jpg").write_bytes(b"%PDF-1.4")
    Image.new("1", (20_000, 6_000)).save(folder / "c.png")
    first = [line for line in run(sidecar, "add", folder, status=1).splitlines() if line.startswith("left out")]
    assert [line for line in run(sidecar, "add", folder, status=1).splitlines() if line.startswith("left out")] == first
    assert len(first) == 2
