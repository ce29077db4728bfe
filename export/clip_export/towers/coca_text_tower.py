"""Text tower of CoCa: tokens -> embeddings, read at a class token behind the context."""

from __future__ import annotations

import torch
from torch import Tensor

from clip_export.towers.text_towers import BLOCKED, OpenClipTextTower, causal_mask


class CocaTextTower(OpenClipTextTower):
    """open_clip's TextTransformer with a class token, which comes after the padding; the whole context is given.

    Padding is hidden from every position. The mask is one position late, unless ``correct_cls_mask`` is on: the first padding
    token is seen, and in a text that doesn't fill the context nobody sees the class token. The weights were trained so.
    """

    def encode(self, tokens: Tensor, is_end: Tensor) -> Tensor:
        """Encode, pool at the class token, project."""
        appended = self.model.cls_emb.expand(tokens.shape[0], 1, -1)  # [N, 1, W]
        embedded = torch.cat([self.model.token_embedding(tokens), appended], dim=1)  # [N, L + 1, W]
        embedded = embedded + self.model.positional_embedding[: embedded.shape[1]]
        hidden = self.model.transformer(embedded, attn_mask=self._mask(tokens))
        return self.project(self.model.ln_final(hidden[:, -1]))

    def _mask(self, tokens: Tensor) -> Tensor:
        """Return the mask [N * H, L + 1, L + 1] that is added to attention."""
        text = tokens != self.model.pad_id  # [N, L]
        appended = torch.ones_like(text[:, :1])
        seen = torch.cat([text, appended] if self.model.correct_cls_mask else [appended, text], dim=1)  # [N, L + 1]
        hidden = torch.where(seen, 0.0, BLOCKED)[:, None].expand(-1, seen.shape[1], -1)
        mask = hidden + causal_mask(seen) if self.causal else hidden
        return mask.repeat_interleave(self.model.heads, dim=0)
