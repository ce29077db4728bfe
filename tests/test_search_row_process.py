"""Large bodies of rows are read in a process of their own: the same rows and errors, whatever happens to it."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import psutil
import pytest
import sidecars
from sidecars import Sidecar, unit

from clip_client.errors import ClipError, InvalidInput, Unavailable
from clip_search.items import Item
from clip_search.web import row_process
from clip_search.web.row_parser import parsed_rows
from clip_search.web.row_process import RowProcess
from pictures import jpegs

NOBODY = "127.0.0.1:9"
VECTOR = [0.5, -1e-3, 3e38, 7]
PICTURE = base64.b64encode(jpegs(1)[0]).decode()
ROWS: list[Any] = [
    {"id": "a", "vector": VECTOR},
    {"id": "b", "vector": base64.b64encode(np.float32(VECTOR).tobytes()).decode(), "text_vector": [1, 2]},
    {"image": PICTURE, "metadata": {"a": 'x\\"}{[', "b": [1, {"c": None}]}, "source": "é😀"},
    {"text": "a cat", "text_vector": []},
    {"image": "?"},
    {"vector": [1, None]},
    {"vector": [1e300]},
    {"same_as": "a", "source_state": "s"},
    {"x": 1},
    7,
    [],
]


@pytest.fixture(scope="module")
def apart() -> Iterator[RowProcess]:
    process = RowProcess()
    yield process
    process.close()


def body(rows: Any, **more: Any) -> bytes:
    return json.dumps({"rows": rows, **more}).encode()


def file_of(content: bytes) -> IO[bytes]:
    file = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the test)
    file.write(content)
    return file


def comparable(row: Item | ClipError) -> Any:
    if isinstance(row, ClipError):
        return type(row), str(row)
    with np.errstate(over="ignore"):
        vectors = {tower: np.asarray(values, np.float32).tobytes() for tower, values in row.vectors.items()}
    return row.id, row.image, row.text, vectors, row.metadata, row.source, row.source_state, row.same_as


@pytest.mark.parametrize(
    "rows",
    [ROWS, ROWS * 90, [{"id": str(n), "vector": [n, 1.0]} for n in range(10_000)], [{"image": PICTURE}] * 300],
    ids=["some", "many", "10,000", "pictures"],
)
def test_rows_and_errors_are_those_of_the_sidecars_own_process(rows: list[Any], apart: RowProcess) -> None:
    content = body(rows, on_conflict="skip", columns={"a": "int"}, fingerprint="f")
    here, there = parsed_rows(content), apart.parsed_rows(file_of(content))
    assert there[1] == here[1]
    assert [comparable(row) for row in there[0]] == [comparable(row) for row in here[0]]


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[", b'{"rows": []}', b'{"rows": 1}', b'{"rows": [{}], "on_conflict": 1}', body(ROWS, columns={"a": "what"}),
        body(ROWS, x=1), body([{}] * 10_001), b"\xff", b'{"rows":' + b"[" * 100_000, body(ROWS)[:-1], body(ROWS) + b"x",
    ],
)  # fmt: skip
def test_what_is_wrong_with_all_is_told_alike(content: bytes, apart: RowProcess) -> None:
    with pytest.raises(InvalidInput) as here:
        parsed_rows(content)
    with pytest.raises(InvalidInput) as there:
        apart.parsed_rows(file_of(content))
    assert (type(there.value), str(there.value)) == (type(here.value), str(here.value))


def test_not_a_number_is_read(apart: RowProcess) -> None:
    content = b'{"rows": [{"vector": [NaN, 1]}, {"vector": [1, 2], "metadata": {"a": Infinity}}]}'
    assert [comparable(row) for row in apart.parsed_rows(file_of(content))[0]] == [
        comparable(row) for row in parsed_rows(content)[0]
    ]


def test_killed_before_a_body_it_is_begun_again(apart: RowProcess) -> None:
    apart.parsed_rows(file_of(body(ROWS)))
    assert apart._process
    apart._process.kill()
    apart._process.wait()
    assert len(apart.parsed_rows(file_of(body(ROWS)))[0]) == len(ROWS)


def test_killed_amid_a_body_it_reads_it_again_and_killed_again_says_so(apart: RowProcess) -> None:
    content = file_of(body([{"id": str(n), "vector": [0.1] * 400} for n in range(10_000)]))
    lives: list[int] = []

    def kill(times: int) -> None:
        while len(lives) < times:
            process = apart._process
            if process and process.pid not in lives and psutil.Process(process.pid).cpu_times().user > 0.45:  # it reads
                lives.append(process.pid)
                process.kill()
            time.sleep(0.01)

    apart.close()
    killer = threading.Thread(target=kill, args=(1,))
    killer.start()
    assert len(apart.parsed_rows(content)[0]) == 10_000
    killer.join(10)
    apart.close()
    killer = threading.Thread(target=kill, args=(3,))
    killer.start()
    with pytest.raises(Unavailable, match="send fewer rows at once, or try again"):
        apart.parsed_rows(content)
    killer.join(10)
    assert len(apart.parsed_rows(file_of(body(ROWS)))[0]) == len(ROWS)


def test_a_halted_one_is_ended(apart: RowProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_process, "_PATIENCE_S", 5.0)
    apart.parsed_rows(file_of(body(ROWS)))
    assert apart._process
    halted = apart._process
    halted.send_signal(signal.SIGSTOP)
    assert len(apart.parsed_rows(file_of(body(ROWS)))[0]) == len(ROWS)
    assert halted.poll() == -signal.SIGKILL


def test_it_ends_without_bodies_and_with_its_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_process, "_IDLE_S", 0.1)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        row_process._serve(theirs)
    monkeypatch.setattr(row_process, "_IDLE_S", 60.0)
    ours, theirs = socket.socketpair()
    ours.close()
    with theirs:
        row_process._serve(theirs)


def vectors(count: int) -> list[dict[str, Any]]:
    return [{"id": f"v{n}", "vector": vector} for n, vector in enumerate(unit(count, 64).tolist())]


def readers(sidecar: Sidecar) -> list[psutil.Process]:
    children = psutil.Process(sidecar.process.pid).children()
    return [child for child in children if row_process.__name__ in child.cmdline()]


def test_a_sidecar_reads_large_bodies_there_and_takes_it_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "numpy.py").write_text("raise SystemExit('somebody else is numpy')")
    monkeypatch.chdir(tmp_path / "here")
    with sidecars.running(tmp_path, NOBODY) as sidecar:
        assert sidecar.ask("POST", "/v1/collections", {"name": "c", "dimension": 64})[0] == 201
        assert sidecar.ask("POST", "/v1/collections/c/rows", {"rows": vectors(10)})[1]["added"] == 10
        assert not readers(sidecar)
        bad = [{"id": "bad", "vector": [1.0]}, {"id": "worse", "vector": "?"}, {"id": "v3", "vector": unit(1, 64)[0].tolist()}]
        status, answer = sidecar.ask("POST", "/v1/collections/c/rows", {"rows": [*bad, *vectors(3_000)], "on_conflict": "skip"})
        assert status == 201
        assert (answer["added"], answer["skipped"]) == (2_990, 11)
        assert [error["index"] for error in answer["errors"]] == [0, 1]
        assert "shape [1], the collection holds [64]" in answer["errors"][0]["message"]
        (reader,) = readers(sidecar)
        assert os.getpriority(os.PRIO_PROCESS, reader.pid) > os.getpriority(os.PRIO_PROCESS, sidecar.process.pid)
        status, found = sidecar.ask("POST", "/v1/collections/c/search", {"vector": vectors(2_000)[1_999]["vector"], "k": 1})
        assert found["hits"][0]["id"] == "v1999"
        sidecar.process.kill()
        assert reader.wait(10) is None or not reader.is_running()
