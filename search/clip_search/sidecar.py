"""The sidecar without HTTP: collections, what is searched for in them, what is put into them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence

import numpy as np

from clip_client.errors import InvalidInput, Unavailable
from clip_client.spec import TOWERS, Tower
from clip_search import fetch
from clip_search.collection import Collection
from clip_search.embedder import Embedder
from clip_search.errors import NotFound, cleaned
from clip_search.faiss_index import Floats
from clip_search.options import Options
from clip_search.part import Rows
from clip_search.query import Hit, Query, Term, distinct, mixed
from clip_search.rows import checked_vector
from clip_search.schema import About, check_collection
from clip_search.store import Store
from clip_search.texts import TuningQueries

_LOG = logging.getLogger(__name__)


class Sidecar:
    """One database with its collections open, and one Triton."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._folder = options.indexes
        self.store = Store(options.data, self._folder)
        self.embedder = Embedder(options.triton, options.model, options.text_cache)
        self.texts = TuningQueries(self.embedder)
        self._lock = threading.Lock()
        self._open: dict[str, Collection] = {}
        self._opening = self.store.names()
        self.broken: dict[str, str] = {}

    def open_all(self) -> None:
        """Open every collection; one that can't be is named in ``broken``, the others go on."""
        for name in list(self._opening):
            try:
                self._open_one(name)
            except Exception as problem:  # LanceDB raises anything
                _LOG.exception("collection %s can't be opened", name)
                self.broken[name] = cleaned(problem)
            self._opening.remove(name)

    def names(self) -> list[str]:
        """Collections that can be asked, sorted."""
        return sorted(self._open)

    def collection(self, name: str) -> Collection:
        """A collection by name.

        Raises:
            NotFound: there is none.
            Unavailable: it is still being opened, or can't be.
        """
        if found := self._open.get(name):
            return found
        if name in self.broken:
            raise Unavailable(f"collection {name} can't be opened ({self.broken[name]}): the log says more")
        if name in self._opening:
            raise Unavailable(f"collection {name} is being opened: try again in a moment")
        raise NotFound(f"no collection {str(name)[:100]}: there is {', '.join(self.names()) or 'none yet'}")

    def create(self, name: str, size: int | None, fingerprint: str | None, columns: Mapping[str, str]) -> Collection:
        """Make a collection; what isn't said of its model is taken from the one that is served.

        Raises:
            InvalidInput, Conflict: it can't be made.
            Unavailable: neither said, nor is a model served.
        """
        check_collection(name)
        if size is None or (fingerprint is None and not self.embedder.not_ready()):
            spec = self.embedder.spec
            same = size in (None, spec.embedding_size)
            size, fingerprint = size or spec.embedding_size, (spec.fingerprint if same and fingerprint is None else fingerprint)
        self.store.create(name, About(size, fingerprint or ""), columns)
        return self._open_one(name)

    def drop(self, name: str) -> None:
        """Remove a collection and its indexes for good."""
        collection = self.collection(name)
        with self._lock:
            del self._open[name]
        collection.close()
        self.store.drop(name)
        collection.remove_files()

    def vector(self, collection: Collection, tower: Tower, term: Term) -> Floats:
        """What a term stands for, float32 [D] of unit length; texts come from :meth:`text` instead.

        Raises:
            ClipError: as its kind has it.
        """
        if term.kind == "vector":
            return checked_vector(term.value, collection.about.size)
        if term.kind == "id":
            return self._vector_of_row(collection, tower, term.value)
        self.check_model(collection)
        rows = self.embedder.images([self.image(term)])
        if rows[0] is None:
            raise InvalidInput(rows.errors[0])
        return rows[0]

    def check_model(self, collection: Collection) -> None:
        """Refuse to search with another model than the one that made the vectors.

        Raises:
            ContractMismatch: they differ.
            Unavailable: the server is down.
        """
        spec = self.embedder.spec
        collection.about.check_fingerprint(spec.fingerprint, collection.name)
        if spec.embedding_size != collection.about.size:
            raise InvalidInput(
                f"collection {collection.name} holds vectors of {collection.about.size}, the served model makes "
                f"{spec.embedding_size}: search it by vector, or serve its model"
            )

    def image(self, term: Term) -> bytes:
        """The encoded file of an image term."""
        sources = {"image_url": fetch.fetched, "image_path": fetch.read}
        return sources[term.kind](term.value, self.options.fetch) if term.kind in sources else term.value

    def tower(self, collection: Collection, asked: Tower | None) -> Tower:
        """The vectors to search: those asked for, else images where there are any."""
        if asked:
            return asked
        return next((tower for tower in TOWERS if collection.engines[tower].size()), "image")

    def search(self, collection: Collection, tower: Tower, query: Query, vectors: Sequence[Floats]) -> list[Hit]:
        """Hits of a query whose terms have these vectors, best first."""
        vector = mixed(vectors, [term.weight for term in query.terms])
        own = {collection.row_of(term.value) for term in query.terms if term.kind == "id"}
        scores, rows = collection.search(vector, tower, query.wanted, query.where)
        keep = np.array([row not in own for row in rows.tolist()], bool)
        if query.threshold is not None:
            keep &= scores >= query.threshold
        scores, rows = scores[keep], rows[keep]
        if query.same:
            first = distinct(collection.engines[tower].vectors(rows), query.same)
            scores, rows = scores[first], rows[first]
        end = query.offset + query.k
        return hits(collection, scores[query.offset : end], rows[query.offset : end], query.columns)

    def close(self) -> None:
        """Finish what was queued and let go of everything."""
        for collection in self._open.values():
            collection.close()
        self.embedder.close()
        self.store.close()

    def _open_one(self, name: str) -> Collection:
        with self._lock:
            table = self.store.open(name)
            self._open[name] = Collection(name, table, self._folder / name, self.options.index, self.texts.sample)
            return self._open[name]

    def _vector_of_row(self, collection: Collection, tower: Tower, id: str) -> Floats:
        row = collection.row_of(id)
        for side in (tower, *TOWERS):
            vector = collection.engines[side].vectors(np.array([row], np.int64))[0]
            if vector.any():
                return checked_vector(vector, collection.about.size)
        raise NotFound(f"row {id!r} of collection {collection.name} has no vector: add it again")


def hits(collection: Collection, scores: Floats, rows: Rows, columns: Sequence[str] | None) -> list[Hit]:
    """Rows with their cards; one that was deleted this instant is left out."""
    wanted = None if columns is None else ["id", "source", "has_thumbnail", *columns]
    cards = collection.cards.take(rows, wanted)
    found = zip(rows.tolist(), np.clip(scores, -1, 1).tolist(), cards, strict=True)
    return [Hit(row, score, card) for row, score, card in found if card is not None]
