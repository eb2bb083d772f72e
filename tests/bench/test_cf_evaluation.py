"""The forensics evaluation: its parts say what they claim, and the page shows what was measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bench import cf_quality
from bench.cf_evaluation import kept_aside, plan, records, simulation, tables, text
from bench.cf_evaluation.comparators import NEIGHBOURS, RIDGE, SiteComparators, summaries
from bench.cf_evaluation.damage import DAMAGES, damaged
from bench.cf_evaluation.intervals import two_way_interval
from bench.cf_evaluation.networks import CHARACTERS, Network, token_ids
from bench.cf_evaluation.propagation import Case, cases, verdict
from bench.cf_evaluation.windows import SPAN_FAULTS, overlap, plant
from model_forensics.models import Model
from model_forensics.types import Onset, Window


@pytest.fixture(scope="module")
def tiny() -> Network:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    sizes = GPT2Config(
        vocab_size=CHARACTERS, n_positions=64, n_embd=16, n_layer=2, n_head=2, bos_token_id=None, eos_token_id=None
    )
    prompts = [f"prompt number {n} of a few" for n in range(6)]
    model = Model.wrap(GPT2LMHeadModel(sizes))
    return Network("tiny", model, "components", lambda p: {"input_ids": token_ids(p)[None]}, prompts, prompts, "")


def test_the_page_shows_the_committed_results() -> None:
    page = cf_quality.PAGE.read_text()
    outcome = records.read(cf_quality.RESULTS)
    assert tables.replace(page, tables.render(outcome)) == page
    assert not outcome["environment"]["quick"]


def test_results_survive_the_file(tmp_path: Path) -> None:
    rows = [{"network": "a", "rate": 0.123456, "site": None}, {"network": "b", "rate": 1.0, "site": "L0.mlp"}]
    outcome = {"environment": {"quick": True}, "propagation": rows, "calibration": rows}
    records.write(outcome, tmp_path / "results.json")
    shorter = [rows[0] | {"rate": 0.1235}, rows[1]]
    assert records.read(tmp_path / "results.json") == outcome | {"propagation": shorter, "calibration": shorter}


def test_a_page_without_a_place_for_tables_is_refused() -> None:
    with pytest.raises(ValueError, match="no place"):
        tables.replace("no markers", "text")


def test_sentences_and_snippets_are_distinct_and_repeatable() -> None:
    found = text.sentences(900, seed=3)
    assert found == text.sentences(900, seed=3)
    assert len(set(found)) == 900
    lengths = [len(sentence.split()) for sentence in found]
    assert min(lengths) >= text.FEWEST_WORDS
    assert max(lengths) <= text.MOST_WORDS
    source = "".join(chr(33 + n % 90) for n in range(1000))
    pieces = text.snippets(source, 20, 5, 50, seed=0)
    assert all(5 <= len(piece) <= 50 and piece in source for piece in pieces)
    with pytest.raises(ValueError, match="room for"):
        text.snippets(source, 21, 5, 50, seed=0)


def test_interval_is_wide_when_cases_share_a_baseline() -> None:
    rng = np.random.default_rng(0)
    rows, columns = np.repeat(np.arange(4), 50), np.tile(np.arange(50), 4)
    shared = np.array([0.0, 0.0, 1.0, 1.0])[rows]
    alone = rng.permutation(shared)
    wide, narrow = two_way_interval(shared, rows, columns), two_way_interval(alone, rows, columns)
    assert wide[1] - wide[0] > 2 * (narrow[1] - narrow[0])
    assert narrow[0] <= 0.5 <= narrow[1]


def test_sparse_distances_equal_the_plain_ones() -> None:
    rng = np.random.default_rng(1)
    width, kept = 40, 12

    def entry() -> tuple[np.ndarray, np.ndarray, int]:
        return rng.standard_normal(kept).astype(np.float32), np.sort(rng.permutation(width)[:kept]), width

    entries = [entry() for _ in range(9)]
    groups = [f"g{n // 3}" for n in range(9)]
    tested = entry()

    def dense(one: tuple[np.ndarray, np.ndarray, int]) -> np.ndarray:
        row = np.zeros(width)
        row[one[1]] = one[0]
        return row

    def distances(rows: np.ndarray, x: np.ndarray) -> np.ndarray:
        variance = rows.var(axis=0)
        mahalanobis = np.sqrt((((x - rows.mean(axis=0)) ** 2) / (variance + RIDGE * variance.mean())).sum())
        nearest = np.sort(np.linalg.norm(rows - x, axis=1))[:NEIGHBOURS].mean()
        return np.array([mahalanobis, nearest])

    rows = np.stack([dense(one) for one in entries])
    owner = np.array(groups)
    own = np.stack([distances(rows[owner != owner[n]], rows[n]) for n in range(9)])
    expected = (distances(rows, dense(tested)) - own.mean(axis=0)) / own.std(axis=0, ddof=1)
    found = SiteComparators(entries, groups).scores(tested, summaries(tested))
    np.testing.assert_allclose(found[2:], expected, rtol=1e-6)


@pytest.mark.parametrize("name", [*DAMAGES, *kept_aside.DAMAGES])
@pytest.mark.parametrize("place", [0, 1])
def test_damage_changes_one_component_and_is_taken_back(tiny: Network, name: str, place: int) -> None:
    before = {key: value.clone() for key, value in tiny.model.module.state_dict().items()}
    clean = tiny.record(tiny.tested[:1], "clean")
    with damaged(tiny.model, 1, "mlp", place, (DAMAGES | kept_aside.DAMAGES)[name]):
        changed = [key for key, value in tiny.model.module.state_dict().items() if not torch.equal(value, before[key])]
        broken = tiny.record(tiny.tested[:1], "broken")
    assert changed == [f"transformer.h.1.mlp.{('c_fc', 'c_proj')[place]}.weight"]
    assert all(torch.equal(value, before[key]) for key, value in tiny.model.module.state_dict().items())
    assert np.array_equal(clean.activation("L1.attn", 0), broken.activation("L1.attn", 0))
    assert not np.array_equal(clean.activation("L1.mlp", 0), broken.activation("L1.mlp", 0))


def test_verdicts() -> None:
    order = ["embed", "L0.attn", "L0.mlp", "L0.resid", "L1.head0", "L1.attn", "L1.mlp", "L1.resid"]
    case = Case(layer=1, kind="attn", place=0, damage="noise")
    named = {None: "none", "input": "before", "L0.mlp": "before", "L1.head0": "component", "L1.attn": "component",
             "L1.mlp": "layer", "L1.resid": "layer"}  # fmt: skip
    for site, expected in named.items():
        found = None if site is None else Onset(site=site, p_value=0.01, sigma=2.3)
        assert verdict(case, found, order) == expected
    earlier = Case(layer=0, kind="mlp", place=0, damage="noise")
    assert verdict(earlier, Onset(site="L1.attn", p_value=0.01, sigma=2.3), order) == "after"
    assert verdict(earlier, Onset(site="L0.attn", p_value=0.01, sigma=2.3), order) == "layer"


def test_every_component_is_damaged_at_both_maps(tiny: Network) -> None:
    found = cases(tiny, list(DAMAGES), 1)
    assert len(found) == 2 * 2 * len(DAMAGES)
    assert {(case.damage, case.place) for case in found} == {(name, place) for name in DAMAGES for place in (0, 1)}


def test_overlap() -> None:
    window = Window(sample=0, token_start=2, token_stop=6, channel_start=0, channel_stop=10, bits=0.0, sigma=None)
    assert overlap(window, (slice(2, 6), slice(0, 10))) == 1.0
    assert overlap(window, (slice(4, 6), slice(5, 15))) == pytest.approx(10 / 50)
    assert overlap(window, (slice(6, 9), slice(0, 10))) == 0.0


@pytest.mark.parametrize("name", list(SPAN_FAULTS))
def test_a_span_fault_stays_inside_its_span(tiny: Network, name: str) -> None:
    clean = tiny.record(tiny.tested[:1], "clean")
    broken, span = plant(clean, "L1.mlp", 6, 0.4, SPAN_FAULTS[name], np.random.default_rng(2))
    differs = np.asarray(broken.activation("L1.mlp", 0)) != np.asarray(clean.activation("L1.mlp", 0))
    assert differs[span].any()
    differs[span] = False
    assert not differs.any()
    assert np.array_equal(broken.activation("L1.attn", 0), clean.activation("L1.attn", 0))


@pytest.mark.parametrize("fault", kept_aside.FAULTS)
def test_kept_aside_faults_keep_the_channels(fault: str) -> None:
    rng = np.random.default_rng(0)
    entry = rng.standard_normal(200).astype(np.float32), np.arange(200) * 3, 600
    values, channels, width = kept_aside.plant(entry, fault, rng)
    assert (width, channels.tolist()) == (600, entry[1].tolist())
    assert (values != entry[0]).sum() == {"pairs10": 20, "outliers1": 2}[fault]


def test_kept_aside_faults_are_not_run_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(cf_quality.propagation, "measure", lambda _n, _p, damages: seen.append(list(damages)) or [])
    monkeypatch.setattr(cf_quality, "networks", lambda _plan: [None])
    cf_quality.run_part("propagation", plan.QUICK, None, held_out=False)
    cf_quality.run_part("propagation", plan.QUICK, None, held_out=True)
    assert seen == [list(DAMAGES), list(kept_aside.DAMAGES)]
    assert not set(DAMAGES) & set(kept_aside.DAMAGES)


def test_simulated_means_that_judge_themselves_look_too_regular() -> None:
    found = simulation._rates(20, False, 0.3, baselines=6)
    assert found["by_others"]["rate"] < 0.1  # 5 % and less; six baselines of forty recordings
    assert found["by_all"]["rate"] > 2 * found["by_others"]["rate"]
    assert 0 < found["by_all"]["error"] < 0.2
