"""Transformer layers that join tokens, with the weights of transformers' or open_clip's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from clip_export.towers.merged_tokens import ProportionalAttention, TokenMerging


class MergedLayer(nn.Module, ABC):
    """A layer [N, L, W] -> [N, L - count, W].

    Args:
        layer: gives the weights.
        merging: joins tokens behind the attention; None joins none.
        first_alone: only the first token goes on, as nobody reads the others.
    """

    layer: Any
    merging: TokenMerging | None

    def __init__(self, layer: Any, merging: TokenMerging | None, *, first_alone: bool) -> None:
        super().__init__()
        self.layer = layer
        self.attn = ProportionalAttention()
        self.merging = merging
        self.first_alone = first_alone

    def forward(self, hidden: Tensor, sizes: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """hidden [N, L, W], sizes [N, L, 1] or None for all 1 -> the remaining tokens and their sizes."""
        query, key, value = self.projected(hidden)  # [N, L, W] each
        if self.first_alone:
            hidden, query = hidden[:, :1], query[:, :1]
        key = self.heads(key)
        hidden = hidden + self.attended(self.attn(self.heads(query), key, self.heads(value), sizes))
        if self.merging is not None:
            sizes = torch.ones_like(hidden[..., :1]) if sizes is None else sizes
            hidden, sizes = self.merging(key.mean(dim=1), hidden, sizes)
        return hidden + self.transformed(hidden), sizes

    def heads(self, part: Tensor) -> Tensor:
        """[N, L, W] -> [N, H, L, W / H]."""
        return part.reshape(part.shape[0], part.shape[1], self.number_of_heads, -1).transpose(1, 2)

    @property
    @abstractmethod
    def number_of_heads(self) -> int:
        """H."""

    @abstractmethod
    def projected(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalise tokens [N, L, W], and return queries, keys and values of all heads [N, L, W]."""

    @abstractmethod
    def attended(self, mixed: Tensor) -> Tensor:
        """Project the mixed values of all heads [N, M, W] -> [N, M, W]."""

    @abstractmethod
    def transformed(self, hidden: Tensor) -> Tensor:
        """Normalise tokens and pass them through the MLP [N, M, W] -> [N, M, W]."""


class TransformersLayer(MergedLayer):
    """A layer of transformers' CLIP, SigLIP and models built like them."""

    @property
    def number_of_heads(self) -> int:
        """H."""
        return int(self.layer.self_attn.num_heads)

    def projected(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As MergedLayer."""
        attention, normed = self.layer.self_attn, self.layer.layer_norm1(hidden)
        return attention.q_proj(normed), attention.k_proj(normed), attention.v_proj(normed)

    def attended(self, mixed: Tensor) -> Tensor:
        """As MergedLayer."""
        projected: Tensor = self.layer.self_attn.out_proj(mixed)
        return projected

    def transformed(self, hidden: Tensor) -> Tensor:
        """As MergedLayer."""
        transformed: Tensor = self.layer.mlp(self.layer.layer_norm2(hidden))
        return transformed


class OpenClipLayer(MergedLayer):
    """A residual attention block of open_clip's own vision transformer."""

    @property
    def number_of_heads(self) -> int:
        """H."""
        return int(self.layer.attn.num_heads)

    def projected(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As MergedLayer."""
        attention = self.layer.attn
        query, key, value = linear(self.layer.ln_1(hidden), attention.in_proj_weight, attention.in_proj_bias).chunk(3, dim=-1)
        return query, key, value

    def attended(self, mixed: Tensor) -> Tensor:
        """As MergedLayer."""
        scaled: Tensor = self.layer.ls_1(self.layer.attn.out_proj(mixed))
        return scaled

    def transformed(self, hidden: Tensor) -> Tensor:
        """As MergedLayer."""
        scaled: Tensor = self.layer.ls_2(self.layer.mlp(self.layer.ln_2(hidden)))
        return scaled
