"""Download of a large file: goes on where it stopped, and is compared with its digest before it has its name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from huggingface_hub import hf_hub_url
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # exported when it is asked for

from clip_client.errors import Unavailable
from clip_client.progress_bars import ProgressBar
from clip_export.checkpoints import file_digests
from clip_export.checkpoints.hub_client import Say
from clip_export.checkpoints.hub_files import RemoteFile, Repository


def blob(repository: Repository, file: RemoteFile, say: Say) -> None:
    """Put a file into the hub's cache, under its digest.

    huggingface_hub begins a file anew after an interruption; so the large ones are fetched by its ``http_get`` into the
    ``.incomplete`` file that it used to leave, and go on from there. Files come by HTTP, those on Xet storage too.

    Raises:
        Unavailable: if the content isn't the one that the hub lists.
    """
    target = repository.blob(file)
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = repository.storage.parent / ".locks" / repository.storage.name / f"{file.digest}.lock"  # huggingface_hub's own
    with _locked(lock, file.name, say):
        if target.exists() and file_digests.of(target, like=file.digest) == file.digest:
            return
        part = target.with_name(f"{target.name}.incomplete")
        went_on = part.exists() and part.stat().st_size > 0
        problem = _fetched(repository, file, part)
        if problem and went_on:  # the beginning may have been another file's
            problem = _fetched(repository, file, part)
        if problem:
            raise Unavailable(problem)
        part.replace(target)


def _fetched(repository: Repository, file: RemoteFile, part: Path) -> str:
    """Complete a file; return what is wrong with it, and remove it then."""
    url = hf_hub_url(repository.name, file.name, revision=repository.commit)
    with part.open("ab") as stream:
        if stream.tell() > file.size:
            stream.seek(0)
            stream.truncate()
        start = stream.tell()
        http_get(
            url,
            stream,
            resume_size=start,
            headers=build_hf_headers(),
            expected_size=file.size,
            displayed_filename=file.name,
            tqdm_class=ProgressBar,
        )
    if (digest := file_digests.of(part, like=file.digest)) == file.digest:
        return ""
    part.unlink()
    return tampered(repository.name, file, digest)


def tampered(name: str, file: RemoteFile, digest: str) -> str:
    """Return the message about a file whose content isn't the one that the hub lists."""
    return (
        f"{name}: {file.name} was changed or damaged on its way: its digest is {digest}, the hub lists {file.digest}; it isn't "
        "used. Try again; if it stays so, check HF_ENDPOINT and the proxy"
    )


@contextmanager
def _locked(path: Path, name: str, say: Say) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0.1)
    except Timeout:
        say(f"another process downloads {name}: waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
