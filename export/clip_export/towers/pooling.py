"""Pooling: hidden states of all positions -> one vector per row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Pool = Callable[[Tensor, Any], Tensor]
"""Hidden states [N, L, W], and a mark of the positions to read -> [N, W]."""


def first(hidden: Tensor, seen: Tensor | None = None) -> Tensor:
    """Pool [N, L, W] at the first position."""
    return hidden[:, 0]


def last(hidden: Tensor, seen: Tensor | None = None) -> Tensor:
    """Pool [N, L, W] at the last position."""
    return hidden[:, -1]


def mean(hidden: Tensor, seen: Tensor) -> Tensor:
    """Pool [N, L, W] to the mean over the positions that count, bool [N, L]; zeros where none does."""
    weight = seen[:, :, None].float()  # [N, L, 1]
    return (hidden * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)


def at_end(hidden: Tensor, is_end: Tensor) -> Tensor:
    """Pool [N, L, W] at the first end token, marked in int32 [N, L]."""
    return hidden[torch.arange(hidden.shape[0], device=hidden.device), is_end.argmax(dim=1)]
