"""Sidecar without HTTP: collections, searches in them, rows into them."""

import contextlib
import logging
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from clip_client.errors import InvalidInput, Unavailable
from clip_client.spec import TOWERS, ModelSpec, Tower
from clip_search import kinship
from clip_search.arrays import Floats
from clip_search.budget import Budget, Share
from clip_search.collection import Collection
from clip_search.embedder import Embedder
from clip_search.errors import Conflict, NotFound, cleaned
from clip_search.feedback import Feedback
from clip_search.following import Follower
from clip_search.kept_queries import KeptQueries
from clip_search.models import Models
from clip_search.options import Options
from clip_search.query import Term
from clip_search.reembedding.second_life import Parts
from clip_search.reembedding.second_sets import SecondSets
from clip_search.results import Timer
from clip_search.storage.database import Database
from clip_search.storage.rows import checked_vector
from clip_search.storage.schema import About, check_collection
from clip_search.storage.table import Table
from clip_search.storage.vector_sets import Asked
from clip_search.tally import Tally
from clip_search.term_images import TermImages
from clip_search.trial import Trial

_LOG = logging.getLogger(__name__)

_LOOKS = 5  # looks at the list of collections for each one at their identities, which takes some requests a collection


class Sidecar:
    """Open collections of one database, and one Triton."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._folder = options.indexes
        self.database = Database(options.data, self._folder, options.index.cache_bytes, read_only=options.read_only)
        self.feedback = Feedback(self.database)
        self.models = Models(options)
        self.embedder = self.models.main
        self.trial = Trial(options.triton, options.model, options.text_cache, options.share)
        bounds = options.bounds
        self.fetched = Budget("the picture", max(bounds.fetch_memory, options.fetch.image_bytes), bounds.wait_s)
        self.decoding = Budget("decoding the picture", bounds.decode_memory, bounds.wait_s)
        self.image = TermImages(options.fetch, self.decoding).image
        self.tally = Tally()
        self.queries = KeptQueries(options.queries, self.decoding)
        self._lock = threading.RLock()
        self._open: dict[str, Collection] = {}
        self._changing: set[str] = set()
        self._opening = self.database.names()
        self.broken: dict[str, str] = {}
        self.seconds = SecondSets(
            Parts(options, self.database, self.models, self.image, self.fetched, self._opened_set, self._show)
        )
        self._follower: Follower | None = None
        self._looks = 0

    def open_all(self) -> None:
        """Open every collection; one that can't be opened is named in ``broken``."""
        for name in list(self._opening):
            self._try_to_open(name)
            self._opening.remove(name)
        if self.options.read_only:
            self._follower = Follower("the list of collections", self._follow)

    def names(self) -> list[str]:
        """Return the names of the open collections, sorted."""
        return [collection.name for collection in self.collections()]

    def collections(self) -> list[Collection]:
        """Return the open collections by name; one may be dropped while it is used."""
        with self._lock:
            return [self._open[name] for name in sorted(self._open)]

    def collection(self, name: str) -> Collection:
        """Return a collection by name; raise NotFound if there is none, Unavailable if it is being opened, or can't be."""
        if collection := self._open.get(name):
            return collection
        if reason := self.broken.get(name):
            raise Unavailable(f"collection {name} can't be opened ({reason}): the log says more")
        if name in self._opening:
            raise Unavailable(f"collection {name} is being opened: try again in a moment")
        raise NotFound(f"no collection {str(name)[:100]}: there is {', '.join(self.names()) or 'none yet'}")

    def stats(self, collection: Collection) -> dict[str, Any]:
        """Return a collection's statistics, with the served model and, if the vectors are of that, its notice."""
        spec, second = self.embedder_of(collection).known(), self.seconds.state(collection.name)
        notice = spec.notice if spec and spec.space == collection.about.space else ""
        told = {"reembedding": second} if second else {}
        return {**collection.stats(), "model": spec.name if spec else "", "notice": notice, **told}

    def embedder_of(self, collection: Collection) -> Embedder:
        """Return the embedder for a collection's space: the served one, or that of the checkpoint that its vectors are of."""
        return self.models.of(collection.about.space, collection.model)

    def create(self, name: str, size: int | None, fingerprint: str | None, columns: Mapping[str, str]) -> Collection:
        """Make a collection; size and fingerprint default to those of the served model.

        Raises:
            InvalidInput, Conflict: it can't be made.
            Unavailable: neither said, nor is a model served.
            ReadOnly: the database is another sidecar's.
        """
        check_collection(name)
        self.database.check_owner()
        if size is None or (fingerprint is None and not self.embedder.not_ready()):
            spec = self.embedder.spec
            same = size in (None, spec.embedding_size)
            size, fingerprint = size or spec.embedding_size, (spec.fingerprint if same and fingerprint is None else fingerprint)
        with self._claimed(name):
            self.database.create(name, self._about(size, fingerprint or ""), columns)
            try:
                return self._open_one(name)
            except BaseException:  # as below
                self._drop_closed(name)  # nobody was told that it is there
                raise

    def drop(self, name: str) -> None:
        """Remove a collection for good, a broken one too; raise NotFound or Unavailable if it isn't there or can't be."""
        self.database.check_owner()
        self.seconds.let_go(name)
        with contextlib.ExitStack() as claim:
            with self._lock:
                collection = None if name in self.broken else self.collection(name)
                claim.enter_context(self._claimed(name))
                self._open.pop(name, None)
            tables = self.database.tables(name)
            if collection is None:
                return self._drop_closed(name)
            try:
                collection.drop(lambda: self.database.drop(name))
            except BaseException:  # as below
                self._try_to_open(name)
                raise
            self._remove_folders(tables)
            self.feedback.drop(name)

    def vector(self, collection: Collection, tower: Tower, term: Term, timed: Timer) -> Floats:
        """Return a term's vector, float32 [D] of unit length, or raise a ClipError; texts come from :meth:`text` instead."""
        if term.kind == "vector":
            return checked_vector(term.value, collection.about.size)
        if term.kind == "id":
            return collection.vector_of(term.value, tower)
        self.check_model(collection)
        with Share(self.fetched) as share:
            with timed("download_time" if term.kind == "image_url" else "image_prepro_time"):
                file = self.image(term, share)
            with timed("image_clip_inference_time"):
                rows = self.embedder_of(collection).images([file])
        self.check_model(collection)  # again: a model of another space may have come up meanwhile
        if rows[0] is None:
            raise InvalidInput(rows.errors[0])
        return rows[0]

    def check_model(self, collection: Collection) -> None:
        """Raise ContractMismatch for another model than the vectors' own, Unavailable if the server is down."""
        self.check_spec(collection, self.embedder_of(collection).spec)

    def check_spec(self, collection: Collection, spec: ModelSpec) -> None:
        """Raise ContractMismatch for a model of another space than the vectors', InvalidInput for another length."""
        kinship.check_spec(collection, spec)

    def check_made_by(self, collection: Collection, fingerprint: str) -> None:
        """Raise ContractMismatch for ready vectors of another model, unless the served one is known to share its space."""
        if not self.is_kin(collection, fingerprint):
            collection.about.check_fingerprint(fingerprint, collection.name)

    def is_kin(self, collection: Collection, fingerprint: str) -> bool:
        """Tell if the served model has that fingerprint and shares the collection's space, or had when it was asked before."""
        return kinship.is_kin(collection, fingerprint, self.embedder_of(collection))

    def tower(self, collection: Collection, asked: Tower | None) -> Tower:
        """Return the tower to search: the requested one, else images if there are any."""
        if asked:
            return asked
        return next((tower for tower in TOWERS if collection.engines[tower].size()), "image")

    def close(self) -> None:
        """Finish queued changes and close everything."""
        if self._follower:
            self._follower.close()
        self.seconds.close()
        for collection in self.collections():
            collection.close()
        self.models.close()
        self.trial.close()
        self.database.close()

    def trouble(self) -> str:
        """Return the reason why the database can't be written or followed; empty while it can."""
        return self.database.trouble() or (self._follower.trouble() if self._follower else "")

    def _about(self, size: int, fingerprint: str) -> About:
        """Return the description of a new collection; of the served model's vectors with their space."""
        spec = self.embedder.known()
        inherits = spec is not None and spec.fingerprint == fingerprint
        return About(size, fingerprint, spec.inherited_space if spec and inherits else "")

    def _follow(self) -> None:
        """Open the collections that the database's owner has made, close those that it has dropped."""
        names = self.database.names()
        self._looks += 1
        for collection in self.collections():
            if collection.name not in names or self._is_replaced(collection):
                self._let_go(collection, names)
        for name in self.broken.keys() - names:
            del self.broken[name]
        for name in sorted(set(names) - set(self.names())):
            self._try_to_open(name)

    def _let_go(self, collection: Collection, names: Sequence[str]) -> None:
        """Close a collection that was dropped, or whose other set of vectors serves: that is opened before."""
        is_there = collection.name in names and self.database.sets(collection.name).serving != collection.table.name
        if is_there:
            self._open_one(collection.name)
        else:
            with self._lock:
                self._open.pop(collection.name, None)
        collection.close()
        self._remove_folders([collection.table.name])

    def _is_replaced(self, collection: Collection) -> bool:
        """Tell if another table has its name; of one with fewer versions only a fresh handle tells, which is asked at times."""
        if self._looks % _LOOKS == 0:
            return self.database.open(collection.name).identity != collection.table.identity
        return collection.table.is_replaced

    def _try_to_open(self, name: str) -> None:
        try:
            self._open_one(name)
            self.broken.pop(name, None)
        except BaseException as problem:  # LanceDB raises anything, panics of its Rust code among it
            self._note_broken(name, problem)

    def _open_one(self, name: str) -> Collection:
        sets = self.database.sets(name)
        opened = self._opened_set(name, self.database.open_set(sets.serving), sets.asked(sets.serving))
        self.seconds.attach(opened, sets)
        self._show(opened)
        return opened

    def _opened_set(self, name: str, table: Table, asked: Asked) -> Collection:
        """Open a set of vectors as a collection of a name."""
        sample = partial(self.models.sample, asked)
        opened = Collection(name, table, self._folder / table.name, self.options.index, sample, self.tally)
        opened.model = asked
        return opened

    def _show(self, collection: Collection) -> None:
        """Put a collection in the place of the one of its name; whoever has that goes on with it."""
        with self._lock:
            self._open[collection.name] = collection

    def _drop_closed(self, name: str) -> None:
        """Remove a collection that isn't open."""
        try:
            tables = self.database.tables(name)
            self.database.drop(name)
        except BaseException as problem:  # as above
            self._note_broken(name, problem)
            raise
        self._remove_folders([name, *tables])
        self.broken.pop(name, None)
        self.feedback.drop(name)

    def _remove_folders(self, tables: Sequence[str]) -> None:
        """Remove what was derived from tables that are gone."""
        for table in tables:
            shutil.rmtree(self._folder / table, ignore_errors=True)

    def _note_broken(self, name: str, problem: BaseException) -> None:
        if self.broken.get(name) != cleaned(problem):  # one that is only read is tried again and again
            _LOG.error("collection %s can't be opened", name, exc_info=problem)
        self.broken[name] = cleaned(problem)

    @contextlib.contextmanager
    def _claimed(self, name: str) -> Iterator[None]:
        """Reserve a name while its collection is made or dropped; raise Conflict if somebody else makes or drops it."""
        with self._lock:
            if name in self._changing:
                raise Conflict(f"collection {name} is being made or dropped: try again in a moment")
            self._changing.add(name)
        try:
            yield
        finally:
            with self._lock:
                self._changing.discard(name)
