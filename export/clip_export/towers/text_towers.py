"""Text towers: tokens -> embeddings; causal, masked, or over the whole context."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from clip_client.spec import ModelSpec
from clip_export.towers.pooling import Pool, at_end, first, last
from clip_export.towers.unit_length import unit

BLOCKED = -1e4  # finite: exp() of it is 0 in every precision, where float32's lowest would overflow to NaN in fp16


class TextTower(nn.Module, ABC):
    """tokens int32 [N, L] -> embedding float32 [N, D] of unit length; a row without an end token -> zeros."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.end_token = spec.end_token

    def forward(self, tokens: Tensor) -> Tensor:
        """Encode, scale to unit length."""
        is_end = (tokens == self.end_token).int()  # [N, L]
        return unit(self.encode(tokens, is_end), is_end.amax(dim=1) > 0)

    @abstractmethod
    def encode(self, tokens: Tensor, is_end: Tensor) -> Tensor:
        """Encode tokens and marks of end tokens, both int32 [N, L] -> [N, D], not normalised."""


class CausalTextTower(TextTower):
    """CLIP's text model, whose last layer computes the first end token's position only.

    Attention is causal, so nothing behind the end token matters.

    Args:
        model: of transformers, with embeddings and an encoder, whose last layer is a :class:`LastLayer`.
        projection: [N, W] -> [N, D].
        spec: of the checkpoint.
        norm: the model's last normalisation; by default it is called as CLIP's.
    """

    model: Any

    def __init__(self, model: Any, projection: nn.Module, spec: ModelSpec, *, norm: nn.Module | None = None) -> None:
        super().__init__(spec)
        self.model = model
        self.norm = norm or model.final_layer_norm
        self.projection = projection

    def encode(self, tokens: Tensor, is_end: Tensor) -> Tensor:
        """Encode under a causal mask, the last layer at the end token only, project."""
        mask = self.mask(tokens)
        hidden = self.model.embeddings(input_ids=tokens)  # [N, L, W]
        *layers, last_layer = self.model.encoder.layers
        for layer in layers:
            hidden = layer(hidden, mask)
        ended = last_layer(hidden, mask, is_end)  # [N, 1, W]
        projected: Tensor = self.projection(self.norm(ended[:, 0]))
        return projected

    def mask(self, tokens: Tensor) -> Tensor:
        """Return the causal mask [1, 1, L, L]."""
        return causal_mask(tokens)[None, None]


class FullTextTower(TextTower):
    """SigLIP's text model, whose last layer computes the last position only; texts are padded to the context.

    Args:
        model: of transformers.
        spec: of the checkpoint.
        masked: hide padding, behind a text, from attention. The last position is read nevertheless.
    """

    model: Any

    def __init__(self, model: nn.Module, spec: ModelSpec, *, masked: bool = False) -> None:
        super().__init__(spec)
        self.model = model
        self.masked = masked
        self.pad_token = spec.pad_token

    def encode(self, tokens: Tensor, is_end: Tensor) -> Tensor:
        """Encode, the last layer at the last position only, project."""
        embedded = self.model.embeddings(input_ids=tokens)  # [N, L, W]
        mask = self._mask(tokens) if self.masked else None
        encoded = self.model.encoder(inputs_embeds=embedded, attention_mask=mask).last_hidden_state  # [N, 1, W]
        projected: Tensor = self.model.head(self.model.final_layer_norm(encoded[:, 0]))
        return projected

    def _mask(self, tokens: Tensor) -> Tensor:
        """Return the mask [N, 1, 1, L] of what isn't padding; where the end token pads, the first of its run ends the text."""
        position = torch.arange(tokens.shape[1], device=tokens.device)
        last_word = torch.where(tokens != self.pad_token, position[None], -1).amax(dim=1, keepdim=True)  # [N, 1]
        last_seen = last_word + int(self.pad_token == self.end_token)
        return torch.where(position[None] <= last_seen, 0.0, BLOCKED)[:, None, None, :]


class MaskedTextTower(TextTower):
    """A bidirectional text model such as BERT, which looks at nothing behind the last end token.

    Args:
        model: tokens and an additive mask [N, 1, 1, L] -> hidden states.
        pool: hidden states -> one vector for each text.
        projection: [N, W] -> [N, D].
        unseen: token that is masked within a text too, where somebody writes it out; None for none.
        end_is_seen: the model looks at the last end token too.
    """

    model: Any

    def __init__(
        self,
        model: nn.Module,
        pool: Pool,
        projection: nn.Module,
        spec: ModelSpec,
        *,
        unseen: int | None = None,
        end_is_seen: bool = True,
    ) -> None:
        super().__init__(spec)
        self.model = model
        self.pool = pool
        self.projection = projection
        self.unseen = unseen
        self.seen_behind = 0 if end_is_seen else 1

    def encode(self, tokens: Tensor, is_end: Tensor) -> Tensor:
        """Encode without padding, pool, project."""
        position = torch.arange(tokens.shape[1], device=tokens.device)
        last = (is_end * position).amax(dim=1, keepdim=True) - self.seen_behind
        seen = position[None] <= last  # [N, L]
        if self.unseen is not None:
            seen = seen & (tokens != self.unseen)
        mask = torch.where(seen, 0.0, BLOCKED)[:, None, None, :]  # [N, 1, 1, L]
        hidden = self.model(input_ids=tokens, attention_mask=mask).last_hidden_state  # [N, L, W]
        projected: Tensor = self.projection(self.pool(hidden, seen))
        return projected


class NoTextTower(TextTower):
    """The text tower of a checkpoint that has none: zeros for every row of tokens."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.width = spec.embedding_size

    def encode(self, tokens: Tensor, is_end: Tensor) -> Tensor:
        """Return zeros [N, D]."""
        return (is_end[:, :1] * 0).float().expand(-1, self.width)


class PoolerOutput(nn.Module):
    """A text model of transformers whose hidden states [N, 1, W] are the output of its own pooler."""

    model: Any

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        """Encode and pool."""
        pooled = self.model(input_ids=input_ids, attention_mask=attention_mask).pooler_output
        return SimpleNamespace(last_hidden_state=pooled[:, None])


class OpenClipTextTower(TextTower):
    """A text model of open_clip, causal or not.

    Args:
        model: open_clip's TextTransformer, or its CLIP, which holds the same parts.
        pool: open_clip's name of the pooled position; ``argmax`` and ``eos`` are the end token.
        spec: of the checkpoint.
        absent: token in whose place the model sees 0; None for none.
    """

    model: Any

    def __init__(self, model: nn.Module, pool: str, spec: ModelSpec, *, absent: int | None = None) -> None:
        super().__init__(spec)
        self.model = model
        self.absent = absent
        self.pool = {"first": first, "last": last}.get(pool, at_end)
        self.causal = self.model.attn_mask is not None

    def encode(self, tokens: Tensor, is_end: Tensor) -> Tensor:
        """Encode, pool, project."""
        if self.absent is not None:
            tokens = torch.where(tokens == self.absent, 0, tokens)
        embedded = self.model.token_embedding(tokens) + self.model.positional_embedding[: tokens.shape[1]]  # [N, L, W]
        hidden = self.model.transformer(embedded, attn_mask=causal_mask(tokens) if self.causal else None)
        return self.project(self.pool(self.model.ln_final(hidden), is_end))

    def project(self, pooled: Tensor) -> Tensor:
        """Project pooled hidden states [N, W] -> [N, D]."""
        projection = self.model.text_projection
        if projection is None:
            return pooled
        projected: Tensor = projection(pooled) if isinstance(projection, nn.Module) else pooled @ projection
        return projected


def causal_mask(tokens: Tensor) -> Tensor:
    """Return the mask [L, L] that is added to attention so that no token sees a later one."""
    position = torch.arange(tokens.shape[1], device=tokens.device)
    return torch.where(position[None, :] > position[:, None], BLOCKED, 0.0)
