"""Join similar tokens of a vision transformer from layer to layer: less arithmetic, other embeddings.

Token Merging (ToMe) without training: Bolya et al., "Token Merging: Your ViT But Faster", ICLR 2023. Between attention and MLP
each layer joins its most similar pairs of tokens; attention counts a token as often as it has been joined.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

_NEVER = -2.0  # below any cosine


class TokenMerging(nn.Module):
    """Joins the ``count`` most similar pairs of tokens: [N, L, W] -> [N, L - count, W].

    Tokens at even places look for the nearest at odd places (bipartite soft matching, appendix D of the paper).

    Args:
        count: pairs to join, fewer than there are tokens at even places.
        protected: the first token is a class token, and joins nobody.
    """

    def __init__(self, count: int, *, protected: bool) -> None:
        super().__init__()
        self.count = count
        self.protected = protected

    def forward(self, keys: Tensor, hidden: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the remaining tokens and their sizes [N, L - count, 1].

        Args:
            keys: of the attention, mean over its heads [N, L, W / H]; tokens are as similar as these.
            hidden: tokens [N, L, W].
            sizes: number of patches that each token stands for [N, L, 1].
        """
        kept, joined, partners = self.matched(keys)
        even, odd, even_sizes, odd_sizes = hidden[:, ::2], hidden[:, 1::2], sizes[:, ::2], sizes[:, 1::2]
        places = torch.arange(odd.shape[1], device=hidden.device)[:, None]  # [L / 2, 1]
        joins = (partners[:, None] == places).to(hidden.dtype)  # [N, L / 2, count]
        weights = _rows(even_sizes, joined)  # [N, count, 1]
        grown = odd_sizes + joins @ weights
        mean = (odd * odd_sizes + joins @ (_rows(even, joined) * weights)) / grown
        return torch.cat([_rows(even, kept), mean], dim=1), torch.cat([_rows(even_sizes, kept), grown], dim=1)

    def matched(self, keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return even places that stay, in order, even places that are joined [N, count], and the odd place of each."""
        unit = keys / keys.norm(dim=-1, keepdim=True)
        similarity = unit[:, ::2] @ unit[:, 1::2].transpose(1, 2)  # [N, L / 2, L / 2]
        if self.protected:
            similarity = torch.cat([torch.full_like(similarity[:, :1], _NEVER), similarity[:, 1:]], dim=1)
        nearness, nearest = similarity.max(dim=-1)  # [N, L / 2]
        order = nearness.topk(nearness.shape[1]).indices
        kept, joined = order[:, self.count :].sort().values, order[:, : self.count]
        return kept, joined, nearest.gather(1, joined)


class ProportionalAttention(nn.Module):
    """Attention that counts each token by its size; a module, so that its nodes in an exported graph have a name."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, sizes: Tensor | None) -> Tensor:
        """query [N, H, M, W / H], key and value [N, H, L, W / H], sizes [N, L, 1] -> [N, M, W]."""
        bias = None if sizes is None else sizes.log().transpose(1, 2)[:, None]  # [N, 1, 1, L]
        return scaled_dot_product_attention(query, key, value, attn_mask=bias).transpose(1, 2).flatten(2)


def _rows(tokens: Tensor, places: Tensor) -> Tensor:
    """Return the tokens [N, M, W] at places [N, M]."""
    return tokens[torch.arange(tokens.shape[0], device=tokens.device)[:, None], places]
