"""Shards of webdataset, and runs of ``clipserve embed`` over them."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from clip_embed import cli

Members = Mapping[str, bytes]
EMBED = [sys.executable, "-c", "import sys; from clip_client.cli import main; sys.exit(main(['embed', *sys.argv[1:]]))"]


def shard(path: Path, items: Iterable[tuple[str, Members]], mode: Any = "w") -> Path:
    """A tar of items, each a key and its members by ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for key, members in items:
            for ending, content in members.items():
                entry = tarfile.TarInfo(f"{key}.{ending}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return path


def captioned(jpegs: Iterable[bytes], first: int = 0) -> list[tuple[str, Members]]:
    """Items of pictures, with a caption and JSON."""
    return [
        (f"{n:06d}", {"jpg": jpeg, "txt": f"thing number {n}".encode(), "json": json.dumps({"n": n, "site": "a.org"}).encode()})
        for n, jpeg in enumerate(jpegs, first)
    ]


def embed(*arguments: object) -> int:
    """Run the command in this process; return its exit status."""
    return cli.main([*map(str, arguments)])


def started(*arguments: object) -> subprocess.Popen[str]:
    """Start the command in a process of its own."""
    return subprocess.Popen([*EMBED, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def vectors(output: Path, tower: str = "img") -> npt.NDArray[np.float16]:
    """All vectors of clip-retrieval's layout, in the order of the parts."""
    files = sorted((output / f"{tower}_emb").glob("*.npy"))
    return np.concatenate([np.load(file) for file in files])


def rows(output: Path) -> list[dict[str, Any]]:
    """All rows of metadata, in the order of the parts."""
    files = sorted((output / "metadata").glob("*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def errors(output: Path) -> list[dict[str, Any]]:
    """Errors of a run."""
    table: list[dict[str, Any]] = pq.read_table(output / "errors.parquet").to_pylist()
    return table


def content(output: Path) -> dict[str, bytes]:
    """The files that a reader sees, by name."""
    return {
        str(path.relative_to(output)): path.read_bytes()
        for path in sorted(output.rglob("*"))
        if path.is_file() and "_clipserve" not in path.parts
    }
