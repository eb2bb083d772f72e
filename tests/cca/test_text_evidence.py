"""What proves a fix of a text: checks of the fast way, the clock, the reverse test, donors dealt out at random."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from model_forensics.cca import continuations as continuations_module
from model_forensics.cca import validate_fix
from model_forensics.cca.choice import Healthy
from model_forensics.cca.continuations import Decoder, Request
from model_forensics.cca.jobs import Replacement
from model_forensics.cca.prepare import prepare
from model_forensics.cca.shuffled import _dealt
from model_forensics.errors import ModelError
from model_forensics.models import Model
from tests.cca.test_text import MASK, NEW_TOKENS, PATCH, PROMPTS, find, told  # noqa: F401  (a fixture)

PROMPT = tuple(PROMPTS[1].tolist())


class Stopped(Exception):
    """Raised by the clock of a test."""


def decoder_of(model, prompts=(PROMPT,)):
    return Decoder(model, prompts, limit=NEW_TOKENS, max_rows=4, masked=False)


def silenced(model):
    """A row without what the first MLP computes."""
    tap = model.sites.get("L0.mlp")
    return Request(0, lambda known: {tap: Replacement(torch.zeros(1, tap.features))})


def test_the_first_edited_continuations_are_checked_whatever_ran_before(told, monkeypatch):  # noqa: F811
    decoder = decoder_of(told.broken)
    decoder.run([Request(0)])
    assert decoder.run_plain(silenced(told.broken)) != decoder.run_plain(Request(0))
    monkeypatch.setattr(continuations_module, "batch_edits", lambda jobs, mask: {})
    decoder.run([Request(0)])
    with pytest.raises(ModelError, match="departs"):
        decoder.run([silenced(told.broken)])


def test_what_the_clock_raises_ends_a_text(told):  # noqa: F811
    """Unknown texts take a forward for each token: the clock is looked at before every one."""
    looks = []

    def clock():
        looks.append(None)
        if len(looks) == 3:
            raise Stopped

    decoder = decoder_of(told.broken)
    with pytest.raises(Stopped):
        decoder.run([Request(0)], clock)
    looks.clear()
    assert decoder.run([Request(0)], lambda: looks.append(None)) == [decoder.run_plain(Request(0))]
    assert len(looks) == NEW_TOKENS


def test_only_the_logits_of_generated_tokens_are_asked_for(told):  # noqa: F811
    seen = []
    handle = told.broken.module.register_forward_hook(lambda _m, _i, output: seen.append(output.logits.shape[1]))
    try:
        decoder = decoder_of(told.broken)
        found = decoder.run([Request(0)])
        assert set(seen) == {1}
        seen.clear()
        assert decoder.run([Request(0)]) == found  # expected now, and verified in one forward
        assert seen == [NEW_TOKENS]
    finally:
        handle.remove()


def test_a_model_that_returns_all_logits_is_continued_just_so(told):  # noqa: F811
    class AllLogits(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, input_ids):
            return self.inner(input_ids=input_ids).logits

    whole = Model.wrap(AllLogits(told.broken.module))
    assert not whole.takes_logits_to_keep
    assert decoder_of(whole).run([Request(0)]) == decoder_of(told.broken).run([Request(0)])


def test_the_reverse_test_of_what_is_not_damaged_brings_no_failure(told):  # noqa: F811
    fix = find(told, donor_model=told.intact).fix_set
    assert fix is not None
    upstream = fix.interventions[0].model_copy(update={"site": "L0.attn"})
    elsewhere = fix.model_copy(update={"interventions": (upstream,)})
    measured = validate_fix(told.broken, told.recordings["generated"], elsewhere, config=PATCH, donor_model=told.intact)
    assert measured.reversal is not None
    assert (measured.reversal.samples, measured.reversal.failures) == (fix.samples, 0)


def test_dealt_donors_bring_what_they_generated(told):  # noqa: F811
    healthy = Healthy(donor_model=told.intact)
    prepared = prepare(told.broken, told.recordings["generated"], config=PATCH, healthy=healthy)
    lengths = MASK.sum(dim=1).tolist()
    tap = told.broken.sites.get("L1.mlp")
    before = prepared.sources
    for seed in range(4):
        after = _dealt(prepared, np.random.default_rng(seed)).sources
        sources = [
            next(i for i, rows in enumerate(before.patch.rows["L1.mlp"]) if rows is dealt)
            for dealt in after.patch.rows["L1.mlp"]
        ]
        assert [lengths[source] for source in sources] == lengths
        for sample, source in enumerate(sources):
            known = before.spoken.donor[source][:2]
            written = after.replacement(tap, after.intervention("L1.mlp", "patch"), sample, known)
            assert written == replace(written, positions=None)  # at the prompt and behind it: these are its own words
            assert torch.equal(written.values, before.patch.rows["L1.mlp"][source][: lengths[sample] + 2])
