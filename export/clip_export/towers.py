"""The two towers as torch modules with the contract's inputs and outputs; all exports are made from these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from clip_client.preprocess import void_pixels
from clip_client.spec import ModelSpec, Tower

_BLOCKED = -1e4  # finite: exp() of it is 0 in every precision, where float32's lowest would overflow to NaN in fp16


@dataclass(frozen=True)
class Towers:
    """Both towers of a checkpoint, in evaluation mode."""

    image: nn.Module
    text: nn.Module

    def __getitem__(self, tower: Tower) -> nn.Module:
        return self.image if tower == "image" else self.text


class ImageTower(nn.Module):
    """pixels uint8 [N, S, S, 3] -> embedding float32 [N, D] of unit length; void pixels -> zeros.

    Args:
        encoder: normalised pixels float32 [N, 3, S, S] -> float32 [N, D], not normalised.
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
        normalised = floats.permute(0, 3, 1, 2) * self.scale + self.shift  # [N, 3, S, S]
        return _unit(self.encoder(normalised), good)


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


class CausalTextTower(nn.Module):
    """tokens int32 [N, L] -> embedding float32 [N, D] of unit length, read at the first end token; none -> zeros.

    Attention is causal, so whatever follows the end token, and how much of it, can't matter.
    """

    model: Any

    def __init__(self, model: nn.Module, projection: nn.Module, spec: ModelSpec) -> None:
        super().__init__()
        self.model = model
        self.projection = projection
        self.end_token = spec.end_token

    def forward(self, tokens: Tensor) -> Tensor:
        """Encode under a causal mask, pool at the end token, project, scale to unit length."""
        is_end = (tokens == self.end_token).int()  # [N, L]
        position = torch.arange(tokens.shape[1], device=tokens.device)
        causal = torch.where(position[None, :] > position[:, None], _BLOCKED, 0.0)  # [L, L]
        hidden = self.model.encoder(
            inputs_embeds=self.model.embeddings(input_ids=tokens), attention_mask=causal[None, None]
        ).last_hidden_state  # [N, L, W]
        first_end = is_end.argmax(dim=1)  # [N]
        pooled = hidden[torch.arange(tokens.shape[0], device=tokens.device), first_end]  # [N, W]
        embedding = self.projection(self.model.final_layer_norm(pooled))  # [N, D]
        return _unit(embedding, is_end.amax(dim=1) > 0)


def _unit(embedding: Tensor, good: Tensor) -> Tensor:
    """Rows of unit length where good [N], of zeros where not."""
    length = embedding.norm(dim=1, keepdim=True).clamp(min=1e-12)
    unit: Tensor = embedding / length * good.float()[:, None]
    return unit
