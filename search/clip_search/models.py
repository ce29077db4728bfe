"""Checkpoints that a sidecar asks: the one that it was told of, and those that other sets of vectors were made with."""

import threading

from clip_client.model_versions import versioned
from clip_search.arrays import Floats
from clip_search.embedder import Embedder
from clip_search.errors import Conflict
from clip_search.index.tuning import Source
from clip_search.index.tuning_queries import TuningQueries
from clip_search.options import Options
from clip_search.storage.vector_sets import Asked


class Models:
    """Embedders by name; each is made when it is first asked for, and stays. Safe to use from several threads."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self.main = Embedder(options.triton, options.model, options.text_cache)
        self._lock = threading.Lock()
        self._others: dict[tuple[str, bool], Embedder] = {}
        self._texts: dict[Embedder, TuningQueries] = {}

    def named(self, asked: Asked) -> Embedder:
        """Return the embedder of a name; raise Conflict for one on a second Triton if none was named."""
        if asked is None or asked == (self._options.model, False):
            return self.main
        name, is_next = asked
        if is_next and not self._options.next_triton:
            raise Conflict(f"model {name} is on a second Triton: start the sidecar with its address, --next-triton HOST:PORT")
        address = self._options.next_triton if is_next else self._options.triton
        with self._lock:
            if asked not in self._others:
                self._others[asked] = Embedder(address, name, self._options.text_cache)
            return self._others[asked]

    def of(self, space: str, asked: Asked) -> Embedder:
        """Return the embedder for vectors of a space: that of the options once it is of this space, else that of the name."""
        if asked is None or (asked[1] and not self._options.next_triton):
            return self.main
        spec = self.main.known()
        return self.main if spec and spec.space == space else self.named(asked)

    def asked(self, model: str) -> Asked:
        """Return what a name or a version's number stands for: on the second Triton if there is one."""
        is_next = bool(self._options.next_triton)
        own = versioned(self._options.model, int(model)) if model.isascii() and model.isdigit() else model
        return own, is_next

    def texts(self, embedder: Embedder) -> TuningQueries:
        """Return the queries that indexes of an embedder's vectors are tuned on."""
        with self._lock:
            return self._texts.setdefault(embedder, TuningQueries(embedder))

    def sample(self, asked: Asked, count: int, space: str, size: int) -> tuple[Floats, Source]:
        """Return queries of a space, as :meth:`TuningQueries.sample`."""
        return self.texts(self.of(space, asked)).sample(count, space, size)

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            others = list(self._others.values())
        for embedder in (self.main, *others):
            embedder.close()
