"""Repositories of the hub: their files, online or as the cache has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RemoteFile:
    """A file as the hub lists it.

    Attributes:
        name: path in the repository.
        size: in bytes.
        digest: SHA-256 of a large file, git's object id of a small one; empty where only the cache knows it.
    """

    name: str
    size: int
    digest: str


@dataclass(frozen=True)
class Repository:
    """A repository at a commit.

    Attributes:
        name: its id as the hub spells it.
        commit: 40 hexadecimal digits.
        files: by path.
        storage: its folder in the hub's cache.
        offline: reason that the hub isn't asked; empty where it answers.
    """

    name: str
    commit: str
    files: Mapping[str, RemoteFile]
    storage: Path
    offline: str = ""

    @property
    def snapshot(self) -> Path:
        """Folder of its files at this commit."""
        return self.storage / "snapshots" / self.commit

    def blob(self, file: RemoteFile) -> Path:
        """Return the place of a file's content in the cache."""
        return self.storage / "blobs" / file.digest
