"""Interface of a text model that isn't half of a dual encoder, and parts that its kinds share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from torch import nn

from clip_export.checkpoints.checkpoint import Checkpoint
from clip_export.checkpoints.text_positions import text_positions
from clip_export.families.hugging_face import context_length
from clip_export.libraries.base import Library
from clip_export.towers.pooling import Pool

POOLER = "pooler."  # tensors of a bare BERT's pooler, which none of these models reads


class TextModel(ABC):
    """A text encoder of transformers, a way to pool, and a projection.

    Attributes:
        kind: its name in the spec's family.
    """

    kind: str

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint

    @property
    def weight_files(self) -> list[Path]:
        """All safetensors files."""
        return self.checkpoint.weight_files

    @property
    @abstractmethod
    def embedding_size(self) -> int:
        """D, behind the projection."""

    @property
    @abstractmethod
    def context_length(self) -> int:
        """Most tokens of a text."""

    @abstractmethod
    def encoder(self) -> nn.Module:
        """Load the encoder."""

    @abstractmethod
    def pool(self) -> Pool:
        """Return the pooling: hidden states -> one vector."""

    @abstractmethod
    def projection(self) -> nn.Module:
        """Load the projection: [N, W] -> [N, D]."""

    @abstractmethod
    def library(self) -> Library:
        """Return the library that the model comes from."""

    def _length(self, config: Any, limit: float | None = None) -> int:
        """Return the most tokens that the encoder and its tokenizer (or another limit) allow.

        Rotary positions have no end: there the limit alone counts, as in sentence-transformers.
        """
        endless = limit is not None and getattr(config, "rope_parameters", None) is not None
        return context_length(math.inf if endless else text_positions(config), self.checkpoint, limit)


def linear(weight: Any, bias: Any) -> nn.Module:
    """Make a linear layer of its weights; a bias of None leaves it out."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.load_state_dict({"weight": weight} if bias is None else {"weight": weight, "bias": bias})
    return layer
