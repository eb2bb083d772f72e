"""`text` failures: judged on greedy continuations with the interventions on at every step."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from model_forensics import Recorder, load_bundle
from model_forensics.cca import GivenValues, find_fix_set, validate_fix
from model_forensics.cca.continuations import Continuation, Decoder, Request
from model_forensics.cca.jobs import Replacement
from model_forensics.cca.pool import Spoken
from model_forensics.cca.sequences import Sequences
from model_forensics.cca.telling import Telling
from model_forensics.config import CausalConfig
from model_forensics.errors import InterventionError, ModelError, OutputError, UsageError
from model_forensics.failure import Failure
from model_forensics.models import Model

NEW_TOKENS = 6
SCALE = 0.8
PATCH = CausalConfig(intervention_types=("patch",))
SINGLE = CausalConfig(intervention_types=("zero", "patch"), max_fix_set_size=1, max_alternatives=0, max_stage_sets=1)
ZERO = SINGLE.model_copy(update={"intervention_types": ("zero",)})
PROMPTS = torch.tensor([[0, 0, 11, 12, 13], [21, 22, 23, 24, 25], [0, 31, 32, 33, 34], [0, 0, 0, 41, 42]])
PROMPTS = torch.cat([PROMPTS, PROMPTS + (PROMPTS > 0).long() * 5])
MASK = (PROMPTS > 0).long()


class Numbers:
    """Says every token as its number."""

    def decode(self, tokens, *, skip_special_tokens):
        assert skip_special_tokens
        return " ".join(map(str, tokens))

    def get_vocab(self):
        return {str(number): number for number in range(48)}


def generated(module):
    tokens = module.generate(input_ids=PROMPTS, attention_mask=MASK, max_new_tokens=NEW_TOKENS, do_sample=False)
    return [tuple(row) for row in tokens[:, PROMPTS.shape[1] :].tolist()]


def exactly(continuations):
    """A pattern of just these texts."""
    return "^(" + "|".join(" ".join(map(str, tokens)) for tokens in continuations) + ")$"


@dataclass
class Incident:
    intact: Model
    broken: Model
    failure: Failure
    recordings: dict[str, object]
    failed: list[tuple[int, ...]]
    healthy: list[tuple[int, ...]]


@pytest.fixture(scope="module")
def told(planting: SimpleNamespace, tmp_path_factory) -> Incident:
    """A model with a damaged MLP that says something wrong, and what the intact one said to the same prompts."""
    module = planting.tiny_gpt2()
    intact = Model.wrap(module, tokenizer=Numbers())
    broken = Model.wrap(planting.damaged_copy(module, 1, "mlp", scale=SCALE), tokenizer=Numbers())
    failed, healthy = generated(broken.module), generated(module)
    assert all(wrong != right for wrong, right in zip(failed, healthy, strict=True))
    assert any(wrong[0] == right[0] for wrong, right in zip(failed, healthy, strict=True)), "some part later"
    failure = Failure.text(exactly(failed), max_new_tokens=NEW_TOKENS)
    home = tmp_path_factory.mktemp("told")
    groups = [f"prompt-{row}" for row in range(len(PROMPTS))]
    with Recorder(broken, sites="all").incident(home / "generated", failure=failure) as incident:
        incident.generate(input_ids=PROMPTS, attention_mask=MASK, max_new_tokens=NEW_TOKENS, groups=groups)
    with Recorder(broken, sites="all").incident(home / "prompts", failure=failure) as incident:
        rows = [row[row > 0] for row in PROMPTS]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        incident.run(input_ids=ids, attention_mask=(ids > 0).long(), groups=groups)
    with Recorder(intact, sites="all").benign(home / "benign") as benign:
        benign.generate(input_ids=PROMPTS, attention_mask=MASK, max_new_tokens=NEW_TOKENS, groups=groups)
    recordings = {name: load_bundle(home / name) for name in ("generated", "prompts", "benign")}
    return Incident(intact, broken, failure, recordings, failed, healthy)


def find(told, recorded="generated", **changes):
    given = {"config": PATCH, **changes}
    return find_fix_set(given.pop("model", told.broken), told.recordings[recorded], **given)


# --- continuations ------------------------------------------------------------------------------


@pytest.mark.parametrize("max_rows", [1, 5])
def test_batched_continuations_equal_plain_ones(told, max_rows):
    """Of edits of all kinds, whatever was expected: the failed text, another one, or nothing."""
    model = told.broken
    prompts = [tuple(row[row > 0].tolist()) for row in PROMPTS]
    taps = [model.sites.get(name) for name in ("L0.attn", "L1.mlp", "L2.head1", "L2.mlp")]
    generator = torch.Generator().manual_seed(3)

    def edits(number):
        chosen = [tap for place, tap in enumerate(taps) if number >> place & 1]

        def at(known):
            tokens = len(prompts[number % len(prompts)]) + len(known)
            values = {tap: torch.randn(40, tap.features, generator=generator.manual_seed(number)) for tap in chosen}
            rows = {tap: Replacement(value[:1] if number % 3 else value[:tokens]) for tap, value in values.items()}
            return {tap: replace(r, positions=(1,)) if number % 5 == 4 else r for tap, r in rows.items()}

        return at

    decoder = Decoder(model, prompts, limit=NEW_TOKENS, max_rows=max_rows, masked=True)
    for index, tokens in enumerate(told.failed[:4]):
        decoder.expect(index, tokens)
    decoder.expect(5, (1, 2, 3))
    requests = [Request(number % len(prompts), edits(number)) for number in range(32)]
    found = decoder.run(requests)
    assert found == [decoder.run_plain(request) for request in requests]
    assert found == decoder.run(requests)
    assert len(set(found)) > len(prompts)  # the edits matter


def test_unedited_continuations_are_those_of_generate(told):
    prompts = [tuple(row[row > 0].tolist()) for row in PROMPTS]
    requests = [Request(index) for index in range(len(prompts))]
    for masked in (True, False):
        decoder = Decoder(told.broken, prompts, limit=NEW_TOKENS, max_rows=8, masked=masked)
        first = decoder.run(requests)
        spent = decoder.rows_run
        again = decoder.run(requests)
        assert again == first
        assert decoder.rows_run - spent == len(prompts)  # what is known is verified in one forward
        module = told.broken.module
        for prompt, continuation in zip(prompts, first, strict=True):
            alone = module.generate(torch.tensor([prompt]), max_new_tokens=NEW_TOKENS, do_sample=False)
            assert continuation == Continuation(tuple(alone[0, len(prompt) :].tolist()))


def test_an_end_token_ends_and_nan_breaks(told):
    ending = copy.deepcopy(told.broken.module)
    ending.generation_config.eos_token_id = told.failed[1][2]
    prompt = tuple(PROMPTS[1].tolist())
    decoder = Decoder(Model.wrap(ending), [prompt], limit=NEW_TOKENS, max_rows=4, masked=False)
    stop = told.failed[1].index(told.failed[1][2]) + 1
    assert decoder.run([Request(0)]) == [Continuation(told.failed[1][:stop])]
    decoder.expect(0, told.failed[1])
    assert decoder.run([Request(0)]) == [Continuation(told.failed[1][:stop])]
    tap = told.broken.sites.get("L2.mlp")
    late = Request(0, lambda known: {tap: Replacement(torch.full((1, 32), np.nan), (7,))} if len(known) > 2 else {})
    decoder = Decoder(told.broken, [prompt], limit=NEW_TOKENS, max_rows=4, masked=False)
    expected = Continuation(told.failed[1][:3], broken=True)
    assert decoder.run_plain(late) == expected
    assert decoder.run([late]) == [expected]


def test_a_model_that_looks_ahead_is_noticed(told):
    """An MLP that lets every token see the mean over all: what is verified in one forward is not what is generated."""

    class Mixing(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, hidden):
            return self.inner(hidden) + 5 * hidden.mean(dim=1, keepdim=True)

    module = copy.deepcopy(told.broken.module)
    module.transformer.h[0].mlp = Mixing(module.transformer.h[0].mlp)
    decoder = Decoder(Model.wrap(module), [tuple(PROMPTS[1].tolist())], limit=NEW_TOKENS, max_rows=4, masked=False)
    plain = decoder.run_plain(Request(0))
    decoder.expect(0, plain.tokens)
    with pytest.raises(ModelError, match="departs"):
        decoder.run([Request(0)])


def test_what_a_donor_writes_behind_the_prompt():
    spoken = Spoken(prompts=(2,), scored=((5, 6),), donor=((5, 6, 7),))
    rows = torch.arange(1.0, 5.0)[:, None]  # two prompt tokens, two generated ones

    def written(replacement, known=None):
        fitted = spoken.fitted(replacement, 0, known)
        return fitted.values[:, 0].tolist(), fitted.positions

    assert written(Replacement(rows)) == ([1, 2, 3, 4], None)
    assert written(Replacement(rows), ()) == ([1, 2], None)
    assert written(Replacement(rows), (5, 6, 7)) == ([1, 2, 3, 4, 0], (0, 1, 2, 3))  # the last row is of token 6
    assert written(Replacement(rows), (5, 9)) == ([1, 2, 3, 0], (0, 1, 2))  # not the donor's words: nothing to write
    assert written(Replacement(rows[:2]), (5,)) == ([1, 2, 0], (0, 1))  # it ran on the prompt only
    assert written(Replacement(rows[:1]), (9, 9)) == ([1], None)  # one row is written at every token
    assert written(Replacement(rows[:1], (-1, 0)), ()) == ([1], (0,))  # counted in the scored run, which is longer


def test_scores_agree_with_the_predicate():
    telling = Telling(failed=(1, 2), reference=(1, 3), decode=lambda tokens: " ".join(map(str, tokens)))
    failure = Failure.text("2")
    logits = np.array([0.0, 0.0, 5.0, 1.0])
    assert (telling.pair, telling.shared) == ((2, 3), (1,))
    assert telling.judge(failure, logits, Continuation((1, 2))) == (4.0, "failed")
    assert telling.judge(failure, -logits, Continuation((1, 3))) == (-4.0, "fixed")
    assert telling.judge(failure, logits, Continuation((1, 4))) == (0.0, "suppressed")
    score, outcome = telling.judge(failure, -logits, Continuation((0, 2)))
    assert (score > 0, outcome) == (True, "failed")
    assert telling.judge(failure, logits, Continuation((1,), broken=True)) == (np.inf, "suppressed")
    alone = replace(telling, reference=None)
    assert alone.judge(failure, logits, Continuation((1, 2))) == (1.0, "failed")
    assert alone.judge(failure, logits, Continuation((1, 3))) == (-1.0, "suppressed")
    told_right = Failure.text("2", right="^1 3")
    assert alone.judge(told_right, logits, Continuation((1, 3))) == (-1.0, "fixed")
    assert alone.judge(Failure.text(right="3"), logits, Continuation((1, 1))) == (1.0, "failed")


# --- fix sets -----------------------------------------------------------------------------------


@pytest.mark.parametrize("recorded", ["generated", "prompts"])
def test_the_damage_is_the_cause_and_its_proof_is_reproduced(told, recorded):
    given = {"donor_model": told.intact, "benign": [told.recordings["benign"]]}
    result = find(told, recorded, **given)
    assert result.replay.failing == len(PROMPTS)
    assert result.replay.reproduced
    fix = result.fix_set
    assert fix is not None
    assert (str(fix), fix.label, fix.flip_rate) == ("patch L1.mlp", "cause", 1.0)
    assert fix.recovery == pytest.approx(1.0, abs=0.05)
    assert fix.side_effects is not None
    assert fix.side_effects.changed_rate == 0.0
    assert fix.reversal is not None
    assert fix.reversal.failures == fix.reversal.samples > 0
    again = validate_fix(told.broken, told.recordings[recorded], fix, config=PATCH, **given)
    assert (again.flips, again.label, again.recovery) == (fix.flips, "cause", fix.recovery)


def test_benign_generations_of_the_same_prompts_are_donors(told):
    benign = [told.recordings["benign"]]
    result = find(told, benign=benign)
    fix = result.fix_set
    assert fix is not None
    assert (str(fix), fix.label, fix.flip_rate) == ("patch L1.mlp", "cause", 1.0)
    assert fix.interventions[0].donor.kind == "benign_sample"
    again = validate_fix(told.broken, told.recordings["generated"], fix, config=PATCH, benign=benign)
    assert again.flips == fix.flips


@pytest.fixture(scope="module")
def failing_benign(told, tmp_path_factory):
    path = tmp_path_factory.mktemp("failing") / "benign"
    with Recorder(told.broken, sites="components").benign(path) as benign:
        benign.generate(input_ids=PROMPTS, attention_mask=MASK, max_new_tokens=NEW_TOKENS)
    return load_bundle(path)


def test_benign_generations_that_fail_are_no_donors(told, failing_benign):
    with pytest.raises(InterventionError, match="no site has a donor"):
        find(told, benign=[failing_benign])
    with pytest.raises(InterventionError, match="same prompt"):
        find(told, benign=[failing_benign], config=PATCH.model_copy(update={"donor": "benign_sample"}))
    result = find(told, benign=[failing_benign], config=SINGLE)
    assert any("fail as the incident does" in warning for warning in result.warnings)


def test_without_a_reference_nothing_is_fixed_but_by_a_right_pattern(told):
    result = find(told, config=ZERO)
    assert result.fix_set is None
    assert result.best_effect is not None
    assert result.best_effect.suppressed == result.best_effect.samples
    assert any("nothing tells a right continuation" in warning for warning in result.warnings)
    recording = told.recordings["generated"]
    failure = told.failure.model_copy(update={"right_pattern": "."})
    anything = Relabelled(recording, failure)
    found = find_fix_set(told.broken, anything, config=ZERO)
    assert found.fix_set is not None
    assert found.fix_set.label == "workaround"


class Relabelled(Sequences):
    """The same recording with another predicate."""

    def __init__(self, recording, failure):
        super().__init__(recording, [tuple(row) for row in PROMPTS.tolist()])
        self.__dict__.update({"_source": recording, "_failure": failure})
        self.samples = recording.samples

    failure = property(lambda self: self._failure)

    def inputs(self, call):
        return self._source.inputs(call)

    def outputs(self, sample):
        return self._source.outputs(sample)


def test_donors_of_other_inputs_act_on_the_prompt(told, tmp_path):
    other = torch.where(PROMPTS > 0, PROMPTS - 1, 0)
    with Recorder(told.intact, sites="components").benign(tmp_path / "contrast") as contrast:
        contrast.generate(input_ids=other, attention_mask=MASK, max_new_tokens=NEW_TOKENS)
    patches = SINGLE.model_copy(update={"intervention_types": ("patch",)})
    result = find(told, contrast=load_bundle(tmp_path / "contrast"), config=patches)
    found = [fix for fix in (result.fix_set, *result.workarounds, result.best_effect) if fix is not None]
    assert found
    assert all(fix.label != "cause" and fix.interventions[0].donor.kind == "contrast" for fix in found)
    given = find(told, donor_values=GivenValues.of({"L1.mlp": np.zeros(32, np.float32)}), config=patches)
    assert given.best_effect is not None
    assert (given.best_effect.interventions[0].donor.kind, given.spent.pool) == ("given", ("L1.mlp",))
    assert given.best_effect.suppressed > 0
    benign = told.recordings["benign"]
    config = PATCH.model_copy(update={"donor": "benign_sample", "donor_sample": benign.samples[1].sample_id})
    with pytest.raises(InterventionError, match="tokens"):
        find(told, benign=[benign], config=config)


def test_texts_that_do_not_fail_any_more(told):
    result = find(told, model=told.intact, donor_model=told.intact)
    assert result.fix_set is None
    assert result.replay.failing == 0
    assert not result.replay.reproduced
    assert any("continued otherwise" in warning for warning in result.warnings)


def test_no_time_for_texts(told):
    result = find(told, donor_model=told.intact, timeout_seconds=0)
    assert result.fix_set is None
    assert result.spent.timed_out
    assert result.spent.combinations == 0


def test_texts_that_cannot_be_judged(told, planting):
    with pytest.raises(UsageError, match="tokenizer"):
        find(told, model=Model.wrap(told.broken.module))
    broken = copy.deepcopy(told.broken.module)
    with torch.no_grad():
        broken.transformer.h[2].mlp.c_proj.weight[3, 5] = float("nan")
    with pytest.raises(OutputError, match="NaN or Inf"):
        find(told, model=Model.wrap(broken, tokenizer=Numbers()))
    calls = planting.batches(3)
    answered = planting.with_answers(
        planting.record(told.broken, calls, name="x", failure=told.failure),
        planting.record(told.intact, calls, name="y"),
    )
    with pytest.raises(OutputError, match="answers of its own"):
        find_fix_set(told.broken, answered, config=PATCH)
    other = planting.record(told.broken, calls, name="x", failure=told.failure)
    other.calls = [{**call, "token_type_ids": np.zeros_like(call["input_ids"])} for call in calls]
    with pytest.raises(OutputError, match="token_type_ids"):
        find_fix_set(told.broken, other, config=PATCH)
