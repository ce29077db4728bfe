"""Checkpoint files on the hub: listed, then those that are needed from its cache or by a download."""

from __future__ import annotations

import fnmatch
import glob
import json
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, get_cached_repo_tree, hf_hub_download, snapshot_download
from huggingface_hub.errors import CachedRepoTreeNotFoundError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]  # exported when it is asked for

from clip_client.counting import counted
from clip_client.errors import InvalidInput, Unavailable
from clip_export.checkpoints import download, file_digests, hub_client
from clip_export.checkpoints.hub_client import Say
from clip_export.checkpoints.hub_errors import translated
from clip_export.checkpoints.hub_files import RemoteFile, Repository

_COMMIT = re.compile(r"[0-9a-f]{40}")
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class _NoBar(tqdm):
    """Progress bar that isn't shown: of small files."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **{**settings, "disable": True})  # type: ignore[no-untyped-call]


def repository(name: str, revision: str | None, say: Say) -> Repository:
    """Return a repository and its files; those of the cache where the hub can't be reached.

    Args:
        name: its id.
        revision: branch, tag, commit or pull request; None for the main branch.
        say: gets lines about waits, and about the cache.

    Raises:
        InvalidInput: if there is no such repository or revision, or it may not be read.
        Unavailable: if the hub can't be reached, and the cache has nothing of it.
    """
    try:
        with translated(name, revision), hub_client.patient(say):
            return _online(name, revision)
    except Unavailable as problem:
        cached = _cached(name, revision, str(problem))
        if cached is None:
            raise Unavailable(
                f"there is no folder {name} here, and it can't be had from the hub, {problem}; the hub's cache has nothing of "
                f"it: where the hub can be reached, run: hf download {name} --local-dir FOLDER; then pass --model FOLDER"
            ) from problem
        say(f"{problem}: going on with {cached.name} as the cache has it, commit {cached.commit[:8]}")
        return cached


def fetched(repository: Repository, names: Collection[str], say: Say) -> Path:
    """Return the folder of a repository's files, with at least these in it, each as the hub lists it.

    Raises:
        InvalidInput: if the repository may not be read.
        Unavailable: if a file can't be had, or was changed on its way.
    """
    files = [repository.files[name] for name in sorted(names)]
    if repository.offline:
        return _complete(repository, files)
    with translated(repository.name, repository.commit), hub_client.patient(say):
        missing = [file for file in files if not _is_whole(repository, file)]
        if missing:
            size_mb = sum(file.size for file in missing) / 1e6
            say(f"downloading {repository.name}: {counted(len(missing), 'file')}, {size_mb:,.1f} MB")
        _download(repository, missing, say)
    return repository.snapshot


def content(repository: Repository, name: str) -> Any:
    """Return a JSON file of a repository.

    Raises:
        InvalidInput: if it can't be read.
        Unavailable: if it can't be had.
    """
    path = fetched(repository, [name], _silently) / name
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as problem:
        raise InvalidInput(f"{repository.name}: {name} isn't JSON ({problem}): it is so on the hub") from problem


def snapshot(name: str, revision: str | None, patterns: Sequence[str]) -> Path:
    """Return a folder with those files of a hub id that match the patterns.

    Raises:
        InvalidInput: if there is no such id or revision.
        Unavailable: if the hub can't be reached, and the files aren't in its cache.
    """
    source = repository(name, revision, _silently)
    return fetched(source, {name for pattern in patterns for name in fnmatch.filter(source.files, pattern)}, _silently)


def _silently(line: str) -> None:
    """Say nothing: of files that are small, or fetched for another file's sake."""


def storage(name: str) -> Path:
    """Return a repository's folder in the hub's cache, also where it is spelled with other capitals."""
    folder = Path(constants.HF_HUB_CACHE).expanduser().resolve() / "--".join(["models", *name.split("/")])
    if folder.is_dir() or not folder.parent.is_dir():
        return folder
    return next((other for other in folder.parent.iterdir() if other.name.lower() == folder.name.lower()), folder)


def _online(name: str, revision: str | None) -> Repository:
    api = HfApi()
    name = api.model_info(name, revision=revision).id  # as it is spelled, and called now
    commit = api.resolve_revision(name, revision=revision).resolved
    tree = api.list_repo_tree(name, recursive=True, revision=commit)
    files = [RemoteFile(entry.path, entry.size, _digest(entry)) for entry in tree if isinstance(entry, RepoFile)]
    files = [file for file in files if _stays_inside(file.name)]
    return Repository(name, commit, {file.name: file for file in files}, storage(name))


def _stays_inside(path: str) -> bool:
    """Tell a path in the repository from one that leads out of it, as no hub lists."""
    return not {"..", ".", ""} & {*path.split("/")} and "\\" not in path


def _digest(entry: RepoFile) -> str:
    digest = str(entry.lfs.sha256 if entry.lfs else entry.blob_id)
    return digest if _DIGEST.fullmatch(digest) else ""


def _cached(name: str, revision: str | None, reason: str) -> Repository | None:
    """Return a repository as the cache has it; None if it isn't there."""
    folder = storage(name)
    reference = folder / "refs" / (revision or constants.DEFAULT_REVISION)
    if _COMMIT.fullmatch(revision or ""):
        commit = str(revision)
    elif reference.is_file():
        commit = reference.read_text(encoding="utf-8").strip()
    else:
        return None
    snapshot = folder / "snapshots" / commit
    if not snapshot.is_dir():
        return None
    name = "/".join(folder.name.split("--")[1:])
    return Repository(name, commit, {file.name: file for file in _listed(name, commit, snapshot)}, folder, reason)


def _listed(name: str, commit: str, snapshot: Path) -> Iterable[RemoteFile]:
    """Return all files of a commit where its list is in the cache, else those that are."""
    try:
        return [RemoteFile(entry.path, entry.size, "") for entry in get_cached_repo_tree(name, revision=commit)]
    except CachedRepoTreeNotFoundError:
        paths = (path for path in snapshot.rglob("*") if path.is_file())
        return [RemoteFile(path.relative_to(snapshot).as_posix(), path.stat().st_size, "") for path in paths]


def _complete(repository: Repository, files: Sequence[RemoteFile]) -> Path:
    """Return a cached folder; refuse it where files are missing or damaged."""
    for file in files:
        if not _is_whole(repository, file):
            there = (repository.snapshot / file.name).exists()
            raise Unavailable(
                f"the hub's cache has {'a damaged' if there else 'no'} {file.name} of {repository.name}, and "
                f"{repository.offline}: run the command again when the hub can be reached"
            )
    return repository.snapshot


def _is_whole(repository: Repository, file: RemoteFile) -> bool:
    """Compare a cached file with its size and its digest, which is its name in the cache."""
    path = repository.snapshot / file.name
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    expected = file.digest or path.resolve().name
    return not _DIGEST.fullmatch(expected) or file_digests.of(path, like=expected) == expected


def _download(repository: Repository, files: Sequence[RemoteFile], say: Say) -> None:
    """Fetch files into the cache: small ones at once, large ones one after another."""
    for file in files:
        _remove(repository, file)
    large = [file for file in files if file_digests.is_large(file.digest)]
    if small := [glob.escape(file.name) for file in files if file not in large]:
        snapshot_download(repository.name, revision=repository.commit, allow_patterns=small, tqdm_class=_NoBar)
    for file in large:
        download.blob(repository, file, say)
        hf_hub_download(repository.name, file.name, revision=repository.commit)
    for file in files:
        if not _is_linked(repository, file) and not _is_whole(repository, file):
            digest = file_digests.of(repository.snapshot / file.name, like=file.digest)
            _remove(repository, file)
            raise Unavailable(download.tampered(repository.name, file, digest))


def _is_linked(repository: Repository, file: RemoteFile) -> bool:
    """Tell a link to the large file that was compared with its digest just now."""
    return file_digests.is_large(file.digest) and (repository.snapshot / file.name).resolve() == repository.blob(file)


def _remove(repository: Repository, file: RemoteFile) -> None:
    """Remove a damaged file from the cache, which would keep it for good."""
    path = repository.snapshot / file.name
    if path.is_symlink() and path.resolve().is_file() and path.resolve().is_relative_to(repository.storage):
        path.resolve().unlink()
    path.unlink(missing_ok=True)
