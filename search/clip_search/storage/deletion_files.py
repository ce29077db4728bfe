"""Deletion files of a LanceDB table: LanceDB 0.40 writes empty ones on a full disk, and says nothing.

Where room is made before the commit ends, the version refers to them, and no row of it can be read any more. So rows are
deleted and replaced while there is room alone, and new files are looked at before anybody is told that the change was made.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from clip_search.errors import StorageFull
from clip_search.storage.lance_manifest import contents, names_of

_LOG = logging.getLogger(__name__)
_LEAST_BYTES, _LEAST_PARTS = 16 * 2**20, 64  # free space that a change needs; of a small disk this part
_ARROW_END = b"ARROW1"  # https://arrow.apache.org/docs/format/Columnar.html#ipc-file-format
_DELETIONS = "_deletions"


class DeletionFiles:
    """Guard of the changes that hide rows; whoever uses it makes one such change at a time.

    Args:
        table: its folder.
    """

    def __init__(self, table: Path) -> None:
        self._table, self._folder = table, table / _DELETIONS
        self._seen = self._names()

    def check_room(self) -> None:
        """Raise StorageFull if the disk is nearly full."""
        disk = shutil.disk_usage(self._table)
        least = min(_LEAST_BYTES, disk.total // _LEAST_PARTS)
        if disk.free < least:
            raise StorageFull(
                f"the disk has {disk.free:,} bytes left, less than the {least:,} that a change needs: make room; searches go on"
            )

    def torn(self) -> set[str]:
        """Return the new files that aren't whole, by path in the table's folder; each is told once."""
        names = self._names()
        new, self._seen = names - self._seen, names
        return {f"{_DELETIONS}/{name}" for name in new if _is_torn(self._folder / name)}

    def take_back(self, newest: int, torn: set[str]) -> list[int]:
        """Remove the versions that refer to torn files, from the newest back; return their numbers.

        That needs no room, as a version on top of them would. Nothing of them can be read.
        """
        gone = []
        while (manifest := self._manifest(newest)) and torn & set(contents(manifest.read_bytes()).files):
            manifest.unlink()
            gone.append(newest)
            newest -= 1
        if len(gone) > 1:
            _LOG.error("%s: a disk that was full spoiled versions %s, changes beside that deletion are lost", self._table, gone)
        return gone

    def _names(self) -> set[str]:
        try:
            return {path.name for path in self._folder.iterdir()}
        except OSError:  # nothing was deleted yet
            return set()

    def _manifest(self, version: int) -> Path | None:
        paths = (self._table / name for name in names_of(version))
        return next((path for path in paths if path.exists()), None)


def _is_torn(path: Path) -> bool:
    """Tell if a deletion file is cut off: an Arrow file has an end, and no bitmap is empty."""
    try:
        content = path.read_bytes()
    except OSError:  # cleaned up meanwhile
        return False
    return not content or (path.suffix == ".arrow" and not content.endswith(_ARROW_END))
