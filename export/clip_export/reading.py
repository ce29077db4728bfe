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


class LastLayer(nn.Module):
    """A layer [N, L, W] -> [N, 1, W], with the weights of one of transformers'."""

    layer: Any

    def __init__(self, layer: Any, pool: Pool) -> None:
        super().__init__()
        layer.self_attn = LastAttention(layer.self_attn)
        self.layer = layer
        self.pool = pool

    def forward(self, hidden: Tensor, mask: Tensor | None = None, where: Tensor | None = None) -> Tensor:
        """Attend to hidden [N, L, W] from one position; mask [N, 1, 1, L] is added, ``where`` is told to the pool."""
        normed = self.layer.layer_norm1(hidden)
        attended = self.layer.self_attn(self.pool(normed, where)[:, None], normed, mask)
        read: Tensor = self.pool(hidden, where)[:, None] + attended  # [N, 1, W]
        transformed: Tensor = self.layer.mlp(self.layer.layer_norm2(read))
        return read + transformed


class LastAttention(nn.Module):
    """Attention of some positions to all, with the weights of one of transformers'."""

    attention: Any

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, some: Tensor, every: Tensor, mask: Tensor | None) -> Tensor:
        """some [N, M, W], every [N, L, W] -> [N, M, W]."""
        query = self._heads(self.attention.q_proj(some))  # [N, H, M, W / H]
        key, value = self._heads(self.attention.k_proj(every)), self._heads(self.attention.v_proj(every))
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=self.attention.scale)
        projected: Tensor = self.attention.out_proj(mixed.transpose(1, 2).flatten(2))
        return projected

    def _heads(self, part: Tensor) -> Tensor:
        shape = (part.shape[0], -1, self.attention.num_heads, self.attention.head_dim)
        return part.reshape(shape).transpose(1, 2)
