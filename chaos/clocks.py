"""Clock of one process, which can be set: a small library stands in front of the C library's."""

from __future__ import annotations

import contextlib
import mmap
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

_SOURCE = Path(__file__).with_name("clock.c")


class Clock:
    """Time of day of a process that is started with :meth:`environment`; its monotonic clock stays."""

    def __init__(self, file: Path, library: Path) -> None:
        file.write_bytes(bytes(mmap.PAGESIZE))
        self._file, self._library = file, library

    def environment(self) -> dict[str, str]:
        """Return the variables of a process with this clock."""
        return {"LD_PRELOAD": str(self._library), "CHAOS_CLOCK": str(self._file)}

    @contextlib.contextmanager
    def jumped(self, seconds: int) -> Iterator[None]:
        """Set it forward or back, and right again."""
        self._set(seconds)
        try:
            yield
        finally:
            self._set(0)

    def _set(self, seconds: int) -> None:
        with open(self._file, "r+b") as file:
            file.write(struct.pack("=q", seconds))


def library(folder: Path) -> Path | None:
    """Build the library in a folder; None without a C compiler."""
    compiler, path = shutil.which("cc"), folder / "clock.so"
    if not compiler:
        return None
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-Wall", _SOURCE, "-o", path], check=True)
    return path
