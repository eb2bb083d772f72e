"""Rows that share earlier tokens, run as one longer row, so that their keys and values are joined to these once.

A row of n tokens behind P earlier ones needs P + n keys in one tensor, and where only n are its own, copying the others
takes longer than attention itself. k rows in a row of k · n tokens share one copy; a mask keeps them apart.
"""

from __future__ import annotations

import torch
from torch import Tensor

COPY_COST = 32
"""How many queries may attend to a key and a value in the time that copying both takes. So set, rows behind 500 tokens
are folded to some 130: 24 ms a patch instead of 28 (`python -m bench patching --threads 1 --tokens 512 --last 8`, and
the same with a fold of 1). Behind 100 tokens it makes no difference."""


def best_fold(rows: int, tokens: int, earlier: int) -> int:
    """How many rows make one, a divisor of `rows`: k · n queries share one copy, and each sees k · n keys instead of n.

    k · n is at most P / 2, so that scores of attention, where it keeps them, are at most half as many again.

    Args:
        tokens, earlier: n and P, tokens of a row and those before them that all rows share.
    """

    def cost(fold: int) -> float:
        return COPY_COST * earlier / (fold * tokens) + fold * tokens

    most = max(1, min(rows, earlier // (2 * tokens)))
    return min((fold for fold in range(1, most + 1) if rows % fold == 0), key=cost)


def causal_mask(tokens: int, earlier: int, device: torch.device) -> Tensor:
    """[1, 1, n, P + n] bool: each token sees the earlier ones, those before it, and itself."""
    queries = torch.arange(earlier, earlier + tokens, device=device)
    return (torch.arange(earlier + tokens, device=device)[None] <= queries[:, None])[None, None]


def fold_mask(mask: Tensor, fold: int) -> Tensor:
    """The mask of k rows in one, [1, heads or 1, k · n, P + k · n] of [1, heads or 1, n, P + n].

    Args:
        mask: bool, true where a token is seen, or what is added to the scores.
    """
    tokens = mask.shape[2]
    earlier = mask.shape[3] - tokens
    unseen = False if mask.dtype == torch.bool else torch.finfo(mask.dtype).min
    own = mask.new_full((1, mask.shape[1], fold, tokens, fold, tokens), unseen)
    each = torch.arange(fold, device=mask.device)
    own[:, :, each, :, each] = mask[..., earlier:]
    return torch.cat([mask[..., :earlier].repeat(1, 1, fold, 1), own.flatten(4).flatten(2, 3)], dim=3)


def tile(value: Tensor, axis: int, fold: int) -> Tensor:
    """What belongs to n tokens, for k rows of them in one."""
    return torch.cat([value] * fold, dim=axis) if fold > 1 else value
