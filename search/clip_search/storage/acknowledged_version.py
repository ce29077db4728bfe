"""Last acknowledged version of a table, noted beside the indexes: an older table has lost changes."""

import logging
from pathlib import Path

from clip_client.errors import ClipError, Unavailable
from clip_search.storage import derived_files
from clip_search.storage.table import Table

_LOG = logging.getLogger(__name__)


class AcknowledgedVersion:
    """Note of one table's version, in a folder of its own."""

    def __init__(self, folder: Path, table: Table) -> None:
        self._folder, self._table = folder, table

    def check(self) -> None:
        """Raise Unavailable for a table that is older than its note, since changes are lost; without a note, accept it."""
        try:
            noted = derived_files.read_manifest(self._folder, self._table.identity, {"version": 0})["version"]
        except derived_files.Damaged as problem:
            _LOG.warning("%s: changes that the table may have lost aren't noticed", problem)
            return
        version = self._table.version
        if version < noted:
            raise Unavailable(
                f"its table is at version {version}, changes up to version {noted} were acknowledged: files of it are "
                f"lost or old; put them back, or remove {self._folder} to go on without those changes"
            )

    def note(self) -> None:
        """Note the table's version; log a note that can't be written."""
        try:
            derived_files.make_folder(self._folder)
            derived_files.write_manifest(self._folder, {"table": self._table.identity, "version": self._table.version})
        except (OSError, ClipError) as problem:
            _LOG.warning("%s can't be written (%s): a loss of changes might not be noticed", self._folder, problem)
