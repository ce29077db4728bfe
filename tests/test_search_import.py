"""``clipserve search import``: what a folder holds goes in, what can't is named, and the books balance."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sidecars
from sidecars import Sidecar, unit

from clip_client.search import Row
from clip_search.cli import parser

NOBODY = "127.0.0.1:9"
SIZE = 8
Import = Callable[..., tuple[str, str]]


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A sidecar without a Triton, that takes 4 MB at once."""
    with sidecars.running(tmp_path_factory.mktemp("import"), NOBODY, "--body-mb", "4") as sidecar:
        yield sidecar


@pytest.fixture
def run(sidecar: Sidecar, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Import]:
    """A verb on collection ``c``, which is dropped afterwards: standard output and error."""

    def run(verb: str, *arguments: object, status: int = 0) -> tuple[str, str]:
        where = ["--url", sidecar.url, "--collection", "c"]
        ended = parser.main([verb, *where, *map(str, arguments)])
        told = capfd.readouterr()
        assert ended == status, told
        return told.out, told.err

    yield run
    with sidecar.client() as search:
        for collection in search.collections():
            search.drop(collection["name"])


def write(
    folder: Path, vectors: Sequence[np.ndarray | bytes], tables: Sequence[pa.Table | bytes], kind: str = "img_emb"
) -> Path:
    """A folder of clip-retrieval's; bytes are written as they are."""
    for name in (kind, "metadata"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for n, part in enumerate(vectors):
        path = folder / kind / f"{kind}_{n}.npy"
        path.write_bytes(part) if isinstance(part, bytes) else np.save(path, part)
    for n, table in enumerate(tables):
        path = folder / "metadata" / f"metadata_{n}.parquet"
        path.write_bytes(table) if isinstance(table, bytes) else pq.write_table(table, path)
    return folder


def kept(sidecar: Sidecar) -> dict[str, dict[str, Any]]:
    """Metadata by id, without nulls."""
    with sidecar.client() as search:
        rows = search.rows("c")
        return {row["id"]: {name: value for name, value in row["metadata"].items() if value is not None} for row in rows}


def columns(sidecar: Sidecar) -> dict[str, str]:
    with sidecar.client() as search:
        return search.stats("c")["columns"]


def errors(path: Path) -> dict[str, str]:
    return {one["item"]: one["reason"] for one in map(json.loads, path.read_text().splitlines())}


UTC = timezone.utc
COLUMNS = [
    (pa.array([1, None], pa.int8()), "int", [1, None]),
    (pa.array([2**32 - 1, None], pa.uint32()), "int", [2**32 - 1, None]),
    (pa.array([2**64 - 1, None], pa.uint64()), "uint", [2**64 - 1, None]),
    (pa.array([1.5, None], pa.float32()), "float", [1.5, None]),
    (pa.array(np.array([1.5, 2], np.float16)), "float", [1.5, 2]),
    (pa.array([True, None]), "bool", [True, None]),
    (pa.array(["a\u00e9\u0000", None], pa.large_string()), "string", ["a\u00e9\u0000", None]),
    (pa.array(["x", "x"]).dictionary_encode(), "string", ["x", "x"]),
    (pa.array([date(2024, 5, 1), None]), "date", ["2024-05-01", None]),
    (pa.array([date(2024, 5, 1), None], pa.date64()), "date", ["2024-05-01", None]),
    (pa.array([datetime(2024, 5, 1, 1), None]), "timestamp", ["2024-05-01T01:00:00+00:00", None]),
    (pa.array([None, 1500], pa.timestamp("ns", "Asia/Tokyo")), "timestamp", [None, "1970-01-01T00:00:00.000001+00:00"]),
    (pa.array([b"\x00\xff", None]), "binary", ["AP8=", None]),
    (pa.array([b"ab", None], pa.binary(2)), "binary", ["YWI=", None]),
    (pa.array([Decimal("1.50"), None], pa.decimal128(10, 2)), "decimal(10,2)", ["1.50", None]),
    (pa.array([Decimal("1.5"), None], pa.decimal256(60, 1)), "string", ["1.5", None]),
    (pa.array([["a", None], []]), "list<string>", [["a", None], []]),
    (pa.array([[1], None], pa.list_(pa.int16())), "list<int>", [[1], None]),
    (pa.array([[1.5, float("nan")], None], pa.large_list(pa.float32())), "list<float>", [[1.5, None], None]),
    (pa.array([[True], [False]]), "list<bool>", [[True], [False]]),
    (pa.array([{"a": 1, "b": ["\u00e9"]}, None]), "string", ['{"a": 1, "b": ["\u00e9"]}', None]),
    (pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64())), "string", ['[["k", 1]]', "[]"]),
    (pa.array([[[1]], [[], None]]), "string", ["[[1]]", "[[], null]"]),
    (pa.array([{"t": 1001}, None], pa.struct([("t", pa.duration("ns"))])), "string", ['{"t": "PT0.000001S"}', None]),
    (pa.array([time(1, 2, 3), None]), "string", ["01:02:03.000000", None]),
    (pa.array([timedelta(seconds=1.5), None]), "string", ["PT1.5S", None]),
    (pa.nulls(2), None, [None, None]),
    (pa.array([float("nan"), float("inf")]), "float", [None, None]),
    (pa.array([b"caf\xe9", b"ok"], pa.binary()).view(pa.string()), "string", [None, "ok"]),
]  # fmt: skip


def test_columns_keep_their_types_or_become_json_text(sidecar: Sidecar, run: Import, tmp_path: Path) -> None:
    table = pa.table({f"c{n}": array for n, (array, _, _) in enumerate(COLUMNS)})
    out, err = run("import", write(tmp_path / "in", [unit(2, SIZE)], [table]), "--errors", tmp_path / "errors")
    assert out.splitlines()[-1] == "read 2 = 2 added + 0 unchanged + 0 replaced + 0 left out"
    assert columns(sidecar) == {f"c{n}": kind for n, (_, kind, values) in enumerate(COLUMNS) if values != [None, None]}
    rows = kept(sidecar)
    for n, (_, _, values) in enumerate(COLUMNS):
        assert [rows[id].get(f"c{n}") for id in ("0", "1")] == values, n
    assert err.count("column c20 is kept as JSON text") == 1
    told = errors(tmp_path / "errors")
    assert told["column c27"] == "2 values: not finite: null stands for it"
    assert "no UTF-8" in told["column c28"]
    out, _ = run("import", tmp_path / "in")
    assert out.splitlines()[-1] == "read 2 = 0 added + 2 unchanged + 0 replaced + 0 left out"


def test_names_that_cant_be_columns_are_made_usable(sidecar: Sidecar, run: Import, tmp_path: Path) -> None:
    names = ["clip similarity", "original-width", "id", "time", "source", "Row", "_rowid", "😀", "", "1st", "x" * 70]
    names += ["clip_similarity", "Score", "score", "vector_image", "_distance", "meta_id", "a.b", "a`b", "a\nb", "vector"]
    table = pa.table({name: [n] for n, name in enumerate(names)})
    _, err = run("import", write(tmp_path / "in", [unit(1, SIZE)], [table]))
    expected = ["clip_similarity_2", "original_width", "meta_id_2", "meta_time", "meta_source", "meta_Row", "meta__rowid", "_"]
    expected += ["column", "_1st", "x" * 64, "clip_similarity", "Score", "score_2", "meta_vector_image", "meta__distance"]
    expected += ["meta_id", "a_b", "a_b_2", "a_b_3", "meta_vector"]
    assert kept(sidecar)["0"] == {name: n for n, name in enumerate(expected)}
    assert err.count("column 'clip similarity' is kept as clip_similarity_2") == 1
    run("import", tmp_path / "in")
    assert len(columns(sidecar)) == len(names)
    with sidecar.client() as search:
        assert len(list(search.rows("c", where="original_width = 1 AND meta_id_2 = 2 AND score_2 = 13"))) == 1


@pytest.mark.parametrize(
    ("parts", "kind", "values"),
    [
        ([pa.array([1]), pa.array([1.5])], "float", [1, 1.5]),
        ([pa.array([1.5]), pa.array([2])], "float", [1.5, 2]),
        ([pa.array([1]), pa.array(["x"])], "string", ["1", "x"]),
        ([pa.array([1]), pa.nulls(1), pa.array([2], pa.int8())], "int", [1, None, 2]),
        ([pa.nulls(1), pa.array(["x"])], "string", [None, "x"]),
        ([pa.array([2**64 - 1], pa.uint64()), pa.array([-1])], "string", [str(2**64 - 1), "-1"]),
        ([pa.array([True]), pa.array([1])], "string", ["true", "1"]),
        ([pa.array([Decimal("1.5")]), pa.array([Decimal("100.25")])], "decimal(5,2)", ["1.50", "100.25"]),
        ([pa.array([[1]]), pa.array([[1.5]]), pa.array([[]], pa.list_(pa.float32()))], "list<float>", [[1], [1.5], []]),
        ([pa.array([["a"]]), pa.array(["b"])], "string", ['["a"]', "b"]),
        ([pa.array([date(2024, 5, 1)]), pa.array([1], pa.timestamp("s"))], "string",
         ["2024-05-01", "1970-01-01T00:00:01.000000Z"]),
        ([pa.array([2**53 + 1]), pa.array([0.5])], "float", [None, 0.5]),
        ([pa.array(["x"]).dictionary_encode(), pa.array(["y"])], "string", ["x", "y"]),
    ],
    ids=range(13),
)  # fmt: skip
def test_parts_may_differ(
    sidecar: Sidecar, run: Import, tmp_path: Path, parts: list[pa.Array], kind: str, values: list[Any]
) -> None:
    tables = [pa.table({"c": part, f"only_{n}": [n]}) for n, part in enumerate(parts)]
    out, _ = run("import", write(tmp_path / "in", [unit(1, SIZE, n) for n in range(len(parts))], tables))
    assert f"read {len(parts)} = {len(parts)} added" in out
    assert columns(sidecar)["c"] == kind
    rows = kept(sidecar)
    assert [rows[str(n)].get("c") for n in range(len(parts))] == values
    assert [rows[str(n)][f"only_{n}"] for n in range(len(parts))] == list(range(len(parts)))


def test_a_collection_that_is_there_keeps_its_columns(sidecar: Sidecar, run: Import, tmp_path: Path) -> None:
    kinds = {"a": "int", "b": "string", "Caption": "string", "d": "date", "e": "int"}
    with sidecar.client() as search:
        search.create("c", dimension=SIZE, columns=kinds)
    table = pa.table({"a": [0.5], "b": [1], "caption": ["x"], "d": ["no date"], "e": [3]})
    run("import", write(tmp_path / "in", [unit(1, SIZE)], [table]))
    assert kept(sidecar)["0"] == {"a": 0.5, "b": "1", "Caption": "x", "d_2": "no date", "e": 3}
    assert columns(sidecar) == kinds | {"a": "float", "d_2": "string"}


def test_rows_without_a_direction_are_left_out_by_name(sidecar: Sidecar, run: Import, tmp_path: Path) -> None:
    vectors = unit(6, SIZE)
    vectors[1], vectors[2, 0], vectors[3, 0], vectors[4] = 0, np.nan, np.inf, 1e-20
    folder = write(tmp_path / "in", [vectors], [pa.table({"n": range(6)})])
    out, err = run("import", folder, "--errors", tmp_path / "errors", status=1)
    assert out.splitlines()[-1] == "read 6 = 2 added + 0 unchanged + 0 replaced + 4 left out"
    assert errors(tmp_path / "errors").keys() == {f"row {n}" for n in (1, 2, 3, 4)}
    assert "left out row 2: img_emb has NaN, infinity or length 0 there" in err
    assert kept(sidecar) == {"0": {"n": 0}, "5": {"n": 5}}


def test_a_row_goes_in_by_the_tower_that_has_a_vector(sidecar: Sidecar, run: Import, tmp_path: Path) -> None:
    image, text = unit(3, SIZE), unit(3, SIZE, 1)
    image[0], text[1], image[2], text[2] = 0, np.nan, 0, 0
    write(tmp_path / "in", [image], [])
    write(tmp_path / "in", [text], [], "text_emb")
    out, err = run("import", tmp_path / "in", status=1)
    assert out.splitlines()[-1] == "read 3 = 2 added + 0 unchanged + 0 replaced + 1 left out"
    assert "row 0: img_emb has NaN, infinity or length 0 there: the row goes in without" in err
    with sidecar.client() as search:
        first, second = search.get("c", ["0", "1"], vectors=True)
    np.testing.assert_allclose(first["vector_text"], text[0], atol=1e-6)
    np.testing.assert_allclose(second["vector_image"], image[1], atol=1e-6)
    assert "vector_image" not in first


@pytest.mark.parametrize("dtype", ["<f8", ">f4", "<f2", "int8", "uint16", "<i8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_vectors_of_any_numbers(sidecar: Sidecar, run: Import, tmp_path: Path, dtype: str, order: str) -> None:
    vectors = np.asarray(unit(5, SIZE) * 100, dtype, order=order)
    run("import", write(tmp_path / "in", [vectors], []))
    expected = vectors.astype(np.float32) / np.linalg.norm(vectors.astype(np.float32), axis=1, keepdims=True)
    with sidecar.client() as search:
        rows = search.get("c", [str(n) for n in range(5)], vectors=True)
    np.testing.assert_allclose([row["vector_image"] for row in rows], expected, atol=1e-6)


class _Trap:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("pickled"),))


def npy(array: np.ndarray) -> bytes:
    import io

    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


BAD_VECTORS = [
    (b"", "can't be read"),
    (b"no array", "can't be read"),
    (pickle.dumps(_Trap()), "can't be read"),
    (npy(np.array([_Trap()] * 4, object)), "can't be read"),
    (npy(unit(4, SIZE))[:-10], "can't be read"),
    (npy(unit(4, SIZE)[0]), r"holds float32 \[8\]"),
    (npy(unit(4, SIZE).astype("complex64")), "holds complex64"),
    (npy(unit(4, SIZE).astype("U8")), "holds <U8"),
    (npy(unit(4, SIZE) > 0), "holds bool"),
    (npy(unit(4, SIZE).reshape(4, 2, 4)), r"holds float32 \[4, 2, 4\]"),
    (npy(unit(3, SIZE)), "img_emb_1.npy has 3 rows, metadata/metadata_1.parquet has 4 rows"),
    (npy(unit(5, SIZE)), "which belongs to which can't be told"),
    (npy(unit(4, SIZE - 1)), r"shape \[7\]"),
]


@pytest.mark.parametrize(("bad", "reason"), BAD_VECTORS, ids=range(len(BAD_VECTORS)))
def test_a_bad_file_of_vectors_leaves_its_rows_out(
    sidecar: Sidecar, run: Import, tmp_path: Path, bad: bytes, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tables = [pa.table({"n": range(start, start + 4)}) for start in (0, 4, 8)]
    folder = write(tmp_path / "in", [unit(4, SIZE), bad, unit(4, SIZE, 2)], tables)
    out, _ = run("import", folder, "--errors", tmp_path / "errors", status=1)
    last = re.fullmatch(r"read (\d+) = 8 added \+ 0 unchanged \+ 0 replaced \+ (\d+) left out", out.splitlines()[-1])
    assert last
    lost = int(last[2])
    assert errors(tmp_path / "errors").keys() == {f"row {n}" for n in range(4, 4 + lost)}
    assert all(re.search(reason, one) for one in errors(tmp_path / "errors").values()), errors(tmp_path / "errors")
    assert [row["n"] for row in kept(sidecar).values()] == [0, 1, 2, 3, 8, 9, 10, 11]
    assert set(kept(sidecar)) == {"0", "1", "2", "3", *(str(4 + lost + n) for n in range(4))}
    assert not (tmp_path / "pickled").exists()


def test_a_bad_table_leaves_its_rows_out(sidecar: Sidecar, run: Import, tmp_path: Path) -> None:
    tables = [pa.table({"n": [0, 1]}), b"no parquet", pa.table({"n": [4, 5]})]
    folder = write(tmp_path / "in", [unit(2, SIZE, n) for n in range(3)], tables)
    out, _ = run("import", folder, "--errors", tmp_path / "errors", status=1)
    assert out.splitlines()[-1] == "read 6 = 4 added + 0 unchanged + 0 replaced + 2 left out"
    assert "metadata/metadata_1.parquet can't be read" in errors(tmp_path / "errors")["row 3"]
    pq.write_table(pa.table({"n": [2, 3]}), folder / "metadata" / "metadata_1.parquet")
    out, _ = run("import", folder)
    assert out.splitlines()[-1] == "read 6 = 2 added + 4 unchanged + 0 replaced + 0 left out"
    assert {id: row["n"] for id, row in kept(sidecar).items()} == {str(n): n for n in range(6)}


def test_the_rows_of_a_second_folder_are_not_taken_for_those_of_the_first(
    sidecar: Sidecar, run: Import, tmp_path: Path
) -> None:
    first = write(tmp_path / "a", [unit(3, SIZE, 0)], [pa.table({"n": [0, 1, 2]})])
    second = write(tmp_path / "b", [unit(4, SIZE, 1)], [pa.table({"n": [10, 11, 12, 13]})])
    run("import", first)
    out, _ = run("import", second, "--errors", tmp_path / "errors", status=1)
    assert out.splitlines()[-1] == "read 4 = 1 added + 0 unchanged + 0 replaced + 3 left out"
    assert "id 2 has another vector in c: --prefix TEXT" in errors(tmp_path / "errors")["row 2"]
    out, _ = run("import", second, "--prefix", "b/")
    assert out.splitlines()[-1] == "read 4 = 4 added + 0 unchanged + 0 replaced + 0 left out"
    assert {id: row["n"] for id, row in kept(sidecar).items()} == {"0": 0, "1": 1, "2": 2, "3": 13} | {
        f"b/{n}": 10 + n for n in range(4)
    }
    out, _ = run("import", second, "--prefix", "b/")
    assert out.splitlines()[-1] == "read 4 = 0 added + 4 unchanged + 0 replaced + 0 left out"
    out, _ = run("import", second, "--replace")
    assert out.splitlines()[-1] == "read 4 = 0 added + 0 unchanged + 4 replaced + 0 left out"
    assert [kept(sidecar)[str(n)]["n"] for n in range(4)] == [10, 11, 12, 13]


def test_a_damaged_group_of_rows_leaves_the_others(sidecar: Sidecar, run: Import, tmp_path: Path) -> None:
    folder = write(tmp_path / "in", [unit(400, SIZE)], [])
    path = folder / "metadata" / "metadata_0.parquet"
    texts = [f"{n:050d}" for n in range(400)]
    pq.write_table(pa.table({"t": texts}), path, row_group_size=100, use_dictionary=False, compression="snappy")
    start = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    content = bytearray(path.read_bytes())
    content[start : start + 400] = b"\xff" * 400
    path.write_bytes(content)
    out, _ = run("import", folder, status=1)
    assert out.splitlines()[-1] == "read 400 = 300 added + 0 unchanged + 0 replaced + 100 left out"
    assert {id: row["t"] for id, row in kept(sidecar).items()} == {str(n): texts[n] for n in range(400) if not 100 <= n < 200}


@pytest.mark.parametrize(
    ("vectors", "tables", "message"),
    [
        ([unit(4, SIZE)], [pa.table({"n": [1]})], "nothing in .* can be imported: .*4 rows, .*1 rows"),
        ([b"x"], [], "nothing in .* can be imported: img_emb/img_emb_0.npy can't be read"),
        ([b"x", unit(2, SIZE)], [], "nothing tells how many rows it has"),
        ([unit(2, SIZE), unit(2, SIZE)], [pa.table({"n": range(3)})], "the folder isn't whole"),
        ([unit(2, SIZE), b"x"], [pa.table({"n": range(3)})], "img_emb_1.npy can't be read .*the folder isn't whole"),
        ([], [pa.table({"n": range(3)})], "no vectors in"),
    ],
)
def test_folders_whose_rows_cant_be_told(
    run: Import, tmp_path: Path, vectors: list[Any], tables: list[Any], message: str
) -> None:
    _, err = run("import", write(tmp_path / "in", vectors, tables), status=1)
    assert re.search(message, err.replace("\n", " ")), err


def test_a_damaged_last_file_is_one_item(sidecar: Sidecar, run: Import, tmp_path: Path) -> None:
    out, err = run("import", write(tmp_path / "in", [unit(2, SIZE), b"x"], []), status=1)
    assert out.splitlines()[-1] == "read 3 = 2 added + 0 unchanged + 0 replaced + 1 left out"
    assert "left out rows from 2: img_emb/img_emb_1.npy can't be read" in err


def test_more_columns_than_there_is_room_for(sidecar: Sidecar, run: Import, tmp_path: Path) -> None:
    table = pa.table({f"c{n}": [n] for n in range(300)})
    out, err = run("import", write(tmp_path / "in", [unit(1, SIZE)], [table]))
    assert "read 1 = 1 added" in out
    assert len(columns(sidecar)) == 256 - 12  # the sidecar has twelve of its own
    assert err.count("isn't kept: the collection would have more than 256") == 300 - (256 - 12)


def test_rows_too_large_for_a_request_go_in_by_fewer(sidecar: Sidecar, run: Import, tmp_path: Path) -> None:
    texts = ["x" * 2_000_000, *(f"{n}" * 900_000 for n in range(8)), "y" * 5_000_000]
    out, err = run("import", write(tmp_path / "in", [unit(10, SIZE)], [pa.table({"t": texts})]), status=1)
    assert out.splitlines()[-1] == "read 10 = 9 added + 0 unchanged + 0 replaced + 1 left out"
    assert re.search(r"left out row 9: the body has", err)


def test_sources_are_paths_and_urls(sidecar: Sidecar, run: Import, tmp_path: Path) -> None:
    table = pa.table({"image_path": ["/a.jpg", None, "x" * 5000, ""], "url": ["http://x", "http://y", None, "http://z"]})
    run("import", write(tmp_path / "in", [unit(4, SIZE)], [table]))
    with sidecar.client() as search:
        assert [row["source"] for row in search.rows("c")] == ["/a.jpg", "http://y", None, "http://z"]


KINDS = {
    "s": ("string", "ü\n", None),
    "i": ("int", -(2**63), 5),
    "u": ("uint", 2**64 - 1, 5),
    "f": ("float", 1e-300, 0.1),
    "b": ("bool", True, False),
    "t": ("timestamp", "2024-05-01T12:00:00.000001+00:00", "0001-01-01T00:00:00+00:00"),
    "d": ("date", "9999-12-31", "2024-05-01"),
    "y": ("binary", "AP8=", ""),
    "m": ("decimal(38,10)", "-1234567890123456789012345678.0000000001", "0.0000000000"),
    "ls": ("list<string>", ["a", None], []),
    "li": ("list<int>", [1, -1], []),
    "lf": ("list<float>", [0.1], [None]),
    "lb": ("list<bool>", [True], [False]),
    "meta_id": ("string", "own", "x"),
}


def test_every_kind_survives_an_export_and_an_import(sidecar: Sidecar, run: Import, tmp_path: Path) -> None:
    rows = [{name: values[n] for name, (_, *values) in KINDS.items()} for n in range(2)]
    with sidecar.client() as search:
        search.create("c", dimension=SIZE, columns={name: kind for name, (kind, *_) in KINDS.items()})
        sent = [Row(id=f"r{n}", vector=unit(2, SIZE)[n], metadata=row, source=f"/{n}.jpg") for n, row in enumerate(rows)]
        assert search.add("c", [*sent, Row(id="2", text_vector=unit(1, SIZE, 2)[0])]).errors == {}
    out, _ = run("export", tmp_path / "out")
    assert "1 row has no image vector: img_emb has zeros there" in out
    assert "2 rows have no text vector: text_emb has zeros there" in out
    assert "3 rows exported" in out
    with sidecar.client() as search:
        search.drop("c")
    out, _ = run("import", tmp_path / "out")
    assert out.splitlines()[-1] == "read 3 = 3 added + 0 unchanged + 0 replaced + 0 left out"
    assert columns(sidecar) == {name: kind for name, (kind, *_) in KINDS.items()} | {
        "image_path": "string",
        "meta_id_2": "string",
    }
    with sidecar.client() as search:
        again = search.get("c", ["0", "1", "2"], vectors=True)
    assert [row["source"] for row in again] == ["/0.jpg", "/1.jpg", None]
    for n, row in enumerate(rows):
        assert again[n]["metadata"] == row | {"meta_id_2": f"r{n}", "image_path": f"/{n}.jpg"}
        np.testing.assert_allclose(again[n]["vector_image"], unit(2, SIZE)[n], atol=1e-3)
    assert again[2]["metadata"] == dict.fromkeys([*KINDS, "meta_id_2", "image_path"])
    assert "vector_image" not in again[2]


def test_an_export_is_cut_into_files_and_leaves_none_of_an_earlier_one(
    sidecar: Sidecar, run: Import, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clip_search.cli.clip_retrieval.exporting._PARTITION", 700)
    run(
        "import",
        write(tmp_path / "in", [unit(2000, SIZE)], [pa.table({"n": range(2000), "id": [str(n) for n in range(2000)]})]),
    )
    for name in ("img_emb/img_emb_7.npy", "text_emb/text_emb_0.npy", "metadata/metadata_9.parquet", "text.index"):
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_bytes(b"an earlier one")
    run("export", tmp_path / "out")
    parts = sorted((tmp_path / "out" / "img_emb").iterdir())
    assert [np.load(part).shape for part in parts] == [(700, SIZE), (700, SIZE), (600, SIZE)]
    np.testing.assert_allclose(np.concatenate([np.load(part) for part in parts]), unit(2000, SIZE), atol=1e-3)
    assert pq.read_table(tmp_path / "out" / "metadata")["n"].to_pylist() == list(range(2000))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["image.index", "img_emb", "metadata", "text_emb"]
    assert not list((tmp_path / "out" / "text_emb").iterdir())
    with sidecar.client() as search:
        search.drop("c")
    out, _ = run("import", tmp_path / "out")
    assert "read 2000 = 2000 added" in out
    assert columns(sidecar) == {"n": "int"}


def test_an_empty_collection_is_exported(sidecar: Sidecar, run: Import, tmp_path: Path) -> None:
    with sidecar.client() as search:
        search.create("c", dimension=SIZE)
    assert "0 rows exported" in run("export", tmp_path / "out")[0]


def test_vectors_of_another_size_are_refused_as_a_whole(sidecar: Sidecar, run: Import, tmp_path: Path) -> None:
    run("import", write(tmp_path / "in", [unit(2, SIZE)], []))
    _, err = run("import", write(tmp_path / "other", [unit(2, SIZE + 1)], []), status=1)
    assert "the folder has vectors of 9, collection c holds 8: import it into another" in err.replace("\n", " ")


def numbered(folder: Path, images: list[str], tables: list[str]) -> Path:
    """A folder of files with these numbers; each row's vector and caption say which file it is of."""
    for name in ("img_emb", "metadata"):
        (folder / name).mkdir(parents=True)
    for n in images:
        np.save(folder / "img_emb" / f"img_emb_{n}.npy", np.eye(SIZE, dtype=np.float32)[[int(n) % 7]])
    for n in tables:
        pq.write_table(pa.table({"caption": [str(int(n))]}), folder / "metadata" / f"metadata_{n}.parquet")
    return folder


def vector_by_caption(sidecar: Sidecar) -> dict[str, int]:
    with sidecar.client() as search:
        return {row["metadata"]["caption"]: int(np.argmax(row["vector_image"])) for row in search.rows("c", vectors=True)}


def test_files_are_matched_by_their_numbers(sidecar: Sidecar, run: Import, tmp_path: Path) -> None:
    folder = numbered(tmp_path / "in", ["2", "10"], ["02", "10"])  # by name, 10 comes before 2
    (folder / "img_emb" / "._img_emb_0.npy").write_bytes(b"\0\x05\x16\x07")  # macOS writes these beside files
    (folder / "metadata" / "._metadata_0.parquet").write_bytes(b"\0\x05\x16\x07")
    out, _ = run("import", folder)
    assert "read 2 = 2 added" in out
    assert vector_by_caption(sidecar) == {"2": 2, "10": 3}


def test_files_of_different_numbers_arent_taken_for_each_other(sidecar: Sidecar, run: Import, tmp_path: Path) -> None:
    out, err = run("import", numbered(tmp_path / "in", ["0", "1", "3"], ["0", "2", "3"]), status=1)
    assert "read 3 = 2 added + 0 unchanged + 0 replaced + 1 left out" in out
    assert "left out row 1: img_emb/img_emb_1.npy and metadata/metadata_2.parquet have different numbers" in err
    assert vector_by_caption(sidecar) == {"0": 0, "3": 3}
