"""Scaling of embeddings to unit length."""

from __future__ import annotations

from torch import Tensor, nn


class Unit(nn.Module):
    """[N, D] -> rows of unit length."""

    def forward(self, rows: Tensor) -> Tensor:
        """Scale."""
        return nn.functional.normalize(rows, dim=1)


def unit(embedding: Tensor, good: Tensor) -> Tensor:
    """Scale rows [N, D] to unit length where good [N], to zero elsewhere."""
    length = embedding.norm(dim=1, keepdim=True).clamp(min=1e-12)
    unit: Tensor = embedding / length * good.float()[:, None]
    return unit
