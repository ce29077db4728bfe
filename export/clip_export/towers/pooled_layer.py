"""Compute an encoder's last layer at the pooled position only: no query and no MLP for the others, just keys and values.

The pooled vector stays the same; a twelfth of a ViT-B's arithmetic is nearly gone.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from clip_export.towers.pooling import Pool


def read_one(encoder: Any, pool: Pool) -> None:
    """Replace the last layer of one of transformers' CLIP-like encoders by one that computes the pooled position alone."""
    encoder.layers[-1] = LastLayer(encoder.layers[-1], pool)


def as_it_comes(tower: nn.Module) -> nn.Module:
    """Let a tower compute all positions, as transformers does: the reference for speed and embeddings."""
    for module in tower.modules():
        if isinstance(module, LastLayer):
            module.alone = False
    return tower


class LastLayer(nn.Module):
    """A layer [N, L, W] -> [N, 1, W], with the weights of one of transformers'.

    Args:
        layer: of transformers.
        pool: picks the position.
        alone: compute that position only; other layers than CLIP's, and a mask for each row, need all.
    """

    layer: Any

    def __init__(self, layer: Any, pool: Pool, *, alone: bool = True) -> None:
        super().__init__()
        self.layer = layer
        self.attn = Mixing()
        self.pool = pool
        self.alone = alone

    def forward(self, hidden: Tensor, mask: Tensor | None = None, where: Tensor | None = None) -> Tensor:
        """Attend to hidden [N, L, W] from the pooled position; mask [1, 1, L, L] is added, the pool gets ``where``."""
        if not self.alone:
            return self.pool(self.layer(hidden, mask), where)[:, None]
        normed = self.layer.layer_norm1(hidden)
        row = None if mask is None else self.pool(mask[0].expand(hidden.shape[0], -1, -1), where)[:, None, None]  # [N, 1, 1, L]
        attended = self.attn(self.layer.self_attn, self.pool(normed, where)[:, None], normed, row)
        read: Tensor = self.pool(hidden, where)[:, None] + attended  # [N, 1, W]
        transformed: Tensor = self.layer.mlp(self.layer.layer_norm2(read))
        return read + transformed


class Mixing(nn.Module):
    """Attention of some positions to all; a module, so that its nodes in an exported graph have a name of their own."""

    def forward(self, attention: Any, some: Tensor, every: Tensor, mask: Tensor | None) -> Tensor:
        """some [N, M, W], every [N, L, W] -> [N, M, W], with the weights of one of transformers' attentions."""
        query = _heads(attention, attention.q_proj(some))  # [N, H, M, W / H]
        key, value = _heads(attention, attention.k_proj(every)), _heads(attention, attention.v_proj(every))
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=attention.scale)
        projected: Tensor = attention.out_proj(mixed.transpose(1, 2).flatten(2))
        return projected


def _heads(attention: Any, part: Tensor) -> Tensor:
    return part.reshape(part.shape[0], -1, attention.num_heads, attention.head_dim).transpose(1, 2)
