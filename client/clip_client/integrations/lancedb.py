"""Embedding function ``clipserve`` of LanceDB's registry; importing this module registers it.

>>> import clip_client.integrations.lancedb
>>> from lancedb.embeddings import get_registry
>>> clipserve = get_registry().get("clipserve").create(address="localhost:8001")
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from lancedb.embeddings.base import EmbeddingFunction
from lancedb.embeddings.registry import register
from lancedb.embeddings.utils import retry_with_exponential_backoff
from PIL import Image
from pydantic import ConfigDict, PrivateAttr

from clip_client.clip import Clip
from clip_client.comparison import Floats
from clip_client.errors import ClipError, ContractMismatch, InvalidInput

_SECRETS = {"token", "headers", "api_key", "password"}
_SHOWN = 5  # reasons of one warning


@register("clipserve")  # type: ignore[no-untyped-call]
class ClipserveEmbeddings(EmbeddingFunction):
    """Embeddings of a served checkpoint for LanceDB's tables.

    A table keeps these options, and the checkpoint's fingerprint, in its metadata. A token isn't among them.

    Attributes:
        address: of Triton; None for the default of :class:`clip_client.Clip`, whenever the table is opened.
        name: the checkpoint's, as it was published.
        timeout_s: bound on each request.
        source: kind of the source column: ``image`` for encoded bytes, paths and URLs; ``text``.
        fingerprint: of the checkpoint that the table's vectors come from; filled in when a table is made.
    """

    model_config = ConfigDict(extra="forbid")

    address: str | None = None
    name: str = "clip"
    timeout_s: float = 30.0
    source: Literal["image", "text"] = "image"
    fingerprint: str = ""
    _clip: Clip = PrivateAttr()

    @classmethod
    def create(cls, **options: Any) -> ClipserveEmbeddings:
        """Return a function with these options.

        Raises:
            InvalidInput: an option that isn't known, or a secret, which tables don't keep.
        """
        if secrets := sorted(_SECRETS & set(options)):
            raise InvalidInput(f"a table would keep {', '.join(secrets)} where all can read it: set CLIPSERVE_TOKEN instead")
        if unknown := sorted(set(options) - set(cls.model_fields)):
            raise InvalidInput(f"unknown {', '.join(unknown)}: expected {', '.join(cls.model_fields)}")
        return super().create(**options)  # type: ignore[no-untyped-call, no-any-return]

    def model_post_init(self, context: Any) -> None:
        """Make the client; it connects when it is first used."""
        self._clip = Clip(self.address, name=self.name, timeout_s=self.timeout_s)

    def ndims(self) -> int:
        """Return the dimension of the vectors."""
        return self._checked().spec.embedding_size

    def safe_model_dump(self) -> dict[str, Any]:
        """Return the options that a table keeps."""
        return {**self._original_args, "fingerprint": self._checked().spec.fingerprint}

    def compute_query_embeddings(self, query: Any) -> list[Floats]:  # type: ignore[override]
        """Embed a query: a str is a text; a PIL image, bytes, a path object or an array is an image."""
        embed = self._checked().embed_text if isinstance(query, str) else self._checked().embed_image
        return [embed(query)]

    def compute_source_embeddings(self, source: Any) -> list[Floats | None]:
        """Embed a column's values; None where one can't be embedded, which a warning names.

        LanceDB treats None as ``on_bad_vectors`` says.
        """
        values = _listed(self.sanitize_input(source))
        clip = self._checked()
        present = [n for n, value in enumerate(values) if value is not None]
        embed = clip.embed_image if self.source == "image" else clip.embed_text
        rows = embed([values[n] for n in present], on_error="none")
        reasons = dict.fromkeys(set(range(len(values))) - set(present), "no value")
        reasons |= {present[n]: reason for n, reason in rows.errors.items()}
        _warn(self.source, values, reasons)
        embeddings: list[Floats | None] = [None] * len(values)
        for n, row in zip(present, rows, strict=True):
            embeddings[n] = row
        return embeddings

    def compute_query_embeddings_with_retry(self, query: Any) -> list[Floats]:  # type: ignore[override]
        """Embed a query; try again ``max_retries`` times while the server is unavailable or slow."""
        return self._retried(self.compute_query_embeddings, query)  # type: ignore[no-any-return]

    def compute_source_embeddings_with_retry(self, source: Any) -> list[Floats | None]:
        """Embed a column; try again ``max_retries`` times while the server is unavailable or slow."""
        return self._retried(self.compute_source_embeddings, source)  # type: ignore[no-any-return]

    def _retried(self, work: Callable[[Any], Any], argument: Any) -> Any:
        """Call as LanceDB does, but for errors that would be the same again: those are raised at once."""

        def attempt() -> Any:
            try:
                return work(argument)
            except (InvalidInput, ContractMismatch) as problem:
                return problem

        outcome = retry_with_exponential_backoff(attempt, max_retries=self.max_retries)()
        if isinstance(outcome, ClipError):
            raise outcome
        return outcome

    def _checked(self) -> Clip:
        """Return the client; refuse a server of another checkpoint than the table's."""
        served = self._clip.spec.fingerprint
        if self.fingerprint and self.fingerprint != served:
            raise ContractMismatch(
                f"the table's vectors come from {self.fingerprint}, the server holds {served}: serve that checkpoint, or make "
                "the table again"
            )
        return self._clip


def _listed(values: Any) -> list[Any]:
    """Return the values of a column, or of a single one."""
    if isinstance(values, bytes | os.PathLike | Image.Image):
        return [values]
    return list(values.tolist() if isinstance(values, np.ndarray) else values)


def _warn(noun: str, values: Sequence[Any], reasons: dict[int, str]) -> None:
    """Warn of values that can't be embedded, with position, source and reason; name the first ones."""
    if not reasons:
        return
    shown = [f"{noun} {n}{_source(values[n])}: {reason}" for n, reason in sorted(reasons.items())[:_SHOWN]]
    more = f"; and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
    message = f"{len(reasons)} of {len(values)} {noun}s have no vector: " + "; ".join(shown) + more
    warnings.warn(message, stacklevel=2)


def _source(value: Any) -> str:
    return f" ({value})" if isinstance(value, str) and len(value) < 200 else ""
