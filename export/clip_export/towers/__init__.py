"""The two towers of a checkpoint as torch modules with the contract's inputs and outputs; all exports are made from these."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from clip_client.spec import Tower


@dataclass(frozen=True)
class Towers:
    """Both towers of a checkpoint, in evaluation mode."""

    image: nn.Module
    text: nn.Module

    def __getitem__(self, tower: Tower) -> nn.Module:
        return self.image if tower == "image" else self.text
