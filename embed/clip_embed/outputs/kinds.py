"""Kinds of outputs by name."""

from __future__ import annotations

from collections.abc import Mapping

from clip_embed.outputs.base import Output
from clip_embed.outputs.clip_retrieval import ClipRetrieval
from clip_embed.outputs.lance import Lance
from clip_embed.outputs.parquet import Parquet

_KINDS: Mapping[str, type[Output]] = {"clip-retrieval": ClipRetrieval, "parquet": Parquet, "lance": Lance}
NAMES = tuple(_KINDS)


def output(name: str) -> Output:
    """Return the output of a kind."""
    return _KINDS[name]()
