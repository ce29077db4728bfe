"""Pictures by URL or path, from where they may be taken and from nowhere else."""

import fcntl
import os
import sys
from pathlib import Path
from typing import BinaryIO

from clip_client.addresses import TooSlow, Unreachable
from clip_client.downloads import Downloader
from clip_client.errors import InvalidInput
from clip_client.guarded_downloads import Guard
from clip_client.regular_files import open_picture, picture_content
from clip_search.options import FetchOptions

_PATH_BYTES = 1024  # MAXPATHLEN of macOS


def fetched(url: str, options: FetchOptions) -> bytes:
    """Return the file behind an http(s) URL.

    The name is resolved here, each address is checked, and the connection goes to the very address that was checked; each
    redirect starts over. All of it together takes no longer than the options allow, whatever the hosts do.

    Raises:
        InvalidInput: not such a URL, an address that isn't public, a port that isn't the web's, an answer other than 200.
        TooLarge: the file is.
        Unreachable, TooSlow: the host can't be reached, or is too slow.
    """
    guard = Guard(options.networks, options.ports)
    return Downloader(guard.open, options.image_bytes, options.timeout_s, Unreachable, TooSlow).read(url)


def read(path: str, options: FetchOptions) -> bytes:
    """Return a file below one of the folders that were named at start; raise InvalidInput or TooLarge if it can't be had."""
    with opened(path, options) as file:
        return picture_content(file, options.image_bytes, name=path)


def opened(path: str, options: FetchOptions) -> BinaryIO:
    """Open a file below one of the folders that were named at start; raise InvalidInput if it can't be had.

    The file that is open is checked again: a link may have come into its place, or into that of a folder above it.
    """
    file = open_picture(contained(path, options), name=path)
    try:
        _check_inside(_path_of(file), options, path)
    except BaseException:
        file.close()
        raise
    return file


def contained(path: str, options: FetchOptions) -> Path:
    """Return the file with links followed; raise InvalidInput if it isn't below a folder that was named at start."""
    try:
        file = Path(os.path.realpath(path))
    except (OSError, ValueError) as problem:
        raise InvalidInput(f"{path!r} isn't a path: {problem}") from problem
    _check_inside(file, options, path)
    return file


def _path_of(file: BinaryIO) -> Path:
    """Return the path of an open file, as the system knows it now."""
    if sys.platform == "darwin":
        return Path(os.fsdecode(fcntl.fcntl(file, fcntl.F_GETPATH, bytes(_PATH_BYTES)).rstrip(b"\0")))
    return Path(os.readlink(f"/proc/self/fd/{file.fileno()}"))


def _check_inside(file: Path, options: FetchOptions, name: str) -> None:
    if not any(file.is_relative_to(os.path.realpath(folder)) for folder in options.folders):
        folders = ", ".join(map(str, options.folders)) or "none"
        raise InvalidInput(f"{name} is outside the folders that this sidecar reads ({folders}): name its folder, --images DIR")
