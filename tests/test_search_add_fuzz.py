"""Generated folders: the books of ``search add`` balance, every good picture is in with its own vector, a run repeats none."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sidecars
from servers import Server
from sidecars import Sidecar

from clip_client import Clip
from clip_client.file_names import source_path
from clip_client.search import Search
from clip_search.cli import parser
from pictures import encoded, picture

ROUNDS = 24
GOOD = [encoded(picture(24 + n, 30, seed=n), format) for n, format in enumerate(["JPEG", "PNG", "WEBP", "AVIF", "GIF"] * 5)]
STEMS = [
    b"a", b"IMG_0001", b"caf\xe9", "café".encode(), "cafe\u0301".encode(), b"new\nline", b"\x1b[31m", "\u202ebidi".encode(),
    b"a'b\"c",
    b"%_x", b"[b]", b"back\\slash", "narrow\u202fspace".encode(), "\U0001f468\u200d\U0001f469".encode(), b" ", b"-", b"a.b.c",
    b"caf\\xe9", "\u3000".encode(), b"\xff", "\u2028".encode(), b"captions", b"NULL", b"x" * 200,
]  # fmt: skip
ENDINGS = [b".jpg", b".JPG", b".jpeg", b".jfif", b".jpe", b".avif", b".png", b""]
FOLDERS = [b"", b"", b"sub", b"sub/deep", b"caf\xe9", b"x.jpg"]
VALUES = [
    "1", "1.5", "-0.0", "NaN", "Infinity", "18446744073709551616", "9223372036854775807", '"text"', '"\\ud800"', '"\\u0000"',
    "true",
    "null", "[]", '["a", 1]', "{}", '{"a": [1]}', '"' + "x" * 3000 + '"', "1e400",
]  # fmt: skip
KEYS = [
    "year",
    "Year",
    "a b",
    "id",
    "vector_image",
    "1st",
    "",
    "caption",
    "captions",
    "_rowid",
    "ünïcode",
    "source_state",
    "x" * 100,
]
TEXTS = [
    b"",
    b"caption",
    "café".encode("latin-1"),
    "日本".encode("utf-16"),
    b"\xff\xfe",
    b"\x00\x01",
    b"\xef\xbb\xbfx",
    b"\x80" * 50,
]


@pytest.fixture(scope="module")
def sidecar(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    with sidecars.running(tmp_path_factory.mktemp("search"), server.address) as sidecar:
        yield sidecar


@pytest.fixture(scope="module")
def search(sidecar: Sidecar) -> Iterator[Search]:
    with sidecar.client() as search:
        yield search


class Generated:
    """A folder, what is good in it, and what must be left out.

    Attributes:
        good: content by path, of all pictures that have to be in.
        bad: paths that have to be left out.
        metadata: options that name a table.
    """

    def __init__(self, folder: Path, draw: random.Random) -> None:
        self.folder, self.draw = folder, draw
        self.good: dict[bytes, bytes] = {}
        self.bad: set[bytes] = set()
        folder.mkdir()
        self._others()
        makers = [self._picture] * 6 + [self._broken, self._pipe, self._loop, self._beside, self._beside, self._beside]
        for _ in range(16):
            draw.choice(makers)()
        write = draw.choice([None, self._parquet, self._json])
        self.metadata = ["--metadata", str(write())] if write else []

    def change(self) -> None:
        """Do to a random file what people do."""
        path = self.draw.choice(sorted(self.good))
        what = self.draw.randrange(5)
        if what == 0:
            self._write(path, self.draw.choice(GOOD))
        elif what == 1:
            self._move(path)
        elif what == 2:
            os.unlink(path)
            del self.good[path]
        elif what == 3:
            os.utime(path, (self.draw.randrange(10**9),) * 2)
        else:
            self._beside()

    def _path(self, *, picture: bool) -> bytes:
        below = os.path.join(os.fsencode(self.folder), self.draw.choice(FOLDERS))
        if b"x.jpg" in below:
            self.bad.add(below)  # a folder that is called as a picture
        os.makedirs(below, exist_ok=True)
        return os.path.join(below, self.draw.choice(STEMS) + (self.draw.choice(ENDINGS) if picture else b""))

    def _free(self) -> bytes | None:
        path = self._path(picture=True)
        return None if os.path.lexists(path) or path.endswith(b"a.b.c") else path  # of an ending that is no picture's

    def _write(self, path: bytes, content: bytes) -> None:
        with open(path, "wb") as file:
            file.write(content)
        self.good[path] = content

    def _picture(self) -> None:
        if path := self._free():
            self._write(path, self.draw.choice(GOOD))

    def _move(self, path: bytes) -> None:
        if target := self._free():
            os.rename(path, target)
            self.good[target] = self.good.pop(path)

    def _broken(self) -> None:
        path = self._free()
        if path and os.path.splitext(path)[1]:
            content = self.draw.choice([b"", b"no picture", GOOD[0][:300], b"\0" * 500])
            with open(path, "wb") as file:
                file.write(content)
            self.bad.add(path)

    def _pipe(self) -> None:
        path = self._free()
        if path and os.path.splitext(path)[1]:
            os.mkfifo(path)
            self.bad.add(path)

    def _loop(self) -> None:
        if path := self._free():
            target = self.draw.choice([os.path.basename(path), b"nowhere", b".", b"/dev/zero"])
            os.symlink(target, path)
            if os.path.splitext(path)[1] or target in (os.path.basename(path), b"nowhere"):
                self.bad.add(path)

    def _beside(self) -> None:
        path = self._path(picture=False)
        if self.draw.random() < 0.5:
            content = self.draw.choice(TEXTS) if self.draw.random() < 0.7 else self.draw.randbytes(40)
            path += b".txt"
        else:
            fields = [
                f"{json.dumps(self.draw.choice(KEYS))}: {self.draw.choice(VALUES)}" for _ in range(self.draw.randrange(5))
            ]
            content = ("{" + ", ".join(fields) + "}").encode() if self.draw.random() < 0.8 else self.draw.randbytes(30)
            path += b".json"
        if not os.path.isdir(path):
            with open(path, "wb") as file:
                file.write(content)

    def _others(self) -> None:
        for name in (".DS_Store", "notes.md", "._a.jpg"):
            (self.folder / name).write_bytes(b"\0\5\x16\7")
        if self.draw.random() < 0.3:
            (self.folder / "captions.json").write_bytes(
                self.draw.choice([b"", b"[]", b'[{"file": "a.jpg", "captions": ["x", "y"]}]', b"{"])
            )

    def _names(self) -> list[str]:
        written = [os.path.relpath(path, os.fsencode(self.folder)).decode("utf-8", "replace") for path in sorted(self.good)]
        return ["./" + name if n % 3 == 0 else name for n, name in enumerate(written)] + ["nowhere.jpg", ""]

    def _parquet(self) -> Path:
        names = self._names() * 2
        rows = {"file_name": names, "caption": [f"c{n}" for n in range(len(names))], "year": [0.5] * len(names)}
        pq.write_table(pa.table(rows), self.folder.with_suffix(".parquet"))
        return self.folder.with_suffix(".parquet")

    def _json(self) -> Path:
        rows = [f'{{"file_name": {json.dumps(name)}, "k": {self.draw.choice(VALUES)}}}' for name in self._names()]
        self.folder.with_suffix(".jsonl").write_text("\n".join([*rows, "broken", "[]"]))
        return self.folder.with_suffix(".jsonl")


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_generated_folders(
    seed: int, sidecar: Sidecar, search: Search, clip: Clip, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    generated = Generated(tmp_path / "in", random.Random(seed))
    name = f"fuzz{seed}"

    def add() -> tuple[int, ...]:
        where = ["--url", sidecar.url, "--collection", name, "--prune", *generated.metadata]
        status = parser.main(["add", *where, str(generated.folder)])
        told = capfd.readouterr()
        line = re.findall(r"^read (\d+) = (\d+) added \+ (\d+) unchanged \+ (\d+) replaced \+ (\d+) left out$", told.out, re.M)
        assert len(line) == 1, told
        read, *parts = map(int, line[0])
        assert read == sum(parts)
        assert parts[3] == len(generated.bad) == told.err.count("\nleft out ") + told.err.startswith("left out "), told.err
        assert status == bool(parts[3])
        assert sum(parts[:3]) == len(generated.good)
        assert len(_checked(search, name, generated.good, clip)) == len(generated.good)
        return tuple(parts)

    try:
        assert add()[1:3] == (0, 0)
        added = _writes(search, name)
        assert add()[0::2] == (0, 0)
        assert _writes(search, name) == added
        for _ in range(3):
            if generated.good:
                generated.change()
        add()
    finally:
        search.drop(name)
        shutil.rmtree(tmp_path / "in")


def _writes(search: Search, name: str) -> set[int]:
    """Numbers of all rows: a row that is written again gets another."""
    return {row["row"] for row in search.rows(name)}


def _checked(search: Search, name: str, good: dict[bytes, bytes], clip: Clip) -> dict[bytes, str]:
    """Ids by path, each row of which has the embedding of its file's content."""
    rows = list(search.rows(name, vectors=True))
    found = {os.fsencode(source_path(row["source"])): row for row in rows}
    assert set(found) == {os.path.realpath(path) for path in good}
    if rows:
        expected = clip.embed_image([good[path] for path in found])
        np.testing.assert_allclose([row["vector_image"] for row in found.values()], expected, atol=1e-5)
    return {path: row["id"] for path, row in found.items()}
