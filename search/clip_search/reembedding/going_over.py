"""Going over of a collection from one set of vectors to the other: filled, indexed, then swapped in one step."""

import dataclasses
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from clip_client.errors import ClipError, Timeout, Unavailable
from clip_search.collection import Collection
from clip_search.errors import Moved
from clip_search.reembedding.filling import Filling, Stopped
from clip_search.reembedding.left_out import LeftOut
from clip_search.reembedding.second_set import SecondSet
from clip_search.storage import vector_sets
from clip_search.storage.schema import reservation, reserved
from clip_search.storage.table import Table
from clip_search.storage.vector_sets import Asked, SetNote
from clip_search.storage.writer import Alone

_LOG = logging.getLogger(__name__)
_LAST_ROWS = 64  # rows that are embedded while nothing else is changed
_TRIES = 30  # of the swap, while rows keep coming that have no vector yet


class Refused(ClipError):
    """Swap that isn't done, since more rows are missing than may be."""


@dataclass(frozen=True)
class Side:
    """One of the two sets of a collection: its table, the rows that it lacks, and the checkpoint that is asked for it."""

    table: Table
    left_out: LeftOut
    asked: Asked


@dataclass(frozen=True)
class Doors:
    """Doors to the sidecar.

    Attributes:
        opened: opens a table as the collection, beside the one that serves.
        shown: puts a collection in the place of the one that serves.
    """

    opened: Callable[[Table, Asked], Collection]
    shown: Callable[[Collection], None]


@dataclass
class GoingOver:
    """One attempt.

    Attributes:
        serving: the collection as it serves.
        here, there: its set, and the one that is to serve.
        second: there, as what is added goes into it.
        filling: work that fills it.
        note: of the newer of the two.
        stop: ends the attempt.
        phase: what it is at.
    """

    serving: Collection
    here: Side
    there: Side
    second: SecondSet
    filling: Filling
    note: SetNote
    doors: Doors
    stop: threading.Event
    phase: str = "embedding"

    def run(self) -> tuple[Collection, SetNote]:
        """Go over; return the collection that serves now, and the note that says so.

        Raises:
            Stopped: it is to end.
            Refused: too many rows are missing.
            ClipError: a model, the disk or the table is at fault; the other set serves on.
        """
        while self.filling.run():
            pass
        self._check_missing()
        self.phase = "indexing"
        opened = self.doors.opened(self.there.table, self.there.asked)
        try:
            opened.rebuild()
            for _ in range(_TRIES):
                self.phase = "embedding"
                while self.filling.run():
                    pass
                self.phase = "swapping"
                if note := self.serving.writer.submit(Alone(partial(self._swapped, opened))).result():
                    self.serving.close(self.serving.commits.retired)
                    return opened, note
        except BaseException:  # LanceDB raises anything, panics of its Rust code among it
            opened.close()
            raise
        opened.close()
        raise Unavailable("rows keep coming that the other model doesn't embed in time: try again when fewer are added")

    def _check_missing(self) -> None:
        if self.stop.is_set():
            raise Stopped
        missing, rows = len(self.there.left_out), len(self.serving.table)
        if rows and missing / rows > self.note.most_missing:
            raise Refused(
                f"{missing:,} of {rows:,} rows can't be embedded, more than may be missing ({self.note.most_missing:.2%}): "
                f"see which, mend their sources or let more be missing, and begin again"
            )

    def _swapped(self, opened: Collection) -> SetNote | None:
        """Let the other set serve; None if rows have come that it lacks. Nothing else is changed meanwhile."""
        try:
            pending = len(self.filling.pending())
            if pending > _LAST_ROWS or self.filling.run(_LAST_ROWS) < pending:
                return None
        except (Unavailable, Timeout):  # nobody waits here for a model that is away
            return None
        self.there.left_out.keep(self.second.missing())
        self._check_missing()
        self._drop_orphans()
        there, here = self.there.table, self.here.table
        there.note(reservation(max(reserved(there.schema) or 0, reserved(here.schema) or 0)))
        opened.writer.submit(Alone(opened.commits.agree)).result()
        note = dataclasses.replace(self.note, state="serving" if there is self._newest() else "kept")
        self._commit(note)
        self.serving.commits.retired = Moved(f"collection {opened.name} has gone over to another model: send it again")
        self.doors.shown(opened)
        _LOG.info("collection %s is searched with the model of space %s", opened.name, opened.about.space)
        return note

    def _drop_orphans(self) -> None:
        """Remove rows that are gone from the other set; those that it never had stay, unless nobody knows which these are."""
        book = self.here.left_out
        if self.note.state == "filling" or book.is_there:
            self.second.remove(np.setdiff1d(self.second.orphans(), book.numbers()))

    def _newest(self) -> Table:
        tables = {self.here.table.name: self.here.table, self.there.table.name: self.there.table}
        return tables[vector_sets.tables_of(self.serving.name, tables)[-1]]

    def _commit(self, note: SetNote) -> None:
        """Write the note; LanceDB may say that it failed although it is written."""
        newest = self._newest()
        try:
            newest.note(vector_sets.change(note))
        except BaseException:  # as above
            newest.refresh()
            if vector_sets.noted(newest.schema) != note:
                raise
