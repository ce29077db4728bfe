"""Weights that open_clip knows by an address outside the hub."""

from __future__ import annotations

import re
from pathlib import Path

from filelock import FileLock

from clip_client.errors import InvalidInput, Unavailable
from clip_client.library_errors import one_line
from clip_export.checkpoints.weight_digest import digest

FOLDER = Path("~/.cache/clip")
"""Cache that open_clip and OpenAI's clip use too."""

_DIGEST = re.compile(r"/([0-9a-f]{64})/[^/]+$|-([0-9a-f]{8})\.\w+$")
"""OpenAI's addresses name the SHA-256 in a folder, open_clip's begin it at the end of the file's name."""


def downloaded(url: str) -> Path:
    """Return a file's place on disk, after a download where it isn't there; an interrupted one goes on.

    Raises:
        InvalidInput: if the content isn't the one whose SHA-256 the address names.
        Unavailable: if it can't be downloaded.
    """
    file = FOLDER.expanduser() / url.rpartition("/")[2]
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"):
        if not file.is_file():
            _download(url, file)
        elif difference := _difference(file, url):
            raise InvalidInput(f"{file} {difference}: remove it, and it is downloaded again")
    return file


def expected_sha256(url: str) -> str:
    """Return the SHA-256 in an address, or its beginning; empty if there is none."""
    digest = _DIGEST.search(url)
    return next(filter(None, digest.groups())) if digest else ""


def _download(url: str, file: Path) -> None:
    from huggingface_hub.file_download import http_get

    partial = file.with_name(f"{file.name}.incomplete")
    if partial.is_file() and expected_sha256(url) and not _difference(partial, url):
        partial.replace(file)
        return
    try:
        with partial.open("ab") as target:
            http_get(url, target, resume_size=target.tell(), displayed_filename=file.name)
    except Exception as problem:  # those of its HTTP client and of the hub's
        raise Unavailable(
            f"{url} can't be downloaded ({one_line(problem)}): download it elsewhere, and put it at {file}"
        ) from problem
    if difference := _difference(partial, url):
        partial.unlink()
        raise InvalidInput(f"{url} {difference}: it was changed on the way, or at its source; nothing of it is used")
    partial.replace(file)


def _difference(file: Path, url: str) -> str:
    """Return the reason that a file's content isn't the address's; empty if it may be."""
    expected, got = expected_sha256(url), digest([file])
    return "" if got.startswith(expected) else f"has the SHA-256 {got}, expected one that begins with {expected}"
