"""Model of a second set of vectors: it has to be of the set's space, and whoever adds rows doesn't wait for it in vain."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from clip_client.errors import ClipError, ContractMismatch
from clip_search.arrays import Floats
from clip_search.embedder import Embedder
from clip_search.errors import cleaned

_LOG = logging.getLogger(__name__)


class SecondModel:
    """Embedder of one space; safe to use from several threads.

    Args:
        embedder: returns the embedder for the space, which may be another later.
        space: of the vectors.
        fingerprint: of the checkpoint, as long as it wasn't asked.
    """

    def __init__(self, embedder: Callable[[], Embedder], space: str, fingerprint: str) -> None:
        self._embedder, self.space, self.fingerprint = embedder, space, fingerprint
        self._is_down = False

    def images(self, files: Sequence[bytes]) -> Any:
        """Return a vector for each encoded file, None for one that can't be embedded, with the reasons in ``errors``.

        Raises:
            ContractMismatch: a model of another space answers.
            ClipError: the model can't be asked.
        """
        return self._checked(lambda embedder: embedder.images(files))

    def texts(self, texts: Sequence[str]) -> Any:
        """Return a vector for each text; as :meth:`images`."""
        return self._checked(lambda embedder: embedder.texts(texts))

    def tried(self, embed: Callable[[Sequence[Any]], Any], inputs: Sequence[Any]) -> Sequence[Floats | None]:
        """Return what :meth:`images` or :meth:`texts` returns, or None for each while the model can't be asked."""
        nothing = [None] * len(inputs)
        if not inputs or (self._is_down and self._embedder().not_ready()):
            return nothing
        try:
            vectors: Sequence[Floats | None] = embed(inputs)
        except ClipError as problem:
            if not self._is_down:
                _LOG.warning("rows go into one set of vectors alone, the other's model can't be asked: %s", cleaned(problem))
            self._is_down = True
            return nothing
        self._is_down = False
        return vectors

    def _checked(self, embed: Callable[[Embedder], Any]) -> Any:
        embedder = self._embedder()
        self._check(embedder)
        vectors = embed(embedder)
        self._check(embedder)  # again: another may have come up meanwhile
        return vectors

    def _check(self, embedder: Embedder) -> None:
        spec = embedder.spec
        if spec.space != self.space:
            raise ContractMismatch(
                f"the model {spec.name} is of space {spec.space}, the set of vectors of {self.space}: publish its model again"
            )
        self.fingerprint = spec.fingerprint
