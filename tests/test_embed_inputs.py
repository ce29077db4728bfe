"""Inputs of bulk embedding: tables, lists, data sets and folders, as they are read."""

from __future__ import annotations

import base64
import contextlib
import csv
import dataclasses
import datetime
import decimal
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import datasets
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from object_stores import s3
from servers import http_files

from clip_client import Clip, InvalidInput, Unavailable
from clip_embed import cli
from clip_embed.inputs.dataset import _references
from clip_embed.inputs.kinds import of_settings, source_of
from clip_embed.inputs.lists import store
from clip_embed.inputs.options import InputOptions
from clip_embed.places import place
from pictures import bomb, jpegs

JPEGS = jpegs(6)
LOCAL = ("--allow-network", "127.0.0.0/8", "--allow-port", "1024-65535")


@dataclasses.dataclass
class Read:
    """All items of an input."""

    names: list[str]
    pictures: list[Any]
    texts: list[str | None]
    own: pa.Table
    problems: dict[str, str]
    notes: dict[str, str]
    left_out: dict[str, str]
    parts: int


def read(location: str | Path, folder: Path, part_items: int = 1000, **options: Any) -> Read:
    """Plan an input, and read all of its parts as another process would."""
    made = source_of(str(location), InputOptions(**options))
    source = of_settings(made.kind, json.loads(json.dumps(made.settings)))
    plan = source.plan(part_items)
    output = place(str(folder / f"output-{time.monotonic_ns()}"))
    parts = json.loads(json.dumps(store(output, plan)))
    chunks = [chunk for part in parts for chunk in source.chunks(part, plan.schema, output)]
    assert all(len(chunk) == len(chunk.pictures) == len(chunk.texts) == chunk.own.num_rows for chunk in chunks)
    return Read(
        [name for chunk in chunks for name in chunk.names],
        [picture for chunk in chunks for picture in chunk.pictures],
        [text for chunk in chunks for text in chunk.texts],
        pa.Table.from_batches([chunk.own for chunk in chunks]) if len(plan.schema) else pa.table({}),
        {chunk.names[n]: reason for chunk in chunks for n, reason in chunk.problems.items()},
        {chunk.names[n]: reason for chunk in chunks for n, reason in chunk.notes.items()},
        plan.left_out,
        len(plan.parts),
    )


def embedded(
    location: str | Path, output: Path, repository: Path, *options: str
) -> tuple[int, dict[str, Any], pa.Table, pa.Table]:
    """Run the command; return its status, its books, its rows and its errors."""
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        status = cli.main(
            [str(location), str(output), "--repository", str(repository), "--json", "--format", "parquet", *options]
        )
    rows = [pq.read_table(file) for file in sorted(output.glob("part-*.parquet"))]
    return status, json.loads(told.getvalue()), pa.concat_tables(rows), pq.read_table(output / "errors.parquet")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with six pictures below it."""
    (tmp_path / "in" / "photos").mkdir(parents=True)
    for n, content in enumerate(JPEGS):
        (tmp_path / "in" / "photos" / f"{n}.jpg").write_bytes(content)
    return tmp_path / "in"


OWN = {
    "n": pa.array([1, None, 3], pa.int8()),
    "time": pa.array([datetime.datetime(2024, 1, 2, 3), None, None], pa.timestamp("ns", "Europe/Berlin")),
    "price": pa.array([decimal.Decimal("1.10"), None, None], pa.decimal128(12, 2)),
    "nested": pa.array([{"a": [1, 2], "b": {"c": "x"}}, None, None]),
    "map": pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int32())),
    "large": pa.array(["x", None, "z"], pa.large_string()),
    "blob": pa.array([b"\xff", None, b""], pa.binary()),
    "day": pa.array([datetime.date(2024, 1, 2), None, None]),
    "half": pa.array([1.5, None, -2.0], pa.float16()),
    "three": pa.array([[1, 2, 3], None, None], pa.list_(pa.int16(), 3)),
    "nothing": pa.nulls(3),
}


class TestParquet:
    def test_own_columns_keep_their_types(self, tmp_path: Path) -> None:
        pq.write_table(pa.table({"path": ["a.jpg", "b.jpg", "c.jpg"], **OWN}), tmp_path / "t.parquet")
        there = read(tmp_path / "t.parquet", tmp_path).own
        assert there.select([*OWN]).equals(pa.table(OWN))

    @pytest.mark.parametrize(
        "kind",
        [pa.string_view(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())],
        ids=["view", "large", "dictionary"],
    )
    def test_texts_are_texts_in_any_layout(self, kind: pa.DataType, tmp_path: Path) -> None:
        column = pa.array(["a.jpg", None, "b.jpg"]).cast(kind)
        pq.write_table(pa.table({"path": column, "caption": column, "own": column}), tmp_path / "t.parquet")
        there = read(tmp_path / "t.parquet", tmp_path)
        assert there.pictures == [str(tmp_path / "a.jpg"), None, str(tmp_path / "b.jpg")]
        assert there.texts == ["a.jpg", None, "b.jpg"] == there.own["own"].to_pylist()

    @pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()])
    def test_encoded_pictures_are_taken_and_not_copied(self, kind: pa.DataType, tmp_path: Path) -> None:
        pq.write_table(pa.table({"jpg": pa.array([b"one", None, b""], kind), "n": [1, 2, 3]}), tmp_path / "t.parquet")
        there = read(tmp_path / "t.parquet", tmp_path)
        assert (there.pictures, there.own.column_names) == ([b"one", None, None], ["n"])
        assert there.names == ["t.parquet:1", "t.parquet:2", "t.parquet:3"]

    def test_hugging_faces_images_are_taken(self, tmp_path: Path) -> None:
        image = [{"bytes": b"one", "path": "x.jpg"}, {"bytes": None, "path": "y.jpg"}, None, {"bytes": b"two", "path": None}]
        pq.write_table(pa.table({"image": image}), tmp_path / "t.parquet")
        there = read(tmp_path / "t.parquet", tmp_path)
        assert there.pictures == [b"one", str(tmp_path / "y.jpg"), None, b"two"]
        assert there.names == ["x.jpg", "y.jpg", "t.parquet:3", "t.parquet:4"]

    def test_columns_named_as_ours_and_twice_get_names_of_their_own(self, tmp_path: Path) -> None:
        names = ["image_path", "image_path_", "text", "image", "other_fields", "x", "x"]
        table = pa.Table.from_arrays([pa.array([n]) for n in range(len(names))], names)
        table = table.append_column("url", pa.array(["http://a.example/b.jpg"])).append_column("caption", pa.array(["c"]))
        pq.write_table(table, tmp_path / "t.parquet")
        there = read(tmp_path / "t.parquet", tmp_path)
        assert there.own.column_names == ["image_path_", "image_path__", "text_", "image_", "other_fields", "x", "x_", "url"]
        assert there.own.to_pylist()[0] | {"url": 0} == dict(zip(there.own.column_names, [0, 1, 2, 3, 4, 5, 6, 0], strict=True))
        assert (there.texts, there.pictures) == (["c"], ["http://a.example/b.jpg"])

    def test_parts_are_row_groups_and_rows_keep_their_numbers(self, tmp_path: Path) -> None:
        pq.write_table(pa.table({"text": [f"t{n}" for n in range(95)]}), tmp_path / "t.parquet", row_group_size=10)
        there = read(tmp_path / "t.parquet", tmp_path, part_items=25)
        assert (there.parts, there.texts) == (4, [f"t{n}" for n in range(95)])
        assert there.names == [f"t.parquet:{n + 1}" for n in range(95)]

    def test_a_damaged_row_group_costs_its_own_rows(self, tmp_path: Path) -> None:
        file = tmp_path / "t.parquet"
        values = [os.urandom(500).hex() for _ in range(90)]
        pq.write_table(pa.table({"text": values}), file, row_group_size=30, use_dictionary=False)
        content = bytearray(file.read_bytes())
        start = pq.read_metadata(file).row_group(1).column(0).data_page_offset
        content[start : start + 40] = b"\xff" * 40
        file.write_bytes(content)
        there = read(file, tmp_path)
        assert there.names == [f"t.parquet:{n + 1}" for n in range(90)]
        assert [*there.problems] == there.names[30:60]
        assert set(there.problems.values()) == {next(iter(there.problems.values()))}
        assert "row group 1 of the file is damaged" in there.problems["t.parquet:31"]
        assert there.texts[:30] + there.texts[60:] == values[:30] + values[60:]

    def test_a_damaged_file_of_a_folder_is_named_and_the_others_go_on(self, tmp_path: Path) -> None:
        (tmp_path / "in" / "sub").mkdir(parents=True)
        pq.write_table(pa.table({"text": ["a"], "n": [1]}), tmp_path / "in" / "a.parquet")
        (tmp_path / "in" / "b.parquet").write_bytes(b"PAR1" + b"x" * 50)
        pq.write_table(pa.table({"n": [1]}), tmp_path / "in" / "c.parquet")
        pq.write_table(pa.table({"text": ["d"], "m": [2.5]}), tmp_path / "in" / "sub" / "d.parquet")
        pq.write_table(pa.table({"text": ["e"], "n": ["no number"]}), tmp_path / "in" / "sub" / "e.parquet")
        (tmp_path / "in" / "_SUCCESS").write_bytes(b"")
        (tmp_path / "in" / "_metadata.parquet").write_bytes(b"x")
        there = read(tmp_path / "in", tmp_path)
        assert there.names == ["a.parquet:1", "sub/d.parquet:1"]
        assert there.own.to_pylist() == [{"n": 1, "m": None}, {"n": None, "m": 2.5}]
        assert [*there.left_out] == ["b.parquet", "c.parquet", "sub/e.parquet"]
        assert "has no column with a usual name, but n: pass --image-column" in there.left_out["c.parquet"]
        assert "its columns don't fit" in there.left_out["sub/e.parquet"]

    def test_files_with_other_types_get_a_common_one(self, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        columns = [
            {"n": pa.array([1, 2**60]), "s": [{"a": 1}, None], "d": pa.array([1, 2], pa.decimal128(5, 2))},
            {"n": pa.array([1.5, None]), "s": [{"a": 2, "b": "x"}, None], "d": pa.array([3, None], pa.decimal128(9, 4))},
            {"n": pa.nulls(2), "s": pa.nulls(2), "d": pa.nulls(2)},
        ]
        for number, own in enumerate(columns):
            pq.write_table(pa.table({"text": ["a", "b"], **own}), tmp_path / "in" / f"{number}.parquet")
        there = read(tmp_path / "in", tmp_path)
        assert (there.left_out, there.problems) == ({}, {})
        assert there.own["n"].to_pylist() == [1.0, None, 1.5, None, None, None]
        assert there.own["s"].to_pylist()[:3] == [{"a": 1, "b": None}, None, {"a": 2, "b": "x"}]
        assert there.own["d"].to_pylist() == [1, 2, 3, None, None, None]
        assert there.notes == {"0.parquet:2": "its n doesn't fit double, which other files need, and is left away"}

    def test_a_text_that_is_no_unicode_costs_itself(self, tmp_path: Path) -> None:
        def texts(*values: bytes) -> pa.Array:
            return pa.array(values, pa.binary()).view(pa.string())

        table = {
            "path": texts(b"a.jpg", b"\xff", b"c.jpg"),
            "caption": texts(b"a", b"b", b"\xff"),
            "own": texts(b"\xff", b"y", b"z"),
        }
        pq.write_table(pa.table(table), tmp_path / "t.parquet")
        there = read(tmp_path / "t.parquet", tmp_path)
        assert there.texts == ["a", "b", None]
        assert there.own["own"].to_pylist() == [None, "y", "z"]
        assert there.problems == {"t.parquet:2": "its path isn't UTF-8, and is left away: write the table again"}
        assert {*there.notes} == {"a.jpg", "c.jpg", "t.parquet:2"}

    @pytest.mark.parametrize(
        ("columns", "options", "message"),
        [
            ({"a": [1], "b": ["x"]}, {}, "has no column with a usual name, but a, b: pass --image-column or --caption-column"),
            ({"a": [1], "b": ["x"]}, {"image_column": "c"}, "has no column c: it has a, b"),
            (
                {"a": [1], "b": ["x"]},
                {"image_column": "a"},
                "has int64 in its column a: expected paths, URLs or encoded pictures",
            ),
            ({"a": [["x"]], "b": ["x"]}, {"caption_column": "a"}, r"has list<.*string> in its column a: expected strings"),
            ({"url": pa.array([], pa.string())}, {}, "has no rows"),
            ({}, {}, "has no column with a usual name, but no columns at all"),
        ],
    )
    def test_a_table_that_does_not_fit_is_refused(
        self, columns: dict[str, Any], options: dict[str, Any], message: str, tmp_path: Path
    ) -> None:
        pq.write_table(pa.table(columns), tmp_path / "t.parquet")
        with pytest.raises(InvalidInput, match=message):
            read(tmp_path / "t.parquet", tmp_path, **options)


def test_a_table_that_was_changed_after_it_was_planned_is_told(tmp_path: Path) -> None:
    def plan(file: Path) -> tuple[Any, Any, Any]:
        source = source_of(str(file), InputOptions())
        planned = source.plan(10)
        return source, planned.parts[-1], planned.schema

    file = tmp_path / "t.parquet"
    pq.write_table(pa.table({"text": ["a"] * 20}), file, row_group_size=10)
    source, part, schema = plan(file)
    for table in (pa.table({"text": ["a"] * 10}), pa.table({"text": ["a"] * 19}), pa.table({"other": ["a"] * 20})):
        pq.write_table(table, file, row_group_size=10)
        with pytest.raises(Unavailable, match=r"t\.parquet isn't as it was planned .*: put it back, or choose another output"):
            list(source.chunks(part, schema, place(str(tmp_path / "out"))))
    file.write_bytes(b"no parquet")
    with pytest.raises(Unavailable, match="isn't as it was planned"):
        list(source.chunks(part, schema, place(str(tmp_path / "out"))))


def csv_of(*rows: list[Any], **options: Any) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, **options).writerows(rows)
    return text.getvalue()


class TestCsv:
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252"])
    @pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
    def test_any_encoding_and_separator(self, encoding: str, delimiter: str, tmp_path: Path) -> None:
        rows = [["path", "caption", "n"], ["a.jpg", 'a café, "quoted";\nin two | lines', 1], ["b.jpg", "", ""]]
        (tmp_path / "t.csv").write_bytes(csv_of(*rows, delimiter=delimiter).encode(encoding))
        there = read(tmp_path / "t.csv", tmp_path)
        assert there.texts == ['a café, "quoted";\nin two | lines', None]
        assert there.pictures == [str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg")]
        assert there.own.to_pylist() == [{"path": "a.jpg", "n": 1}, {"path": "b.jpg", "n": None}]

    def test_types_are_told_by_the_whole_file(self, tmp_path: Path) -> None:
        rows = [[f"{n}.jpg", n, n, n, f"0{n}", ""] for n in range(2500)]
        rows[2400][2], rows[2450][3] = "1.5e3", "n/a"
        (tmp_path / "t.csv").write_text(csv_of(["file", "whole", "number", "mixed", "code", "empty"], *rows))
        own = read(tmp_path / "t.csv", tmp_path).own
        assert own.schema.types == [pa.string(), pa.int64(), pa.float64(), pa.string(), pa.string(), pa.string()]
        assert own["number"].to_pylist()[2399:2402] == [2399.0, 1500.0, 2401.0]
        assert own["code"].to_pylist()[:2] == ["00", "01"]

    def test_messy_rows_cost_themselves(self, tmp_path: Path) -> None:
        lines = [
            "file,caption,n", "a.jpg,good,1", 'b.jpg,5" wide,2', "c.jpg", "d.jpg,x,4,5,6", "", ",no picture,7",
            "e.jpg,z\0ero,8",
            'f.jpg,"never closed,9', "g.jpg,last,10",
        ]  # fmt: skip
        (tmp_path / "t.csv").write_text("\r\n".join(lines))
        there = read(tmp_path / "t.csv", tmp_path)
        assert there.names == ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "t.csv:7", "e.jpg", "f.jpg", "g.jpg"]
        assert there.texts == ["good", '5" wide', None, "x", "no picture", "z\ufffdero", '"never closed', "last"]
        assert there.own["n"].to_pylist() == [1, 2, None, 4, 7, 8, 9, 10]
        assert there.problems == {"e.jpg": "the line has a zero byte: save the file as UTF-8 without any"}
        assert "cells, the header 3: the last ones are left away" in there.notes["d.jpg"]
        assert "line 9 has a quote in the middle" in there.notes["f.jpg"]
        assert {*there.notes} == {"d.jpg", "f.jpg"}

    def test_a_byte_of_another_encoding_costs_its_line(self, tmp_path: Path) -> None:
        euc = b"file,caption\na.jpg,ok\n" + "b.jpg,日本語テキスト\n".encode("euc_jp") + b"c.jpg,ok\n"
        (tmp_path / "t.csv").write_bytes(euc)
        there = read(tmp_path / "t.csv", tmp_path)
        assert (len(there.names), len(there.problems)) == (3, 1)
        assert "save it as UTF-8" in next(iter(there.problems.values()))

    def test_files_with_other_headers_are_one_table(self, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "a.csv").write_text("file,n\na.jpg,1\n")
        (tmp_path / "in" / "b.tsv").write_text("m\tfile\nx\tb.jpg\n")
        (tmp_path / "in" / "c.csv").write_text("")
        (tmp_path / "in" / "d.csv").write_text("m,o\n1,2\n")
        there = read(tmp_path / "in", tmp_path)
        assert there.own.to_pylist() == [{"file": "a.jpg", "n": 1, "m": None}, {"file": "b.jpg", "n": None, "m": "x"}]
        assert there.left_out["c.csv"] == "is empty: expected a header and rows"
        assert there.left_out["d.csv"].startswith("has no column with a usual name, but m, o")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("", "is empty"),
            ("file,caption\n", "has no rows"),
            ("\n\n", "is empty"),
            ("a;b\n1;2\n", "but a, b: pass --image-column"),
        ],
    )
    def test_nothing_to_embed_is_said(self, content: str, message: str, tmp_path: Path) -> None:
        (tmp_path / "t.csv").write_text(content)
        with pytest.raises(InvalidInput, match=message):
            read(tmp_path / "t.csv", tmp_path)

    def test_pictures_in_base64_are_taken_and_not_copied(self, tmp_path: Path) -> None:
        encoded = base64.b64encode(JPEGS[0]).decode()
        (tmp_path / "t.csv").write_text(
            csv_of(["image", "n"], [encoded, 1], [f"data:image/jpeg;base64,{encoded}", 2], ["/9j/a.jpg", 3])
        )
        there = read(tmp_path / "t.csv", tmp_path)
        assert there.pictures == [JPEGS[0], JPEGS[0], "/9j/a.jpg"]
        assert there.own.to_pylist() == [{"image_": None, "n": 1}, {"image_": None, "n": 2}, {"image_": "/9j/a.jpg", "n": 3}]


class TestJsonLines:
    def test_broken_lines_cost_themselves(self, tmp_path: Path) -> None:
        lines = [
            '{"url": "http://a.example/b.jpg", "caption": "a", "n": 1}', '{"url": "http://a.exa', "[1]", "", "17",
            '{"url": 5}', '{"url": null, "n": "text"}', '{"url": "\\ud800"}',
            '{"url": "x.jpg", "caption": ["l"], "new": {"a": 1}}',
            '{"url": "y.jpg", "caption": "\\ud800", "\\ud800": 1}',
        ]  # fmt: skip
        (tmp_path / "t.jsonl").write_text("\n".join(lines))
        there = read(tmp_path / "t.jsonl", tmp_path)
        assert len(there.names) == 9
        assert there.pictures[-2:] == [str(tmp_path / "x.jpg"), str(tmp_path / "y.jpg")]
        assert [*there.problems] == ["t.jsonl:2", "t.jsonl:3", "t.jsonl:5", "t.jsonl:6", "t.jsonl:8"]
        assert "the line isn't JSON" in there.problems["t.jsonl:2"]
        assert "the line holds a list: expected an object" in there.problems["t.jsonl:3"]
        assert "has a int as its picture" in there.problems["t.jsonl:6"]
        assert [*there.notes] == ["x.jpg", "y.jpg"]
        assert there.own["n"].to_pylist()[0] == "1"

    def test_fields_named_as_ours_get_names_of_their_own(self, tmp_path: Path) -> None:
        row = {"url": "x.jpg", "text": 1, "text_": 2, "image_path": 3, "other_fields": 4, "caption": "c", "": 5}
        (tmp_path / "t.jsonl").write_text(f"{json.dumps(row)}\n")
        there = read(tmp_path / "t.jsonl", tmp_path)
        expected = {"url": "x.jpg", "text__": 1, "text_": 2, "image_path_": 3, "other_fields_": 4, "": 5, "other_fields": None}
        assert there.own.to_pylist() == [expected]

    def test_any_number_of_fields_is_kept(self, tmp_path: Path) -> None:
        rows = [{"url": "x.jpg", **{f"k{n}": n for n in range(3000)}}, {"url": "y.jpg", "late": [1]}]
        (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
        own = read(tmp_path / "t.jsonl", tmp_path).own.to_pylist()
        assert (len(own[0]), own[0]["k998"]) == (1001, 998)
        assert json.loads(own[0]["other_fields"]) == {f"k{n}": n for n in range(999, 3000)}
        assert json.loads(own[1]["other_fields"]) == {"late": [1]}

    def test_encoded_pictures_are_in_base64(self, tmp_path: Path) -> None:
        encoded = base64.b64encode(JPEGS[0]).decode()
        rows = [{"image": {"bytes": encoded, "path": "x.jpg"}, "n": 1}, {"image": {"bytes": "!", "path": "y.jpg"}, "n": 2}]
        (tmp_path / "t.ndjson").write_text("\n".join(map(json.dumps, rows)))
        there = read(tmp_path / "t.ndjson", tmp_path)
        assert (there.pictures[0], there.names[0], there.own.column_names) == (JPEGS[0], "x.jpg", ["n", "other_fields"])
        assert "bytes that aren't base64" in there.problems["t.ndjson:2"]

    @pytest.mark.parametrize(
        ("content", "message"),
        [("[\n{}]", "holds a JSON array"), ("{\n}", "the line isn't JSON"), ("", "has no rows"), ('{"a": 1}', "but a: pass")],
    )
    def test_other_json_is_refused(self, content: str, message: str, tmp_path: Path) -> None:
        (tmp_path / "t.json").write_text(content)
        with pytest.raises(InvalidInput, match=message):
            read(tmp_path / "t.json", tmp_path)


def test_lists_may_have_blank_lines_comments_and_quotes(tmp_path: Path) -> None:
    lines = [
        "\ufeff# pictures",
        "",
        "  a.jpg  ",
        '"b c.jpg"',
        "http://a.example/d.jpg?x=1#y",
        "file:///tmp/e%20f.jpg",
        "'g.jpg'",
        "/h.jpg",
    ]
    (tmp_path / "l.txt").write_bytes("\r\n".join(lines).encode())
    there = read(tmp_path / "l.txt", tmp_path)
    assert there.pictures == [
        *(str(tmp_path / name) for name in ("a.jpg", "b c.jpg")), "http://a.example/d.jpg?x=1#y", "/tmp/e f.jpg",
        str(tmp_path / "g.jpg"), "/h.jpg",
    ]  # fmt: skip
    (tmp_path / "empty.txt").write_text("\n# nothing\n")
    with pytest.raises(InvalidInput, match="names no picture"):
        read(tmp_path / "empty.txt", tmp_path)


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz"])
def test_texts_may_be_compressed_and_end_early(ending: str, tmp_path: Path) -> None:
    lines = [f"{os.urandom(20).hex()}.jpg" for _ in range(30_000)]
    file = tmp_path / f"l.txt.{ending}"
    with fsspec.open(f"file://{file}", "wb", compression="infer") as opened:
        opened.write("\n".join(lines).encode())
    assert read(file, tmp_path, 100_000).names == lines
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 3 // 4])
    there = read(file, tmp_path, 100_000)
    assert there.names == lines[: len(there.names)]
    assert "ends early or is damaged after line" in there.left_out[file.name]


class TestKinds:
    def test_a_location_tells_its_kind(self, folder: Path, tmp_path: Path) -> None:
        for name in ("t.parquet", "t.csv", "t.tsv.gz", "t.jsonl", "t.json", "l.txt", "s.tar", "s.tar.gz"):
            (folder / name).write_bytes(b"")
        expected = {
            "t.parquet": "parquet",
            "t.csv": "csv",
            "t.tsv.gz": "csv",
            "t.jsonl": "jsonl",
            "t.json": "jsonl",
            "l.txt": "list",
        }
        expected |= {
            "s.tar": "webdataset",
            "s.tar.gz": "webdataset",
            "photos": "files",
            "*.parquet": "parquet",
            "{a,b}.csv": "csv",
        }
        assert {name: source_of(str(folder / name), InputOptions()).kind for name in expected} == expected
        assert source_of(f"file://{folder}/t.csv", InputOptions()).settings["location"] == str(folder / "t.csv")

    def test_a_folder_is_told_by_what_lies_in_it(self, tmp_path: Path) -> None:
        def kind(*names: str) -> str:
            folder = tmp_path / str(len(list(tmp_path.iterdir())))
            for name in names:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(b"")
            return source_of(str(folder), InputOptions()).kind

        assert kind("00000.tar", "00001.tar", "00000.parquet", "00000_stats.json") == "webdataset"
        assert kind("a.jpg", "a.txt", "metadata.csv", "sub/captions.parquet") == "files"
        assert kind("a.parquet", "sub/b.parquet", "_SUCCESS", ".hidden.csv") == "parquet"
        assert kind("00000.parquet", "00000_stats.json", "00001.parquet", "00001_stats.json") == "parquet"
        assert kind("a_stats.json", "b.json") == "jsonl"
        assert kind("dataset_dict.json", "train/data.arrow") == "dataset"
        assert kind("README.md") == "files"
        with pytest.raises(
            InvalidInput, match=r"is a mixture of pictures \(1\), shards \(1\): pass --input-format, one of files, web"
        ):
            kind("a.jpg", "b.tar")
        with pytest.raises(InvalidInput, match="is a mixture of csv files"):
            kind("a.csv", "b.parquet")
        with pytest.raises(InvalidInput, match=r"is a mixture of files of JSON \(1\), parquet files \(1\)"):
            kind("a.parquet", "b_stats.json")

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("nothing", "nothing is at .*nothing: expected a folder of pictures, .*pass --input-format dataset"),
            (
                "a.docx",
                "the kind of .* can't be told: pass --input-format, one of csv, dataset, files, jsonl, list, parquet, web",
            ),
            ("photos/0.jpg", "is a picture: expected a folder of pictures"),
            ("http://a.example/table", "the kind of http://a.example/table can't be told"),
            ("{a.csv", "braces that don't match"),
            ("none-*.csv", "no tables at"),
            ("memory://none/t.csv", "t.csv nothing is there, or its server can't be reached"),
            ("memory://none/t.parquet", "t.parquet: nothing is there, or its server can't be reached"),
            ("http://127.0.0.1:9/t.jsonl", "t.jsonl nothing is there, or its server can't be reached"),
            ("memory://none", "the kind of memory://none can't be told"),
            ("foo://none/t.csv", "foo://none/t.csv can't be opened: Protocol not known"),
        ],
    )
    def test_what_cannot_be_told_lists_what_is_taken(self, name: str, message: str, folder: Path, tmp_path: Path) -> None:
        (folder / "a.docx").write_bytes(b"")
        with pytest.raises(InvalidInput, match=message):
            read(name if "://" in name else folder / name, tmp_path)


class TestElsewhere:
    def test_tables_and_folders_of_any_file_system(self, folder: Path, tmp_path: Path) -> None:
        memory, url = fsspec.filesystem("memory"), f"memory://{tmp_path.name}"
        (folder / "photos" / "0.txt").write_text("zero")
        (folder / "photos" / "metadata.csv").write_text("file_name,caption,n\n1.jpg,one,1\nnone.jpg,x,2\n")
        pq.write_table(pa.table({"file": ["photos/0.jpg", "photos/1.jpg"]}), folder / "t.parquet")
        (folder / "t.jsonl").write_text('{"file": "photos/0.jpg"}\n{"file": "photos/1.jpg"}')
        (folder / "l.txt").write_text("photos/0.jpg\nphotos/1.jpg")
        memory.put(str(folder), f"/{tmp_path.name}", recursive=True)
        for name in ("t.parquet", "t.jsonl", "l.txt"):
            assert read(f"{url}/{name}", tmp_path).pictures == [f"{url}/photos/0.jpg", f"{url}/photos/1.jpg"]
        for n in range(2):
            memory.pipe_file(f"/{tmp_path.name}/shards/sub/{n}.tar", tar_of({f"{n}.jpg": JPEGS[n]}))
        assert read(f"{url}/shards", tmp_path).pictures == JPEGS[:2]
        here, there = read(folder / "photos", tmp_path), read(f"{url}/photos", tmp_path)
        assert [path.rpartition("/")[2] for path in there.pictures] == here.names == there.names
        assert here.texts == there.texts == ["zero", "one", None, None, None, None]
        assert here.own.equals(there.own)
        assert [*here.left_out] == [*there.left_out] == ["metadata.csv: 'none.jpg'"]

    def test_a_bucket(self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: Path) -> None:
        pq.write_table(pa.table({"file": [f"photos/{n}.jpg" for n in range(7)]}), folder / "t.parquet")
        (folder / "photos" / "0.txt").write_text("zero")
        with s3(monkeypatch) as bucket:
            import obstore
            from obstore.store import from_url

            there = from_url(bucket)
            for file in folder.rglob("*.*"):
                obstore.put(there, f"in/{file.relative_to(folder)}", file)
            status, books, rows, errors = embedded(f"{bucket}/in/t.parquet", tmp_path / "table", repository)
            assert (status, books["taken"], books["left_out"]) == (1, 6, 1)
            assert errors["item"].to_pylist() == ["photos/6.jpg"]
            assert "nothing is at s3://bucket/in/photos/6.jpg" in errors["reason"][0].as_py()
            _, books, others, _ = embedded(f"{bucket}/in/photos", tmp_path / "folder", repository)
            assert (books["taken"], others["caption"][0].as_py()) == (6, "zero")
            np.testing.assert_array_equal(vectors(rows), vectors(others))

    def test_a_table_that_was_downloaded_reads_no_local_file(self, folder: Path, tmp_path: Path, repository: Path) -> None:
        secret = folder / "photos" / "0.jpg"
        named = [f"{secret}", f"file://{secret}", f"file:{secret}", f"FILE://localhost{secret}", f"local://{secret}",
                 f"simplecache::file://{secret}", f"s3://bucket/x::file://{secret}", f"dir://x::file://{secret}",
                 f"reference://x?fo=file://{secret}", f"sftp://127.0.0.1{secret}", f"memory://{secret}",
                 f"\\\\{secret}"]  # fmt: skip
        table = io.BytesIO()
        pq.write_table(pa.table({"image": [*named, "good.jpg"]}), table)
        lines = "\n".join(json.dumps({"image": name}) for name in [*named, "good.jpg"])
        files = {
            "/t.parquet": table.getvalue(), "/t.csv": csv_of(["image"], *([n] for n in named), ["good.jpg"]).encode(),
            "/l.txt": "\n".join([*named, "good.jpg"]).encode(), "/t.jsonl": lines.encode(), "/good.jpg": JPEGS[1],
        }  # fmt: skip
        with http_files(files) as url:
            for name in ("t.parquet", "t.csv", "t.jsonl", "l.txt"):
                _, books, rows, errors = embedded(f"{url}/{name}", tmp_path / name, repository, *LOCAL)
                assert (books["taken"], books["left_out"]) == (1, len(named)), errors.to_pylist()
                assert rows["image_path"].to_pylist() == [f"{url}/good.jpg"]


def tar_of(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name, body in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    return content.getvalue()


def vectors(rows: pa.Table, tower: str = "image") -> Any:
    return np.array(rows[tower].to_pylist(), np.float32)


class TestDatasets:
    @pytest.fixture
    def saved(self, folder: Path, tmp_path: Path) -> Path:
        paths = [str(folder / "photos" / f"{n}.jpg") for n in range(6)]
        rows = datasets.Dataset.from_dict({"image": paths, "label": [n % 2 for n in range(6)], "text": ["t"] * 6})
        rows = rows.cast_column("image", datasets.Image()).cast_column("label", datasets.ClassLabel(names=["a", "b"]))
        datasets.DatasetDict({"train": rows, "test": rows.select(range(2))}).save_to_disk(tmp_path / "saved")
        return tmp_path / "saved"

    def test_pictures_are_not_decoded(self, saved: Path, tmp_path: Path) -> None:
        there = read(saved, tmp_path, part_items=4, split="train")
        assert (there.pictures, there.parts) == (JPEGS, 2)
        assert there.own.to_pylist() == [{"label": n % 2} for n in range(6)]
        assert read(saved / "test", tmp_path).pictures == JPEGS[:2]

    def test_selected_and_sorted_rows_stay_so(self, saved: Path, tmp_path: Path) -> None:
        rows = datasets.load_from_disk(saved / "train").select([5, 0, 3])
        rows.save_to_disk(tmp_path / "some")
        assert read(tmp_path / "some", tmp_path).pictures == [JPEGS[5], JPEGS[0], JPEGS[3]]

    def test_a_split_is_asked_for(self, saved: Path, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput, match="has the splits train, test: pass --split"):
            read(saved, tmp_path)
        with pytest.raises(InvalidInput, match="has the splits train, test, not other: pass --split"):
            read(saved, tmp_path, split="other")

    def test_a_name_is_loaded(self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "org" / "name").mkdir(parents=True)
        pq.write_table(pa.table({"image": [{"bytes": JPEGS[0], "path": "x.jpg"}]}), tmp_path / "org" / "name" / "train.parquet")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
        assert read("org/name", tmp_path, kind="dataset").pictures == [JPEGS[0]]

    def test_a_data_set_of_a_hub_names_no_other_local_files(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        cache, secret = tmp_path / "cache", tmp_path / "secret.jpg"
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
        refer = _references("org/name")
        assert refer.picture(str(cache / "downloads" / "x.jpg")) == str(cache / "downloads" / "x.jpg")
        for named in (secret, f"file://{secret}", cache / ".." / "secret.jpg", "../secret.jpg"):
            with pytest.raises(InvalidInput, match="is a file of this machine, named by a table that was downloaded"):
                refer.picture(str(named))

    def test_what_cannot_be_loaded_is_one_line(self, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
        with pytest.raises(
            InvalidInput, match=r"^no/such-name can't be loaded .*expected a folder of save_to_disk, or a name on a hub"
        ):
            read("no/such-name", tmp_path, kind="dataset")
        next((saved / "test").glob("*.arrow")).write_bytes(b"no arrow")
        with pytest.raises(InvalidInput, match=r"can't be loaded \([^\n]+\): look at it with datasets itself$"):
            read(saved / "test", tmp_path)

    def test_without_the_library_the_extra_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "datasets", None)
        with pytest.raises(Unavailable, match=r"pip install 'clipserve\[datasets\]'"):
            read("some/name", tmp_path, kind="dataset")


def test_every_input_gives_the_same_embeddings(folder: Path, tmp_path: Path, repository: Path) -> None:
    with Clip.local(repository) as clip:
        expected = clip.embed_image([*JPEGS])
        texts = clip.embed_text([f"text {n}" for n in range(6)])
    names, captions = [f"photos/{n}.jpg" for n in range(6)], [f"text {n}" for n in range(6)]
    pq.write_table(pa.table({"image": JPEGS, "text": captions}), folder / "bytes.parquet", row_group_size=4)
    pq.write_table(pa.table({"path": names, "text": captions}), folder / "paths.parquet")
    (folder / "t.csv").write_text(csv_of(["path", "text"], *zip(names, captions, strict=True)))
    (folder / "t.jsonl").write_text("\n".join(json.dumps({"path": n, "text": t}) for n, t in zip(names, captions, strict=True)))
    for name in ("bytes.parquet", "paths.parquet", "t.csv", "t.jsonl"):
        status, _, rows, errors = embedded(folder / name, tmp_path / f"out-{name}", repository, "--part-items", "4")
        assert (status, errors.num_rows) == (0, 0)
        np.testing.assert_allclose(vectors(rows), expected, atol=2e-3)
        np.testing.assert_allclose(vectors(rows, "text"), texts, atol=2e-3)
    _, books, rows, _ = embedded(folder / "t.csv", tmp_path / "texts", repository, "--towers", "text")
    assert (books["taken"], "image" in rows.column_names) == (6, False)
    np.testing.assert_allclose(vectors(rows, "text"), texts, atol=2e-3)


@pytest.mark.parametrize("form", ["parquet", "clip-retrieval"])
def test_own_columns_reach_the_output(form: str, folder: Path, tmp_path: Path, repository: Path) -> None:
    table = pa.table({"path": ["photos/0.jpg", "none.jpg", "photos/1.jpg"], "caption": ["zero", "x", None], **OWN})
    pq.write_table(table, folder / "t.parquet")
    output = tmp_path / "out"
    options = ["--repository", str(repository), "--format", form, "--towers", "image"]
    assert cli.main([str(folder / "t.parquet"), str(output), *options]) == 1
    rows = pq.read_table(output / "part-0.parquet" if form == "parquet" else output / "metadata" / "metadata_0.parquet")
    assert rows.select([*OWN]).equals(table.select([*OWN]).take(pa.array([0, 2])))
    assert rows["caption"].to_pylist() == ["zero", None]


def test_the_books_balance_over_bad_rows(folder: Path, tmp_path: Path, repository: Path) -> None:
    (folder / "bomb.png").write_bytes(bomb())
    (folder / "no-picture.jpg").write_bytes(b"text")
    paths = ["photos/0.jpg", "photos/0.jpg", None, "bomb.png", "no-picture.jpg", "missing.jpg", "photos", "", "photos/1.jpg"]
    pq.write_table(pa.table({"path": paths, "n": range(len(paths))}), folder / "t.parquet")
    status, books, rows, errors = embedded(folder / "t.parquet", tmp_path / "out", repository)
    assert (status, books["read"], books["taken"], books["left_out"]) == (1, 9, 3, 6)
    assert rows["n"].to_pylist() == [0, 1, 8]
    assert errors["item"].to_pylist() == ["t.parquet:3", "bomb.png", "no-picture.jpg", "missing.jpg", "photos", "t.parquet:8"]
    np.testing.assert_array_equal(vectors(rows)[0], vectors(rows)[1])


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["csv", "jsonl", "txt", "parquet"])
def test_memory_is_flat_over_a_long_table(ending: str, tmp_path: Path) -> None:
    code = """
import resource, sys, time
sys.path[:0] = sys.argv[3].split(":")
from pathlib import Path

from clip_embed.inputs.dataset import _references
from clip_embed.inputs.kinds import source_of
from clip_embed.inputs.lists import store
from clip_embed.inputs.options import InputOptions
from clip_embed.places import place
source = source_of(sys.argv[1], InputOptions())
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
plan, output = source.plan(10_000), place(sys.argv[2])
rows = sum(len(chunk) for part in store(output, plan) for chunk in source.chunks(part, plan.schema, output))
print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, (time.process_time() - start) / rows)
"""
    file, count = tmp_path / f"t.{ending}", 500_000
    write_long(file, count)
    argv = [sys.executable, "-c", code, str(file), str(tmp_path / "out"), os.pathsep.join(sys.path)]
    told = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
    assert int(told[0]) == count
    assert int(told[1]) < 150 * 1024, told  # kilobytes
    assert float(told[2]) < 1e-4, told  # seconds a row


def write_long(file: Path, count: int) -> None:
    paths, captions = (f"p/{n}.jpg" for n in range(count)), (f"a caption of some words {n}" for n in range(count))
    if file.suffix == ".parquet":
        pq.write_table(pa.table({"path": [*paths], "caption": [*captions]}), file, row_group_size=100_000)
        return
    with file.open("w", newline="") as opened:
        if file.suffix == ".csv":
            csv.writer(opened).writerows([("path", "caption"), *zip(paths, captions, strict=True)])
        elif file.suffix == ".jsonl":
            opened.writelines(json.dumps({"path": p, "caption": c}) + "\n" for p, c in zip(paths, captions, strict=True))
        else:
            opened.writelines(f"{path}\n" for path in paths)
