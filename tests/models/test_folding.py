"""Rows run as one longer row attend as they do apart."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from model_forensics.models.folding import best_fold, causal_mask, fold_mask, tile


@pytest.mark.parametrize("additive", [False, True])
@pytest.mark.parametrize(("fold", "tokens", "earlier"), [(1, 3, 2), (2, 1, 5), (3, 4, 1), (5, 2, 7)])
def test_folded_rows_attend_as_they_do_apart(fold, tokens, earlier, additive):
    generator = torch.Generator().manual_seed(fold)
    groups, heads, size = 2, 3, 4
    queries, own = (torch.randn(groups * fold, heads, tokens, size, generator=generator) for _ in range(2))
    past = torch.randn(1, heads, earlier, size, generator=generator)
    mask = causal_mask(tokens, earlier, past.device)
    mask[..., 0] &= torch.rand(1, 1, tokens, generator=generator) < 0.5  # padding, say
    if additive:
        mask = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
    keys = torch.cat([past.expand(groups * fold, -1, -1, -1), own], dim=2)
    expected = scaled_dot_product_attention(queries, keys, -keys, mask)

    def folded(value):
        return value.unflatten(0, (groups, fold)).transpose(1, 2).flatten(2, 3)

    keys = torch.cat([past.expand(groups, -1, -1, -1), folded(own)], dim=2)
    found = scaled_dot_product_attention(folded(queries), keys, -keys, fold_mask(mask, fold))
    torch.testing.assert_close(found, folded(expected), rtol=1e-5, atol=1e-6)


def test_no_row_sees_another_one():
    mask = fold_mask(causal_mask(2, 3, torch.device("cpu")), 2)[0, 0]
    assert mask.int().tolist() == [
        [1, 1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 1, 0, 0],
        [1, 1, 1, 0, 0, 1, 0],
        [1, 1, 1, 0, 0, 1, 1],
    ]


@pytest.mark.parametrize("rows", [1, 2, 7, 34, 60, 64])
@pytest.mark.parametrize("tokens", [1, 5, 32])
@pytest.mark.parametrize("earlier", [1, 20, 480])
def test_a_fold_divides_the_rows(rows, tokens, earlier):
    fold = best_fold(rows, tokens, earlier)
    assert rows % fold == 0
    assert fold == 1 or fold * tokens <= earlier / 2, "what attention's scores may take"


def test_more_rows_share_a_long_past_than_a_short_one():
    assert [best_fold(64, 16, earlier) for earlier in (1, 500, 10**6)] == [1, 8, 64]


def test_tiles_follow_the_rows():
    assert tile(torch.arange(3)[None], 1, 2).tolist() == [[0, 1, 2, 0, 1, 2]]
    assert tile(torch.arange(3), 0, 1).tolist() == [0, 1, 2]
