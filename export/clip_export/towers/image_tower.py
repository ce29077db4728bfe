"""Image tower: pixels -> embeddings."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from clip_client.preprocess import void_pixels
from clip_client.spec import ModelSpec
from clip_export.towers.unit_length import unit


class ImageTower(nn.Module):
    """pixels uint8 [N, S, S, 3] -> embedding float32 [N, D] of unit length; void pixels -> zeros.

    Args:
        encoder: normalised pixels float32 [N, 3, S, S] -> float32 [N, D], not normalised.
        spec: of the checkpoint.
    """

    scale: Tensor
    shift: Tensor
    void_row: Tensor

    def __init__(self, encoder: nn.Module, spec: ModelSpec) -> None:
        super().__init__()
        self.encoder = encoder
        std = torch.tensor(spec.std, dtype=torch.float64)
        mean = torch.tensor(spec.mean, dtype=torch.float64)
        # (x / 255 - mean) / std, as one multiplication and one addition
        self.register_buffer("scale", (1 / (255 * std)).float().reshape(1, 3, 1, 1))
        self.register_buffer("shift", (-mean / std).float().reshape(1, 3, 1, 1))
        self.register_buffer("void_row", torch.from_numpy(void_pixels(spec.image_size)[0].copy()).float())

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalise, encode, scale to unit length."""
        floats = pixels.float()  # [N, S, S, 3]
        good = (floats[:, 0] - self.void_row).abs().amax(dim=(1, 2)) > 0  # [N]
        return unit(self.encode(floats), good)

    def encode(self, floats: Tensor) -> Tensor:
        """Normalise and encode pixels 0..255 float32 [N, S, S, 3] -> [N, D], not normalised."""
        normalised = floats.permute(0, 3, 1, 2) * self.scale + self.shift  # [N, 3, S, S]
        encoded: Tensor = self.encoder(normalised)
        return encoded


class PooledProjection(nn.Module):
    """A Hugging Face vision model, its pooled output and a projection: [N, 3, S, S] -> [N, D]."""

    def __init__(self, model: Any, projection: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.projection = projection

    def forward(self, normalised: Tensor) -> Tensor:
        """Encode, pool and project."""
        projected: Tensor = self.projection(self.model(pixel_values=normalised).pooler_output)
        return projected
