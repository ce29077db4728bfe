"""Image towers that join similar tokens: the same weights, fewer tokens from layer to layer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from clip_export.towers.image_tower import ImageTower, PooledProjection
from clip_export.towers.merged_layers import MergedLayer, OpenClipLayer, TransformersLayer
from clip_export.towers.merged_tokens import TokenMerging
from clip_export.towers.pooled_layer import LastLayer

_TOLERANCE = 1e-3  # of embeddings of unit length where nothing is joined; rounding leaves 1e-6
_OF_TRANSFORMERS = ("layer_norm1", "self_attn.q_proj", "self_attn.out_proj", "self_attn.num_heads", "layer_norm2", "mlp")
_OF_OPEN_CLIP = ("ln_1", "attn.in_proj_weight", "attn.out_proj", "ls_1", "ln_2", "mlp", "ls_2")


class CannotMergeError(Exception):
    """An image tower whose tokens can't be joined; the message is the reason."""


class MergedEncoder(nn.Module, ABC):
    """Encoder of normalised pixels [N, 3, S, S] -> [N, D] whose layers may join tokens.

    Attributes:
        layers: of the transformer; all but the last may join tokens.
        protected: the first token is a class token.
    """

    layers: nn.ModuleList
    protected: bool

    def forward(self, normalised: Tensor) -> Tensor:
        """Encode: patches to tokens, the layers, pooling."""
        hidden, sizes = self.embedded(normalised), None
        for layer in self.layers:
            hidden, sizes = layer(hidden, sizes)
        return self.pooled(hidden, sizes)

    def join(self, share: float, tokens: int) -> int:
        """Join a share of the patches of ``tokens``, as many in each layer as they allow; return the number per layer."""
        steps, left = len(self.layers) - 1, tokens
        count = max(1, round(share * (tokens - self.protected) / max(1, steps)))
        for layer in list(self.layers)[:-1]:
            assert isinstance(layer, MergedLayer)  # noqa: S101  (of _layers)
            here = min(count, (left - self.protected) // 2)
            layer.merging = TokenMerging(here, protected=self.protected) if here else None
            left -= here
        return count

    @abstractmethod
    def embedded(self, normalised: Tensor) -> Tensor:
        """Return the tokens that the first layer gets [N, L, W]."""

    @abstractmethod
    def pooled(self, hidden: Tensor, sizes: Tensor | None) -> Tensor:
        """Pool and project the last layer's tokens [N, L, W] of sizes [N, L, 1] -> [N, D]."""


class MergedClip(MergedEncoder):
    """A vision model of transformers that is pooled at its class token."""

    protected = True

    def __init__(self, whole: PooledProjection) -> None:
        super().__init__()
        self.model, self.projection = whole.model, whole.projection
        self.layers = _layers(self.model.encoder.layers, TransformersLayer, first_alone=True)
        self.model.encoder = None  # its layers are those above

    def embedded(self, normalised: Tensor) -> Tensor:
        """As MergedEncoder."""
        tokens: Tensor = self.model.pre_layrnorm(self.model.embeddings(normalised))
        return tokens

    def pooled(self, hidden: Tensor, sizes: Tensor | None) -> Tensor:
        """As MergedEncoder."""
        projected: Tensor = self.projection(self.model.post_layernorm(hidden[:, 0]))
        return projected


class MergedSiglip(MergedEncoder):
    """A vision model of transformers that is pooled by the attention of a learnt probe, which counts joined tokens."""

    protected = False

    def __init__(self, whole: PooledProjection) -> None:
        super().__init__()
        self.model, self.projection = whole.model, whole.projection
        self.layers = _layers(self.model.encoder.layers, TransformersLayer, first_alone=False)
        self.model.encoder = None

    def embedded(self, normalised: Tensor) -> Tensor:
        """As MergedEncoder."""
        tokens: Tensor = self.model.embeddings(normalised)
        return tokens

    def pooled(self, hidden: Tensor, sizes: Tensor | None) -> Tensor:
        """As MergedEncoder."""
        head, normed = self.model.head, self.model.post_layernorm(hidden)
        probe = head.probe.expand(hidden.shape[0], -1, -1)  # [N, 1, W]
        rows = None
        if sizes is not None:
            rows = sizes.log().transpose(1, 2).repeat_interleave(head.attention.num_heads, dim=0)  # [N * H, 1, L]
        attended = head.attention(probe, normed, normed, attn_mask=rows, need_weights=False)[0]
        read: Tensor = self.projection((attended + head.mlp(head.layernorm(attended)))[:, 0])
        return read


class MergedOpenClip(MergedEncoder):
    """A vision transformer of open_clip that is pooled at its class token."""

    protected = True

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.visual = visual
        self.layers = _layers(visual.transformer.resblocks, OpenClipLayer, first_alone=True)
        self.visual.transformer = None

    def embedded(self, normalised: Tensor) -> Tensor:
        """As MergedEncoder."""
        tokens: Tensor = self.visual._embeds(normalised)
        return tokens

    def pooled(self, hidden: Tensor, sizes: Tensor | None) -> Tensor:
        """As MergedEncoder."""
        read: Tensor = self.visual.ln_post(hidden[:, 0])
        return read if self.visual.proj is None else read @ self.visual.proj


def merge_tokens(tower: nn.Module, share: float) -> int:
    """Let an image tower join a share of its patches, evenly over its layers; return the number per layer.

    Args:
        tower: image tower of a family, changed in place.
        share: of the patches, 0 to 1, that have been joined with others before the last layer.

    Raises:
        CannotMergeError: for a tower that isn't built as CLIP's or SigLIP's vision transformer.
    """
    if type(tower) is not ImageTower:
        raise CannotMergeError(f"tokens of a {type(tower).__name__} can't be joined, only those of square pictures")
    side = tower.void_row.shape[0]
    pixels = torch.randint(0, 256, (2, side, side, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    with torch.inference_mode():
        expected = tower(pixels)
        merged = tower.encoder = _merged(tower.encoder)
        if not torch.allclose(tower(pixels), expected, atol=_TOLERANCE):
            raise CannotMergeError("the layers of this image tower compute something else than CLIP's, tokens can't be joined")
        tokens = merged.embedded(torch.zeros(1, 3, side, side)).shape[1]
    return merged.join(share, tokens)


def _merged(encoder: Any) -> MergedEncoder:
    """Return an encoder with layers of ours that hold its weights."""
    model = encoder.model if isinstance(encoder, PooledProjection) else None
    blocks = _blocks(getattr(model, "encoder", None), "layers")
    if blocks and all(map(_is_transformers, blocks)):
        if hasattr(model, "pre_layrnorm"):
            return MergedClip(encoder)
        if hasattr(getattr(model, "head", None), "probe"):
            return MergedSiglip(encoder)
    blocks = _blocks(getattr(encoder, "transformer", None), "resblocks")
    if blocks and all(_has(block, _OF_OPEN_CLIP) for block in blocks):
        if getattr(encoder, "pool_type", "") == "tok" and encoder.attn_pool is None and encoder.transformer.batch_first:
            return MergedOpenClip(encoder)
        raise CannotMergeError("this image tower isn't pooled at its class token, joined tokens would count wrongly")
    kind = type(model if model is not None else encoder).__name__
    raise CannotMergeError(f"a {kind} isn't built as CLIP's or SigLIP's vision transformer, tokens can't be joined")


def _blocks(stack: Any, name: str) -> list[Any]:
    blocks = getattr(stack, name, None)
    return list(blocks) if isinstance(blocks, nn.ModuleList) else []


def _is_transformers(block: Any) -> bool:
    return _has(block.layer if isinstance(block, LastLayer) else block, _OF_TRANSFORMERS)


def _has(block: Any, names: Iterable[str]) -> bool:
    """Return True if a module has all of some parts, ``attn.out_proj`` among them."""
    for name in names:
        part = block
        for step in name.split("."):
            part = getattr(part, step, None)
            if part is None:
                return False
    return True


def _layers(blocks: Iterable[Any], kind: type[MergedLayer], *, first_alone: bool) -> nn.ModuleList:
    """Return our layers around a library's; the last one goes on with the first token alone where that is all that is read."""
    own = [block.layer if isinstance(block, LastLayer) else block for block in blocks]
    return nn.ModuleList([kind(block, None, first_alone=first_alone and block is own[-1]) for block in own])
