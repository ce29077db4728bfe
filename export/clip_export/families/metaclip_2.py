"""Meta's MetaCLIP 2 as Hugging Face stores it."""

from __future__ import annotations

from typing import Any

from clip_export.checkpoints.checkpoint import Checkpoint
from clip_export.families.clip import Clip, refuse_other_end


class MetaClip2(Clip):
    """``model_type: metaclip_2``: CLIP's towers under XLM-V's tokenizer, whose end token is 2 indeed."""

    model_type = "metaclip_2"
    title = "MetaCLIP 2"
    classes = ("MetaClip2Config", "MetaClip2Model")

    def check_end(self, end_token: int, text: dict[str, Any], checkpoint: Checkpoint) -> None:
        """Accept the tokenizer's end token only."""
        refuse_other_end(end_token, text, checkpoint)
