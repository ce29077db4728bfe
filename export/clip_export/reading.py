"""The last layer of an encoder of which one position is read: the others need no query, no MLP, only keys and values.

What is read stays the same; a twelfth of a ViT-B's arithmetic is nearly gone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

Pool = Callable[[Tensor, Any], Tensor]
"""Hidden states [N, L, W], and what says where to read -> [N, W]."""


def read_one(encoder: Any, pool: Pool) -> None:
    """Let the last layer of one of transformers' CLIP-like encoders compute the position that ``pool`` reads, alone."""
    encoder.layers[-1] = LastLayer(encoder.layers[-1], pool)


def as_it_comes(tower: nn.Module) -> nn.Module:
    """The tower with all positions computed, as transformers does it: what the short cut is measured and judged against."""
    for module in tower.modules():
        if isinstance(module, LastLayer):
            module.alone = False
    return tower


class LastLayer(nn.Module):
    """A layer [N, L, W] -> [N, 1, W], with the weights of one of transformers'."""

    layer: Any

    def __init__(self, layer: Any, pool: Pool) -> None:
        super().__init__()
        self.layer = layer
        self.attn = Mixing()
        self.pool = pool
        self.alone = True

    def forward(self, hidden: Tensor, mask: Tensor | None = None, where: Tensor | None = None) -> Tensor:
        """Attend to hidden [N, L, W] from one position; mask [1, 1, L, L] is added, ``where`` is told to the pool."""
        if not self.alone:
            return self.pool(self.layer(hidden, mask), where)[:, None]
        normed = self.layer.layer_norm1(hidden)
        row = None if mask is None else self.pool(mask[0].expand(hidden.shape[0], -1, -1), where)[:, None, None]  # [N, 1, 1, L]
        attended = self.attn(self.layer.self_attn, self.pool(normed, where)[:, None], normed, row)
        read: Tensor = self.pool(hidden, where)[:, None] + attended  # [N, 1, W]
        transformed: Tensor = self.layer.mlp(self.layer.layer_norm2(read))
        return read + transformed


class Mixing(nn.Module):
    """Attention of some positions to all. A module, so that whoever quantises can tell its nodes by their name."""

    def forward(self, attention: Any, some: Tensor, every: Tensor, mask: Tensor | None) -> Tensor:
        """some [N, M, W], every [N, L, W] -> [N, M, W], with the weights of one of transformers' attentions."""
        query = _heads(attention, attention.q_proj(some))  # [N, H, M, W / H]
        key, value = _heads(attention, attention.k_proj(every)), _heads(attention, attention.v_proj(every))
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=attention.scale)
        projected: Tensor = attention.out_proj(mixed.transpose(1, 2).flatten(2))
        return projected


def _heads(attention: Any, part: Tensor) -> Tensor:
    return part.reshape(part.shape[0], -1, attention.num_heads, attention.head_dim).transpose(1, 2)
