"""Runs of ``clipserve embed`` in this process, and shards for them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import clip_embed.cli


def embed(source: object, output: object, repository: Path, *options: object, status: int = 0) -> None:
    """Run the command; its exit status must be the one that is given."""
    words = [source, output, "--repository", repository, "--threads", 1, *options]
    assert clip_embed.cli.main([str(word) for word in words]) == status


def shard(file: Path, members: Mapping[str, bytes]) -> Path:
    """Write a tar."""
    with tarfile.open(file, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file
