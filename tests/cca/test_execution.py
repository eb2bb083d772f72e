"""Batched runs equal plain ones, edits write what they say, and intervals are exact."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from model_forensics.cca.batched import BatchedRunner
from model_forensics.cca.calls import Call, Calls, fingerprint
from model_forensics.cca.edits import write_rows
from model_forensics.cca.evidence import BenignEffects, clopper_pearson, group_interval
from model_forensics.cca.executor import Executor, residual
from model_forensics.cca.jobs import Job, Replacement, relative_error
from model_forensics.cca.pool import Candidate, Sources, replaced_bits
from model_forensics.cca.replay import Case
from model_forensics.cca.restoration import Explained
from model_forensics.errors import InterventionError
from model_forensics.failure import Failure, kl_bits
from model_forensics.models import rows
from model_forensics.types import Intervention


@pytest.mark.parametrize("shortcut", [True, False])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("max_rows", [1, 7, 64])
def test_batched_rows_equal_plain_rows(plant, side, max_rows, shortcut):
    planted = plant(1, "mlp", side=side)
    model, incident = planted.broken, planted.incident
    runner = BatchedRunner(model, Calls(incident, model.device), -1, max_rows, shortcut=shortcut)
    generator = torch.Generator().manual_seed(0)
    names = ["L0.attn", "L1.mlp", "L2.head1", "L2.head3", "L2.mlp"]
    jobs = []
    for number in range(20):
        sample = incident.samples[number % len(incident.samples)]
        edits = {}
        for name in names[number % 5 : number % 5 + 1 + number % 3]:
            tap = model.sites.get(name)
            height = 1 if number % 2 else sample.tokens
            positions = (0, -1) if number % 4 == 3 else None
            edits[tap] = Replacement(torch.randn(height, tap.features, generator=generator), positions)
        jobs.append(Job(sample.call, sample.row, edits))
    batches = list(runner.batches(jobs))
    assert sorted(i for batch in batches for i in batch) == list(range(20))
    assert all(len({jobs[i].call for i in batch}) == 1 for batch in batches)
    if max_rows == 1 or not shortcut:
        assert max(map(len, batches)) <= max_rows
    for batch in batches:
        for index, logits in zip(batch, runner.run([jobs[i] for i in batch]), strict=True):
            assert relative_error(logits, runner.plain.run(jobs[index])) <= 5e-6
    whole = runner.rows_run - runner.rows_from_middle
    assert whole - len(incident.samples) * shortcut == (20 if shortcut else 40), "checks and each call's own run"


def test_the_whole_call_without_edits_replays_bit_for_bit(plant):
    planted = plant(1, "mlp")
    incident = planted.incident
    runner = BatchedRunner(planted.broken, Calls(incident, "cpu"), -1, 64)
    members = [i for i, sample in enumerate(incident.samples) if sample.call == 0]
    logits = runner.run([Job(0, incident.samples[i].row, {}) for i in members])
    for index, row in zip(members, logits, strict=True):
        assert np.array_equal(row, incident.logged[index]["logits"][0].astype(np.float64))


@pytest.mark.parametrize("shape", [(3, 5), (3, 4, 5), (3, 5, 2, 3)])
def test_writing_rows_inverts_reading_them(shape):
    value = torch.zeros(shape)
    mask = torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1], [1, 1, 0, 0]], dtype=torch.bool) if len(shape) == 3 else None
    for row in range(3):
        current = rows.to_rows(value, mask, row)
        new = torch.randn(current.shape)
        before = value.clone()
        write_rows(value, row, mask, Replacement(new), "site")
        assert torch.equal(rows.to_rows(value, mask, row), new)
        others = [i for i in range(3) if i != row]
        assert torch.equal(value[others], before[others])
        if mask is not None:
            assert not value[row][~mask[row]].any(), "padding is not touched"


@pytest.mark.parametrize("shape", [(3, 5), (2, 5), (4, 4), (0, 5), (5,)])
def test_a_replacement_of_another_shape_is_an_error(shape):
    with pytest.raises(InterventionError, match="L0"):
        write_rows(torch.zeros(1, 4, 5), 0, None, Replacement(torch.zeros(shape)), "L0")


def test_positions_outside_the_sample_are_an_error():
    value = torch.zeros(1, 4, 2)
    write_rows(value, 0, None, Replacement(torch.ones(1, 2), (1, -1)), "L0")
    assert value[0, :, 0].tolist() == [0, 1, 0, 1]
    with pytest.raises(InterventionError, match="outside"):
        write_rows(value, 0, None, Replacement(torch.ones(1, 2), (4,)), "L0")


def test_scores_are_remembered_and_counted_once(plant):
    planted = plant(1, "mlp")
    model = planted.broken
    runner = BatchedRunner(model, Calls(planted.incident, "cpu"), -1, 64)
    tap = model.sites.get("L1.mlp")
    case = Case(0, "g0", Failure.token(wrong=[1]), np.zeros(48), 1.0)
    pool = [Candidate(tap, Intervention(site="L1.mlp", kind="zero"), 1.0)]
    executor = Executor(runner, Sources(None, None, {"L1.mlp": 32}), pool, [case], seed=0)
    assert executor.known((0,), [0]) is None
    first = executor.score((0,), [0])
    spent = runner.rows_run
    base = runner.calls[0].size
    assert spent - runner.rows_from_middle == base + 1, "the call's own run and the self-check"
    assert executor.score((0,), [0]) == first == executor.known((0,), [0])
    assert runner.rows_run == spent
    assert executor.combinations == 1


def test_inputs_are_the_same_whatever_their_padding(planting):
    ids = np.array([[5, 6, 7, 0, 0], [5, 6, 7, 8, 9]])
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    left = {"input_ids": np.array([[0, 5, 6, 7]], dtype=np.int32), "attention_mask": np.array([[0, 1, 1, 1]])}
    module = planting.tiny_gpt2(1)
    a = planting.record(module, [{"input_ids": ids, "attention_mask": mask}], name="a", sites=[])
    b = planting.record(module, [left], name="b", sites=[])
    assert fingerprint(a, 0) == fingerprint(b, 0) != fingerprint(a, 1)


def test_inputs_shared_by_all_rows_are_not_taken_apart():
    inputs = {
        "x": torch.arange(6).reshape(3, 2),
        "position_ids": torch.arange(2)[None],
        "cache_position": torch.arange(3),
    }
    taken = Call(inputs, None, 3).take([2, 2, 0, 1])
    assert taken.inputs["x"].tolist() == [[4, 5], [4, 5], [0, 1], [2, 3]]
    assert taken.inputs["position_ids"].shape == (1, 2)
    assert taken.inputs["cache_position"].shape == (3,)


@pytest.mark.parametrize(
    ("k", "n", "low", "high"), [(0, 10, 0.0, 0.3085), (10, 10, 0.6915, 1.0), (8, 10, 0.4439, 0.9748)]
)
def test_clopper_pearson_known_values(k, n, low, high):
    interval = clopper_pearson(k, n)
    assert (interval.low, interval.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.data())
def test_clopper_pearson_agrees_with_scipy(n, data):
    k = data.draw(st.integers(0, n))
    exact = stats.binomtest(k, n).proportion_ci(0.95, method="exact")
    interval = clopper_pearson(k, n)
    assert interval.low == pytest.approx(exact.low, abs=1e-12)
    assert interval.high == pytest.approx(exact.high, abs=1e-12)


def test_intervals_count_groups_not_samples():
    groups = ["a", "a", "b", "b"]
    assert group_interval(groups, [True, False, True, True], all) == clopper_pearson(1, 2)
    assert group_interval(groups, [True, False, False, False], any) == clopper_pearson(1, 2)
    assert (clopper_pearson(0, 0).low, clopper_pearson(0, 0).high) == (0.0, 1.0)


def test_replaced_bits():
    before = torch.randn(5, 7)
    assert replaced_bits(before, before.clone()) == 0.0
    one = before.clone()
    one[2, 3] += 1.0
    two = one.clone()
    two[0, 0] += 1.0
    assert 0 < replaced_bits(before, one) < replaced_bits(before, two) < replaced_bits(before, torch.zeros(5, 7))
    broken = before.clone()
    broken[1, 1] = float("nan")
    assert replaced_bits(broken, before) == 32.0
    assert replaced_bits(broken, broken) == 0.0


def test_side_effects_are_null_where_the_donor_has_no_activation(plant, planting):
    planted = plant(1, "mlp")
    tap = planted.broken.sites.get("L1.mlp")
    blind = planting.record(planted.intact, planting.batches(4), name="blind", sites=["L0.mlp"])
    sources = Sources(None, None, {"L1.mlp": 32})
    patch = [(tap, Intervention(site="L1.mlp", kind="patch"))]
    zero = [(tap, Intervention(site="L1.mlp", kind="zero"))]
    assert BenignEffects(planted.broken, [blind], sources, None, 64).measure(patch) is None
    assert BenignEffects(planted.broken, [], sources, None, 64).measure(zero) is None
    measured = BenignEffects(planted.broken, [blind], sources, None, 64).measure(zero)
    assert measured is not None
    assert measured.samples == 4
    assert measured.kl_max_bits >= measured.kl_mean_bits > 0
    healed = BenignEffects(planted.broken, [blind], sources, planted.intact, 64).measure(patch)
    assert healed is not None
    assert healed.changed == 0
    assert healed.kl_max_bits < 1e-6


def test_nothing_is_explained_without_forensics(plant):
    planted = plant(1, "mlp")
    explained = Explained(planted.broken, Calls(planted.incident, "cpu"), Sources(None, None, {}), None)
    assert explained.share([]) is None
    assert explained.rows_run == 0


def test_distances_from_the_donor_are_those_of_the_failure_module():
    random = np.random.default_rng(0)
    failed, donor, logits = random.normal(size=(3, 50)) * 4
    case = Case(0, "g", Failure.token(wrong=[1]), failed, 1.0, donor=donor)
    assert case.bits_from_donor(logits) == pytest.approx(kl_bits(donor, logits), rel=1e-12)
    assert residual(case, logits) == pytest.approx(kl_bits(donor, logits) / kl_bits(donor, failed), rel=1e-12)
    assert residual(case, donor) == pytest.approx(0, abs=1e-12)
    broken = Case(0, "g", Failure.token(wrong=[1]), np.full(50, np.nan), 1.0, donor=donor)
    assert residual(broken, logits) == pytest.approx(kl_bits(donor, logits), rel=1e-12)


def test_the_record_says_how_sets_were_run(plant):
    planted = plant(1, "mlp")
    job = Job(0, 0, {planted.broken.sites.get("L1.mlp"): Replacement(torch.zeros(1, 32))})
    fast = BatchedRunner(planted.broken, Calls(planted.incident, "cpu"), -1, 64)
    whole = BatchedRunner(planted.broken, Calls(planted.incident, "cpu"), -1, 64, shortcut=False)
    for runner in (fast, whole):
        runner.run([job])
    assert fast.execution.from_middle
    assert fast.execution.reason is None
    assert fast.execution.rows_from_middle == 1 + 4, "the job and two proofs of two rows, not the run they start from"
    assert not whole.execution.from_middle
    assert whole.execution.reason is not None
    assert whole.execution.rows_from_middle == 0
