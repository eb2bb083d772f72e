"""How much faster a hit of the cache is than computing: `python -m bench cache_hits [--repeats 5]`.

On the shipped incident, in a cache of its own; base runs with a GPT-2 of 4 layers of 768, on 16 prompts of 64 tokens: a
reference model's run, and the means over them. Before a time is reported, what came from the cache is compared with
what was computed: the baseline by its digest and its scores, forensics in every field, base runs in every bit. The bar
is 20 times, for the worst of all; exit 1 below it. Times are CPU seconds of this process (a hit waits for no disk: it
has just been written), the least of the repeats.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from model_forensics import cf
from model_forensics.bundle import load_bundle, load_bundles
from model_forensics.cca.calls import Calls
from model_forensics.cca.donors import MeanDonor, mean_donor
from model_forensics.cca.pool import component_taps
from model_forensics.cca.recall import Recall, anew, healthy_run
from model_forensics.cca.replay import Run
from model_forensics.config import Config, ForensicsConfig
from model_forensics.demo import data_directory
from model_forensics.models import Model, load_model
from model_forensics.models.loading import without_progress_bar
from model_forensics.pipeline.caching import Kept
from model_forensics.record import Recorder
from model_forensics.types import Recording

BAR = 20.0
T = TypeVar("T")


def least(repeats: int, work: Callable[[], T]) -> tuple[float, T]:
    """The least CPU seconds of several runs, and what the last one gave."""
    times = []
    for _ in range(repeats):
        began = time.process_time()
        result = work()
        times.append(time.process_time() - began)
    return min(times), result


def base_runs(directory: Path, kept: Kept, repeats: int) -> dict[str, tuple[float, float]]:
    """CPU seconds computed and from the cache: of a reference model's run, and of means over benign inputs."""
    model = stock_model(directory / "model")
    prompts = recording(model, directory / "benign")
    taps = component_taps(model, "component", embedding=True)

    def run(recall: Recall) -> Run:
        return healthy_run(recall, model, Calls(prompts, "cpu"), taps, -1)

    def mean(recall: Recall) -> MeanDonor | None:
        return mean_donor(model, [prompts], taps, recall)

    times = {}
    for name, work in {"run": run, "mean": mean}.items():
        work(kept.run)
        seconds, expected = least(repeats, lambda work=work: work(anew))
        hit_seconds, found = least(repeats, lambda work=work: work(kept.run))
        assert same_bits(expected, found), f"the cache gave another {name}"
        times[name] = seconds, hit_seconds
    return times


def stock_model(place: Path) -> Model:
    import transformers  # noqa: PLC0415  (only here)

    torch.manual_seed(0)
    config = transformers.GPT2Config(
        n_layer=4, n_embd=768, n_head=12, vocab_size=512, n_positions=64, bos_token_id=0, eos_token_id=0
    )
    with without_progress_bar(transformers):
        transformers.GPT2LMHeadModel(config).save_pretrained(place)
    return load_model(place, device="cpu")


def recording(model: Model, place: Path) -> Recording:
    """16 prompts of 64 tokens, of which only the output is recorded."""
    with Recorder(model, sites=["logits"]).benign(place) as session:
        tokens = torch.from_numpy(np.random.default_rng(0).integers(0, 512, (16, 64)))
        session.run(input_ids=tokens, groups=[str(row) for row in range(len(tokens))])
    return load_bundle(place)


def same_bits(one: Run | MeanDonor | None, other: Run | MeanDonor | None) -> bool:
    if isinstance(one, Run) and isinstance(other, Run):
        logits = all(np.array_equal(*pair) for pair in zip(one.logits, other.logits, strict=True))
        rows = [[torch.cat(run.activations[name]) for name in one.activations] for run in (one, other)]
        return logits and one.activations.keys() == other.activations.keys() and all(map(torch.equal, *rows))
    assert isinstance(one, MeanDonor)
    assert isinstance(other, MeanDonor)
    return one.rows.keys() == other.rows.keys() and all(
        torch.equal(one.rows[name], other.rows[name]) for name in one.rows
    )


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench cache_hits", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args(arguments).repeats
    config = ForensicsConfig()
    with tempfile.TemporaryDirectory() as directory, data_directory() as data:
        kept = Kept(Config.from_dict({"cache": {"directory": directory}}).cache)
        benign, incident = load_bundles(data / "benign"), load_bundle(data / "incident")

        def judged(baseline: cf.Baseline) -> Callable[[], object]:
            def compute() -> object:
                return cf.analyze(incident, baseline, config)

            return lambda: kept.forensics(incident, baseline, config, compute, lambda done, total: None)

        kept.baseline(benign, config)  # the first call compiles, and fills the cache
        fit_seconds, fitted = least(repeats, lambda: cf.fit_baseline(benign, config))
        hit_seconds, found = least(repeats, lambda: kept.baseline(benign, config))
        judged(fitted)()
        analyze_seconds, expected = least(repeats, lambda: cf.analyze(incident, fitted, config))
        judged_seconds, result = least(repeats, judged(fitted))
        assert found.baseline_id == fitted.baseline_id, "the cache gave another baseline"
        assert cf.analyze(incident, found, config) == expected, "its scores differ"
        assert result == expected, "the cache gave other forensics"
        base = base_runs(Path(directory), kept, repeats)
    ratios = {"baseline": fit_seconds / hit_seconds, "forensics": analyze_seconds / judged_seconds}
    ratios |= {f"base {name}": seconds / hit for name, (seconds, hit) in base.items()}
    seconds = {
        "fit_baseline": fit_seconds,
        "baseline_hit": hit_seconds,
        "analyze": analyze_seconds,
        "forensics_hit": judged_seconds,
        **{f"base_{name}": seconds for name, (seconds, _) in base.items()},
        **{f"base_{name}_hit": hit for name, (_, hit) in base.items()},
    }
    print(json.dumps({"cpu_seconds": seconds, "times_faster": ratios, "bar": BAR}, indent=1))
    return 0 if min(ratios.values()) >= BAR else 1
