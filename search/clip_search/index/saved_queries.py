"""Text queries that an index was tuned on, kept beside it for when no text tower is there."""

from __future__ import annotations

import logging
import uuid
from pathlib import Path
from typing import Any

import numpy as np

from clip_search.arrays import Floats
from clip_search.index.list_files import SummedFile
from clip_search.index.tuning import SOURCES, Source
from clip_search.storage import derived_files

_LOG = logging.getLogger(__name__)
_LEAST = SOURCES.index("texts")  # worse ones are to be had again


class SavedQueries:
    """Queries with their source, in a file that the manifest of an index names.

    Args:
        folder: of the index.
        table: identity of the table that it is of.
    """

    def __init__(self, folder: Path, table: str) -> None:
        self._folder = folder
        self._about: dict[str, Any] = {}  # of the file: name, checksum, source
        self._content: tuple[Floats, Source] | None = None
        try:
            about = derived_files.read_manifest(folder, table, {}).get("queries") or {}
            if about:
                path = folder / about["name"]
                derived_files.check(path, about["checksum"])
                self._content, self._about = (np.load(path, allow_pickle=False), about["source"]), dict(about)
        except (derived_files.Damaged, OSError, ValueError) as problem:
            _LOG.warning("%s: the index is tuned on other queries", problem)

    def get(self) -> tuple[Floats, Source] | None:
        """Return the queries [n, D] and where they came from; None if there are none."""
        return self._content

    def put(self, queries: Floats, source: Source) -> bool:
        """Keep queries that are as good as those that are here; tell if they are to be saved."""
        rank = SOURCES.index(source)
        if rank < _LEAST or (self._content and rank <= SOURCES.index(self._content[1])):
            return False
        self._content, self._about = (queries, source), {}
        return True

    def save(self) -> dict[str, Any]:
        """Write the file if it isn't there; return what the manifest says of it."""
        if self._content and not self._about:
            queries, source = self._content
            name = f"queries-{uuid.uuid4().hex[:12]}.npy"
            with SummedFile(self._folder / name) as file:
                np.lib.format.write_array(file, queries, allow_pickle=False)
                self._about = {"name": name, "checksum": str(file.close()), "source": source}
        return self._about
