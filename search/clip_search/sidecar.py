"""Sidecar without HTTP: collections, searches in them, rows into them."""

import contextlib
import logging
import shutil
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from clip_client import camera_files
from clip_client.errors import InvalidInput, Unavailable
from clip_client.preprocess import Limits
from clip_client.spec import TOWERS, ModelSpec, Tower
from clip_search import fetch
from clip_search.arrays import Floats
from clip_search.budget import Budget, Share
from clip_search.collection import Collection
from clip_search.embedder import Embedder
from clip_search.errors import Conflict, NotFound, cleaned
from clip_search.feedback import Feedback
from clip_search.following import Follower
from clip_search.index.tuning_queries import TuningQueries
from clip_search.kept_queries import KeptQueries
from clip_search.options import Options
from clip_search.query import Term
from clip_search.results import Timer
from clip_search.storage.database import Database
from clip_search.storage.rows import checked_vector
from clip_search.storage.schema import About, check_collection
from clip_search.tally import Tally
from clip_search.trial import Trial

_LOG = logging.getLogger(__name__)
_SOURCES = {"image_url": fetch.fetched, "image_path": fetch.read}

_LOOKS = 5  # looks at the list of collections for each one at their identities, which takes some requests a collection


class Sidecar:
    """Open collections of one database, and one Triton."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._folder = options.indexes
        self.database = Database(options.data, self._folder, options.index.cache_bytes, read_only=options.read_only)
        self.feedback = Feedback(self.database)
        self.embedder = Embedder(options.triton, options.model, options.text_cache)
        self.trial = Trial(options.triton, options.model, options.text_cache, options.share)
        self.texts = TuningQueries(self.embedder)
        bounds = options.bounds
        self.fetched = Budget("the picture", max(bounds.fetch_memory, options.fetch.image_bytes), bounds.wait_s)
        self.decoding = Budget("decoding the picture", bounds.decode_memory, bounds.wait_s)
        self.tally = Tally()
        self.queries = KeptQueries(options.queries, self.decoding)
        self._lock = threading.RLock()
        self._open: dict[str, Collection] = {}
        self._changing: set[str] = set()
        self._opening = self.database.names()
        self.broken: dict[str, str] = {}
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
        spec = self.embedder.known()
        notice = spec.notice if spec and spec.space == collection.about.space else ""
        return {**collection.stats(), "model": spec.name if spec else "", "notice": notice}

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
        with contextlib.ExitStack() as claim:
            with self._lock:
                collection = None if name in self.broken else self.collection(name)
                claim.enter_context(self._claimed(name))
                self._open.pop(name, None)
            if collection is None:
                return self._drop_closed(name)
            try:
                collection.drop(lambda: self.database.drop(name))
            except BaseException:  # as below
                self._try_to_open(name)
                raise
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
                rows = self.embedder.images([file])
        self.check_model(collection)  # again: a model of another space may have come up meanwhile
        if rows[0] is None:
            raise InvalidInput(rows.errors[0])
        return rows[0]

    def check_model(self, collection: Collection) -> None:
        """Raise ContractMismatch for another model than the vectors' own, Unavailable if the server is down."""
        self.check_spec(collection, self.embedder.spec)

    def check_spec(self, collection: Collection, spec: ModelSpec) -> None:
        """Raise ContractMismatch for a model of another space than the vectors', InvalidInput for another length."""
        collection.about.check_space(spec, collection.name)
        if spec.embedding_size != collection.about.size:
            raise InvalidInput(
                f"collection {collection.name} holds vectors of {collection.about.size}, the served model makes "
                f"{spec.embedding_size}: search it by vector, or serve its model"
            )

    def check_made_by(self, collection: Collection, fingerprint: str) -> None:
        """Raise ContractMismatch for ready vectors of another model, unless the served one is known to share its space."""
        if not self.is_kin(collection, fingerprint):
            collection.about.check_fingerprint(fingerprint, collection.name)

    def is_kin(self, collection: Collection, fingerprint: str) -> bool:
        """Tell if the served model has that fingerprint and shares the collection's space, or had when it was asked before."""
        if fingerprint in ("", collection.about.fingerprint, *collection.kin):
            return fingerprint in collection.kin
        spec = self.embedder.known()
        if spec and (fingerprint, collection.about.space) == (spec.fingerprint, spec.space):
            collection.kin.add(fingerprint)
        return fingerprint in collection.kin

    def image(self, term: Term, share: Share) -> bytes:
        """Return the encoded file of an image term, as JPEG if it is HEIC or RAW.

        Its memory is in the share, unless it came with the request.

        Raises:
            InvalidInput: it can't be had, or not be decoded.
            Busy: others have the memory.
        """
        file = self._file(term, share)
        needed = camera_files.memory(file)
        with self.decoding.held(needed) if needed else contextlib.nullcontext():
            return camera_files.as_jpeg(file, Limits().image_pixels)

    def _file(self, term: Term, share: Share) -> bytes:
        """Return the file of an image term as it is; raises as :meth:`image`."""
        if term.kind == "image":
            return bytes(term.value)
        most = self.options.fetch.image_bytes
        share.take(most)
        file = b""
        try:
            file = _SOURCES[term.kind](term.value, self.options.fetch)
        finally:
            share.give_back(most - len(file))
        return file

    def tower(self, collection: Collection, asked: Tower | None) -> Tower:
        """Return the tower to search: the requested one, else images if there are any."""
        if asked:
            return asked
        return next((tower for tower in TOWERS if collection.engines[tower].size()), "image")

    def close(self) -> None:
        """Finish queued changes and close everything."""
        if self._follower:
            self._follower.close()
        for collection in self.collections():
            collection.close()
        self.embedder.close()
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
                with self._lock:
                    self._open.pop(collection.name, None)
                collection.close()
                shutil.rmtree(self._folder / collection.name, ignore_errors=True)
        for name in self.broken.keys() - names:
            del self.broken[name]
        for name in sorted(set(names) - set(self.names())):
            self._try_to_open(name)

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
        table, index = self.database.open(name), self.options.index
        opened = Collection(name, table, self._folder / name, index, self.texts.sample, self.tally)
        with self._lock:
            self._open[name] = opened
        return opened

    def _drop_closed(self, name: str) -> None:
        """Remove a collection that isn't open."""
        try:
            self.database.drop(name)
        except BaseException as problem:  # as above
            self._note_broken(name, problem)
            raise
        shutil.rmtree(self._folder / name, ignore_errors=True)
        self.broken.pop(name, None)
        self.feedback.drop(name)

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
