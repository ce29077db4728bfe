"""Repositories of the stand-in hub: folders as revisions, pull requests, and the JSON that the hub's API tells of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

CREATED = "2022-03-02T23:29:04.000Z"
LARGE = frozenset({".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".model", ".onnx", ".gz", ".npz"})
"""Endings of what the hub's ``.gitattributes`` keeps in Git LFS."""
LARGE_BYTES = 10 * 2**20
POINTER_BYTES = 134


@dataclass(frozen=True)
class PullRequest:
    """A pull request, whose files are a folder's.

    Attributes:
        folder: every file of the pull request's branch, those that it leaves alone too.
        title: as shown; the hub's converter writes this one.
        author: account that opened it.
        status: open, closed, merged or draft.
    """

    folder: Path
    title: str = "Adding `safetensors` variant of this model"
    author: str = "SFconvertbot"
    status: str = "open"


@dataclass
class Repository:
    """A model repository; tests may change it while it is served.

    Attributes:
        main: folder of the main branch's files.
        revisions: folders of other branches, tags and earlier commits, by name.
        pulls: pull requests by number.
        discussions: titles of plain discussions by number.
        gated: None, or the tokens that may read the files.
        private: None, or the tokens that may know of the repository.
    """

    main: Path
    revisions: Mapping[str, Path] = field(default_factory=dict)
    pulls: Mapping[int, PullRequest] = field(default_factory=dict)
    discussions: Mapping[int, str] = field(default_factory=dict)
    gated: Sequence[str] | None = None
    private: Sequence[str] | None = None

    def branches(self) -> dict[str, Path]:
        """Folders by every name that a revision may have, commits aside."""
        pulls = {f"refs/pr/{number}": pull.folder for number, pull in self.pulls.items()}
        return {"main": self.main, **self.revisions, **pulls}

    def folder(self, revision: str) -> Path | None:
        """Return the folder of a branch, a tag, a pull request or a commit; None if it is gone."""
        branches = self.branches()
        if folder := branches.get(revision) or branches.get(revision.removeprefix("refs/heads/")):
            return folder
        return next((folder for folder in branches.values() if commit(folder) == revision), None)


@dataclass(frozen=True)
class StoredFile:
    """A file of a revision: size in bytes, git's object id, and the SHA-256 where it is kept in LFS."""

    path: Path
    name: str
    size: int
    oid: str
    sha256: str | None

    @property
    def etag(self) -> str:
        """Name of its content, which the client's cache uses."""
        return self.sha256 or self.oid

    def sibling(self, blobs: bool) -> dict[str, Any]:
        """Entry of the model's ``siblings``."""
        if not blobs:
            return {"rfilename": self.name}
        lfs = {"sha256": self.sha256, "size": self.size, "pointerSize": POINTER_BYTES}
        return {"rfilename": self.name, "size": self.size, "blobId": self.oid, **({"lfs": lfs} if self.sha256 else {})}

    def tree_entry(self, expand: bool) -> dict[str, Any]:
        """Entry of a folder's listing."""
        entry: dict[str, Any] = {"type": "file", "oid": self.oid, "size": self.size, "path": self.name}
        if self.sha256:
            entry["lfs"] = {"oid": self.sha256, "size": self.size, "pointerSize": POINTER_BYTES}
        return entry | (last_commit() if expand else {})


def files(folder: Path) -> list[StoredFile]:
    """Return a revision's files, sorted by name."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return sorted((stored(folder, path) for path in paths), key=lambda file: file.name)


def stored(folder: Path, path: Path) -> StoredFile:
    """Return one file of a revision."""
    status = path.stat()
    oid, sha256 = _digests(path, status.st_size, status.st_mtime_ns)
    large = path.suffix in LARGE or status.st_size >= LARGE_BYTES
    return StoredFile(path, path.relative_to(folder).as_posix(), status.st_size, oid, sha256 if large else None)


@cache
def _digests(path: Path, size: int, changed_ns: int) -> tuple[str, str]:
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % size + content).hexdigest(), hashlib.sha256(content).hexdigest()


def commit(folder: Path) -> str:
    """Return 40 hexadecimal digits that are the content's."""
    return hashlib.sha1("".join(f"{file.name}\0{file.oid}\n" for file in files(folder)).encode()).hexdigest()


def model(name: str, repository: Repository, folder: Path, blobs: bool) -> dict[str, Any]:
    """Answer of ``/api/models/ID``."""
    return {
        "_id": hashlib.sha1(name.encode()).hexdigest()[:24],
        "id": name,
        "modelId": name,
        "author": name.rpartition("/")[0] or None,
        "sha": commit(folder),
        "createdAt": CREATED,
        "lastModified": CREATED,
        "private": repository.private is not None,
        "gated": False if repository.gated is None else "manual",
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "siblings": [file.sibling(blobs) for file in files(folder)],
    }


def tree(folder: Path, inside: str, recursive: bool, expand: bool) -> list[dict[str, Any]]:
    """Answer of ``/api/models/ID/tree/REVISION/PATH``, folders among it."""
    prefix = f"{inside}/" if inside else ""
    below = [file for file in files(folder) if file.name.startswith(prefix)]
    folders = {parent for file in below for parent in _parents(file.name, prefix, recursive)}
    shown = [file for file in below if recursive or "/" not in file.name.removeprefix(prefix)]
    rows = [{"type": "directory", "oid": hashlib.sha1(name.encode()).hexdigest(), "size": 0, "path": name} for name in folders]
    rows = [row | (last_commit() if expand else {}) for row in rows]
    return sorted([*rows, *(file.tree_entry(expand) for file in shown)], key=lambda row: str(row["path"]))


def _parents(name: str, prefix: str, recursive: bool) -> Iterator[str]:
    parts = name.removeprefix(prefix).split("/")[:-1]
    for depth in range(1, len(parts) + 1 if recursive else min(2, len(parts) + 1)):
        yield prefix + "/".join(parts[:depth])


def last_commit() -> dict[str, Any]:
    """Fields that ``expand`` adds."""
    scan = {"status": "safe", "avScan": None, "pickleImportScan": None}
    return {"lastCommit": {"id": "0" * 40, "title": "initial commit", "date": CREATED}, "securityFileStatus": scan}


def threads(name: str, repository: Repository) -> list[dict[str, Any]]:
    """Discussions and pull requests, the newest first."""
    plain = [_thread(name, number, title, "someone", "open") for number, title in repository.discussions.items()]
    pulls = [_thread(name, number, pull.title, pull.author, pull.status) for number, pull in repository.pulls.items()]
    for pull in pulls:
        pull["isPullRequest"] = True
    return sorted([*plain, *pulls], key=lambda thread: -int(thread["num"]))


def _thread(name: str, number: int, title: str, author: str, status: str) -> dict[str, Any]:
    return {
        "num": number,
        "author": {"name": author, "type": "user"},
        "repo": {"name": name, "type": "model"},
        "title": title,
        "status": status,
        "createdAt": CREATED,
        "isPullRequest": False,
        "numComments": 0,
    }


def details(thread: dict[str, Any], repository: Repository) -> dict[str, Any]:
    """Answer of ``/api/models/ID/discussions/NUMBER``."""
    if not thread["isPullRequest"]:
        return {**thread, "events": []}
    oid = commit(repository.pulls[thread["num"]].folder)
    event = {"id": "0", "type": "commit", "createdAt": CREATED, "author": thread["author"]}
    event["data"] = {"subject": thread["title"], "oid": oid}
    return {**thread, "events": [event], "changes": {"base": "refs/heads/main"}, "filesWithConflicts": [], "diff": ""}


def references(repository: Repository, pulls: bool) -> dict[str, Any]:
    """Answer of ``/api/models/ID/refs``."""
    branches = {"main": repository.main, **repository.revisions}
    answer = {"branches": [_reference(name, f"refs/heads/{name}", folder) for name, folder in branches.items()]}
    requests = [_reference(str(number), f"refs/pr/{number}", pull.folder) for number, pull in repository.pulls.items()]
    return {**answer, "tags": [], "converts": [], **({"pullRequests": requests} if pulls else {})}


def _reference(name: str, ref: str, folder: Path) -> dict[str, Any]:
    return {"name": name, "ref": ref, "targetCommit": commit(folder)}
