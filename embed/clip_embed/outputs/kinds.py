"""Kinds of outputs by name."""

from __future__ import annotations

from clip_embed.outputs.base import Output
from clip_embed.outputs.clip_retrieval import ClipRetrieval
from clip_embed.outputs.parquet import Parquet

NAMES = ("clip-retrieval", "parquet")


def output(name: str) -> Output:
    """Return the output of a kind."""
    return ClipRetrieval() if name == "clip-retrieval" else Parquet()
