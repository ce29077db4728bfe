"""The two towers as torch modules with the contract's inputs and outputs; all exports are made from these."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from clip_client.preprocess import void_pixels
from clip_client.spec import ModelSpec, Tower
from clip_export.reading import Pool

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


class TextTower(nn.Module, ABC):
    """tokens int32 [N, L] -> embedding float32 [N, D] of unit length; a row without an end token -> zeros."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.end_token = spec.end_token

    def forward(self, tokens: Tensor) -> Tensor:
        """Encode, scale to unit length."""
        is_end = (tokens == self.end_token).int()  # [N, L]
        return _unit(self.encode(tokens, is_end), is_end.amax(dim=1) > 0)

    @abstractmethod
    def encode(self, tokens: Tensor, is_end: Tensor) -> Tensor:
        """tokens, and 1 where one is an end token, both int32 [N, L] -> [N, D], not normalised."""


class CausalTextTower(TextTower):
    """A text model of CLIP, whose last layer is told to read one position: that of the first end token.

    Attention is causal, so whatever follows the end token, and how much of it, can't matter.
    """

    model: Any

    def __init__(self, model: nn.Module, projection: nn.Module, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.model = model
        self.projection = projection

    def encode(self, tokens: Tensor, is_end: Tensor) -> Tensor:
        """Encode under a causal mask, the last layer at the end token only, project."""
        mask = causal_mask(tokens)[None, None]
        hidden = self.model.embeddings(input_ids=tokens)  # [N, L, W]
        *layers, last_layer = self.model.encoder.layers
        for layer in layers:
            hidden = layer(hidden, mask)
        ended = last_layer(hidden, mask, is_end)  # [N, 1, W]
        projected: Tensor = self.projection(self.model.final_layer_norm(ended[:, 0]))
        return projected


class FullTextTower(TextTower):
    """A text model of SigLIP, whose last layer is told to read one position: the last, of a text padded to the context."""

    model: Any

    def __init__(self, model: nn.Module, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.model = model

    def encode(self, tokens: Tensor, is_end: Tensor) -> Tensor:
        """Encode without any mask, the last layer at the last position only, project."""
        encoded = self.model.encoder(inputs_embeds=self.model.embeddings(input_ids=tokens)).last_hidden_state  # [N, 1, W]
        projected: Tensor = self.model.head(self.model.final_layer_norm(encoded[:, 0]))
        return projected


class MaskedTextTower(TextTower):
    """A bidirectional text model like BERT, which looks at nothing behind the last end token.

    Args:
        model: tokens and an additive mask [N, 1, 1, L] -> hidden states.
        pool: to one vector for each text.
        projection: [N, W] -> [N, D].
        unseen: token that isn't looked at within a text either, where somebody writes it out; none if it is None.
    """

    model: Any

    def __init__(
        self, model: nn.Module, pool: Pool, projection: nn.Module, spec: ModelSpec, *, unseen: int | None = None
    ) -> None:
        super().__init__(spec)
        self.model = model
        self.pool = pool
        self.projection = projection
        self.unseen = unseen

    def encode(self, tokens: Tensor, is_end: Tensor) -> Tensor:
        """Encode what isn't padding, pool, project."""
        position = torch.arange(tokens.shape[1], device=tokens.device)
        seen = position[None] <= (is_end * position).amax(dim=1, keepdim=True)  # [N, L]
        if self.unseen is not None:
            seen = seen & (tokens != self.unseen)
        mask = torch.where(seen, 0.0, _BLOCKED)[:, None, None, :]  # [N, 1, 1, L]
        hidden = self.model(input_ids=tokens, attention_mask=mask).last_hidden_state  # [N, L, W]
        projected: Tensor = self.projection(self.pool(hidden, seen))
        return projected


class OpenClipTextTower(TextTower):
    """A text model of open_clip, causal or not.

    Args:
        model: open_clip's TextTransformer, or its CLIP, which holds the same parts.
        pool: open_clip's name of where it is read: ``argmax`` and ``eos`` are the end token.
        spec: of the checkpoint.
    """

    model: Any

    def __init__(self, model: nn.Module, pool: str, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.model = model
        self.pool = {"first": first, "last": last}.get(pool, at_end)
        self.causal = self.model.attn_mask is not None

    def encode(self, tokens: Tensor, is_end: Tensor) -> Tensor:
        """Encode, pool, project."""
        embedded = self.model.token_embedding(tokens) + self.model.positional_embedding[: tokens.shape[1]]  # [N, L, W]
        hidden = self.model.transformer(embedded, attn_mask=causal_mask(tokens) if self.causal else None)
        pooled = self.pool(self.model.ln_final(hidden), is_end)
        projection = self.model.text_projection
        if projection is None:
            return pooled
        projected: Tensor = projection(pooled) if isinstance(projection, nn.Module) else pooled @ projection
        return projected


class Unit(nn.Module):
    """[N, D] -> rows of unit length."""

    def forward(self, rows: Tensor) -> Tensor:
        """Scale."""
        return nn.functional.normalize(rows, dim=1)


def first(hidden: Tensor, seen: Tensor | None = None) -> Tensor:
    """Pool [N, L, W] at the first position."""
    return hidden[:, 0]


def last(hidden: Tensor, seen: Tensor | None = None) -> Tensor:
    """Pool [N, L, W] at the last position."""
    return hidden[:, -1]


def mean(hidden: Tensor, seen: Tensor) -> Tensor:
    """Pool [N, L, W] to the mean over the positions that count, bool [N, L]."""
    weight = seen[:, :, None].float()  # [N, L, 1]
    return (hidden * weight).sum(dim=1) / weight.sum(dim=1)


def at_end(hidden: Tensor, is_end: Tensor) -> Tensor:
    """Pool [N, L, W] at the first end token, marked in int32 [N, L]."""
    return hidden[torch.arange(hidden.shape[0], device=hidden.device), is_end.argmax(dim=1)]


def causal_mask(tokens: Tensor) -> Tensor:
    """What is added to attention so that no token sees a later one: [L, L]."""
    position = torch.arange(tokens.shape[1], device=tokens.device)
    return torch.where(position[None, :] > position[:, None], _BLOCKED, 0.0)


def _unit(embedding: Tensor, good: Tensor) -> Tensor:
    """Rows of unit length where good [N], of zeros where not."""
    length = embedding.norm(dim=1, keepdim=True).clamp(min=1e-12)
    unit: Tensor = embedding / length * good.float()[:, None]
    return unit
