"""Most tokens of a text tower of transformers."""

from __future__ import annotations

from typing import Any

_COUNTED_BEHIND_PADDING = ("roberta", "camembert", "mpnet", "altclip")
"""Parts of the names of models whose positions begin behind that of the padding token."""


def text_positions(config: Any) -> int:
    """Return the number of tokens that a configuration of transformers has positions for."""
    behind = any(name in config.model_type for name in _COUNTED_BEHIND_PADDING)
    return int(config.max_position_embeddings) - (config.pad_token_id + 1 if behind else 0)
