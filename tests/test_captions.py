"""Captions and other fields from the files that people keep beside pictures, and the names in them."""

from __future__ import annotations

import datetime
import json
import os
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clip_client.captions import caption_list, merged, read_table
from clip_client.errors import InvalidInput
from clip_client.file_names import Names, as_id, as_source, source_path
from clip_client.text_files import decoded, read_fields, read_text


@pytest.mark.parametrize(
    ("content", "text", "remark"),
    [
        ("café 日本".encode(), "café 日本", ""),
        ("café".encode("utf-8-sig"), "café", ""),
        ("café 日本".encode("utf-16"), "café 日本", ""),
        (b"\xfe\xff" + "café".encode("utf-16-be"), "café", ""),
        ("café".encode("utf-32"), "café", ""),
        ("hello".encode("utf-16-le"), "hello", "UTF-16-LE"),
        ("hello".encode("utf-16-be"), "hello", "UTF-16-BE"),
        ("Ñandú".encode("latin-1"), "Ñandú", "Windows-1252"),
        ("“café” – 5 €".encode("cp1252"), "“café” – 5 €", "Windows-1252"),
        (b"", "", ""),
    ],
)
def test_encodings(content: bytes, text: str, remark: str) -> None:
    decoded_text, said = decoded(content)
    assert decoded_text == text
    assert remark in said
    assert bool(remark) == bool(said)


@pytest.mark.parametrize(
    "content",
    [
        "日本語のテスト".encode("shift-jis"),
        "日本語".encode("gb18030"),
        "привет, мир".encode("koi8-r"),
        "привет".encode("cp1251"),
        "καλημέρα".encode("iso8859-7"),
        b"\xff\xfea",
        b"zero \0 byte",
        b"\x81\x8d\x8f",
        b"\x00\x01\x02",
    ],
)
def test_what_is_no_text_or_of_an_unknown_encoding_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidInput, match="save it as UTF-8"):
        decoded(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "isn't JSON"),
        (b"{broken", "isn't JSON"),
        (b"[1]", "holds a list"),
        (b"null", "holds a NoneType"),
        (b'"text"', "holds a str"),
        (b"[" * 100_000, "isn't JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "isn't JSON"),
        (b"{}" + b" " * 2**20, "at most 1,048,576"),
    ],
)
def test_fields_that_are_none(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InvalidInput, match=message):
        read_fields(tmp_path / "a.json")


def test_fields_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"year": 1999}')
    (tmp_path / "b.json").write_bytes('{"year": 1999}'.encode("utf-16"))
    assert read_fields(tmp_path / "a.json") == read_fields(tmp_path / "b.json") == {"year": 1999}


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    for name, read in (("a.txt", read_text), ("a.json", read_fields), ("a.parquet", read_table), ("a.csv", read_table)):
        os.mkfifo(tmp_path / name)
        with pytest.raises(InvalidInput, match="a pipe, not a file"):
            read(tmp_path / name)


FORMS = {
    "captions.json": '[{"file": "a.jpg", "captions": ["one", null, "two"]}, {"file": "b.jpg", "captions": "b"},'
    ' {"file": "a.jpg", "captions": ["two", "three"]}]',
    "coco.json": json.dumps(
        {
            "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "b.jpg"}],
            "annotations": [{"image_id": n, "caption": text} for n, text in ((7, "one"), (8, "b"), (7, "two"), (7, "three"))],
        }
    ),
    "karpathy.json": json.dumps(
        {
            "images": [
                {"filename": "a.jpg", "sentences": [{"raw": "one"}, {"raw": "two"}, {"raw": "three"}]},
                {"filename": "b.jpg", "sentences": [{"raw": "b"}]},
            ]
        }
    ),
    "rows.jsonl": '{"file_name": "a.jpg", "caption": "one"}\n\n{"file_name": "a.jpg", "caption": "two"}\n'
    '{"file_name": "b.jpg", "caption": "b"}\n{"file_name": "a.jpg", "caption": "three"}',
    "rows.csv": 'file_name,caption\na.jpg,one\nb.jpg,b\na.jpg,two\na.jpg,"three"\n',
    "windows.csv": "\ufefffile_name;caption\r\na.jpg;one\r\nb.jpg;b\r\na.jpg;two\r\na.jpg;three\r\n",
    "flickr.csv": "image_name| caption\na.jpg| one\na.jpg| two\na.jpg| three\nb.jpg| b\n",
}


@pytest.mark.parametrize("name", FORMS)
def test_all_captions_of_a_picture_are_kept(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(FORMS[name], newline="")
    table = read_table(tmp_path / name)
    assert {file: caption_list(rows) for file, rows in table.rows.items()} == {
        "a.jpg": ("one", "two", "three"),
        "b.jpg": ("b",),
    }
    assert merged(table.rows["a.jpg"]) == {"caption": "one\ntwo\nthree"}
    assert table.problems == []


def test_all_captions_in_parquet_are_kept(tmp_path: Path) -> None:
    rows = {"file_name": ["a", "b", "a", None], "caption": ["one", None, "two", "lost"], "tags": [["x"], None, ["y"], []]}
    pq.write_table(pa.table(rows), tmp_path / "rows.parquet")
    table = read_table(tmp_path / "rows.parquet")
    assert merged(table.rows["a"]) == {"caption": "one\ntwo", "tags": [["x"], ["y"]]}
    assert merged(table.rows["b"]) == {}
    assert table.problems == ["row 4 names no file"]


def test_a_caption_of_several_lines_is_one(tmp_path: Path) -> None:
    assert caption_list([{"caption": "one\nline"}, {"captions": ["two"]}]) == ("one\nline", "two")


def test_fields_that_differ_become_a_list() -> None:
    rows = [{"year": 1, "place": "x"}, {"year": 2, "place": "x"}, {"year": 1, "place": None}]
    assert merged(rows) == {"year": [1, 2], "place": "x"}


def test_numbers_in_csv_have_the_type_of_their_column(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("file_name,whole,broken,zip,word\na,1,1.5,01234,7\nb,,2,12,x\n")
    rows = read_table(tmp_path / "a.csv").rows
    assert rows["a"] == [{"whole": 1, "broken": 1.5, "zip": "01234", "word": "7"}]
    assert rows["b"] == [{"whole": None, "broken": 2.0, "zip": "12", "word": "x"}]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        (
            "a.jsonl",
            '{"file_name": "a"}\nbroken\n[1]\n{"caption": "x"}',
            ["line 2 isn't JSON", "line 3 is a list", "line 4 names"],
        ),
        ("a.json", '[{"file": "a"}, null, {"file": 5}, {"file": ""}]', ["row 2 is a NoneType", "row 3 names", "row 4 names"]),
        (
            "a.json",
            '{"images": [{"id": 1, "file_name": "a", "sentences": null}, 3], "annotations": [{"image_id": 9}, null]}',
            ["image 2 names", "annotation 1 is of no image", "annotation 2 is of no image"],
        ),
        ("a.csv", "file_name,x\na,1,2\n", ["row 1 has 3 cells, the header 2"]),
    ],
)
def test_a_bad_row_is_named_and_the_others_are_read(name: str, content: str, problem: list[str], tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    table = read_table(tmp_path / name)
    assert list(table.rows) == ["a"]
    assert len(table.problems) == len(problem)
    for told, expected in zip(table.problems, problem, strict=True):
        assert told.startswith(expected)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b""),
        ("a.json", b"{}"),
        ("a.json", b"5"),
        ("a.parquet", b"PAR1"),
        ("a.csv", b""),
        ("a.csv", b"x,y\n1,2\n"),
        ("a.jsonl", b"\xff\xfe\x00"),
    ],
)
def test_a_table_that_cant_be_read(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidInput, match="can't be used"):
        read_table(tmp_path / name)


def test_a_time_that_python_cant_show_is_null(tmp_path: Path) -> None:
    times = pa.array([1_000, 2**60], pa.timestamp("ms"))
    pq.write_table(pa.table({"file_name": ["a", "b"], "time": times}), tmp_path / "a.parquet")
    rows = read_table(tmp_path / "a.parquet").rows
    assert rows["a"] == [{"time": datetime.datetime(1970, 1, 1, 0, 0, 1)}]
    assert rows["b"] == [{"time": None}]


class TestNames:
    """Names that are written in another way than the file's."""

    NFC, NFD = (unicodedata.normalize(form, "é.jpg") for form in ("NFC", "NFD"))

    @pytest.mark.parametrize(
        "written",
        ["sub/a.jpg", "./sub/a.jpg", "sub\\a.jpg", ".\\sub\\a.jpg", "sub//a.jpg", "x/../sub/a.jpg", " sub/a.jpg", "SUB/A.JPG"],
    )
    def test_they_are_matched(self, written: str, tmp_path: Path) -> None:
        assert Names(["sub/a.jpg", "b.jpg"], tmp_path).match(written) == "sub/a.jpg"

    def test_absolute_ones_and_those_from_the_working_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")
        monkeypatch.chdir(tmp_path)
        names = Names(["a.jpg"], Path("link"))
        for written in ("link/a.jpg", f"{tmp_path}/link/a.jpg", f"{tmp_path}/real/a.jpg", f"file://{tmp_path}/real/a.jpg"):
            assert names.match(written) == "a.jpg"

    def test_forms_of_accents(self, tmp_path: Path) -> None:
        assert Names([self.NFD], tmp_path).match(self.NFC) == self.NFD
        assert Names([self.NFC], tmp_path).match(self.NFD) == self.NFC
        both = Names([self.NFC, self.NFD], tmp_path)
        assert (both.match(self.NFC), both.match(self.NFD)) == (self.NFC, self.NFD)

    @pytest.mark.parametrize("written", ["c.jpg", "../a.jpg", "", ".", "/", "/etc/passwd", "A.JPG"])
    def test_others_are_none(self, written: str, tmp_path: Path) -> None:
        assert Names(["a.jpg", "a.JPG", "b.jpg"], tmp_path).match(written) is None

    @pytest.mark.parametrize(
        ("name", "id"),
        [
            ("a\u202fb\u3000c\u00a0d\u00ade\u200df.jpg", "a\u202fb\u3000c\u00a0d\u00ade\u200df.jpg"),
            ("caf\udce9.jpg", r"caf\xe9.jpg"),
            ("a\nb\x1b[31m\x85.jpg", r"a\x0ab\x1b[31m\x85.jpg"),
            ("a\u2028b.jpg", r"a\u2028b.jpg"),
        ],
    )
    def test_ids(self, name: str, id: str) -> None:
        assert as_id(name) == id
        as_source(f"/{name}").encode()
        assert source_path(as_source(f"/{name}")) == f"/{name}"


def table(tmp_path: Path, name: str, content: str | bytes):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(tmp_path / name)


@pytest.mark.parametrize(
    ("line", "caption"),
    [
        ("b.jpg;\"6' tall", "\"6' tall"),
        ('b.jpg;"the "Mona Lisa"', '"the "Mona Lisa"'),
        ('b.jpg;"one" two', "one two"),
        ('b.jpg;5" nail', '5" nail'),
    ],
)
def test_a_stray_quote_takes_no_other_row(line: str, caption: str, tmp_path: Path) -> None:
    content = f'\ufeffsep=;\r\nfile_name;caption\r\na.jpg;"two\r\nlines"\r\n{line}\r\nc.jpg;"x ""y"""\r\nd.jpg;last'
    read = table(tmp_path, "a.csv", content)
    captions = {name: caption_list(rows) for name, rows in read.rows.items()}
    assert captions == {"a.jpg": ("two\r\nlines",), "b.jpg": (caption,), "c.jpg": ('x "y"',), "d.jpg": ("last",)}
    assert read.problems == ([] if line.count('"') == 1 and "nail" in line else read.problems[:1])
    assert all("line 4 has a quote" in problem for problem in read.problems)


def test_a_cell_may_be_long_and_a_name_a_number(tmp_path: Path) -> None:
    read = table(tmp_path, "a.csv", f"File Name,Caption\n1,{'x' * 200_000}\n2,short\n")
    assert {name: [len(text) for text in caption_list(rows)] for name, rows in read.rows.items()} == {"1": [200_000], "2": [5]}


def test_columns_of_one_name_are_all_kept(tmp_path: Path) -> None:
    read = table(tmp_path, "a.csv", "file,caption,Caption,caption,n,n\na.jpg,one,two,three,1,2\nb.jpg,,,four,,3\n")
    assert {name: merged(rows) for name, rows in read.rows.items()} == {
        "a.jpg": {"caption": "one\nthree\ntwo", "n": [1, 2]},
        "b.jpg": {"caption": "four", "n": 3},
    }
    columns = [pa.array(["a.jpg"]), pa.array(["one"]), pa.array(["two"])]
    pq.write_table(pa.Table.from_arrays(columns, ["file", "caption", "caption"]), tmp_path / "a.parquet")
    assert merged(read_table(tmp_path / "a.parquet").rows["a.jpg"]) == {"caption": "one\ntwo"}


def test_captions_by_name(tmp_path: Path) -> None:
    content = {"a.jpg": "one", "b.jpg": ["one", "two"], "c": {"caption": "three", "n": 1}, "d.jpg": 5}
    read = table(tmp_path, "a.json", json.dumps(content))
    assert {name: merged(rows) for name, rows in read.rows.items()} == {
        "a.jpg": {"caption": "one"},
        "b.jpg": {"caption": "one\ntwo"},
        "c": {"caption": "three", "n": 1},
    }
    assert read.problems == ["'d.jpg' has a int: expected a caption, a list of them, or an object"]


def test_karpathys_files_are_found_with_and_without_their_folder(tmp_path: Path) -> None:
    images = [{"filepath": "val", "filename": "a.jpg", "sentences": [{"raw": "one"}]}]
    read = table(tmp_path, "a.json", json.dumps({"images": images}))
    (written,) = read.rows
    for names, wanted in ((["val/a.jpg", "a.jpg"], "val/a.jpg"), (["a.jpg"], "a.jpg"), (["b.jpg"], None)):
        assert read.file(written, Names(names, tmp_path)) == wanted
