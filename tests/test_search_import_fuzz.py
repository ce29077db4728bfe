"""Generated folders through ``clipserve search import``: the books balance, and what is kept comes back."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import math
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sidecars
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sidecars import Sidecar, unit

from clip_search.cli import parser

SIZE = 8
NAMES = ["a", "A", "b c", "b_c", "id", "time", "source", "caption", "image_path", "é", "", "1", "_rowid", "meta_id"]
DECIMALS = st.decimals(-(10**7), 10**7, places=2)
DAYS = st.dates()
STRUCTS = st.fixed_dictionaries({"x": st.integers(0, 9), "y": st.text(max_size=3)})
TIMES = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30))
SCALARS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "int": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "small": (pa.int16(), st.integers(-(2**15), 2**15 - 1)),
    "uint": (pa.uint64(), st.integers(0, 2**64 - 1)),
    "float": (pa.float64(), st.floats()),
    "single": (pa.float32(), st.floats(width=32)),
    "bool": (pa.bool_(), st.booleans()),
    "string": (pa.string(), st.text(max_size=20)),
    "large": (pa.large_string(), st.text(max_size=20)),
    "category": (pa.dictionary(pa.int32(), pa.string()), st.sampled_from(["x", "y", ""])),
    "bytes": (pa.binary(), st.binary(max_size=20)),
    "date": (pa.date32(), DAYS),
    "timestamp": (pa.timestamp("us"), TIMES),
    "zoned": (pa.timestamp("us", "UTC"), TIMES.map(lambda one: one.replace(tzinfo=timezone.utc))),
    "decimal": (pa.decimal128(12, 2), DECIMALS),
    "null": (pa.null(), st.none()),
    "strings": (pa.list_(pa.string()), st.lists(st.none() | st.text(max_size=5), max_size=3)),
    "ints": (pa.list_(pa.int64()), st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), max_size=3)),
    "floats": (pa.list_(pa.float64()), st.lists(st.none() | st.floats(), max_size=3)),
    "struct": (pa.struct([("x", pa.int64()), ("y", pa.string())]), STRUCTS),
}  # fmt: skip
DTYPES = ["<f4", "<f2", "<f8", ">f4"]


@dataclass
class Generated:
    """One part: its rows' vectors, columns by name with their kinds and values; a fault of its files."""

    vectors: np.ndarray
    columns: dict[str, tuple[str, list[Any]]]
    fault: str


@st.composite
def parts(draw: st.DrawFn) -> list[Generated]:
    found = []
    for _ in range(draw(st.integers(1, 3))):
        rows = draw(st.integers(0, 4))
        vectors = unit(max(rows, 1), SIZE, draw(st.integers(0, 99)))[:rows].astype(draw(st.sampled_from(DTYPES)))
        for n in range(rows):
            vectors[n] = draw(st.sampled_from([vectors[n]] * 6 + [0 * vectors[n], np.nan * vectors[n]]))
        names = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=4))
        kinds = {name: draw(st.sampled_from(sorted(SCALARS))) for name in names}
        columns = {
            name: (kind, draw(st.lists(st.none() | SCALARS[kind][1], min_size=rows, max_size=rows)))
            for name, kind in kinds.items()
        }
        found.append(Generated(vectors, columns, draw(st.sampled_from([""] * 8 + ["vectors", "table", "row"]))))
    return found


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A sidecar without a Triton."""
    with sidecars.running(tmp_path_factory.mktemp("fuzz"), "127.0.0.1:9") as sidecar:
        yield sidecar


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
@given(found=parts())
def test_generated_folders(sidecar: Sidecar, found: list[Generated]) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        _check(sidecar, folder, found)
    finally:
        shutil.rmtree(folder)
        with sidecar.client() as search:
            for collection in search.collections():
                search.drop(collection["name"])


def _check(sidecar: Sidecar, folder: Path, found: list[Generated]) -> None:
    for n, part in enumerate(found):
        _write(folder, n, part)
    status, out, err = _run(sidecar, folder)
    assert "Traceback" not in err
    if status == 1 and not out:
        assert "error: " in err
        assert any(part.fault for part in found)
        return
    counts = [int(word) for word in out.splitlines()[-1].split() if word.isdigit()]
    read, added, unchanged, replaced, left_out = counts
    reasons = [json.loads(line) for line in (folder / "errors").read_text().splitlines()]
    assert read == sum(len(part.vectors) for part in found) == added + left_out
    assert (unchanged, replaced, status) == (0, 0, int(left_out > 0))
    assert len([one for one in reasons if "kind" not in one]) == left_out
    _compare(sidecar, found, {one["item"] for one in reasons if "kind" not in one}, added)
    again = _run(sidecar, folder)[1].splitlines()[-1]
    assert again == f"read {read} = 0 added + {added} unchanged + 0 replaced + {left_out} left out"


def _compare(sidecar: Sidecar, found: list[Generated], left_out: set[str], added: int) -> None:
    with sidecar.client() as search:
        rows = {row["id"]: row for row in search.rows("c", vectors=True)}
    assert len(rows) == added
    assert {f"row {id}" for id in rows}.isdisjoint(left_out)
    first = 0
    for part in found:
        for n, vector in enumerate(part.vectors):
            row = rows.get(str(first + n))
            is_good = not part.fault and bool(np.isfinite(vector).all()) and bool(vector.any())
            assert (row is not None) == is_good
            if row is not None:
                expected = vector.astype(np.float32)
                np.testing.assert_allclose(row["vector_image"], expected / np.linalg.norm(expected), atol=1e-6)
                values = [value for value in row["metadata"].values() if value is not None]
                for name, (_, column) in part.columns.items():
                    assert _is_kept(column[n], values) or (name == "id" and column[n] == str(first + n)), (
                        name,
                        column[n],
                        values,
                    )
        first += len(part.vectors)


def _is_kept(value: Any, values: list[Any]) -> bool:
    """Whether a value is among those that came back, as it is or as text."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return True
    if isinstance(value, int) and not isinstance(value, bool) and float(value) != value:
        return value in values or str(value) in values or True not in [isinstance(one, int) for one in values]
    return any(_same(value, one) for one in values)


def _same(value: Any, kept: Any) -> bool:
    if isinstance(value, dict):
        return isinstance(kept, str) and kept.startswith("{") and json.loads(kept) == value
    return (type(kept) in (type(value), float) and kept == value) or kept in _forms(value)


def _forms(value: Any) -> list[Any]:
    if isinstance(value, list):
        finite = [None if isinstance(one, float) and not math.isfinite(one) else one for one in value]
        return [finite, json.dumps(finite, ensure_ascii=False)]
    if isinstance(value, bytes):
        return [base64.b64encode(value).decode()]
    if isinstance(value, datetime):
        zoned = value.replace(tzinfo=timezone.utc).isoformat()
        return [zoned, f"{value.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"]
    if isinstance(value, date):
        return [value.isoformat()]
    if isinstance(value, Decimal):
        return [format(value.quantize(Decimal("0.01")), "f")]
    return [json.dumps(value, ensure_ascii=False), value]


def _write(folder: Path, n: int, part: Generated) -> None:
    for name in ("img_emb", "metadata"):
        (folder / name).mkdir(exist_ok=True)
    rows, path = len(part.vectors), folder / "metadata" / f"metadata_{n}.parquet"
    arrays = [pa.array(values, SCALARS[kind][0]) for kind, values in part.columns.values()]
    table = pa.table([pa.array(range(rows), pa.int64()), *arrays], ["n", *part.columns])
    pq.write_table(table.slice(0, rows - 1) if part.fault == "row" and rows else table, path)
    if part.fault == "table" or (part.fault == "row" and not rows):
        path.write_bytes(path.read_bytes()[:-5])
    vectors = folder / "img_emb" / f"img_emb_{n}.npy"
    np.save(vectors, part.vectors)
    if part.fault == "vectors":
        vectors.write_bytes(vectors.read_bytes()[: 130 if rows else 20])


def _run(sidecar: Sidecar, folder: Path) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        where = ["--url", sidecar.url, "--collection", "c", "--errors", str(folder / "errors")]
        status = parser.main(["import", *where, str(folder)])
    return status, out.getvalue(), err.getvalue()
