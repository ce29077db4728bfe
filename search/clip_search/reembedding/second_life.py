"""Second set of vectors of a collection, from the time when it is made until it is dropped: one thread works on it."""

import logging
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from clip_client.errors import ClipError, ContractMismatch
from clip_client.spec import ModelSpec
from clip_search.budget import Budget, Share
from clip_search.collection import Collection
from clip_search.errors import Busy, Conflict, cleaned
from clip_search.models import Models
from clip_search.options import Options
from clip_search.query import Term
from clip_search.reembedding.filling import Filling, Stopped
from clip_search.reembedding.going_over import Doors, GoingOver, Refused, Side
from clip_search.reembedding.inputs import Inputs
from clip_search.reembedding.left_out import LeftOut
from clip_search.reembedding.second_model import SecondModel
from clip_search.reembedding.second_set import SecondSet
from clip_search.storage import vector_sets
from clip_search.storage.database import Database
from clip_search.storage.schema import about
from clip_search.storage.table import Table
from clip_search.storage.vector_sets import Asked, SetNote, Sets
from clip_search.storage.writer import Alone
from clip_search.thread_priority import step_back

_LOG = logging.getLogger(__name__)
_LOOK_S = 5.0  # pause between two looks whether a set that is kept should be compacted
_LEAVE_S = 10.0  # for a batch under way at the end of the process; what isn't written then is embedded again
_END_S = 60.0  # for the work under way to end, which is no more than a batch unless an index is being built


@dataclass(frozen=True)
class Parts:
    """Parts of the sidecar that are needed.

    Attributes:
        image: returns the file of an image term, within a share of the memory ``fetched``.
        opened: opens a set as a collection of a name, with the checkpoint that is asked for it.
        shown: puts a collection in the place of the one of its name.
    """

    options: Options
    database: Database
    models: Models
    image: Callable[[Term, Share], bytes]
    fetched: Budget
    opened: Callable[[str, Table, Asked], Collection]
    shown: Callable[[Collection], None]


class SecondLife:
    """Second set of one collection: it follows the set that serves, and takes its place when that is wanted."""

    def __init__(self, parts: Parts, serving: Collection, sets: Sets) -> None:
        if sets.other is None or sets.note is None:
            raise ValueError("there is no second set")
        self._parts, self.collection, self.note = parts, serving, sets.note
        self._sets = sets
        self._here, self._there = self._side(serving.table), self._side(parts.database.open_set(sets.other))
        self._second = self._beside(serving, self._there)
        self._going: GoingOver | None = None
        self._stop, self._wanted = threading.Event(), threading.Event()
        self._filling = self._to_fill()
        self._outcome, self._reason = "kept", ""
        self._is_anew = self.note.state == "filling" and not self._there.left_out.is_there  # or it goes on where it was
        if self.note.state == "filling":
            self._outcome = "embedding"
            self._wanted.set()
        self._begin()

    def go(self, note: SetNote | None = None) -> None:
        """Let the second set take the first one's place, once it has all rows; with other options if they are given.

        Rows that were left out are tried again.

        Raises:
            Conflict: it is under way.
            ClipError: its model isn't served, or nothing can be written.
        """
        if note is not None and note != self.note:
            self._newest_table().note(vector_sets.change(note))
            self.note = note
            self._there = replace(self._there, asked=replace(self._sets, note=note).asked(self._there.table.name))
        self._outcome, self._reason, self._is_anew = "embedding", "", True
        self._wanted.set()
        if not self._thread.is_alive():  # somebody wanted to drop it, but couldn't
            self._stop.clear()
            self._begin()

    def _begin(self) -> None:
        self._opening = ThreadPoolExecutor(1)
        self._opening.submit(bool).result()  # its thread has this one's priority, as has what a collection starts there
        self._thread = threading.Thread(target=self._run, name=f"second set of {self.collection.name}", daemon=True)
        self._thread.start()

    @property
    def is_under_way(self) -> bool:
        """True while it is being filled, indexed or swapped."""
        return self._wanted.is_set() or self._going is not None

    def check_model(self, asked: Asked | None = None) -> None:
        """Raise ContractMismatch or Unavailable unless a model of the second set's space answers, by this name if given."""
        space = about(self._there.table.schema, self.collection.name).space
        embedder = self._parts.models.named(asked) if asked else self._parts.models.of(space, self._there.asked)
        spec: ModelSpec = embedder.spec
        if spec.space != space:
            raise ContractMismatch(
                f"the other vectors are of space {space}, model {spec.name} is of {spec.space}: publish theirs beside it and "
                f"name that, --to MODEL"
            )

    def state(self) -> dict[str, Any]:
        """Return how far it is, ready for JSON."""
        going, filling = self._going, self._filling
        phase = going.phase if going else self._outcome
        waiting = filling.waiting if going else ""
        rows, there, out = len(self.collection.table), len(self._there.table), len(self._there.left_out)
        own = about(self._there.table.schema, self.collection.name)
        return {
            "state": "waiting" if waiting else phase,
            "reason": waiting or self._reason,
            "serving": (self._here.asked or (self._parts.options.model, False))[0],
            "model": (self._there.asked or (self._parts.options.model, False))[0],
            "fingerprint": self._second.model.fingerprint or own.fingerprint,
            "space": own.space,
            "rows": rows,
            "embedded": min(there, rows),
            "left_out": out,
            "pending": max(rows - there - out, 0),
            "most_missing": self.note.most_missing,
            "share_of_cores": self.note.cores,
            "thumbnails": self.note.thumbnails,
        }

    def left_out(self, after: int, limit: int) -> list[dict[str, object]]:
        """Return rows that aren't in the newer set, with reasons, behind a row's number."""
        side = self._there if self._there.table.name == self._sets.newest else self._here
        return side.left_out.page(after, limit)

    def stop(self) -> None:
        """Begin no further work."""
        self._stop.set()
        self._wanted.set()

    def join(self) -> None:
        """Wait for the batch under way, not for an index that is being built."""
        if self._going is None or self._going.phase != "indexing":
            self._thread.join(_LEAVE_S)

    def end(self) -> None:
        """Stop the work; raise Busy if it can't be stopped soon."""
        self.stop()
        self._thread.join(_END_S)
        if self._thread.is_alive():
            raise Busy("an index is being built: try again in a moment")
        self._opening.shutdown(wait=False)

    def drop(self) -> int:
        """Remove the second set for good; return the number of rows that were in it alone.

        Raises:
            Busy: its index is being built.
            ClipError: it can't be removed.
        """
        self.end()
        only_there = len(self._second.orphans())
        self.collection.writer.submit(Alone(self._let_go)).result()
        table = self._there.table
        table.drop(lambda: self._parts.database.drop_set(table.name))
        shutil.rmtree(self._folder(table), ignore_errors=True)
        return only_there

    def _let_go(self) -> None:
        self.collection.commits.beside = None

    def _run(self) -> None:
        step_back()
        while not self._stop.is_set():
            if self._wanted.is_set():
                self._attempt()
            self._wanted.wait(_LOOK_S)
            try:
                self._second.compact()
            except BaseException:  # LanceDB raises anything, panics of its Rust code among it
                _LOG.exception("the second set of collection %s can't be compacted", self.collection.name)

    def _attempt(self) -> None:
        """Go over once; whatever happens, searches go on with one set or the other."""
        self._second.trouble = ""
        self._filling = filling = self._to_fill()
        doors = Doors(self._opened, self._shown)
        self._going = GoingOver(self.collection, self._here, self._there, self._second, filling, self.note, doors, self._stop)
        self._wanted.clear()
        try:
            if self._is_anew or not self._there.left_out.is_there:
                self._there.left_out.begin()
                self._is_anew = False
            _, self.note = self._going.run()
            self._outcome, self._reason = "kept", ""
        except Stopped:
            self._wanted.set()
        except Refused as problem:
            self._outcome, self._reason = "refused", str(problem)
        except BaseException as problem:  # as above
            self._outcome = "failed"
            self._reason = str(problem) if isinstance(problem, ClipError) else cleaned(problem)
            _LOG.warning("collection %s isn't embedded again: %s", self.collection.name, self._reason, exc_info=problem)
        finally:
            self._going = None

    def _opened(self, table: Table, asked: Asked) -> Collection:
        return self._opening.submit(self._parts.opened, self.collection.name, table, asked).result()

    def _shown(self, opened: Collection) -> None:
        """Let another set serve: from here on the one before is the second."""
        self._here, self._there = self._there, self._here
        self.collection = opened
        self._second = self._beside(opened, self._there)
        self._parts.shown(opened)

    def _beside(self, serving: Collection, other: Side) -> SecondSet:
        """Return the second set beside a collection, which from now on gets that one's changes."""
        own, models = about(other.table.schema, serving.name), self._parts.models
        model = SecondModel(lambda: models.of(own.space, self._there.asked), own.space, own.fingerprint)
        second = SecondSet(other.table, serving.table, model)
        serving.commits.beside = second
        return second

    def _to_fill(self) -> Filling:
        parts = self._parts
        source = Inputs(parts.image, parts.fetched, parts.options.fetch, self.note.thumbnails)
        filling = Filling(self._second, self.collection.table, self._there.left_out, source, self.note.cores, self._stop)
        writer = self.collection.writer
        filling.settle = lambda: writer.submit(Alone(lambda: None)).result()
        return filling

    def _side(self, table: Table) -> Side:
        return Side(table, LeftOut(self._folder(table)), self._sets.asked(table.name))

    def _folder(self, table: Table) -> Path:
        return self._parts.options.indexes / table.name

    def _newest_table(self) -> Table:
        return self._there.table if self._there.table.name == self._sets.newest else self._here.table


def check_free(life: SecondLife | None, model: str) -> None:
    """Raise Conflict for a collection that has a second set of another purpose."""
    if life is None:
        return
    if life.note.state != "filling":
        raise Conflict(
            f"collection {life.collection.name} has a second set of vectors, which is kept: go back to it, --back, or drop it, "
            f"--drop-old"
        )
    if life.note.model != model:
        raise Conflict(
            f"collection {life.collection.name} is being embedded with {life.note.model}: wait for it, or drop that, --drop-old"
        )
    if life.is_under_way:
        raise Conflict(f"collection {life.collection.name} is being embedded with {model} already: its statistics tell how far")
