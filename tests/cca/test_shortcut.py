"""Rows that start in the middle of a model equal plain rows of the whole model, whatever is edited where."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model_forensics.cca.batched import BatchedRunner
from model_forensics.cca.calls import Calls
from model_forensics.cca.jobs import Job, Replacement, relative_error
from model_forensics.cca.memory import Kept, stated_limit
from model_forensics.errors import ConfigError, InterventionError
from model_forensics.failure import Failure
from model_forensics.models import Model
from tests.cca.families import FAMILIES, VOCABULARY, make
from tests.cca.random_rows import TOKENS, calls_of, random_jobs, run_all


@pytest.mark.parametrize("side", [None, "left", "right"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_from_the_middle_equal_plain_rows(planting, family, attention, side):
    model = Model.wrap(make(family, attention))
    position = -1 if side is None else -2
    calls, recording = calls_of(planting, model, side, position=position)
    runner = BatchedRunner(model, calls, position, 16)
    jobs = random_jobs(model, recording, 24)
    results = run_all(runner, jobs)
    assert runner.reason is None, runner.reason
    assert runner.rows_run == runner.rows_from_middle + 3 or family == "gemma", (
        "Gemma scales what its embedding returns"
    )
    for job, logits in zip(jobs, results, strict=True):
        assert relative_error(logits, runner.plain.run(job)) <= 5e-6


@pytest.mark.parametrize("side", [None, "left"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_that_are_run_as_one_equal_plain_rows(planting, monkeypatch, family, attention, side):
    """All rows of a call's row folded into one wherever they have a past, more than the cost would ever choose."""
    folded = []

    def everything(rows, tokens, earlier):
        folded.append(rows)
        return rows

    monkeypatch.setattr("model_forensics.models.middle.best_fold", everything)
    model = Model.wrap(make(family, attention))
    calls, recording = calls_of(planting, model, side, rows=1 if side is None else 2)
    runner = BatchedRunner(model, calls, -1, 16)
    jobs = random_jobs(model, recording, 24)
    results = run_all(runner, jobs)
    assert runner.reason is None, runner.reason
    assert max(folded) >= 4
    for job, logits in zip(jobs, results, strict=True):
        assert relative_error(logits, runner.plain.run(job)) <= 5e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma3"])
def test_sixteen_bit_rows_stay_within_the_models_own_rounding(planting, family, dtype):
    """And are rows of another output than the plain one: on CPUs whose 16-bit sums do not depend on their number, the
    difference is none at all, which must not be for lack of an effect."""
    model = Model.wrap(make(family, "sdpa", dtype))
    calls, recording = calls_of(planting, model, "left")
    runner = BatchedRunner(model, calls, -1, 16)
    jobs = random_jobs(model, recording, 12)
    results = run_all(runner, jobs)
    assert runner.reason is None, runner.reason
    effects = []
    for job, logits in zip(jobs, results, strict=True):
        assert np.isfinite(logits).all()
        error = relative_error(logits, runner.plain.run(job))
        assert error <= runner.plain.allowed(job, error, 16)
        effects.append(relative_error(logits, runner.plain.run(Job(0, job.row, {}))))
    assert np.median(effects) > 0.1


def test_each_kind_of_edit_alone_at_each_token(planting):
    """Every place at which a row can enter, down to edits that cannot reach the scored token."""
    model = Model.wrap(make("llama"))
    calls, recording = calls_of(planting, model, "right")
    runner = BatchedRunner(model, calls, -1, 64)
    jobs = []
    for layer in range(3):
        for kind in ("attn", "head2", "neuron7", "mlp", "resid"):
            tap = model.sites.get(f"L{layer}.{kind}")
            for position in range(recording.samples[1].tokens):
                jobs.append(Job(0, 1, {tap: Replacement(torch.ones(1, tap.features), (position,))}))
    for job, logits in zip(jobs, run_all(runner, jobs), strict=True):
        assert relative_error(logits, runner.plain.run(job)) <= 5e-6


def test_a_row_without_effect_is_the_recorded_run_bit_for_bit(planting):
    model = Model.wrap(make("gpt2"))
    calls, recording = calls_of(planting, model, "left")
    runner = BatchedRunner(model, calls, -1, 64)
    tap = model.sites.get("L2.mlp")
    late = Job(0, 2, {tap: Replacement(torch.ones(1, 32), (0,))})
    expected = recording.logged[2]["logits"][0].astype(np.float64)
    for logits in run_all(runner, [Job(0, 2, {}), late]):
        assert np.array_equal(logits, expected)


def test_edits_that_the_halves_do_not_know_run_the_whole_model(planting):
    model = Model.wrap(make("llama"))
    calls, _ = calls_of(planting, model, None)
    runner = BatchedRunner(model, calls, -1, 64)
    jobs = [
        Job(0, 0, {model.sites.get(name): Replacement(torch.ones(1, features), (1,))})
        for name, features in (
            ("logits", VOCABULARY),
            ("final_norm", 32),
            ("model.layers.1.mlp.gate_proj", 48),
            ("embed", 32),
        )
    ]
    batches = list(runner.batches(jobs))
    assert sorted(map(sorted, batches)) == [[0, 1, 2], [3]]
    for batch in batches:
        for index, logits in zip(batch, runner.run([jobs[i] for i in batch]), strict=True):
            assert relative_error(logits, runner.plain.run(jobs[index])) <= 5e-6


def hooked_block() -> torch.nn.Module:
    """A Llama with a hook that changes a block's output: its halves alone are not the model."""
    module = make("llama")
    module.model.layers[1].register_forward_hook(lambda _module, _inputs, output: output * 1.01)
    return module


def two_way() -> torch.nn.Module:
    """A Llama whose tokens see later ones."""
    module = make("llama", "eager")
    module.config.is_causal = False
    return module


def classifier() -> torch.nn.Module:
    from transformers import GPT2Config, GPT2ForSequenceClassification

    sizes = {"vocab_size": VOCABULARY, "n_positions": 64, "n_embd": 32, "n_layer": 3, "n_head": 4}
    torch.manual_seed(0)
    return GPT2ForSequenceClassification(GPT2Config(**sizes, pad_token_id=0, num_labels=4))


def double() -> torch.nn.Module:
    return make("llama").double()


def broken() -> torch.nn.Module:
    module = make("llama")
    with torch.no_grad():
        module.model.layers[1].mlp.down_proj.weight[3, 5] = float("nan")
    return module


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (broken, "NaN"),
        (hooked_block, "departs from the whole run"),
        (two_way, "attend to later ones"),
        (classifier, "lm_head"),
        (double, "float64"),
    ],
)
def test_a_model_that_cannot_run_from_the_middle_says_why_and_runs_whole(planting, build, reason):
    model = Model.wrap(build())
    calls, _ = calls_of(planting, model, "left")
    runner = BatchedRunner(model, calls, -1, 64)
    jobs = [
        Job(0, row, {model.sites.get(f"L1.{kind}"): Replacement(torch.ones(1, 32), (4,))})
        for row in range(3)
        for kind in ("attn", "mlp")
    ]
    results = run_all(runner, jobs)
    assert reason in (runner.reason or "")
    own_rounding = 1 + (1 + 2 + 3) if build is hooked_block else 0  # alone, and as one, two and three copies
    assert runner.rows_run - runner.rows_from_middle == len(jobs) + 3 + own_rounding
    for job, logits in zip(jobs, results, strict=True):
        assert relative_error(logits, runner.plain.run(job)) <= 5e-6


def test_replacements_that_do_not_fit_are_refused(planting):
    model = Model.wrap(make("gpt2"))
    calls, _ = calls_of(planting, model, "left")
    runner = BatchedRunner(model, calls, -1, 64)
    tap = model.sites.get("L1.mlp")
    for values, positions in ((torch.ones(TOKENS, 32), None), (torch.ones(1, 31), None), (torch.ones(1, 32), (8,))):
        with pytest.raises(InterventionError, match=r"L1\.mlp"):
            run_all(runner, [Job(0, 1, {tap: Replacement(values, positions)})])


def test_a_limit_on_memory_makes_passes_smaller_and_changes_no_result(planting, monkeypatch):
    model = Model.wrap(make("llama"))
    calls, recording = calls_of(planting, model, "left")
    jobs = random_jobs(model, recording, 40)
    free = BatchedRunner(model, calls, -1, 64)
    monkeypatch.setenv("MODEL_FORENSICS_MAX_MEMORY", "40kB")
    tight = BatchedRunner(model, calls, -1, 64)
    assert tight.memory.limit == 40_000
    assert max(map(len, tight.batches(jobs))) < max(map(len, free.batches(jobs)))
    for a, b in zip(run_all(free, jobs), run_all(tight, jobs), strict=True):
        assert relative_error(a, b) <= 5e-6
    whole = BatchedRunner(model, calls, -1, 64, shortcut=False)
    assert max(map(len, whole.batches(jobs))) < len(jobs)


@pytest.mark.parametrize("text", ["much", "-1", "0", "8 GiB RAM"])
def test_a_limit_that_is_no_size_is_refused(monkeypatch, text):
    monkeypatch.setenv("MODEL_FORENSICS_MAX_MEMORY", text)
    with pytest.raises(ConfigError, match="MODEL_FORENSICS_MAX_MEMORY"):
        stated_limit()


@pytest.mark.parametrize(
    ("text", "size"), [("", None), ("1000", 1000), ("1.5 GB", 1_500_000_000), ("8GiB", 2**33), ("2k", 2000)]
)
def test_sizes(monkeypatch, text, size):
    monkeypatch.setenv("MODEL_FORENSICS_MAX_MEMORY", text)
    assert stated_limit() == size


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
@pytest.mark.parametrize("shortcut", [True, False])
def test_out_of_memory_halves_the_batch_until_it_fits(planting, monkeypatch, error, shortcut):
    model = Model.wrap(make("gpt2"))
    calls, recording = calls_of(planting, model, "left")
    jobs = random_jobs(model, recording, 16)
    expected = run_all(BatchedRunner(model, calls, -1, 64), jobs)
    runner = BatchedRunner(model, calls, -1, 64, shortcut=shortcut)
    sizes = []

    def short_of_memory(module, inputs, output):
        rows = output.shape[0]
        sizes.append(rows)
        if rows > 3:
            raise error

    run_all(runner, [Job(0, 0, {})])
    with model.module.transformer.ln_f.register_forward_hook(short_of_memory):
        found = run_all(runner, jobs)
    assert runner.memory.halvings > 0
    assert max(sizes) > 3
    for a, b in zip(expected, found, strict=True):
        assert relative_error(a, b) <= 5e-6


def test_other_errors_are_not_taken_for_a_lack_of_memory(planting):
    model = Model.wrap(make("gpt2"))
    calls, recording = calls_of(planting, model, "left")
    jobs = random_jobs(model, recording, 4)
    runner = BatchedRunner(model, calls, -1, 64)
    run_all(runner, jobs)

    def broken(module, inputs, output):
        raise RuntimeError("something else")

    with model.module.transformer.ln_f.register_forward_hook(broken), pytest.raises(RuntimeError, match="else"):
        run_all(runner, jobs)
    assert runner.memory.halvings == 0


def bert(labels: int = 4) -> torch.nn.Module:
    from transformers import BertConfig, BertForSequenceClassification

    sizes = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
    torch.manual_seed(0)
    return BertForSequenceClassification(BertConfig(**sizes, intermediate_size=48, num_labels=labels)).eval()


def vit() -> torch.nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
    torch.manual_seed(0)
    return ViTForImageClassification(ViTConfig(**sizes, image_size=8, patch_size=4, num_labels=4)).eval()


@pytest.mark.parametrize("build", [bert, vit])
def test_encoders_run_without_the_blocks_before_the_first_edit(planting, build):
    model = Model.wrap(build())
    random = np.random.default_rng(0)
    call = {"pixel_values": random.normal(size=(3, 3, 8, 8)).astype(np.float32)}
    if build is bert:
        call = {"input_ids": random.integers(1, VOCABULARY, (3, 6)), "attention_mask": np.ones((3, 6), np.int64)}
        call["attention_mask"][1, 4:] = 0
    recording = planting.record(model, [call], name="inc", failure=Failure.label(wrong=[0]), sites=[])
    runner = BatchedRunner(model, Calls(recording, "cpu"), -1, 3)
    jobs = [
        Job(0, row, {model.sites.get(f"L{layer}.{kind}"): Replacement(torch.ones(1, features))})
        for row in range(3)
        for layer in range(3)
        for kind, features in (("attn", 32), ("head1", 8), ("mlp", 32), ("resid", 32))
    ]
    ran = []
    handles = [
        model.module.get_submodule(f"{tap.module}").register_forward_hook(
            lambda _module, _inputs, _output, layer=tap.layer: ran.append(layer)
        )
        for tap in model.sites.taps
        if tap.kind == "mlp"
    ]
    results = run_all(runner, jobs)
    for handle in handles:
        handle.remove()
    assert "half by half" in (runner.reason or "")
    assert ran.count(2) == 13, "12 batches and the run that is kept"
    assert (ran.count(0), ran.count(1)) == (5, 9), "blocks before the first edit of a batch did not run"
    for job, logits in zip(jobs, results, strict=True):
        assert relative_error(logits, runner.plain.run(job)) <= 5e-6


def test_a_damaged_model_that_amplifies_rounding_is_still_run_from_the_middle(planting):
    """Its own copies in a batch differ by more than the type's tolerance, and so may the proof."""
    module = make("llama")
    inner = module.model.layers[1].mlp.forward
    module.model.layers[1].mlp.forward = lambda x: inner(x) * (1 + 1e-4 * (x.shape[0] > 1 or x.shape[1] < TOKENS))
    model = Model.wrap(module)
    calls, _ = calls_of(planting, model, None, rows=1)
    runner = BatchedRunner(model, calls, -1, 16)
    runner.run([Job(0, 0, {model.sites.get("L1.attn"): Replacement(torch.ones(1, 32))})])
    assert runner.reason is None, runner.reason


def test_short_rows_may_be_more_but_not_without_end(planting):
    model = Model.wrap(make("gpt2"))
    calls, _ = calls_of(planting, model, None)
    tap = model.sites.get("L0.mlp")
    jobs = [Job(0, 0, {tap: Replacement(torch.full((1, 32), float(i)), (TOKENS - 1,))}) for i in range(100)]
    assert max(map(len, BatchedRunner(model, calls, -1, 5).batches(jobs))) == 20
    assert max(map(len, BatchedRunner(model, calls, -1, 1).batches(jobs))) == 1


def test_kept_runs_stay_within_their_limit_and_the_last_one_always():
    class Item:
        bytes = 10

    kept = Kept(limit=25)
    items = [Item() for _ in range(4)]
    for call in (0, 1):
        kept.put(call, items[call])
    assert kept.get(0) is items[0]
    kept.put(2, items[2])
    assert kept.get(1) is None, "the one that was not used for longest"
    assert kept.get(0) is items[0]
    items[3].bytes = 100
    kept.put(3, items[3])
    assert [kept.get(call) for call in range(4)] == [None, None, None, items[3]]


def test_a_call_is_run_and_proven_once(planting):
    model = Model.wrap(make("llama"))
    random = np.random.default_rng(1)
    calls = [{"input_ids": random.integers(1, VOCABULARY, (1, TOKENS))} for _ in range(6)]
    recording = planting.record(model, calls, name="inc", failure=Failure.token(wrong=[1]), sites=[])
    runner = BatchedRunner(model, Calls(recording, "cpu"), -1, 16)
    tap = model.sites.get("L0.mlp")
    jobs = [Job(i % 6, 0, {tap: Replacement(torch.full((1, 32), float(i)))}) for i in range(24)]
    for _ in range(2):
        run_all(runner, jobs)
    assert runner.rows_run == 2 * 24 + 6 * (1 + 2), "each row, and once a call the run and its proof of two rows"
