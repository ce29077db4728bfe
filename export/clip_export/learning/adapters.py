"""Weights of a tower that a training changes: all, all but its embeddings, or low-rank additions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from clip_client.errors import InvalidInput
from clip_export.learning.options import Adapter

RANK = 8
"""Of the additions of ``lora``."""

_RATE_BY_WIDTH = 0.2  # 0.0016 for the bundled checkpoint, 0.0004 for the text tower of CLIP's ViT-B/32
_MOST_RATE = 0.002
_WIDTH = 2**9  # of a tower that looks no tokens up


class LowRank(nn.Module):
    """A matrix [O, I] with an addition of low rank, zero at first (Hu et al. 2021, arXiv 2106.09685)."""

    def __init__(self, weight: Tensor, generator: torch.Generator) -> None:
        super().__init__()
        rank = min(RANK, *weight.shape)
        down = torch.randn(rank, weight.shape[1], generator=generator) / weight.shape[1] ** 0.5
        self.down = nn.Parameter(down)
        self.up = nn.Parameter(torch.zeros(weight.shape[0], rank))

    def forward(self, weight: Tensor) -> Tensor:
        """Add."""
        return weight + self.up @ self.down


def trainable(tower: nn.Module, adapter: Adapter, seed: int) -> dict[str, nn.Parameter]:
    """Prepare a tower for training; return the parameters that change, by name.

    Raises:
        InvalidInput: if the tower has none of the kind.
    """
    for parameter in tower.parameters():
        parameter.requires_grad_(False)
    if adapter == "lora":
        generator = torch.Generator().manual_seed(seed)
        for module in [module for module in tower.modules() if isinstance(module, nn.Linear)]:
            parametrize.register_parametrization(module, "weight", LowRank(module.weight.detach(), generator))
        chosen = {name: one for name, one in tower.named_parameters() if name.endswith((".down", ".up"))}
    else:
        skipped = _embeddings(tower) if adapter == "layers" else set()
        chosen = {name: one for name, one in tower.named_parameters() if name not in skipped and one.is_floating_point()}
    if not chosen:
        raise InvalidInput(f"--adapter {adapter}: the tower has no such weights, choose another one")
    for parameter in chosen.values():
        parameter.requires_grad_(True)
    return chosen


def usual_rate(tower: nn.Module) -> float:
    """Return the learning rate for a tower: the wider, the lower (Yang et al. 2021, arXiv 2203.03466)."""
    widths = [module.embedding_dim for module in tower.modules() if isinstance(module, nn.Embedding)]
    return min(_RATE_BY_WIDTH / max(widths, default=_WIDTH), _MOST_RATE)


def settled(tower: nn.Module) -> None:
    """Merge low-rank additions into their matrices."""
    for module in [module for module in tower.modules() if parametrize.is_parametrized(module, "weight")]:
        parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)


def _embeddings(tower: nn.Module) -> set[str]:
    """Return the names of the parameters that tokens and positions are looked up in."""
    tables = {id(one) for module in tower.modules() if isinstance(module, nn.Embedding) for one in module.parameters()}
    return {name for name, one in tower.named_parameters() if id(one) in tables or "embedding" in name}
