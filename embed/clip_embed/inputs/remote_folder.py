"""Folder of pictures on another file system, seen as a local one is."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clip_client import camera_files
from clip_client.captions import Table, read_table
from clip_client.errors import InvalidInput
from clip_client.picture_files import PictureFile, Scan, is_picture_name
from clip_client.preprocess import Limits
from clip_embed.locations import opened_url, remote_errors, shown, told

_MOST_TEXT = 2**20  # bytes of a caption or of JSON beside a picture


def scan_remote(url: str) -> Scan:
    """List a folder and those below it; paths of pictures are URLs.

    Raises:
        InvalidInput: there is no such folder.
        Unavailable: it can't be reached.
    """
    files, path = opened_url(url)
    with remote_errors(url):
        listed = files.find(path, detail=True)
    if not listed:
        raise InvalidInput(f"nothing is at {shown(url)}: expected a folder of pictures")
    scan, root = Scan(), path.strip("/")
    for full, info in sorted(listed.items()):
        name = full.strip("/").removeprefix(root).strip("/")
        _take(scan, name, files.unstrip_protocol(full), int(info.get("size") or 0))
    scan.pictures.sort(key=lambda file: file.name)
    return scan


def read_remote_table(url: str, name: str) -> Table:
    """Read a table of the folder; raises InvalidInput if it can't be."""
    files, path = opened_url(f"{url.rstrip('/')}/{name}")
    with tempfile.TemporaryDirectory(prefix="table-") as folder:
        local = Path(folder) / os.path.basename(name)
        try:
            files.get_file(path, str(local))
        except Exception as problem:  # each file system has errors of its own
            raise InvalidInput(f"can't be read ({told(problem)})") from problem
        return read_table(local)


def contents(urls: Sequence[str]) -> dict[str, bytes | InvalidInput]:
    """Return small files by their URLs, or the reasons why they can't be read; several are read at once."""
    if not urls:
        return {}
    files, _ = opened_url(urls[0])
    paths = {files._strip_protocol(url): url for url in urls}
    with remote_errors(urls[0]):
        answers: dict[str, Any] = files.cat([*paths], on_error="return")
    if isinstance(answers, bytes):  # of a single file
        answers = {next(iter(paths)): answers}
    return {url: _checked(answers.get(path)) for path, url in paths.items()}


def _checked(answer: Any) -> bytes | InvalidInput:
    if not isinstance(answer, bytes | bytearray | memoryview) and not hasattr(answer, "__buffer__"):
        return InvalidInput(f"can't be read ({str(answer)[:200]})")
    content = bytes(answer)
    return (
        content if len(content) <= _MOST_TEXT else InvalidInput(f"has {len(content):,} bytes, at most {_MOST_TEXT:,} are taken")
    )


def _take(scan: Scan, name: str, url: str, size: int) -> None:
    most = camera_files.most_bytes(name, Limits().image_bytes)
    if not is_picture_name(name):
        scan.others.append(name)
    elif not size:
        scan.left_out[name] = "the file is empty (0 bytes)"
    elif size > most:
        scan.left_out[name] = f"has {size:,} bytes, at most {most:,} are taken: pass a smaller one"
    else:
        scan.pictures.append(PictureFile(name, url, size, 0))
