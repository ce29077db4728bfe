"""Lock on a folder: one owner at a time, until its process ends, however it ends."""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clip_client.errors import Unavailable


@contextmanager
def owned(folder: Path, lock: str) -> Iterator[None]:
    """Lock a folder by the file ``lock`` in it: any path to the folder leads to the same file.

    Raises:
        Unavailable: another sidecar has it.
        OSError: the file can't be made, or isn't a file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / lock
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_NOFOLLOW, 0o600)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise OSError(f"{path} isn't a file: remove it")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as problem:
            raise Unavailable(
                f"{folder} is in use by another sidecar: stop that one, or pass another --data, and --index if that was given"
            ) from problem
        yield
    finally:
        os.close(file)
