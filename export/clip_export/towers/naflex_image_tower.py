"""Image tower of SigLIP 2 NaFlex: a square of patches -> embeddings."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from clip_client.spec import ModelSpec
from clip_export.towers.image_tower import ImageTower

_BLOCKED = -1e4  # finite, as in the text towers


class NaflexImageTower(ImageTower):
    """pixels uint8 [N, S, S, 3], packed as ``clip_client.naflex`` does -> embedding float32 [N, D] of unit length.

    Args:
        model: transformers' vision model, with its pooling head.
        spec: of the checkpoint.
    """

    encoder: Any

    def __init__(self, model: Any, spec: ModelSpec) -> None:
        super().__init__(model, spec)
        self.patch = spec.patch_size
        self.across = spec.image_size // spec.patch_size
        self.most = spec.resize_size

    def encode(self, floats: Tensor) -> Tensor:
        """Unpack, encode what is picture, pool [N, S, S, 3] -> [N, D]."""
        counts = 1 + 256 * floats[:, -1, :2, 0] + floats[:, -1, :2, 1]  # [N, 2]: rows and columns of patches
        seen = torch.arange(self.most, device=floats.device)[None] < counts.prod(dim=1, keepdim=True)  # [N, L]
        mask = torch.where(seen, 0.0, _BLOCKED)[:, None, None, :]  # [N, 1, 1, L]
        embeddings = self.encoder.embeddings
        hidden = embeddings.patch_embedding(self._patches(floats)) + self._positions(counts)  # [N, L, W]
        hidden = self.encoder.post_layernorm(self.encoder.encoder(inputs_embeds=hidden, attention_mask=mask).last_hidden_state)
        return self._pooled(hidden, mask)

    def _patches(self, floats: Tensor) -> Tensor:
        """Return normalised patches [N, L, P * P * 3] in the picture's order."""
        grid = floats[:, :-1, :-1].reshape(-1, self.across, self.patch, self.across, self.patch, 3)
        patches = grid.transpose(2, 3).reshape(-1, self.across * self.across, self.patch * self.patch, 3)  # [N, L, P * P, 3]
        return (patches[:, : self.most] * self.scale.flatten() + self.shift.flatten()).flatten(2)

    def _positions(self, counts: Tensor) -> Tensor:
        """Return embeddings of positions [N, L, W], interpolated from their square grid as transformers' do; counts [N, 2].

        Bilinear with antialias: weights of rows and of columns, each position's product over the grid.
        """
        table = self.encoder.embeddings.position_embedding.weight  # [G * G, W]
        grid = round(table.shape[0] ** 0.5)
        number = torch.arange(self.most, device=counts.device, dtype=counts.dtype)[None]  # [1, L]
        columns = counts[:, 1:]  # [N, 1]
        row = torch.div(number, columns, rounding_mode="floor")
        places = torch.stack([row, number - row * columns], dim=-1)  # [N, L, 2]
        scale = grid / counts[:, None]  # [N, 1, 2]
        source = torch.arange(grid, device=counts.device, dtype=counts.dtype)
        distance = (source - ((places + 0.5) * scale - 0.5)[..., None]).abs()  # [N, L, 2, G]
        weights = (1 - distance / scale.clamp(min=1)[..., None]).clamp(min=0)
        weights = weights / weights.sum(dim=-1, keepdim=True).clamp(min=1e-9)  # padding may lie outside the grid
        both = weights[:, :, 0, :, None] * weights[:, :, 1, None, :]  # [N, L, G, G]
        positions: Tensor = both.flatten(2) @ table
        return positions

    def _pooled(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Pool [N, L, W] -> [N, W] by the head's attention, which sees the picture only."""
        head = self.encoder.head
        probe = head.probe.expand(hidden.shape[0], -1, -1)  # [N, 1, W]
        rows = mask[:, 0].repeat_interleave(head.num_heads, dim=0)  # [N * H, 1, L]
        attended = head.attention(probe, hidden, hidden, attn_mask=rows, need_weights=False)[0]
        pooled: Tensor = (attended + head.mlp(head.layernorm(attended)))[:, 0]
        return pooled
