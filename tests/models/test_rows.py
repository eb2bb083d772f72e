"""Padding goes, and nothing else does."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model_forensics.errors import ModelError, OutputError
from model_forensics.models import Model, hooks, rows

MASK = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 0]])


def test_mask_comes_from_the_attention_mask():
    assert rows.real_token_mask({"input_ids": MASK}) is None
    mask = rows.real_token_mask({"attention_mask": MASK.float()})
    assert mask is not None
    assert mask.dtype == torch.bool
    assert torch.equal(mask, MASK.bool())


@pytest.mark.parametrize("bad", [torch.ones(2, 1, 5, 5), torch.tensor([[1, 1], [0, 0]])])
def test_masks_that_say_nothing_are_refused(bad):
    with pytest.raises(ModelError):
        rows.real_token_mask({"attention_mask": bad})


@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 5), st.data())
def test_rows_of_tokens(batch, tokens, features, data):
    flags = data.draw(
        st.lists(st.lists(st.booleans(), min_size=tokens, max_size=tokens), min_size=batch, max_size=batch)
    )
    mask = torch.tensor(flags)
    value = torch.arange(batch * tokens * features).reshape(batch, tokens, features).float()
    for row in range(batch):
        expected = [value[row, column].tolist() for column in range(tokens) if flags[row][column]]
        assert rows.to_rows(value, mask, row).tolist() == expected
        assert torch.equal(rows.to_rows(value, None, row), value[row])


def test_rows_of_other_shapes():
    image = torch.randn(2, 3, 4, 5)
    assert torch.equal(rows.to_rows(image, None, 1)[7], image[1, :, 1, 2])
    assert rows.to_rows(torch.randn(2, 6), MASK.bool(), 1).shape == (1, 6)
    assert rows.to_rows(torch.randn(2), None, 1).shape == (1, 1)
    shared = torch.randn(1, 5, 2)
    assert torch.equal(rows.to_rows(shared, MASK.bool(), 1), shared[0, :4])
    patches = torch.randn(2, 9, 3)
    assert torch.equal(rows.to_rows(patches, MASK.bool(), 1), patches[1])
    for bad, row in ((torch.randn(2, 1, 1, 1, 1), 0), (torch.tensor(1.0), 0), (torch.randn(2, 3), 2)):
        with pytest.raises(ModelError):
            rows.to_rows(bad, None, row)


def test_scored_positions_are_the_samples_own():
    logits = torch.randn(2, 5, 3)
    mask = MASK.bool()
    assert torch.equal(rows.scored_logits(logits, mask, -1), torch.stack([logits[0, 4], logits[1, 3]]))
    assert torch.equal(rows.scored_logits(logits, mask, 0), torch.stack([logits[0, 2], logits[1, 0]]))
    assert torch.equal(rows.scored_logits(logits, None, -2), logits[:, 3])
    assert rows.scored_logits(logits[:, 0], mask, 7).shape == (2, 3)
    for position in (3, -4):
        with pytest.raises(OutputError, match="sample 0"):
            rows.scored_logits(logits, mask, position)
    for bad in (logits[:, :1], logits[0, 0], logits[None]):
        with pytest.raises(OutputError):
            rows.scored_logits(bad, mask, -1)


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3", "bert"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_rows_equal_the_unpadded_run(family, side, build):
    if family == "bert" and side == "left":
        pytest.skip("BERT's positions count padding")
    model = Model.wrap(build(family))
    generator = torch.Generator().manual_seed(2)
    samples = [torch.randint(1, 40, (length,), generator=generator) for length in (7, 4)]
    ids, mask = torch.zeros(2, 7, dtype=torch.long), torch.zeros(2, 7, dtype=torch.long)
    for row, sample in enumerate(samples):
        part = slice(7 - len(sample), 7) if side == "left" else slice(0, len(sample))
        ids[row, part], mask[row, part] = sample, 1
    inputs = {"input_ids": ids, "attention_mask": mask}
    if side == "left":
        inputs["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
    real = rows.real_token_mask(inputs)
    padded, alone = {}, {}
    with hooks.read(model.module, model.sites.taps, lambda tap, value: padded.__setitem__(tap.name, value)):
        scored = rows.scored_logits(model.forward(inputs), real, -1)
    for row, sample in enumerate(samples):
        with hooks.read(model.module, model.sites.taps, lambda tap, value: alone.__setitem__(tap.name, value)):
            expected = rows.scored_logits(model.forward({"input_ids": sample[None]}), None, -1)
        torch.testing.assert_close(scored[row], expected[0], rtol=1e-4, atol=1e-5)
        for name, value in alone.items():
            torch.testing.assert_close(
                rows.to_rows(padded[name], real, row), rows.to_rows(value, None, 0), rtol=1e-4, atol=1e-5
            )
