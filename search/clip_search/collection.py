"""Collection: its table, an engine per tower, a row cache, one writer, and upkeep in the background."""

import collections
import contextlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from clip_client.errors import ClipError, InvalidInput, Unavailable
from clip_client.spec import TOWERS, Tower
from clip_search.arrays import Floats, Found, Rows
from clip_search.commits import Commits
from clip_search.errors import NotFound, ReadOnly, StorageFull
from clip_search.followed import Followed
from clip_search.following import Follower
from clip_search.index.duplicates import Neighbours, neighbours
from clip_search.index.engine import Engine, FaissEngine
from clip_search.index.kinds import too_many
from clip_search.index.lance_engine import LanceEngine
from clip_search.index.milvus.engine import MilvusEngine
from clip_search.index.tuning import Source
from clip_search.lru import Lru
from clip_search.options import IndexOptions
from clip_search.storage.acknowledged_version import AcknowledgedVersion
from clip_search.storage.columns import Columns
from clip_search.storage.row_cache import RowCache
from clip_search.storage.rows import NewRow, OnConflict, checked_vector
from clip_search.storage.schema import about, own_columns
from clip_search.storage.table import Table
from clip_search.storage.vector_sets import Asked
from clip_search.storage.writer import Add, Added, Delete, Follow, Writer
from clip_search.tally import Tally
from clip_search.upkeep import Upkeep

Texts = Callable[..., "tuple[Floats, Source]"]
"""Source of text queries to tune on: (``count``, ``space``, ``size``) -> vectors, and where they come from."""
_FILTERS = 32  # filters whose rows are remembered: a page of search results asks for one many times
_GRAPHS = 2  # graphs of neighbours that are remembered: 26 MB each, for other thresholds and further pages
_MOST_COMPARED, _COMPARING_S = 100_000, 15.0  # pictures among which near duplicates are looked for, and the time for it
_LEAVE_S = 2.0  # for a read under way of a collection that is only read
_SURE_S = 1.0  # wait for a table to be read again; one of a million rows is, and no search waits longer for a disk that fails


class Collection:
    """Rows that can be searched, changed and trusted; safe to use from several threads."""

    def __init__(
        self, name: str, table: Table, folder: Path, options: IndexOptions, texts: Texts, tally: Tally | None = None
    ) -> None:
        self.name, self.table, self.about = name, table, about(table.schema, name)
        self._folder = folder
        self._options = options
        self._check_room(sum(table.count(tower) for tower in TOWERS))
        acknowledged = AcknowledgedVersion(folder / "acknowledged", table)
        if not table.read_only:
            acknowledged.check()
        self.cards = RowCache(folder / "cards", table.identity, table.cards, table.numbers_to)
        self.cards.load()
        self.model: Asked = None  # by which name its checkpoint is asked for; that of the sidecar's options if None
        self.kin: set[str] = set()  # fingerprints of other models that are known to share its space
        self._texts = partial(texts, space=self.about.space, size=self.about.size)
        self._captions: tuple[int, Floats] = 0, np.empty((0, self.about.size), np.float32)
        self.engines: dict[Tower, Engine] = {tower: self._engine(tower, folder / tower) for tower in TOWERS}
        kind = Followed if table.read_only else Commits
        self.commits = kind(table, self.cards, self.engines, acknowledged)
        self.commits.agree()
        self._filters: Lru[tuple[str, int], Rows] = Lru(_FILTERS)
        self._neighbours: Lru[tuple[str, int], Neighbours] = Lru(_GRAPHS)
        self.writer = Writer(self.commits.apply, name)
        self.tally = tally or Tally()
        self._upkeep = Upkeep(name, self.commits, self.writer, self.tally)
        self._follower = Follower(f"collection {name}", self._follow) if table.read_only else None

    def check_writable(self) -> None:
        """Raise ReadOnly for a collection of another sidecar."""
        if self.table.read_only:
            raise ReadOnly

    def add(
        self, rows: Sequence[NewRow], *, on_conflict: OnConflict, fingerprint: str, columns: Mapping[str, str] | None = None
    ) -> Future[Added]:
        """Queue rows; the future is done once they are durable and searchable. Metadata that don't fit refuse their row alone.

        Raises:
            ContractMismatch: vectors of another model.
            InvalidInput: an id twice; by the future, if no row's metadata fit.
            ReadOnly: it is another sidecar's.
            StorageFull: more rows than can be served within the memory.
        """
        self.check_writable()
        if fingerprint not in self.kin:
            self.about.check_fingerprint(fingerprint, self.name)
        vectors = sum(len(row.vectors) for row in rows)
        self._check_room(vectors + sum(engine.size() for engine in self.engines.values()))
        twice = [id for id, count in collections.Counter(row.id for row in rows).items() if count > 1]
        if twice:
            raise InvalidInput(f"id {twice[0]!r} is there twice in one request: send each row once")
        return self.writer.submit(Add(rows, on_conflict, fingerprint or self.about.fingerprint, columns or {}))

    def columns(self) -> Columns:
        """Return the columns as they are, ready to take rows."""
        return self.commits.columns()

    def delete(self, *, ids: Sequence[str] = (), where: str = "") -> Future[int]:
        """Queue a deletion by ids or by filter; the future is done once searches no longer return the rows."""
        self.check_writable()
        deletion = self.writer.submit(Delete(ids, where))
        deletion.add_done_callback(self._count_deleted)
        return deletion

    def search(self, query: Floats, tower: Tower, k: int, where: str, *, exactly: bool = False) -> Found:
        """Return the ``k`` rows nearest to a unit query [D], of those that a filter keeps; raise InvalidInput for a bad one."""
        self._make_sure()
        engine = self.engines[tower]
        return engine.search(query, k, where, lambda: self.matching(where) if where else None, exactly=exactly)

    def matching(self, where: str) -> Rows:
        """Return the rows that a filter keeps, ascending, all if it is empty; cached until the next commit."""
        key = (where, self.commits.count)
        rows = self._filters.get(key)
        if rows is None:
            rows = self.table.matching(where) if where else self.table.numbers()
            self._filters.put(key, rows)
        return rows

    def neighbours(self, where: str, *, again: bool) -> Neighbours:
        """Return the nearest of each picture that a filter keeps, among the latest 100,000; cached until the next commit.

        Args:
            again: look anew if time ended the last look.
        """
        key = (where, self.commits.count)
        known = self._neighbours.get(key)
        if known is None or (again and known.checked < len(known.rows)):
            rows = np.intersect1d(self.matching(where), self.table.rows("image"))[-_MOST_COMPARED:]
            vectors, threads = self.engines["image"].vectors, self._options.threads
            known = neighbours(vectors, rows, threads=threads, time_s=_COMPARING_S)
            self._neighbours.put(key, known)
        return known

    def row_of(self, id: str) -> int:
        """Return the number of a row; raise NotFound if there is no such id."""
        self._make_sure()
        rows = self.table.rows_of([id]) if self.commits.known.maybe([id]) else {}
        if id not in rows:
            raise NotFound(f"no row {id!r} in collection {self.name}: list its rows to see which there are")
        return rows[id]

    def vector_of(self, id: str, tower: Tower) -> Floats:
        """Return the vector of a row, that of a tower if it has one, float32 [D]; raise NotFound for no row and no vector."""
        row = self.row_of(id)
        for side in (tower, *TOWERS):
            vector = self.engines[side].vectors(np.array([row], np.int64))[0]
            if vector.any():
                return checked_vector(vector, self.about.size)
        raise NotFound(f"row {id!r} of collection {self.name} has no vector: add it again")

    def present(self, ids: Sequence[str]) -> set[str]:
        """Return the ids that the collection has, of those given."""
        return set(self.numbers(ids))

    def numbers(self, ids: Sequence[str]) -> dict[str, int]:
        """Return the numbers of rows by id, of those that the collection has."""
        self._make_sure()
        return self.table.rows_of(self.commits.known.maybe(ids))

    def stats(self) -> dict[str, Any]:
        """Return size, model, columns and indexes, ready for JSON."""
        return {
            "name": self.name,
            "rows": len(self.table),
            "dimension": self.about.size,
            "fingerprint": self.about.fingerprint,
            "space": self.about.space,
            "columns": own_columns(self.table.schema),
            "table_version": self.table.version,
            "read_only": self.table.read_only,
            "behind_s": self.behind_s,
            "indexes": {tower: engine.stats() for tower, engine in self.engines.items()},
        }

    @property
    def behind_s(self) -> float | None:
        """Time for which changes may have gone unseen; None for a collection of our own."""
        return self._follower.behind_s if self._follower else None

    @property
    def upkeep(self) -> Upkeep:
        """Upkeep in the background."""
        return self._upkeep

    @property
    def damaged_at(self) -> float:
        """Time of the last damage found in a file, in seconds since 1970; 0 for none since it was opened."""
        return max(self.cards.damaged_at, *(engine.damaged_at for engine in self.engines.values()))

    def trouble(self) -> str:
        """Return the reason why it doesn't do its work; empty while it does."""
        if not self.writer.alive:
            return "its writer has stopped"
        return self._follower.trouble() if self._follower else ""

    def maintain(self) -> None:
        """Do one round of upkeep, as the background does: checks of files; compaction and index builds that are due."""
        self._upkeep.round()

    def rebuild(self) -> None:
        """Compact the table, index everything anew and swap it in."""
        self._upkeep.rebuild()

    def rebuild_soon(self) -> Future[None]:
        """Start :meth:`rebuild` in the background, or join one that is under way."""
        return self._upkeep.rebuild_soon()

    def close(self, why: ClipError | None = None) -> None:
        """Finish what was queued and stop, with a reason for what comes later; one that is only read has nothing to finish."""
        self._stop_upkeep()
        if self._follower:
            self._follower.close()
        stopping = Unavailable(f"the sidecar that holds collection {self.name} is stopping: try again in a moment")
        self.writer.close(why or stopping, _LEAVE_S if self._follower else None)
        self._upkeep.join()

    def drop(self, drop: Callable[[], None]) -> None:
        """Finish what was queued, stop, remove the table by ``drop``, and what was derived from it.

        Raises:
            ClipError: the table can't be removed; what was queued is in it.
        """
        self._stop_upkeep()
        self.writer.close(NotFound(f"collection {self.name} was dropped: there is nothing left of it"))
        self.table.drop(drop)
        self._upkeep.join()
        for engine in self.engines.values():
            engine.discard()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _stop_upkeep(self) -> None:
        self._upkeep.stop()
        for engine in self.engines.values():
            if isinstance(engine, LanceEngine):
                engine.stop()

    def _follow(self) -> None:
        """Take in what the table's owner has committed."""
        self.writer.submit(Follow()).result()

    def _count_deleted(self, deletion: Future[int]) -> None:
        if not deletion.cancelled() and not deletion.exception():
            self.tally.rows("deleted", deletion.result())

    def _check_room(self, vectors: int) -> None:
        """Raise StorageFull for more vectors than an engine in memory can serve."""
        options = self._options
        if options.engine == "faiss" and (reason := too_many(vectors, self.about.size, options.memory_bytes)):
            raise StorageFull(f"collection {self.name}: {reason}")

    def _make_sure(self) -> None:
        """Wait a moment for memory to agree with the table, after a change of unknown outcome."""
        if self.commits.unsure:
            with contextlib.suppress(ClipError):
                wait([self.writer.look_again()], _SURE_S)

    def _queries(self, tower: Tower, count: int) -> tuple[Floats, Source]:
        """Return queries to tune a tower's index on: texts through the model, else the captions that are here."""
        queries, source = self._texts(count)
        if len(queries) or tower == "text":
            return queries, source
        engine = self.engines["text"]
        scale, captions = self._captions
        if engine.size().bit_length() != scale:  # looked at anew when they have doubled
            rows = self.table.rows("text")
            chosen = np.sort(np.random.default_rng(0).choice(rows, min(count, len(rows)), replace=False))
            captions = engine.vectors(chosen)
            self._captions = engine.size().bit_length(), captions[captions.any(1)]
        return self._captions[1][:count], "captions"

    def _engine(self, tower: Tower, folder: Path) -> Engine:
        queries = partial(self._queries, tower)
        if self._options.engine == "lancedb":
            return LanceEngine(self.table, tower, self.about.size, self._options, queries)
        if self._options.engine == "milvus":
            folder = folder.with_name(f"milvus-{tower}")
            return MilvusEngine(self.table, tower, folder, self.about.size, self._options, queries)
        return FaissEngine(self.table, tower, folder, self.about.size, self._options, queries)
