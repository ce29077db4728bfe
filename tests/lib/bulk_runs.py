"""Runs of ``clipserve embed`` in processes of their own, shards for them, and what they leave."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from servers import CLIPSERVE

import pictures
from clip_client import Clip

DISTINCT = 12
"""Different pictures among the items of shards."""


def shard(first: int, items: int) -> bytes:
    """A tar of pictures, whose keys are numbers."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for n in range(first, first + items):
            content = pictures.jpegs(DISTINCT)[n % DISTINCT]
            member = tarfile.TarInfo(f"{n:06d}.jpg")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def shards(folder: Path, count: int, items: int) -> str:
    """Write shards ``0.tar``, ``1.tar``, …; return their pattern."""
    folder.mkdir()
    for n in range(count):
        (folder / f"{n}.tar").write_bytes(shard(n * items, items))
    return f"{folder}/{{0..{count - 1}}}.tar"


class Embed:
    """One ``clipserve embed``; its output goes to files, since nobody reads it all the time."""

    def __init__(self, *arguments: object, **environment: str) -> None:
        self._out, self._err = (tempfile.TemporaryFile("w+") for _ in range(2))  # noqa: SIM115  (read until it has ended)
        self.process = subprocess.Popen(
            [CLIPSERVE, "embed", *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=self._err,
            env={**os.environ, **environment},
            start_new_session=True,
        )

    def ended(self, timeout_s: float = 120) -> int:
        """Wait for its end; return its status."""
        return self.process.wait(timeout_s)

    @property
    def out(self) -> str:
        """Standard output so far."""
        return self._read(self._out)

    @property
    def err(self) -> str:
        """Standard error so far."""
        return self._read(self._err)

    @property
    def books(self) -> dict[str, Any]:
        """Outcome that ``--json`` printed."""
        parsed: dict[str, Any] = json.loads(self.out)
        return parsed

    def _read(self, file: Any) -> str:
        position = file.tell()
        file.seek(0)
        text: str = file.read()
        file.seek(position)
        return text


def embed(*arguments: object, **environment: str) -> Embed:
    """Run it to its end."""
    run = Embed(*arguments, **environment)
    run.ended()
    return run


def wait_for(condition: Callable[[], object], timeout_s: float = 180) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it didn't come to pass"
        time.sleep(0.05)


def records(output: Path) -> list[Path]:
    """Records of the parts that are done."""
    return sorted((output / "_clipserve" / "done").glob("*.json"))


def files(output: Path) -> dict[str, bytes]:
    """The files that a user reads, by name."""
    return {
        str(path.relative_to(output)): path.read_bytes()
        for path in sorted(output.rglob("*"))
        if path.is_file() and "_clipserve" not in path.parts
    }


def keys(metadata: Iterable[bytes]) -> list[str]:
    """Keys of the items in files of metadata."""
    return [key for content in metadata for key in pq.read_table(io.BytesIO(content)).column("key").to_pylist()]


def paths(metadata: bytes) -> list[str]:
    """Places of the pictures in a file of metadata."""
    values: list[str] = pq.read_table(io.BytesIO(metadata)).column("image_path").to_pylist()
    return values


def assert_whole(output: Mapping[str, bytes], repository: Path, items: int) -> None:
    """Each item is in once, in the order of the input, with the embedding that ``Clip.local`` gives its picture."""
    metadata = [content for name, content in sorted(output.items()) if name.startswith("metadata/")]
    assert keys(metadata) == [f"{n:06d}" for n in range(items)]
    vectors = [np.load(io.BytesIO(content)) for name, content in sorted(output.items()) if name.startswith("img_emb/")]
    assert_near(np.concatenate(vectors), expected(repository, range(items)))


def expected(repository: Path, numbers: Sequence[int]) -> npt.NDArray[np.float32]:
    """Embeddings [N, D] of the pictures of these items."""
    with Clip.local(repository) as clip:
        distinct = clip.embed_image(pictures.jpegs(DISTINCT))
    return distinct[[n % DISTINCT for n in numbers]]


def assert_near(ours: npt.NDArray[Any], theirs: npt.NDArray[np.float32]) -> None:
    """Embeddings in float16 are those in float32; unit vectors differ by their rounding, and another batch's."""
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours.astype(np.float32), theirs, atol=2e-3)
