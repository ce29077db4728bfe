"""Bounds on LanceDB: threads, of which it has one for each file operation under way and keeps them all, and reading ahead."""

from __future__ import annotations

import os

_READ_AHEAD = 2
"""Files of a table that a scan opens ahead of the one that it reads."""
_READ_BYTES = 64 * 2**20
"""Bytes that a scan may have read before they are asked for; LanceDB's own bound is 2 GB."""


def limit_threads(database: str) -> None:
    """Let LanceDB have as many reads under way as there are cores, unless the environment says so; call it before its first.

    Its own bounds are made for large machines: on two busy cores its pool grew to 209 threads in half an hour, and memory with
    it. An object store takes long to answer, so that many reads at once are worth their threads there.
    """
    if "://" not in database.removeprefix("file://"):
        os.environ.setdefault("LANCE_IO_THREADS", str(os.cpu_count() or 1))
        os.environ.setdefault("LANCE_DEFAULT_FRAGMENT_READAHEAD", str(_READ_AHEAD))
    os.environ.setdefault("LANCE_DEFAULT_IO_BUFFER_SIZE", str(_READ_BYTES))
